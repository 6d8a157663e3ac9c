"""TensorFlow Lite Micro's fixed-point arithmetic in NumPy int64: every rounding lives here, once.

Sources: gemmlowp `fixedpoint/fixedpoint.h`; TFLite `kernels/internal/common.cc` (two roundings,
no TFLM build defines TFLITE_SINGLE_ROUNDING) and `kernels/internal/quantization_util.cc`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pytest_qnnrobust.errors import ModelFileError, expected

Integers = NDArray[np.int64]
ScaleArithmetic = Literal["double", "float"]

CODE_BITS = (2, 16)
"""The fewest and the most bits of a signed code."""

BLOCK = 1 << 15
"""Values that are quantized together, so that the intermediate arrays fit the cache."""

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1

FUSED_ACTIVATIONS: dict[str, tuple[float | None, float | None]] = {
    "NONE": (None, None),
    "RELU": (0.0, None),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
"""Real (minimum, maximum) of each fused activation; None is the limit of the dtype."""


def round_half_away(x: ArrayLike) -> NDArray[np.float64]:
    """Round to the nearest integer, halves away from zero (C `round`), in float64."""
    value = np.asarray(x, np.float64)
    whole = np.trunc(value)
    return np.where(np.abs(value - whole) >= 0.5, whole + np.sign(value), whole)


def round_float32_half_away(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Round finite float32 values to the nearest integer, halves away from zero, in float64."""
    # value + 0.5 is exact in float64 below 2**28, and float32 values are whole from 2**24 on.
    value = x.astype(np.float64)
    value += np.copysign(0.5, value)
    return np.asarray(np.trunc(value))


def int32(x: ArrayLike) -> Integers:
    """Wrap to 32 bits (two's complement), as the device's registers do."""
    return np.asarray(x, np.int64).astype(np.int32).astype(np.int64)


def quantize(x: ArrayLike, scale: Any, zero_point: Any, dtype: DTypeLike) -> NDArray[Any]:
    """`clip(round(float32(x / scale)) + zero_point)`, clipped before the cast (R/quantize.h).

    The division is float32 by float32; NaN becomes the zero point, infinities saturate.
    """
    values = np.asarray(x, np.float32)
    if np.ndim(scale) or np.ndim(zero_point):
        return _quantize(values, np.asarray(scale, np.float32), zero_point, dtype)
    quantized = np.empty(values.shape, dtype)
    flat, codes = values.reshape(-1), quantized.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        part = slice(start, start + BLOCK)
        codes[part] = _quantize(flat[part], np.float32(scale), zero_point, dtype)
    return quantized


