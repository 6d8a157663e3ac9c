"""Stochastic binary and ternary quantizers: a code is drawn, more surely so the farther its value.

Ayaz et al., "Improving Robustness Against Adversarial Attacks with Deeply Quantized Neural
Networks" (STQ, S-Binary), train with those of QKeras (Coelho et al. 2021); these are its
`stochastic_binary` and `stochastic_ternary` with `alpha="auto"`. With r uniform on [0, 1) and s the
logistic sigmoid,

    binary:  +1 where r <= s(t * x / d), else -1                                          t = 6
    ternary: [r0 <= s(t * (x - T) / d)] + [r1 <= s(t * (x + T) / d)] - 1                  t = 8

per channel, with d the standard deviation. At inference no draw is made: the sign of x, and +-1
where |x| >= T. The special cases whose mean is x itself, on [-1, 1], are `binary_connect`
(Courbariaux et al. 2015, equation 2) and `ternary_connect` (Lin et al., "Neural Networks with Few
Multiplications", 2016, section 3.1), with the hard sigmoid clip((z + 1) / 2, 0, 1).

The functions that take `xp` compute with NumPy or with `keras.ops`, in float64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.quantizers.binary import Magnitudes, along, other_axes

Sigmoid = Literal["logistic", "hard"]
SIGMOIDS: tuple[Sigmoid, ...] = ("logistic", "hard")

EXACT = 1e-12
"""Error that float64 arithmetic may have where a mean is said to be x."""

EPSILON = 1e-7
"""Addend that keeps QKeras from dividing by 0 (`K.epsilon()`)."""

UNROLLS = 5
"""Rounds in which threshold and magnitude of the ternary quantizer settle, as in QKeras."""

BINARY_TEMPERATURE, TERNARY_TEMPERATURE = 6.0, 8.0
FARTHEST = 700.0
"""Argument beyond which exp would overflow float64; its sigmoid is 0 or 1."""


def binary_magnitude(x: Any, axes: tuple[int, ...], xp: Any = np) -> Any:
    """sum(x * sign x) / sum(1) along `axes`, which stay with length 1, as QKeras computes it."""
    return xp.mean(xp.abs(x), axis=axes, keepdims=True) / (1 + EPSILON)


def ternary_magnitude(x: Any, axes: tuple[int, ...], xp: Any = np) -> Any:
    """The scale s with codes q = [|x| >= s / 2] * sign x and s = sum(x * q) / sum(q * q).

    Iterates from 2/3 of the maximum, `UNROLLS` times, along `axes`, which stay with length 1.
    """
    size = xp.abs(x)
    scale = 2 * xp.max(size, axis=axes, keepdims=True) / 3
    for _ in range(UNROLLS):
        code = xp.where(size >= scale / 2, xp.sign(x), xp.zeros_like(x))
        product = xp.mean(x * code, axis=axes, keepdims=True)
        scale = product / (xp.mean(code * code, axis=axes, keepdims=True) + EPSILON)
    return scale


def deviation(x: Any, axes: tuple[int, ...], xp: Any = np) -> Any:
    return xp.std(x, axis=axes, keepdims=True) + EPSILON


def probability(z: Any, sigmoid: Sigmoid = "logistic", xp: Any = np) -> Any:
    if sigmoid == "hard":
        return xp.clip(0.5 * z + 0.5, 0.0, 1.0)
    return 1 / (1 + xp.exp(-xp.clip(z, -FARTHEST, FARTHEST)))


class _Drawn(Magnitudes, ABC):
    """The claims of a drawn quantizer, as they follow from its parameters."""

    sigmoid: Sigmoid

    stochastic: ClassVar[bool] = True

    @property
    def neighbours(self) -> bool:
        """Whether only the neighbours of x are drawn, and a value gets its own code.

        A logistic sigmoid gives every code a chance everywhere, a hard one where its ramp is too
        long.
        """
        return self._ramped and bool(np.all(self._steepness() > 1 - EXACT))

    @property
    def unbiased(self) -> bool:
        """Whether the mean is x: each ramp of a hard sigmoid goes from one value to the next."""
        return self._ramped and bool(np.all(np.abs(self._steepness() - 1) < EXACT))

    @property
    def _ramped(self) -> bool:
        return self.fitted and self.sigmoid == "hard"

    @abstractmethod
    def _steepness(self) -> NDArray[np.float64]:
        """The rise of the sigmoid's argument over half of each gap between two values.

        It is 1 where a hard sigmoid goes from 0 to 1 on the gap, more where it does so on a part.
        """


@dataclass(frozen=True, eq=False)
class StochasticBinary(_Drawn):
    """Codes 0 and 1 (uint8) for -magnitude and +magnitude, drawn: S-Binary of Ayaz et al.

    +magnitude has probability s(temperature * x / deviation), with s the `sigmoid`, "logistic" or
    "hard". `fit(x)` takes magnitude (the mean of |x|) and standard deviation along
    `quantized_dimension`; an unbiased quantizer, whose values are constants, stays as it is.
    `quantize(x, rng)` draws with a `numpy.random.Generator`; without `rng` it is the sign of x, as
    at inference. Raises QnnRobustError for an unknown sigmoid or a temperature of 0 or less.
    """

    magnitude: Any = None
    deviation: Any = None
    quantized_dimension: int | None = -1
    temperature: float = BINARY_TEMPERATURE
    sigmoid: Sigmoid = "logistic"

    minimum: ClassVar[int] = 0
    maximum: ClassVar[int] = 1
    dtype: ClassVar[str] = "uint8"

    def __post_init__(self) -> None:
        _check(self, magnitude=self.magnitude, deviation=self.deviation)

    @classmethod
    def binary_connect(cls) -> StochasticBinary:
        """The quantizer of Courbariaux et al. 2015: P(+1) = clip((x + 1) / 2, 0, 1), else -1."""
        return cls(1.0, 1.0, None, temperature=1.0, sigmoid="hard")

    def fit(self, x: NDArray[Any]) -> StochasticBinary:
        if self.unbiased:
            return self
        value, axes = _prepared(x, self.quantized_dimension)
        return replace(
            self,
            magnitude=_kept(binary_magnitude(value, axes), self.quantized_dimension),
            deviation=_kept(deviation(value, axes), self.quantized_dimension),
        )

    def quantize(self, x: NDArray[Any], rng: np.random.Generator | None = None) -> NDArray[Any]:
        if self.magnitude is None:
            return self.fit(x).quantize(x, rng)
        value = np.asarray(x, np.float64)
        if rng is None:
            return np.asarray(value >= 0).astype(self.dtype)
        z = self.temperature * value / along(self.deviation, value.ndim, self.quantized_dimension)
        return np.asarray(rng.random(value.shape) <= probability(z, self.sigmoid)).astype(
            self.dtype
        )

    def dequantize(self, q: NDArray[Any]) -> NDArray[np.float32]:
        return _values(self, 2 * np.asarray(q, np.int64) - 1)

    def _steepness(self) -> NDArray[np.float64]:
        return np.asarray(self.temperature * np.divide(self.magnitude, self.deviation))


@dataclass(frozen=True, eq=False)
class StochasticTernary(_Drawn):
    """Codes -1, 0 and 1 (int8) for -magnitude, 0 and +magnitude, drawn: STQ of Ayaz et al.

    The code is [r0 <= s(t * (x - T) / d)] + [r1 <= s(t * (x + T) / d)] - 1 with r0, r1 uniform, T
    the threshold, d the deviation, t the temperature and s the `sigmoid`. `fit(x)` takes magnitude,
    T = magnitude / 2 and standard deviation along `quantized_dimension`; an unbiased quantizer,
    whose values are constants, stays as it is. `quantize(x, rng)` draws with a
    `numpy.random.Generator`; without `rng` it is sign(x) where |x| >= T, as at inference.
    Raises QnnRobustError for an unknown sigmoid or a temperature of 0 or less.
    """

    magnitude: Any = None
    threshold: Any = None
    deviation: Any = None
    quantized_dimension: int | None = -1
    temperature: float = TERNARY_TEMPERATURE
    sigmoid: Sigmoid = "logistic"

    minimum: ClassVar[int] = -1
    maximum: ClassVar[int] = 1
    dtype: ClassVar[str] = "int8"

    def __post_init__(self) -> None:
        tensor = {"threshold": self.threshold, "deviation": self.deviation}
        _check(self, magnitude=self.magnitude, **tensor)

    @classmethod
    def ternary_connect(cls) -> StochasticTernary:
        """The quantizer of Lin et al. 2016: sign x with probability |x|, else 0."""
        return cls(1.0, 0.5, 1.0, None, temperature=2.0, sigmoid="hard")

    def fit(self, x: NDArray[Any]) -> StochasticTernary:
        if self.unbiased:
            return self
        value, axes = _prepared(x, self.quantized_dimension)
        scale = _kept(ternary_magnitude(value, axes), self.quantized_dimension)
        spread = _kept(deviation(value, axes), self.quantized_dimension)
        return replace(self, magnitude=scale, threshold=scale / 2, deviation=spread)

    def quantize(self, x: NDArray[Any], rng: np.random.Generator | None = None) -> NDArray[Any]:
        if self.magnitude is None:
            return self.fit(x).quantize(x, rng)
        value = np.asarray(x, np.float64)
        threshold = along(self.threshold, value.ndim, self.quantized_dimension)
        if rng is None:
            signs = np.where(np.abs(value) >= threshold, np.sign(value), 0.0)
            return np.asarray(np.nan_to_num(signs).astype(self.dtype))
        share = self.temperature / along(self.deviation, value.ndim, self.quantized_dimension)
        draws = rng.random((2, *value.shape))
        above = draws[0] <= probability(share * (value - threshold), self.sigmoid)
        not_below = draws[1] <= probability(share * (value + threshold), self.sigmoid)
        return np.asarray(above.astype(self.dtype) + not_below.astype(self.dtype) - 1, self.dtype)

    def dequantize(self, q: NDArray[Any]) -> NDArray[np.float32]:
        return _values(self, np.asarray(q, np.int64))

    def _steepness(self) -> NDArray[np.float64]:
        upper = np.subtract(self.magnitude, self.threshold)
        halves = np.stack(np.broadcast_arrays(self.threshold, upper))
        return np.asarray(self.temperature * halves / self.deviation)


def _prepared(x: NDArray[Any], axis: int | None) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    value = np.asarray(x, np.float64)
    return value, other_axes(value.ndim, axis)


def _kept(value: NDArray[np.float64], axis: int | None) -> Any:
    return float(value.reshape(())) if axis is None else value.reshape(-1)


def _values(
    quantizer: StochasticBinary | StochasticTernary, signs: NDArray[Any]
) -> NDArray[np.float32]:
    if quantizer.magnitude is None:
        raise expected("a fitted quantizer to dequantize", magnitude=None, cure="use fit(x)")
    magnitude = along(quantizer.magnitude, signs.ndim, quantizer.quantized_dimension)
    return np.asarray((signs * magnitude).astype(np.float32))


def _check(quantizer: StochasticBinary | StochasticTernary, **of_a_tensor: Any) -> None:
    if quantizer.sigmoid not in SIGMOIDS:
        raise expected(f"sigmoid to be one of {', '.join(SIGMOIDS)}", sigmoid=quantizer.sigmoid)
    if not quantizer.temperature > 0:
        raise expected("temperature > 0", temperature=quantizer.temperature)
    if len({value is None for value in of_a_tensor.values()}) > 1:
        raise expected(f"{', '.join(of_a_tensor)} together, or none of them", **of_a_tensor)
