"""QUANTIZE and DEQUANTIZE (R/requantize.h, R/quantize.h, R/dequantize.h)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.tflite import fixed_point
from pytest_qnnrobust.tflite.fixed_point import Integers, Requantization
from pytest_qnnrobust.tflite.graph import Graph, Operator
from pytest_qnnrobust.tflite.kernels.base import INTEGER_WIDTHS, Array, Kernel, Node, Settings
from pytest_qnnrobust.tflite.kernels.elementwise import Unary


@dataclass(frozen=True, eq=False, kw_only=True)
class Quantize(Kernel):
    """float32 -> int8 or int16."""

    scale: float
    zero_point: int
    dtype: str

    def run(self, *inputs: Array) -> Array:
        (x,) = inputs
        return fixed_point.quantize(x, self.scale, self.zero_point, self.dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class Requantize(Unary):
    """int8 or int16 -> int8 or int16: `requantization(x - zero_point)`."""

    zero_point: int
    requantization: Requantization

    def evaluate(self, x: Integers) -> Array:
        return self.requantization.apply(x - self.zero_point)


@dataclass(frozen=True, eq=False, kw_only=True)
class Dequantize(Unary):
    """int8 or int16 -> float32."""

    scale: float
    zero_point: int

    def evaluate(self, x: Integers) -> Array:
        return fixed_point.dequantize(x, self.scale, self.zero_point)


def prepare_quantize(operator: Operator, graph: Graph, settings: Settings) -> Kernel:
    node = Node(operator, graph, settings)
    values = node.check_dtype(node.tensor(0, "input"), ("float32", *INTEGER_WIDTHS), "input")
    output = node.quantized(node.result, "output", symmetric_int16=False)
    if values.dtype == "float32":
        return Quantize(
            name=operator.name,
            inputs=(values.index,),
            output=output.index,
            scale=output.scale,
            zero_point=output.zero_point,
            dtype=output.dtype,
        )
    node.quantized(values, "input", symmetric_int16=False)
    limits = np.iinfo(output.dtype)
    return Requantize(
        name=operator.name,
        inputs=(values.index,),
        output=output.index,
        input_dtype=values.dtype,
        zero_point=values.zero_point,
        requantization=node.requantization(
            node.multiplier(values.scale, over=output.scale),
            output,
            limits=(int(limits.min), int(limits.max)),
        ),
    )


def prepare_dequantize(operator: Operator, graph: Graph, settings: Settings) -> Dequantize:
    node = Node(operator, graph, settings)
    values = node.quantized(node.tensor(0, "input"), "input", symmetric_int16=False)
    output = node.check_dtype(node.result, ("float32",), "output")
    return Dequantize(
        name=operator.name,
        inputs=(values.index,),
        output=output.index,
        input_dtype=values.dtype,
        scale=values.scale,
        zero_point=values.zero_point,
    )
