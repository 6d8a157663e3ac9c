"""Strategies of quantization parameters and of requantization multipliers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.strategies.arguments import check_choices, check_range
from pytest_qnnrobust.strategies.draws import Draw, scales
from pytest_qnnrobust.tflite import fixed_point
from pytest_qnnrobust.tflite.graph import QuantizationParameters
from pytest_qnnrobust.tflite.kernels.base import SHIFT_LIMITS

BITS = (8, 4, 16, 2, 3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15)
EXPONENTS = (-32, 16)
"""log2 of the scales that may be asked for."""
GRANULARITIES = ("per-tensor", "per-axis")
SCHEMES = ("affine", "symmetric")


@dataclass(frozen=True)
class AffineParameters:
    """`real = scale * (quantized - zero_point)` with integers of `bits` bits.

    `scale` and `zero_point` have length 1, or that of the axis `quantized_dimension`. A
    `narrow_range` leaves out the lowest integer, as TFLite's weights do.
    """

    scale: tuple[float, ...] = (1.0,)
    zero_point: tuple[int, ...] = (0,)
    bits: int = 8
    narrow_range: bool = False
    quantized_dimension: int | None = None

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise expected("bits in 2 .. 16", bits=self.bits)
        if not self.scale or len(self.scale) != len(self.zero_point):
            raise expected(
                "one zero point for every scale", scale=self.scale, zero_point=self.zero_point
            )
        if self.quantized_dimension is None and len(self.scale) != 1:
            raise expected("one scale per tensor", scale=self.scale)
        if not all(0 < s < np.inf and s == float(np.float32(s)) for s in self.scale):
            raise expected("positive, finite scales that float32 holds", scale=self.scale)
        if not all(self.minimum <= z <= self.maximum for z in self.zero_point):
            rule = f"zero points in {self.minimum} .. {self.maximum}"
            raise expected(rule, zero_point=self.zero_point)

    @property
    def minimum(self) -> int:
        """The lowest legal integer."""
        return fixed_point.code_limits(self.bits, self.narrow_range)[0]

    @property
    def maximum(self) -> int:
        """The highest legal integer."""
        return fixed_point.code_limits(self.bits, self.narrow_range)[1]

    @property
    def dtype(self) -> str:
        """The NumPy type that holds the integers: int8 up to 8 bits, int16 above."""
        return "int8" if self.bits <= 8 else "int16"

    @property
    def symmetric(self) -> bool:
        """Whether every zero point is 0."""
        return not any(self.zero_point)

    @property
    def graph_parameters(self) -> QuantizationParameters:
        """The same as the reader of `.tflite` files gives them."""
        scale, zero_point = np.array(self.scale, np.float32), np.array(self.zero_point, np.int64)
        return QuantizationParameters(scale, zero_point, self.quantized_dimension or 0)


@dataclass(frozen=True)
class Multiplier:
    """A requantization by `multiplier * 2**(shift - 31)`, on TFLM's 32- or (`wide`) 64-bit path."""

    multiplier: int = 1 << 30
    shift: int = 0
    wide: bool = False

    @property
    def real(self) -> float:
        return self.multiplier * 2.0 ** (self.shift - 31)

    @property
    def largest(self) -> int:
        """The largest |accumulator| x with which x << shift, x * multiplier and the result fit."""
        if not self.wide:
            return ((1 << 31) - 1) >> max(self.shift, 0)
        reduced = max(min((self.multiplier + (1 << 15)) >> 16, 0x7FFF), 1)
        result = ((1 << (46 - self.shift)) - (1 << (14 - self.shift))) // reduced - 1
        return min(result, (1 << 47) - 1)

    def apply(self, accumulator: NDArray[np.int64] | int) -> NDArray[np.int64]:
        """MBQM32 or MBQM64 of the accumulators."""
        if self.wide:
            return fixed_point.multiply_by_quantized_multiplier_int64(
                accumulator, self.multiplier, self.shift
            )
        return fixed_point.multiply_by_quantized_multiplier(
            accumulator, self.multiplier, self.shift
        )


