"""MEAN and REDUCE_MAX (R/reduce.h, M/reduce_common.cc)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.tflite.fixed_point import Integers, Requantization
from pytest_qnnrobust.tflite.graph import Graph, Operator, Tensor
from pytest_qnnrobust.tflite.kernels.base import Array, Kernel, Node, Settings
from pytest_qnnrobust.tflite.kernels.conv_2d import convolution_tensors


@dataclass(frozen=True, eq=False, kw_only=True)
class Mean(Kernel):
    """`requantization(sum x - input_zero_point * count)`; the multiplier holds the 1 / count.

    `axes` are sorted, positive and never 0; `count` is the number of values per mean.
    """

    axes: tuple[int, ...]
    keep_dims: bool
    count: int
    input_zero_point: int
    requantization: Requantization

    def run(self, *inputs: Array) -> Array:
        (x,) = inputs
        total = x.sum(axis=self.axes, dtype=np.int64, keepdims=self.keep_dims)
        return self.requantization.apply(total - self.input_zero_point * self.count)


@dataclass(frozen=True, eq=False, kw_only=True)
class ReduceMax(Kernel):
    """The largest value along `axes`, which are sorted, positive and never 0; no rescaling."""

    axes: tuple[int, ...]
    keep_dims: bool

    def run(self, *inputs: Array) -> Array:
        (x,) = inputs
        peak: Array = x.max(axis=self.axes, keepdims=self.keep_dims)
        return peak


def prepare_mean(operator: Operator, graph: Graph, settings: Settings) -> Mean:
    node = Node(operator, graph, settings)
    values, output = convolution_tensors(node)
    node.sample_shape(values)
    axes = _axes(node, values)
    count = int(np.prod([values.shape[axis] for axis in axes]))
    limits = np.iinfo(output.dtype)
    return Mean(
        name=operator.name,
        inputs=(values.index,),
        output=output.index,
        axes=axes,
        keep_dims=bool(node.option("keep_dims", False)),
        count=count,
        input_zero_point=values.zero_point,
        requantization=node.requantization(
            divide_multiplier(*node.multiplier(values.scale, over=output.scale), count),
            output,
            limits=(int(limits.min), int(limits.max)),
        ),
    )


def prepare_reduce_max(operator: Operator, graph: Graph, settings: Settings) -> ReduceMax:
    """int8 only, as in TFLM, which compares the scales and nothing else."""
    node = Node(operator, graph, settings)
    values = node.quantized(node.tensor(0, "input"), "input", ("int8",))
    output = node.quantized(node.result, "output", ("int8",))
    if (values.scale, values.zero_point) != (output.scale, output.zero_point):
        raise node.refuse("output quantized as its input", output, scale=output.scale)
    node.sample_shape(values)
    return ReduceMax(
        name=operator.name,
        inputs=(values.index,),
        output=output.index,
        axes=_axes(node, values),
        keep_dims=bool(node.option("keep_dims", False)),
    )


def divide_multiplier(
    multiplier: Integers, shift: Integers, count: int
) -> tuple[Integers, Integers]:
    """(multiplier, shift) of d / count, keeping as many bits as TFLM does."""
    # bit_length() - 1 is floor(log2 count): raised by that, the quotient keeps 31 bits.
    raised = np.minimum(min(count.bit_length() - 1, 32), 31 + shift)
    return (multiplier << raised) // count, shift - raised


def _axes(node: Node, values: Tensor) -> tuple[int, ...]:
    rank = len(values.shape)
    given = [int(axis) for axis in node.constant(1, ("int32",), "axes").reshape(-1)]
    axes = sorted({axis + rank if axis < 0 else axis for axis in given})
    if not axes or axes[0] < 1 or axes[-1] >= rank:
        raise node.refuse("axes other than the batch axis", values, axes=given)
    return tuple(axes)
