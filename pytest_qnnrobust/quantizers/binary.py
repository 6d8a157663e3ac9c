"""Binary and ternary quantizers, deterministic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected

TWN_THRESHOLD = 0.7
"""Threshold of ternary weight networks as a share of the mean magnitude."""


class Magnitudes:
    """Values that are multiples of a magnitude: that of a tensor, or of each channel."""

    magnitude: Any

    @property
    def fitted(self) -> bool:
        return self.magnitude is not None

    @property
    def channels(self) -> int:
        return int(np.size(self.magnitude))


@dataclass(frozen=True, eq=False)
class Binary(Magnitudes):
    """Two values, +magnitude for x >= 0 and -magnitude below: codes 1 and 0, uint8.

    `fit(x)` takes the mean of |x| as magnitude, of the whole tensor as in DoReFa-Net (Zhou et al.
    2016, equation 7) or along `quantized_dimension` as in XNOR-Net (Rastegari et al. 2016, equation
    6). `magnitude=1` is the sign of BinaryConnect and BNN (Courbariaux et al. 2015, equation 1;
    2016). NaN counts as 0. Raises QnnRobustError for a magnitude below 0.
    """

    magnitude: Any = None
    quantized_dimension: int | None = None

    minimum: ClassVar[int] = 0
    maximum: ClassVar[int] = 1
    dtype: ClassVar[str] = "uint8"
    symmetric: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_magnitude(self.magnitude)

    def fit(self, x: NDArray[Any]) -> Binary:
        size = np.abs(np.asarray(x, np.float64))
        mean = size.mean(axis=other_axes(size.ndim, self.quantized_dimension), keepdims=True)
        return replace(self, magnitude=_per_axis(mean, self.quantized_dimension))

    def quantize(self, x: NDArray[Any]) -> NDArray[Any]:
        # NaN is not below 0: so written, it counts as 0.
        return np.asarray(~(np.asarray(x) < 0)).astype(self.dtype)

    def dequantize(self, q: NDArray[Any]) -> NDArray[np.float32]:
        return _times(2 * np.asarray(q, np.int64) - 1, self.magnitude, self.quantized_dimension)


@dataclass(frozen=True, eq=False)
class Ternary(Magnitudes):
    """Three values, -magnitude, 0 and +magnitude: codes -1, 0, 1, int8; 1 where x > threshold.

    `fit(x)` follows Li, Zhang and Liu, "Ternary Weight Networks" (2016), equations 3, 5 and 6: the
    threshold is 0.7 times the mean of |x|, the magnitude the mean of the |x| that exceed it, of the
    tensor or along `quantized_dimension`. Where nothing exceeds it, the magnitude is 1.
    `warp` moves the threshold to half the magnitude, the middle between the values 0 and magnitude.
    Raises QnnRobustError for a magnitude or threshold below 0, and for one without the other.
    """

    magnitude: Any = None
    threshold: Any = None
    quantized_dimension: int | None = None

    minimum: ClassVar[int] = -1
    maximum: ClassVar[int] = 1
    dtype: ClassVar[str] = "int8"
    symmetric: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_magnitude(self.magnitude)
        if (self.magnitude is None) != (self.threshold is None):
            rule = "magnitude and threshold together, or neither"
            raise expected(rule, magnitude=self.magnitude, threshold=self.threshold)
        if self.threshold is not None and not np.all(np.asarray(self.threshold) >= 0):
            raise expected("threshold >= 0", threshold=self.threshold)

    def fit(self, x: NDArray[Any]) -> Ternary:
        axis = self.quantized_dimension
        size = np.abs(np.asarray(x, np.float64))
        others = other_axes(size.ndim, axis)
        threshold = TWN_THRESHOLD * size.mean(axis=others, keepdims=True)
        above = size > threshold
        count = above.sum(axis=others, keepdims=True)
        total = np.where(above, size, 0.0).sum(axis=others, keepdims=True)
        magnitude = np.where(count > 0, total / np.maximum(count, 1), 1.0)
        return replace(
            self, magnitude=_per_axis(magnitude, axis), threshold=_per_axis(threshold, axis)
        )

    def warp(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """x * magnitude / (2 * threshold); its rounding to the nearest value is `quantize`."""
        if self.threshold is None:
            return self.fit(x).warp(x)
        double = 2 * np.maximum(np.asarray(self.threshold, np.float64), np.finfo(np.float64).tiny)
        share = np.asarray(self.magnitude, np.float64) / double
        return np.asarray(x, np.float64) * along(share, np.ndim(x), self.quantized_dimension)

    def quantize(self, x: NDArray[Any]) -> NDArray[Any]:
        if self.threshold is None:
            return self.fit(x).quantize(x)
        value = np.asarray(x, np.float64)
        threshold = along(self.threshold, value.ndim, self.quantized_dimension)
        codes = (value > threshold).astype(self.dtype) - (value < -threshold).astype(self.dtype)
        return np.asarray(codes)

    def dequantize(self, q: NDArray[Any]) -> NDArray[np.float32]:
        return _times(np.asarray(q, np.int64), self.magnitude, self.quantized_dimension)


def other_axes(rank: int, axis: int | None) -> tuple[int, ...]:
    """The axes that share a scale along `axis`; all for None."""
    return tuple(i for i in range(rank) if axis is None or i != axis % rank)


def along(value: Any, rank: int, axis: int | None) -> NDArray[np.float64]:
    """A number, or one number per element of `axis`, ready to be combined with `rank` axes."""
    array = np.asarray(value, np.float64)
    if axis is None or array.ndim == 0:
        return array
    shape = [1] * rank
    shape[axis] = -1
    return array.reshape(shape)


def _per_axis(value: NDArray[np.float64], axis: int | None) -> Any:
    return float(value.reshape(())) if axis is None else value.reshape(-1)


def _times(signs: NDArray[Any], magnitude: Any, axis: int | None) -> NDArray[np.float32]:
    if magnitude is None:
        raise expected("a fitted quantizer to dequantize", magnitude=None, cure="use fit(x)")
    return np.asarray((signs * along(magnitude, signs.ndim, axis)).astype(np.float32))


def _check_magnitude(magnitude: Any) -> None:
    if magnitude is not None and not np.all(np.asarray(magnitude) >= 0):
        raise expected("magnitude >= 0", magnitude=magnitude)