def _quantize(
    x: NDArray[np.float32], scale: Any, zero_point: Any, dtype: DTypeLike
) -> NDArray[Any]:
    limits = np.iinfo(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        ratio = x / scale
        # One sum tells whether all are finite, faster than a test of each.
        finite = np.isfinite(ratio.sum(dtype=np.float64))
    if not finite:
        # 2**40 lies beyond every integer type here: an infinity saturates in the clip.
        ratio = np.nan_to_num(ratio, nan=0.0, posinf=2.0**40, neginf=-(2.0**40))
    rounded = round_float32_half_away(ratio)
    rounded += zero_point
    return np.clip(rounded, limits.min, limits.max, out=rounded).astype(dtype)


def dequantize(q: ArrayLike, scale: float, zero_point: int) -> NDArray[np.float32]:
    """`float32(double(scale) * (q - zero_point))` (R/dequantize.h)."""
    real: NDArray[np.float64] = np.float64(scale) * (np.asarray(q, np.int64) - zero_point)
    return real.astype(np.float32)


def code_limits(bits: int, narrow_range: bool) -> tuple[int, int]:
    """The smallest and the largest signed code; a narrow range leaves the smallest out."""
    if not CODE_BITS[0] <= bits <= CODE_BITS[1]:
        raise expected(f"bits from {CODE_BITS[0]} to {CODE_BITS[1]}", bits=bits)
    half = 1 << (bits - 1)
    return -half + int(narrow_range), half - 1


def effective_scale(
    numerators: tuple[ArrayLike, ...], denominator: float, arithmetic: ScaleArithmetic = "double"
) -> NDArray[np.float64]:
    """The product of `numerators` over `denominator`, left to right, in double or float32."""
    # The order and the precision are the firmware's: another one changes the last bit.
    kind = np.float64 if arithmetic == "double" else np.float32
    product: NDArray[Any] = np.atleast_1d(np.asarray(numerators[0], kind))
    for factor in numerators[1:]:
        product = product * np.asarray(factor, kind)
    quotient: NDArray[Any] = product / kind(denominator)
    return quotient.astype(np.float64)


def quantize_multiplier(d: ArrayLike) -> tuple[Integers, Integers]:
    """Real multipliers -> (multiplier, shift), d ~ multiplier * 2**(shift - 31).

    Scalars give arrays of length 1. A d of 0, or with shift < -31, gives (0, 0). Raises
    ModelFileError for a d that is not finite.
    """
    if not np.isfinite(d).all():
        raise expected("scales with finite ratios", ratio=float(np.max(d)), error=ModelFileError)
    fraction, shift = np.frexp(np.atleast_1d(np.asarray(d, np.float64)))
    multiplier = round_half_away(fraction * 2.0**31).astype(np.int64)
    shift = shift.astype(np.int64)
    # Rounding may have carried to 2**31, which int32 does not hold.
    carried = np.abs(multiplier) == 1 << 31
    multiplier, shift = np.where(carried, multiplier // 2, multiplier), shift + carried
    vanishes = shift < -31
    return np.where(vanishes, 0, multiplier), np.where(vanishes, 0, shift)


def saturating_rounding_doubling_high_mul(a: ArrayLike, b: ArrayLike) -> Integers:
    """SRDHM: `(a * b + 2**30) >> 31` of int32 values; only (-2**31)**2 saturates."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    high: Integers = np.minimum((product + (1 << 30)) >> 31, INT32_MAX)
    return high


def rounding_divide_by_pot(x: ArrayLike, exponent: ArrayLike) -> Integers:
    """RDPOT: x / 2**exponent, halves away from zero; exponent 0 is the identity."""
    value, e = np.asarray(x, np.int64), np.asarray(exponent, np.int64)
    mask = (np.int64(1) << e) - 1
    threshold = (mask >> 1) + (value < 0)
    quotient: Integers = (value >> e) + ((value & mask) > threshold)
    return quotient


def saturating_left_shift(x: ArrayLike, amount: int, bits: int = 32) -> Integers:
    """`x << amount`, saturated to a signed integer of `bits` bits."""
    limit = 1 << (bits - 1)
    shifted: Integers = np.clip(np.asarray(x, np.int64) << amount, -limit, limit - 1)
    return shifted


def multiply_by_quantized_multiplier(
    x: ArrayLike, multiplier: ArrayLike, shift: ArrayLike
) -> Integers:
    """MBQM32: `RDPOT(SRDHM(x << max(s, 0), m), max(-s, 0))` of int32 accumulators x."""
    s = np.asarray(shift, np.int64)
    shifted = int32(np.asarray(x, np.int64) << np.maximum(s, 0))
    high = saturating_rounding_doubling_high_mul(shifted, multiplier)
    return rounding_divide_by_pot(high, np.maximum(-s, 0))


def multiply_by_quantized_multiplier_int64(
    x: ArrayLike, multiplier: ArrayLike, shift: ArrayLike
) -> Integers:
    """MBQM64: the int16x8 path for |x| < 2**47, -31 <= shift < 8.

    It rounds once, half up, with a 16-bit multiplier; the result wraps to int32.
    """
    reduced = reduce_multiplier(multiplier)
    total = 15 - np.asarray(shift, np.int64)
    product = np.asarray(x, np.int64) * reduced
    return int32((product + (np.int64(1) << (total - 1))) >> total)


def reduce_multiplier(multiplier: ArrayLike) -> Integers:
    """A 31-bit multiplier rounded half up to 15 bits, at most 32,767."""
    # From 0x7FFF0000 on, rounding would carry to 32,768, which int16 does not hold.
    m = np.asarray(multiplier, np.int64)
    return np.where(m < 0x7FFF0000, (m + (1 << 15)) >> 16, 0x7FFF)


def activation_range(
    function_name: str, scale: float, zero_point: int, dtype: DTypeLike
) -> tuple[int, int]:
    """Quantized (minimum, maximum) of a fused activation (K/kernel_util.cc).

    `zero_point + round(float32(f / scale))`, intersected with the dtype's limits. Raises
    QnnRobustError for any other function.
    """
    if function_name not in FUSED_ACTIVATIONS:
        raise expected(
            f"a fused activation among {', '.join(FUSED_ACTIVATIONS)}", activation=function_name
        )
    limits = np.iinfo(dtype)

    def quantized(real: float | None, limit: int) -> int:
        if real is None:
            return limit
        return zero_point + int(round_half_away(np.float32(real) / np.float32(scale)))

    low, high = FUSED_ACTIVATIONS[function_name]
    return (
        max(int(limits.min), quantized(low, int(limits.min))),
        min(int(limits.max), quantized(high, int(limits.max))),
    )


@dataclass(frozen=True, eq=False)
class Requantization:
    """Turns accumulators into an activation: scale, add the zero point, clip, cast.

    `multiplier` and `shift` are int64 arrays of length 1 or channels, applied on the last axis.
    `wide` selects MBQM64 (int64 accumulators) instead of MBQM32.
    """

    multiplier: Integers
    shift: Integers
    zero_point: int
    minimum: int
    maximum: int
    dtype: Literal["int8", "int16"]
    wide: bool = False

    @property
    def safe_magnitude(self) -> Integers:
        """Largest |accumulator| for which no step wraps, per channel.

        MBQM32: x << shift stays in int32. MBQM64: |x| < 2**47 and the result stays in int32.
        Up to here `apply` does not decrease; beyond it wraps as the device does.
        """
        if not self.wide:
            narrow: Integers = np.int64(INT32_MAX) >> np.maximum(self.shift, 0)
            return narrow
        reduced = np.maximum(reduce_multiplier(self.multiplier), 1)
        # The largest x with x * reduced + 2**(14 - shift) < 2**(46 - shift), the rounding included.
        unit = np.int64(1)
        limit = (unit << np.minimum(31 + 15 - self.shift, 62)) - (unit << (14 - self.shift))
        wide: Integers = limit // reduced - 1
        return np.minimum(wide, (1 << 47) - 1)

    def scale(self, accumulator: ArrayLike) -> Integers:
        """The accumulator in units of the output, before zero point and clipping."""
        if self.wide:
            return multiply_by_quantized_multiplier_int64(accumulator, self.multiplier, self.shift)
        return multiply_by_quantized_multiplier(accumulator, self.multiplier, self.shift)

    def apply(self, accumulator: ArrayLike) -> NDArray[Any]:
        """int64 accumulators (..., channels) -> the output activation of the same shape."""
        shifted = self.scale(accumulator) + self.zero_point
        return np.clip(shifted, self.minimum, self.maximum).astype(self.dtype)
