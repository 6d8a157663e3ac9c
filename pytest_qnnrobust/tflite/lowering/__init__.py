"""Prepared kernels -> TensorFlow, each step exact because it was proved so at load.

A step is elementwise (`Elementwise`: fused by XLA with its neighbours), a sum of products
(`Product`: elementwise operands, TensorFlow's own kernel, elementwise finish), or left to the
NumPy kernel (`Host`), which is always right and only slower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_qnnrobust.tflite.accumulate import Engine
from pytest_qnnrobust.tflite.graph import Graph
from pytest_qnnrobust.tflite.kernels.add import Add
from pytest_qnnrobust.tflite.kernels.conv_2d import Conv2D, DepthwiseConv2D
from pytest_qnnrobust.tflite.kernels.data_movement import Concatenation, Pad, Transpose
from pytest_qnnrobust.tflite.kernels.elementwise import Unary
from pytest_qnnrobust.tflite.kernels.fully_connected import FullyConnected
from pytest_qnnrobust.tflite.kernels.mean import Mean, ReduceMax
from pytest_qnnrobust.tflite.kernels.mul import Mul
from pytest_qnnrobust.tflite.kernels.pooling import AveragePool2D, MaxPool2D
from pytest_qnnrobust.tflite.kernels.reshape import Reshape
from pytest_qnnrobust.tflite.lowering import elementwise, products
from pytest_qnnrobust.tflite.lowering.forms import Elementwise, Host, Lowered, Product
from pytest_qnnrobust.tflite.plan import Step

__all__ = ["Elementwise", "Host", "Lowered", "Product", "lower"]

LOWERINGS: dict[type, Callable[..., Elementwise | Product | None]] = {
    Add: elementwise.lower_add,
    AveragePool2D: elementwise.lower_average_pool_2d,
    Concatenation: elementwise.lower_concatenation,
    FullyConnected: products.lower_fully_connected,
    MaxPool2D: products.lower_max_pool_2d,
    Mean: elementwise.lower_mean,
    Mul: elementwise.lower_mul,
    Pad: elementwise.lower_pad,
    ReduceMax: elementwise.lower_reduce_max,
    Reshape: elementwise.lower_reshape,
    Transpose: elementwise.lower_transpose,
}


def lower(step: Step, graph: Graph, engines: tuple[Engine, ...]) -> Lowered:
    """The fastest exact form of a step."""
    return _lower(step.kernel, graph, engines) or Host(
        step.kernel.run, graph.tensors[step.output].dtype
    )


def _lower(kernel: Any, graph: Graph, engines: tuple[Engine, ...]) -> Elementwise | Product | None:
    if isinstance(kernel, Conv2D):
        return products.lower_conv_2d(kernel, graph, engines)
    if isinstance(kernel, DepthwiseConv2D):
        return products.lower_depthwise_conv_2d(kernel, graph)
    if isinstance(kernel, Unary):
        return elementwise.lower_unary(kernel)
    lowering = LOWERINGS.get(type(kernel))
    return lowering(kernel) if lowering else None
