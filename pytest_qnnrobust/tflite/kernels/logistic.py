"""LOGISTIC and TANH (RI/logistic.h, RI/tanh.h; M/logistic_common.cc, M/tanh.cc).

int8 uses gemmlowp's fixed point, int16 interpolates in one table of sigmoid(i / 24).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from pytest_qnnrobust.tflite.fixed_point import (
    Integers,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    round_half_away,
    rounding_divide_by_pot,
)
from pytest_qnnrobust.tflite.graph import Graph, Operator, Tensor
from pytest_qnnrobust.tflite.kernels import transcendental
from pytest_qnnrobust.tflite.kernels.base import Array, Node, Settings
from pytest_qnnrobust.tflite.kernels.elementwise import Unary

INTEGER_BITS = 4
"""Integer bits of the int8 kernels' argument, Q4.27."""
FUNCTIONS: dict[str, Callable[[Integers, int], Integers]] = {
    "LOGISTIC": transcendental.logistic,
    "TANH": transcendental.tanh,
}
OUTPUT_BITS = {"LOGISTIC": 8, "TANH": 7}
POWER_OF_TWO_SHIFTS = {"LOGISTIC": (0,), "TANH": (0, 1)}
"""log2(scale) + 12 for which int16 uses 3 << shift instead of a multiplier."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SigmoidInt8(Unary):
    """Inputs beyond `radius` from the zero point saturate."""

    zero_point: int
    multiplier: Integers
    shift: Integers
    radius: int

    def evaluate(self, x: Integers) -> Array:
        centred = x - self.zero_point
        inside = np.abs(centred) < self.radius
        argument = multiply_by_quantized_multiplier(
            np.where(inside, centred, 0), self.multiplier, self.shift
        )
        value = FUNCTIONS[self.name](argument, INTEGER_BITS)
        levels = rounding_divide_by_pot(value, 31 - OUTPUT_BITS[self.name])
        levels = np.clip(levels - (128 if self.name == "LOGISTIC" else 0), -128, 127)
        saturated = np.where(centred < 0, -128, 127)
        return np.where(inside, levels, saturated).astype(np.int8)


@dataclass(frozen=True, eq=False, kw_only=True)
class SigmoidInt16(Unary):
    """The argument is `(x * multiplier + half) >> shift`, in units of 1 / (3 * 4096)."""

    multiplier: int
    shift: int

    def evaluate(self, x: Integers) -> Array:
        half = (1 << self.shift) >> 1
        argument = (x * self.multiplier + half) >> self.shift
        return (_logistic if self.name == "LOGISTIC" else _tanh)(argument).astype(np.int16)


def _logistic(argument: Integers) -> Integers:
    value = _interpolate(np.abs(argument), bits=9, saturated=0x7FFF << 10)
    rounding = 1 << 9
    # The table begins at 0: sigmoid(-x) = 1 - sigmoid(x).
    negative = (1 << 25) - value + rounding - 1
    return np.where(argument >= 0, value + rounding, negative) >> 10


def _tanh(argument: Integers) -> Integers:
    value = _interpolate(np.abs(argument), bits=8, saturated=0xFFFF << 8)
    # tanh(x) = 2 sigmoid(2 x) - 1: `half` is the table's sigmoid(0) with 8 more bits.
    half, rounding = 1 << 23, 1 << 7
    return np.where(argument >= 0, value - half + rounding, -value + half + rounding - 1) >> 8


def _interpolate(size: Integers, bits: int, saturated: int) -> Integers:
    """sigmoid_table at size / 2**bits, times 2**bits."""
    table = sigmoid_table()
    index = np.minimum(size >> bits, 254)
    base = table[index]
    value = (base << bits) + (size & ((1 << bits) - 1)) * (table[index + 1] - base)
    return np.where(size >> bits >= 255, saturated, value)


@lru_cache(maxsize=1)
def sigmoid_table() -> Integers:
    """sigmoid(i / 24) in Q0.16, i = 0 .. 255, shared by LOGISTIC and TANH.

    Each entry is raised by half the error of linear interpolation at the next midpoint; the last
    is 65,535. This reproduces the 256 literals of `kernels/internal/common.h`.
    """

    def sigmoid(i: Any) -> Any:
        return 65536 / (1 + np.exp(-i / 24))

    i = np.arange(256.0)
    error = sigmoid(i + 0.5) - (sigmoid(i) + sigmoid(i + 1)) / 2
    # 0.49, not 0.5: the factor with which all 256 entries equal TFLM's literals.
    table = round_half_away(sigmoid(i) + 0.49 * error).astype(np.int64)
    table[-1] = 65535
    return table


def prepare_sigmoid(operator: Operator, graph: Graph, settings: Settings) -> Unary:
    """LOGISTIC or TANH, by the operator's name."""
    node = Node(operator, graph, settings)
    values = node.quantized(node.tensor(0, "input"), "input")
    output = node.quantized(node.result, "output")
    return (_prepare_int8 if node.same_dtype(values, output) == "int8" else _prepare_int16)(
        node, values, output
    )


def _prepare_int8(node: Node, values: Tensor, output: Tensor) -> SigmoidInt8:
    if node.operator.name == "LOGISTIC" and output.zero_point != -128:
        raise node.refuse("output zero point -128", output, zero_point=output.zero_point)
    multiplier, shift = quantize_multiplier(values.scale * 2.0 ** (31 - INTEGER_BITS))
    if not 0 <= shift[0] <= 30:
        raise node.refuse("scale within 2**-28 and 8", values, scale=values.scale)
    limit = ((1 << INTEGER_BITS) - 1) << (31 - INTEGER_BITS)
    return SigmoidInt8(
        name=node.operator.name,
        inputs=(values.index,),
        output=output.index,
        input_dtype=values.dtype,
        zero_point=values.zero_point,
        multiplier=multiplier,
        shift=shift,
        radius=limit >> int(shift[0]),
    )


def _prepare_int16(node: Node, values: Tensor, output: Tensor) -> SigmoidInt16:
    exponent, is_power = checked_log2(output.scale)
    if exponent != -15 or not is_power:
        raise node.refuse("int16 output of scale 2**-15", output, scale=output.scale)
    multiplier, shift = int16_multiplier(values.scale, POWER_OF_TWO_SHIFTS[node.operator.name])
    if multiplier > 32767:
        raise node.refuse("scale below 32768 / 12288", values, scale=values.scale)
    return SigmoidInt16(
        name=node.operator.name,
        inputs=(values.index,),
        output=output.index,
        input_dtype=values.dtype,
        multiplier=multiplier,
        shift=shift,
    )


def int16_multiplier(scale: float, power_of_two_shifts: tuple[int, ...]) -> tuple[int, int]:
    """(multiplier, right shift) that bring a scale to 1 / (3 * 4096); the multiplier truncates."""
    exponent, is_power = checked_log2(scale)
    if is_power and exponent + 12 in power_of_two_shifts:
        return 3 << (exponent + 12), 0
    multiplier, shift = scale * 4096.0 * 3.0, 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        multiplier, shift = multiplier * 2.0, shift + 1
    return int(multiplier), shift


def checked_log2(x: float) -> tuple[int, bool]:
    """(rounded log2, whether x is that power of two within 0.001), in float32."""
    real = np.float32
    log2 = np.log(real(x)) * (real(1) / np.log(real(2)))
    rounded = int(round_half_away(log2))
    return rounded, bool(abs(log2 - real(rounded)) < real(1e-3))
