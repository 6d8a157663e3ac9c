"""ADD and SUB (RI/add.h, R/add.h, R/sub.h; M/add_common.cc, M/sub_common.cc)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from pytest_qnnrobust.tflite.fixed_point import (
    Integers,
    Requantization,
    ScaleArithmetic,
    multiply_by_quantized_multiplier,
)
from pytest_qnnrobust.tflite.graph import Graph, Operator, Tensor
from pytest_qnnrobust.tflite.kernels.base import Array, Node, Settings
from pytest_qnnrobust.tflite.kernels.elementwise import Binary, binary_operands

LEFT_SHIFT = {"int8": 20, "int16": 15}
"""Bits by which addends are raised before they are scaled: (x - zero_point) still fits int32."""


@dataclass(frozen=True, eq=False)
class ScaledOperand:
    """One addend on the common scale: `MBQM32((x - zero_point) << left_shift, multiplier, shift)`.

    `multiplier` and `shift` are int64 arrays of length 1.
    """

    zero_point: int
    left_shift: int
    multiplier: Integers
    shift: Integers

    def apply(self, x: ArrayLike) -> Integers:
        """Quantized values -> int64 (below 2**31 in magnitude), same shape."""
        raised = (np.asarray(x, np.int64) - self.zero_point) << self.left_shift
        return multiply_by_quantized_multiplier(raised, self.multiplier, self.shift)


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Binary):
    """`requantization(left(x) + sign * right(y))`; sign -1 is SUB."""

    left: ScaledOperand
    right: ScaledOperand
    sign: Literal[1, -1]
    requantization: Requantization

    def run(self, *inputs: Array) -> Array:
        x, y = self.align(*inputs)
        return self.requantization.apply(self.left.apply(x) + self.sign * self.right.apply(y))


def prepare_add(operator: Operator, graph: Graph, settings: Settings) -> Add:
    """Multipliers are double in every version of ADD; SUB follows the setting."""
    return _prepare(Node(operator, graph, settings), 1, "double")


def prepare_sub(operator: Operator, graph: Graph, settings: Settings) -> Add:
    return _prepare(Node(operator, graph, settings), -1, settings.scale_arithmetic)


def _prepare(node: Node, sign: Literal[1, -1], arithmetic: ScaleArithmetic) -> Add:
    left = node.quantized(node.tensor(0), "operand")
    right = node.quantized(node.tensor(1), "operand")
    output = node.quantized(node.result, "output")
    left_shift = LEFT_SHIFT[node.same_dtype(left, right, output)]
    twice_max = 2 * max(left.scale, right.scale)
    over = (1 << left_shift) * output.scale
    scale = node.multiplier(twice_max, over=over, arithmetic=arithmetic)
    if scale[1].max() > 0:
        raise node.refuse(
            f"scales with 2 * max(s1, s2) < 2**{left_shift} * s_out", output, scale=output.scale
        )
    operands = binary_operands(node, left, right, output)

    def scaled(tensor: Tensor) -> ScaledOperand:
        multiplier, shift = node.multiplier(tensor.scale, over=twice_max, arithmetic=arithmetic)
        return ScaledOperand(tensor.zero_point, left_shift, multiplier, shift)

    return Add(
        name=node.operator.name,
        inputs=operands.inputs,
        output=output.index,
        constants=operands.constants,
        rank=operands.rank,
        left=scaled(left),
        right=scaled(right),
        sign=sign,
        requantization=node.requantization(scale, output),
    )
