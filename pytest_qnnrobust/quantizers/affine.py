"""Affine post-training quantization: TensorFlow Lite's rules, per tensor and per axis.

Sources: the TFLite 8-bit quantization specification; MLIR `FakeQuantSupport.cpp`
(`getNudgedScaleAndZeroPoint`) for the choice of scale and zero point; Jacob et al., "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (2018), equation 1:
`real = scale * (quantized - zero_point)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.tflite import fixed_point
from pytest_qnnrobust.tflite.fixed_point import code_limits

EMPTY = float(np.finfo(np.float64).eps)
"""A range narrower than this counts as 0 alone, as in the converter."""


def affine_parameters(
    low: ArrayLike,
    high: ArrayLike,
    *,
    bits: int = 8,
    symmetric: bool = False,
    narrow_range: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scales (float32) and zero points (int64) for real ranges `low`..`high`, arrays of one shape.

    Each range is widened to hold 0, so that 0 is exactly the value of a code. Asymmetric: the scale
    is the range, a difference in float32, over the number of steps; the zero point is the code of 0
    counted from the end of the range that gives the smaller error, rounded half away from zero.
    Symmetric: the larger magnitude over the largest code, zero point 0. A range of 0 alone has
    scale 1. MLIR `getNudgedScaleAndZeroPoint`, as TensorFlow's converter has it.
    Raises QnnRobustError for ranges that are not finite and for `bits` outside 2..16.
    """
    minimum, maximum = code_limits(bits, narrow_range)
    low = np.minimum(np.asarray(low, np.float64), 0.0)
    high = np.maximum(np.asarray(high, np.float64), 0.0)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise expected("finite ranges", low=float(low.min()), high=float(high.max()))
    empty = high - low < EMPTY
    if symmetric:
        scale = np.where(empty, 1.0, np.maximum(-low, high) / maximum)
        return scale.astype(np.float32), np.zeros(scale.shape, np.int64)
    span = (high.astype(np.float32) - low.astype(np.float32)).astype(np.float64)
    scale = np.where(empty, 1.0, span / (maximum - minimum))
    from_low, from_high = minimum - low / scale, maximum - high / scale
    nearer = abs(minimum) + np.abs(low / scale) < abs(maximum) + np.abs(high / scale)
    nudged = fixed_point.round_half_away(np.where(nearer, from_low, from_high))
    zero_point = np.where(empty, 0, np.clip(nudged, minimum, maximum))
    return scale.astype(np.float32), zero_point.astype(np.int64)


class _Codes:
    """Signed codes of `bits` bits, rounded half away from zero."""

    bits: int
    narrow_range: bool

    rounding: ClassVar[str] = "half_away"
    stochastic: ClassVar[bool] = False

    @property
    def minimum(self) -> int:
        return code_limits(self.bits, self.narrow_range)[0]

    @property
    def maximum(self) -> int:
        return code_limits(self.bits, self.narrow_range)[1]

    @property
    def dtype(self) -> str:
        """int8 for up to 8 bits, int16 above."""
        return "int8" if self.bits <= 8 else "int16"


@dataclass(frozen=True, eq=False)
class AffineQuantizer(_Codes):
    """Fixed affine quantizer: `clip(round(x / scale) + zero_point)`, Jacob et al. 2018, equation 1.

    The division is in float32, halves are rounded away from zero. `scale` and `zero_point` are a
    number each, or arrays of the length of `quantized_dimension`. Codes are int8 for up to 8 bits,
    int16 above. NaN becomes the zero point, infinities saturate. Raises QnnRobustError for scales
    that are not finite and above 0, and where they do not fit `quantized_dimension`.
    """

    scale: Any
    zero_point: Any = 0
    bits: int = 8
    quantized_dimension: int | None = None
    symmetric: bool = False
    narrow_range: bool = False

    def __post_init__(self) -> None:
        code_limits(self.bits, self.narrow_range)
        if not (np.asarray(self.scale) > 0).all() or not np.isfinite(self.scale).all():
            raise expected("finite scales above 0", scale=self.scale)
        if (np.ndim(self.scale) == 0) != (self.quantized_dimension is None):
            shape, axis = np.shape(self.scale), self.quantized_dimension
            rule = "one scale, or one for each element of quantized_dimension"
            raise expected(rule, scale_shape=shape, quantized_dimension=axis)
        if self.symmetric and np.any(self.zero_point):
            raise expected("zero_point 0 where symmetric", zero_point=self.zero_point)

    def quantize(self, x: NDArray[Any]) -> NDArray[Any]:
        scale, zero_point = self._along_axis(np.ndim(x))
        codes = fixed_point.quantize(x, scale, zero_point, "int32")
        return np.asarray(np.clip(codes, self.minimum, self.maximum).astype(self.dtype))

    def dequantize(self, q: NDArray[Any]) -> NDArray[np.float32]:
        scale, zero_point = self._along_axis(np.ndim(q))
        return fixed_point.dequantize(q, scale, zero_point)

    def _along_axis(self, rank: int) -> tuple[Any, Any]:
        if self.quantized_dimension is None:
            return self.scale, self.zero_point
        shape = [1] * rank
        shape[self.quantized_dimension] = -1
        scale = np.asarray(self.scale, np.float32)
        zero_point = np.broadcast_to(np.asarray(self.zero_point, np.int64), scale.shape)
        return scale.reshape(shape), zero_point.reshape(shape)


@dataclass(frozen=True)
class Affine(_Codes):
    """The affine quantizer of a tensor's own range: `fit(x)` has the scale and zero point of `x`.

    `Affine(symmetric=True, narrow_range=True, quantized_dimension=0)` is what the converter does
    to int8 weights, `Affine()` to int8 activations over their calibration data, and
    `Affine(bits=16, symmetric=True)` to int16 ones.
    """

    bits: int = 8
    symmetric: bool = False
    narrow_range: bool = False
    quantized_dimension: int | None = None

    def __post_init__(self) -> None:
        code_limits(self.bits, self.narrow_range)

    def fit(self, x: NDArray[Any]) -> AffineQuantizer:
        """The quantizer for the range of `x`; raises QnnRobustError where that is not finite."""
        axis = self.quantized_dimension
        others = None
        if axis is not None:
            others = tuple(i for i in range(np.ndim(x)) if i != axis % np.ndim(x))
        low = np.min(x, axis=others, initial=0.0)
        high = np.max(x, axis=others, initial=0.0)
        scale, zero_point = affine_parameters(
            low, high, bits=self.bits, symmetric=self.symmetric, narrow_range=self.narrow_range
        )
        if axis is None:
            scale, zero_point = float(scale), int(zero_point)  # type: ignore[assignment]
        return AffineQuantizer(
            scale, zero_point, self.bits, axis, self.symmetric, self.narrow_range
        )

    def quantize(self, x: NDArray[Any]) -> NDArray[Any]:
        """The codes of `x` under its own range."""
        return self.fit(x).quantize(x)

    def dequantize(self, q: NDArray[Any]) -> NDArray[np.float32]:
        raise expected("a fitted quantizer to dequantize", quantizer=self, cure="use fit(x)")
