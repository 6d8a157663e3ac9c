"""SOFTMAX int8 -> int8, int8 -> int16, int16 -> int16 (R/softmax.h, M/softmax_common.cc)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.tflite.fixed_point import (
    INT32_MAX,
    Integers,
    effective_scale,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    round_half_away,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from pytest_qnnrobust.tflite.graph import Graph, Operator, Tensor
from pytest_qnnrobust.tflite.kernels.base import Array, Kernel, Node, Settings
from pytest_qnnrobust.tflite.kernels.transcendental import (
    exp_on_negative_values,
    one_over_one_plus_x,
)

DIFFERENCE_BITS = 5
"""Integer bits of x - max in Q5.26."""
SUM_BITS = 12
"""Integer bits of the sum of exponentials in Q12.19."""
OUTPUTS = {
    ("int8", "int8"): (1 / 256, -128, 0.0),
    ("int8", "int16"): (1 / 65536, -32768, 1e-3),
    ("int16", "int16"): (1 / 32768, 0, 1e-3),
}
"""(input, output) dtype -> output scale, zero point, relative tolerance of the scale."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Softmax(Kernel):
    """Softmax over the last axis; `multiplier` and `shift` (length 1) scale x - max."""

    multiplier: Integers
    shift: Integers
    input_dtype: str
    output_dtype: str

    @property
    def exp_table(self) -> Integers:
        """exp(x - max) by difference: entry i belongs to x - max = i - (entries - 1)."""
        raise NotImplementedError

    def normalize(self, exponentials: Integers) -> Array:
        """Exponentials (..., classes) -> the output activation."""
        raise NotImplementedError

    def run(self, *inputs: Array) -> Array:
        (x,) = inputs
        values = x.astype(np.int64)
        difference = values - values.max(axis=-1, keepdims=True)
        table = self.exp_table
        return self.normalize(table[difference + len(table) - 1])


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftmaxInt8(Softmax):
    """Exponentials in Q0.31; 0 stands for a difference too small to be summed."""

    @cached_property
    def exp_table(self) -> Integers:
        """256 entries, x - max = -255 .. 0."""
        shift = int(self.shift[0])
        limit = ((1 << DIFFERENCE_BITS) - 1) << (31 - DIFFERENCE_BITS)
        difference = np.arange(-255, 1, dtype=np.int64)
        # TFLM leaves smaller differences out of the sum: their shift would overflow Q5.26.
        reached = difference >= -(limit >> shift)
        raised = np.where(reached, difference, 0) << shift
        scaled = saturating_rounding_doubling_high_mul(raised, self.multiplier)
        return np.where(reached, exp_on_negative_values(scaled, DIFFERENCE_BITS), 0)

    def normalize(self, exponentials: Integers) -> Array:
        limits = np.iinfo(self.output_dtype)
        total = rounding_divide_by_pot(exponentials, SUM_BITS).sum(axis=-1, keepdims=True)
        headroom = leading_zeros(total)
        # Raised to the top bit, the sum is 1 + a with a in [0, 1), whose reciprocal gemmlowp has.
        reciprocal = one_over_one_plus_x((total << headroom) - (1 << 31))
        exponent = SUM_BITS - headroom + 31 - limits.bits
        product = saturating_rounding_doubling_high_mul(reciprocal, exponentials)
        levels = rounding_divide_by_pot(product, exponent) + int(limits.min)
        clipped: Integers = np.clip(levels, limits.min, limits.max)
        return clipped.astype(self.output_dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftmaxInt16(Softmax):
    """Exponentials in Q0.15, by interpolation in tables of 513 entries."""

    @cached_property
    def exp_table(self) -> Integers:
        """65,536 entries, x - max = -65535 .. 0."""
        difference = np.arange(-65535, 1, dtype=np.int64)
        scaled = multiply_by_quantized_multiplier(difference, self.multiplier, self.shift)
        return interpolate(exp_lut(), np.clip(scaled + 32767, -32768, 32767))

    def normalize(self, exponentials: Integers) -> Array:
        total = exponentials.sum(axis=-1, keepdims=True)
        headroom = leading_zeros(total)
        fraction = ((total << (headroom - 1)) + (1 << 13)) >> 14
        # 1 + a has 17 bits here; a in [0, 1) becomes the table's int16 argument.
        offset = np.clip(fraction - (1 << 15) - (1 << 16), -32768, 32767)
        reciprocal = interpolate(one_over_one_plus_x_lut(), offset)
        rounding = np.int64(1) << (30 - headroom)
        levels: Integers = (exponentials * reciprocal + rounding) >> (31 - headroom)
        return np.clip(levels, 0, 32767).astype(np.int16)


def leading_zeros(x: Integers) -> Integers:
    """Zeros before the first set bit of 0 < x < 2**32 in 32 bits."""
    return 32 - np.frexp(x.astype(np.float64))[1].astype(np.int64)


def interpolate(lut: Integers, x: Integers) -> Integers:
    """int16 x -> the 513-entry table at (x + 32768) / 128, linear between entries."""
    index = 256 + (x >> 7)
    base = lut[index]
    value: Integers = base + (((lut[index + 1] - base) * (x & 127) + 64) >> 7)
    return value


@lru_cache(maxsize=1)
def exp_lut() -> Integers:
    """exp(x) for x in [-10, 0]."""
    return _populate(np.float32(10) / np.float32(65535), 32767, np.exp)


@lru_cache(maxsize=1)
def one_over_one_plus_x_lut() -> Integers:
    """1 / (1 + x) for x in [0, 1]."""
    unit = np.float32(1)
    return _populate(unit / np.float32(65535), -32768, lambda x: unit / (unit + x))


def _populate(
    scale: np.float32, zero_point: int, function: Callable[[Any], Any]
) -> NDArray[np.int64]:
    """513 samples corrected for half the interpolation error, all in float32 (K/common.h)."""
    # The order of the operations is TFLM's; in double, two entries of 1 / (1 + x) differ by 1.
    real = np.float32
    lowest, highest = scale * real(-32768 - zero_point), scale * real(32767 - zero_point)
    output_scale = real(2) / real(65535)
    inverse = real(65536) / (output_scale * real(32767) - output_scale * real(-32768))
    step = (highest - lowest) / real(512)
    start = lowest + np.arange(512, dtype=real) * step
    following = lowest + np.arange(1, 513, dtype=real) * step

    def sample(x: Any) -> Any:
        return np.asarray(function(x), real) * inverse

    value = _round(sample(start))
    middle = _round((sample(following) + value) / real(2))
    error = middle - _round(sample(start + step / real(2)))
    last = _round(sample(highest))
    levels = np.append(value - _round(error / real(2)), last)
    return np.clip(levels, -32768, 32767).astype(np.int64)


def _round(x: Any) -> NDArray[np.float32]:
    return round_half_away(x).astype(np.float32)


def prepare_softmax(operator: Operator, graph: Graph, settings: Settings) -> Softmax:
    node = Node(operator, graph, settings)
    values = node.quantized(node.tensor(0, "input"), "input")
    output = node.quantized(node.result, "output", symmetric_int16=False)
    _check_output(node, values, output)
    beta = float(node.option("beta", 0.0))
    kernel = SoftmaxInt8 if values.dtype == "int8" else SoftmaxInt16
    multiplier, shift = _multiplier(node, values, beta)
    return kernel(
        name=operator.name,
        inputs=(values.index,),
        output=output.index,
        multiplier=multiplier,
        shift=shift,
        input_dtype=values.dtype,
        output_dtype=output.dtype,
    )


def _check_output(node: Node, values: Tensor, output: Tensor) -> None:
    key = (values.dtype, output.dtype)
    if key not in OUTPUTS:
        raise node.refuse("int8 to int8 or int16, or int16 to int16", output, dtypes=key)
    scale, zero_point, tolerance = OUTPUTS[key]
    if abs(output.scale - scale) > tolerance * scale or output.zero_point != zero_point:
        raise node.refuse(
            f"output of scale {scale} and zero point {zero_point}",
            output,
            scale=output.scale,
            zero_point=output.zero_point,
        )
    if len(values.shape) < 2:
        raise node.refuse("input with a batch axis and a class axis", values, shape=values.shape)


def _multiplier(node: Node, values: Tensor, beta: float) -> tuple[Integers, Integers]:
    """int8: min(beta * s * 2**26, 2**31 - 1), above 1; int16: s * beta / (10 / 65535)."""
    if values.dtype == "int16":
        return quantize_multiplier(effective_scale((values.scale, beta), 10.0 / 65535.0))
    real = min(beta * values.scale * (1 << (31 - DIFFERENCE_BITS)), float(INT32_MAX))
    if real <= 1:
        raise node.refuse("beta * scale above 2**-26", values, beta=beta, scale=values.scale)
    return quantize_multiplier(real)
