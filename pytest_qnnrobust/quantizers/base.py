"""The interface of a quantizer, and the one form in which the laws see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")
NEEDED = ("quantize", "dequantize", "minimum", "maximum")
ROUNDINGS = ("half_away", "half_even", "half_up", "floor")

ULPS = 4 * float(np.finfo(np.float32).eps)
"""Error that float32 arithmetic may have, as a fraction of the largest number that it handled."""

SAMPLE_SHAPE = (8, 8)
"""Shape of the tensor that a quantizer is fitted to where the caller gives none."""


@runtime_checkable
class Quantizer(Protocol):
    """Any object that turns a float32 tensor into integer codes of the same shape, and back.

    The laws hold it to what else it claims by these attributes (with their defaults):

    - `scale` (a number, or one for each channel), `zero_point` (0), `quantized_dimension` (None);
      `channels`, the number of channels where there is no scale;
    - `dtype`, the NumPy name of the codes; `rounding` ("half_away"), one of `ROUNDINGS`, or None
      where exact halves may go either way; `symmetric`, `narrow_range` (False);
    - `stochastic` (False): then `quantize(x, rng)` takes a `numpy.random.Generator`, draws one of
      the two neighbours of x unless `neighbours` (True) is False, and gives x on average unless
      `unbiased` (True) is False;
    - `fit(x)`, where the scale depends on the tensor, returns the fixed quantizer of a tensor;
      `fitted` (False) says that this is one;
    - `warp(x)` gives the real values that are rounded, where they are not x itself;
    - `fake_quantize(x)` is `dequantize(quantize(x))` in one piece;
    - `finer` is a wider quantizer whose buckets nest in those of this one.
    """

    minimum: int
    maximum: int

    def quantize(self, x: NDArray[np.float32], /) -> NDArray[Any]: ...

    def dequantize(self, q: NDArray[Any], /) -> NDArray[np.float32]: ...


@dataclass(frozen=True, eq=False)
class QuantizerUnderTest:
    """A fixed quantizer and its claims.

    Laws work on rows, (n, channels), one channel where the scale is per tensor; `tensor` turns them
    into the shape that the quantizer sees, `rows` turns that back. `fitter` is the quantizer whose
    `fit` made this one, None where none did.
    """

    quantizer: Any
    minimum: int
    maximum: int
    scale: NDArray[np.float64] | None
    zero_point: NDArray[np.int64]
    axis: int | None
    channels: int
    dtype: np.dtype[Any] | None
    rounding: str | None
    stochastic: bool
    neighbours: bool
    unbiased: bool
    symmetric: bool
    narrow_range: bool
    fitter: Any = None
    _values_of: dict[tuple[int, tuple[int, ...]], NDArray[np.float64]] = field(default_factory=dict)

    @property
    def has_warp(self) -> bool:
        return hasattr(self.quantizer, "warp")

    @property
    def centre(self) -> int:
        """The legal code nearest to that of 0, to which probes shrink."""
        zero = int(self.zero_point[0])
        return min(max(zero, self.minimum), self.maximum)

    def tensor(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows (n, channels) -> (n,), or the shape with the channels on `quantized_dimension`."""
        if self.axis is None:
            return np.ascontiguousarray(rows[:, 0])
        rank = max(2, self.axis + 1, -self.axis)
        ones = (1,) * (rank - 2)
        if self.axis % rank == 0:
            return np.ascontiguousarray(rows.T).reshape(rows.shape[1], *ones, len(rows))
        return np.ascontiguousarray(rows).reshape(len(rows), *ones, rows.shape[1])

    def rows(self, tensor: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
        """Undo `tensor`. Raises QnnRobustError unless the shape is that of `self.tensor(like)`."""
        shape = self.tensor(like).shape
        if tensor.shape != shape:
            raise expected(f"a result of shape {shape}", shape=tensor.shape)
        if self.axis is None:
            return tensor[:, None]
        flat = tensor.reshape(shape[0], shape[-1])
        return flat.T if self.axis % tensor.ndim == 0 else flat

    def call(self, x: NDArray[np.float32], seed: int = 0) -> NDArray[Any]:
        """Call `quantize(x)`, with a generator of `seed` where codes are drawn; return it as is."""
        if self.stochastic:
            return np.asarray(self.quantizer.quantize(x, np.random.default_rng(seed)))
        return np.asarray(self.quantizer.quantize(x))

    def codes(self, rows: NDArray[np.float32], seed: int = 0) -> NDArray[np.int64]:
        """The codes of rows, as rows of int64."""
        return self.rows(self.call(self.tensor(rows), seed), rows).astype(np.int64)

    def values(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """The real values of legal codes: `dequantize`, from rows to rows."""
        legal = np.clip(codes, self.minimum, self.maximum).astype(self.code_dtype)
        values = np.asarray(self.quantizer.dequantize(self.tensor(legal)))
        return self.rows(values, codes).astype(np.float64)

    def warped(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """The real values that are rounded, rows to rows; x itself without a `warp`."""
        if not self.has_warp:
            return rows.astype(np.float64)
        warped = np.asarray(self.quantizer.warp(self.tensor(rows)))
        return self.rows(warped, rows).astype(np.float64)

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """The claimed dtype, or the narrowest one that holds every legal code."""
        kinds = (np.dtype(name) for name in DTYPES)
        return self.dtype or next(
            kind for kind in kinds if _holds(kind, self.minimum, self.maximum)
        )

    def gaps(self, codes: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The distances from the values of codes to the next values below and above, as rows.

        The first and the last value have one neighbour: its distance serves for both.
        """
        inner = np.clip(codes, self.minimum, self.maximum - 1)
        above = self.values(inner + 1) - self.values(inner)
        inner = np.clip(codes, self.minimum + 1, self.maximum)
        below = self.values(inner) - self.values(inner - 1)
        return below, above

    def ends(self, rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The values of the first and the last code at every place of rows."""
        return self._at(self.minimum, rows.shape), self._at(self.maximum, rows.shape)

    def step(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """The distance between two neighbouring values near 0, at every place of rows."""
        code = min(self.centre, self.maximum - 1)
        return self._at(code + 1, rows.shape) - self._at(code, rows.shape)

    def slack(self, real: NDArray[np.float64], gap: NDArray[np.float64]) -> NDArray[np.float64]:
        """The error that float32 arithmetic may have near `real`, with neighbours `gap` apart."""
        # A value is a code times a step: its error grows with the largest code.
        largest = np.abs(gap) * max(abs(self.minimum), abs(self.maximum), 1)
        return np.asarray(ULPS * np.maximum(np.abs(real), largest))

    def _at(self, code: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
        if (code, shape) not in self._values_of:
            self._values_of[code, shape] = self.values(np.full(shape, code, np.int64))
        return self._values_of[code, shape]


def prepare(quantizer: Any, sample: NDArray[Any] | None = None) -> QuantizerUnderTest:
    """Make of a quantizer what the laws check; one with `fit` is fitted to `sample`.

    Without a sample, one that is not `fitted` is fitted to seeded normal numbers. Raises
    QnnRobustError for an object that is no quantizer, that cannot be used as it is, or whose claims
    are not possible.
    """
    fitter = quantizer if hasattr(quantizer, "fit") else None
    if fitter is not None and (sample is not None or not getattr(fitter, "fitted", False)):
        quantizer = _fitted(fitter, _normal(SAMPLE_SHAPE) if sample is None else sample)
    tested = with_claims(quantizer, fitter)
    _require_use(tested)
    return tested


def with_claims(quantizer: Any, fitter: Any = None) -> QuantizerUnderTest:
    """Read the claims of a fixed quantizer, which `fitter.fit` made if that is not None."""
    require_quantizer(quantizer)
    low, high = quantizer.minimum, quantizer.maximum
    if not (_is_whole(low) and _is_whole(high) and low < high):
        raise expected("whole numbers minimum < maximum", minimum=low, maximum=high)
    scale = getattr(quantizer, "scale", None)
    zero = getattr(quantizer, "zero_point", None)
    rounding = getattr(quantizer, "rounding", "half_away")
    if rounding is not None and rounding not in ROUNDINGS:
        raise expected(f"rounding to be None or one of {', '.join(ROUNDINGS)}", rounding=rounding)
    dtype = getattr(quantizer, "dtype", None)
    scales = None if scale is None else np.asarray(scale, np.float64).ravel()
    zeros = np.asarray(0 if zero is None else zero, np.int64).ravel()
    stochastic = bool(getattr(quantizer, "stochastic", False))
    tested = QuantizerUnderTest(
        quantizer=quantizer,
        minimum=int(low),
        maximum=int(high),
        scale=scales,
        zero_point=zeros,
        axis=getattr(quantizer, "quantized_dimension", None),
        channels=_channels(quantizer, scales, zeros),
        dtype=None if dtype is None else np.dtype(dtype),
        rounding=rounding,
        stochastic=stochastic,
        neighbours=not stochastic or bool(getattr(quantizer, "neighbours", True)),
        unbiased=bool(getattr(quantizer, "unbiased", True)),
        symmetric=bool(getattr(quantizer, "symmetric", False)),
        narrow_range=bool(getattr(quantizer, "narrow_range", False)),
        fitter=fitter,
    )
    _require_possible(tested)
    return tested


def require_quantizer(thing: Any) -> None:
    """Raise QnnRobustError where one of the four things that make a quantizer is missing."""
    missing = [name for name in NEEDED if not hasattr(thing, name)]
    if missing:
        kind = type(thing).__name__
        rule = f"a quantizer with {', '.join(NEEDED)}"
        cure = "see docs/quantizers.md for adapters"
        raise expected(rule, type=kind, missing=", ".join(missing), cure=cure)


def _channels(quantizer: Any, scales: NDArray[Any] | None, zeros: NDArray[Any]) -> int:
    if scales is not None:
        return max(scales.size, zeros.size)
    axis, count = (getattr(quantizer, name, None) for name in ("quantized_dimension", "channels"))
    if axis is None:
        return 1
    if count is None or not (_is_whole(count) and count > 0):
        rule = "channels, a whole number above 0, beside quantized_dimension where no scale is"
        raise expected(rule, quantized_dimension=axis, channels=count)
    return int(count)


def _normal(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _fitted(fitter: Any, sample: NDArray[Any]) -> Any:
    x = np.asarray(sample, np.float32)
    try:
        fitted = fitter.fit(x)
        require_quantizer(fitted)
    except Exception as error:
        rule = f"fit(x) to return the quantizer of a tensor x of shape {x.shape}"
        cure = "check_quantizer(..., sample=x) takes another tensor"
        raise expected(rule, reason=_reason(error), cure=cure) from error
    return fitted


def _require_use(tested: QuantizerUnderTest) -> None:
    """Raise QnnRobustError where normal numbers get no codes, or the code of 0 has no value."""
    square = (tested.channels, tested.channels)
    code = tested.tensor(np.full(square, tested.centre, tested.code_dtype))
    try:
        with np.errstate(all="ignore"):
            tested.call(tested.tensor(_normal(square)))
            tested.quantizer.dequantize(code)
    except Exception as error:
        kind = type(tested.quantizer).__name__
        cure = "fit it to a tensor first, or give it fit(x), which returns the fitted one"
        rule = "a quantizer that can be used as it is"
        raise expected(rule, type=kind, reason=_reason(error), cure=cure) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _require_possible(tested: QuantizerUnderTest) -> None:
    """Raise QnnRobustError for claims that contradict each other."""
    if tested.unbiased and not tested.neighbours:
        cure = "claim unbiased = False as well: `unbiased` counts the draws of two neighbours"
        rule = "unbiased = False where any code may be drawn"
        raise expected(rule, neighbours=False, unbiased=True, cure=cure)
    if tested.scale is not None:
        if not (np.isfinite(tested.scale).all() and (tested.scale > 0).all()):
            raise expected("finite scales > 0", scale=tested.scale.tolist()[:8])
        if tested.channels > 1 and tested.axis is None:
            rule = "quantized_dimension where there is a scale for each channel"
            raise expected(rule, scales=tested.channels, quantized_dimension=None)
        if {tested.scale.size, tested.zero_point.size} - {1, tested.channels}:
            rule = "as many zero points as scales, or one"
            raise expected(rule, scales=tested.scale.size, zero_points=tested.zero_point.size)
    kind = tested.dtype
    if kind is not None and not _holds(kind, tested.minimum, tested.maximum):
        rule = f"codes that {kind} holds"
        raise expected(rule, minimum=tested.minimum, maximum=tested.maximum)


def _is_whole(number: Any) -> bool:
    try:
        return bool(int(number) == number)
    except (TypeError, ValueError, OverflowError):
        return False


def _holds(kind: np.dtype[Any], low: int, high: int) -> bool:
    if kind.kind not in "iu":
        return True
    limits = np.iinfo(kind)
    return bool(limits.min <= low and high <= limits.max)
