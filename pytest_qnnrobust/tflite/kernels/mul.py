"""MUL (RI/mul.h, M/mul_common.cc)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.tflite.fixed_point import Requantization
from pytest_qnnrobust.tflite.graph import Graph, Operator
from pytest_qnnrobust.tflite.kernels.base import Array, Node, Settings
from pytest_qnnrobust.tflite.kernels.elementwise import Binary, binary_operands


@dataclass(frozen=True, eq=False, kw_only=True)
class Mul(Binary):
    """`requantization((x - left_zero_point) * (y - right_zero_point))`, MBQM32 in both widths.

    The desktop rounds int16 products otherwise.
    """

    left_zero_point: int
    right_zero_point: int
    requantization: Requantization

    def run(self, *inputs: Array) -> Array:
        x, y = self.align(*inputs)
        left = x.astype(np.int64) - self.left_zero_point
        right = y.astype(np.int64) - self.right_zero_point
        return self.requantization.apply(left * right)


def prepare_mul(operator: Operator, graph: Graph, settings: Settings) -> Mul:
    node = Node(operator, graph, settings)
    left = node.quantized(node.tensor(0), "operand")
    right = node.quantized(node.tensor(1), "operand")
    output = node.quantized(node.result, "output")
    node.same_dtype(left, right, output)
    operands = binary_operands(node, left, right, output)
    multiplier = node.multiplier(left.scale, right.scale, over=output.scale)
    return Mul(
        name=operator.name,
        inputs=operands.inputs,
        output=output.index,
        constants=operands.constants,
        rank=operands.rank,
        left_zero_point=left.zero_point,
        right_zero_point=right.zero_point,
        requantization=node.requantization(multiplier, output),
    )
