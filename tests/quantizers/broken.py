"""A quantizer in NumPy, and deliberately broken ones: one mistake each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Affine:
    """`clip(round(x / scale) + zero_point)`, halves away from zero, int8; what it claims holds."""

    minimum, maximum = -128, 127
    dtype = "int8"
    quantized_dimension: int | None = None

    def __init__(self, scale: Any = 0.1, zero_point: Any = 0) -> None:
        self.scale = scale
        self.zero_point = zero_point

    def _along(self, numbers: Any, ndim: int) -> NDArray[Any]:
        axis = self.quantized_dimension
        if axis is None:
            return np.asarray(numbers)
        shape = [-1 if i == axis % ndim else 1 for i in range(ndim)]
        return np.asarray(numbers).reshape(shape)

    def ratio(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return x / self._along(np.float32(self.scale), x.ndim)

    def round(self, ratio: NDArray[np.float32]) -> NDArray[Any]:
        return np.sign(ratio) * np.floor(np.abs(ratio.astype(np.float64)) + 0.5)

    def quantize(self, x: NDArray[np.float32]) -> NDArray[Any]:
        code = self.round(self.ratio(x)) + self._along(self.zero_point, x.ndim)
        return np.clip(code, self.minimum, self.maximum).astype(self.dtype)

    def dequantize(self, q: NDArray[Any]) -> NDArray[np.float32]:
        from_zero = q.astype(np.int64) - self._along(self.zero_point, q.ndim)
        return (self._along(np.float32(self.scale), q.ndim) * from_zero).astype(np.float32)


class Stochastic(Affine):
    """Takes the upper neighbour with the probability that x is near it."""

    stochastic = True
    power = 1.0

    def quantize(self, x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[Any]:
        code = np.floor(self.ratio(x) + rng.random(x.shape) ** self.power) + self.zero_point
        return np.clip(code, self.minimum, self.maximum).astype(self.dtype)


class Truncating(Affine):
    def round(self, ratio: NDArray[np.float32]) -> NDArray[Any]:
        return np.trunc(ratio)


class WrappingAround(Affine):
    def quantize(self, x: NDArray[np.float32]) -> NDArray[Any]:
        code = np.nan_to_num(self.round(self.ratio(x)) + self.zero_point, posinf=0, neginf=0)
        return np.asarray((code + 128) % 256 - 128, np.int8)


class OffByOneZeroPoint(Affine):
    def quantize(self, x: NDArray[np.float32]) -> NDArray[Any]:
        code = self.round(self.ratio(x)) + self.zero_point + 1
        return np.clip(code, self.minimum, self.maximum).astype(self.dtype)


class BankersRounding(Affine):
    rounding = "half_away"

    def round(self, ratio: NDArray[np.float32]) -> NDArray[Any]:
        return np.round(ratio)


class WrongAxis(Affine):
    """Claims the last axis and works along the first one."""

    quantized_dimension = 1

    def _along(self, numbers: Any, ndim: int) -> NDArray[Any]:
        return np.asarray(numbers).reshape([-1] + [1] * (ndim - 1))


class BiasedStochastic(Stochastic):
    power = 0.9
