"""RESHAPE, EXPAND_DIMS, SQUEEZE and SHAPE.

M/reshape_common.cc, M/expand_dims.cc, M/squeeze.cc, M/shape.cc.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.tflite.graph import Graph, Operator, Tensor
from pytest_qnnrobust.tflite.kernels.base import Array, Kernel, Node, Settings


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Kernel):
    """(N, ...) -> (N, *shape); `shape` has at most one -1. `run` raises ValueError for no fit.

    No operand but the values is read at run time: the batch axis stays, and the rest is static in
    the file, as TFLM reads it. So the operators that compute a shape (Keras' SHAPE, STRIDED_SLICE,
    PACK) are dead, and the axes of EXPAND_DIMS and SQUEEZE are those of their outputs.
    """

    shape: tuple[int, ...]

    def run(self, *inputs: Array) -> Array:
        (x,) = inputs
        elements = math.prod(x.shape[1:])
        shape = resolve_shape(self.shape, elements)
        if math.prod(shape) != elements:
            raise ValueError(f"{elements} values per sample in the shape {shape}")
        return x.reshape((len(x), *shape))


@dataclass(frozen=True, eq=False, kw_only=True)
class Shape(Kernel):
    """int32 sizes of all axes, the batch included."""

    def run(self, *inputs: Array) -> Array:
        (x,) = inputs
        return np.array(x.shape, np.int32)


def resolve_shape(shape: tuple[int, ...], elements: int) -> tuple[int, ...]:
    """`shape` with its -1 replaced so that it holds `elements` values."""
    if -1 not in shape:
        return shape
    static = math.prod(size for size in shape if size != -1)
    return tuple(elements // static if size == -1 else size for size in shape)


def prepare_reshape(operator: Operator, graph: Graph, settings: Settings) -> Reshape:
    node = Node(operator, graph, settings)
    values, output = node.tensor(0, "input"), node.result
    node.same_dtype(values, output)
    return Reshape(
        name=operator.name,
        inputs=(values.index,),
        output=output.index,
        shape=_sample_shape(node, values, output),
    )


def _sample_shape(node: Node, values: Tensor, output: Tensor) -> tuple[int, ...]:
    """The output's shape without the batch axis; (-1,) where a rank-2 output is dynamic.

    An input of unknown size is compared with a static output in the dry run.
    """
    if not output.shape or not values.shape:
        raise node.refuse("input and output with a batch axis", output, shape=output.shape)
    shape, given = output.shape[1:], values.shape[1:]
    if any(size < 1 for size in given):
        if len(shape) == 1 and _is_unknown(output):
            return (-1,)
        if all(size > 0 for size in shape):
            return shape
        raise node.refuse("input with a static shape", values, shape=values.shape)
    elements = math.prod(given)
    if 0 not in shape and shape.count(-1) <= 1:
        resolved = resolve_shape(shape, elements)
        if math.prod(resolved) == elements:
            return resolved
    if len(shape) == 1 and _is_unknown(output):
        return (elements,)
    raise node.refuse(
        "to keep the batch axis first", output, input=values.shape, output=output.shape
    )


def _is_unknown(output: Tensor) -> bool:
    """A flattened size that the converter left dynamic is written as -1 or as 1."""
    return output.shape[1] in (-1, 1) and output.shape[0] in (-1, 1)


def prepare_shape(operator: Operator, graph: Graph, settings: Settings) -> Shape:
    node = Node(operator, graph, settings)
    values = node.tensor(0, "input")
    output = node.check_dtype(node.result, ("int32",), "output")
    return Shape(name=operator.name, inputs=(values.index,), output=output.index)