def quantization_parameters(
    *,
    bits: Iterable[int] = BITS,
    granularity: Iterable[str] = GRANULARITIES,
    schemes: Iterable[str] = SCHEMES,
    narrow_range: bool | None = None,
    max_channels: int = 5,
    max_dimension: int = 3,
    min_exponent: int = -16,
    max_exponent: int = 7,
) -> st.SearchStrategy[AffineParameters]:
    """Quantizations of 2 to 16 bits with scales in [2**min_exponent, 2**(max_exponent + 1)).

    Draws `AffineParameters`. Symmetric ones have zero point 0; `narrow_range` None draws both; per
    axis there are 1 to `max_channels` scales along an axis up to `max_dimension`. The simplest is
    int8, per tensor, scale 1, zero point 0. Raises QnnRobustError for an argument out of range.
    """
    widths = check_choices("bits", bits, BITS)
    kinds = check_choices("granularity", granularity, GRANULARITIES)
    zeros = check_choices("schemes", schemes, SCHEMES)
    if narrow_range not in (None, True, False):
        raise expected("narrow_range True, False or None", narrow_range=narrow_range)
    check_range(("1", "max_channels"), 1, max_channels, (1, 256))
    check_range(("0", "max_dimension"), 0, max_dimension, (0, 7))
    check_range(("min_exponent", "max_exponent"), min_exponent, max_exponent, EXPONENTS)
    narrow = (False, True) if narrow_range is None else (narrow_range,)

    @st.composite
    def parameters(draw: Draw) -> AffineParameters:
        width = draw(st.sampled_from(widths))
        lowest_is_out = draw(st.sampled_from(narrow))
        axis, channels = None, 1
        if draw(st.sampled_from(kinds)) == "per-axis":
            axis = draw(st.integers(0, max_dimension))
            channels = draw(st.integers(1, max_channels))
        low, high = fixed_point.code_limits(width, lowest_is_out)
        zero = st.just(0) if draw(st.sampled_from(zeros)) == "symmetric" else st.integers(low, high)
        steps = scales(min_exponent, max_exponent)
        return AffineParameters(
            scale=tuple(draw(steps) for _ in range(channels)),
            zero_point=tuple(draw(zero) for _ in range(channels)),
            bits=width,
            narrow_range=lowest_is_out,
            quantized_dimension=axis,
        )

    return parameters()


def requantization_multipliers(
    *, paths: Iterable[str] = ("MBQM32", "MBQM64")
) -> st.SearchStrategy[Multiplier]:
    """Every (multiplier, shift) that TFLM's QuantizeMultiplier gives and the path accepts.

    Draws `Multiplier`: multipliers are 0 or 31-bit numbers from 2**30, with both ends, powers of
    two and the last ones before the reduction to 16 bits likely; shifts are -31 .. 30 (MBQM32) or
    -31 .. 7 (MBQM64).
    """
    chosen = check_choices("paths", paths, ("MBQM32", "MBQM64"))
    ends = (1 << 30, (1 << 31) - 1, 0x7FFEFFFF, 0x7FFF0000, (1 << 30) + (1 << 15), 3 << 29)
    multipliers = st.sampled_from(ends) | st.integers(1 << 30, (1 << 31) - 1)

    @st.composite
    def multiplier(draw: Draw) -> Multiplier:
        wide = draw(st.sampled_from(chosen)) == "MBQM64"
        low, high = SHIFT_LIMITS[wide]
        shifts = st.integers(low, high) | st.sampled_from((low, high))
        drawn = Multiplier(draw(multipliers), draw(shifts), wide)
        return drawn if draw(st.integers(0, 15)) < 15 else Multiplier(0, 0, wide)

    return multiplier()
