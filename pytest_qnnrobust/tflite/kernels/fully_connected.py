"""FULLY_CONNECTED (RI/fully_connected.h, M/fully_connected_common.cc)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.tflite.fixed_point import (
    Integers,
    Requantization,
    effective_scale,
    quantize_multiplier,
)
from pytest_qnnrobust.tflite.graph import Graph, Operator, Tensor
from pytest_qnnrobust.tflite.kernels.base import Array, Node, Settings
from pytest_qnnrobust.tflite.kernels.conv_2d import (
    channel_requantization,
    convolution_tensors,
    prepare_bias,
    prepare_filter,
)
from pytest_qnnrobust.tflite.kernels.weighted_sum import WeightedSum


@dataclass(frozen=True, eq=False, kw_only=True)
class FullyConnected(WeightedSum):
    """`weights` int8 (out, in).

    The input is flattened to (N, in), or with `keep_dims` keeps all its axes but the last.
    """

    weights: NDArray[np.int8]
    keep_dims: bool

    @property
    def filter_magnitude(self) -> Integers:
        """sum |w| per output, int64 (out,)."""
        magnitude: Integers = np.abs(self.weights.astype(np.int64)).sum(axis=1)
        return magnitude

    def accumulate(self, x: Array) -> Integers:
        """sum w * (x - zero_point) + bias; float64 is exact below 2**53, as in CONV_2D."""
        centred = x.astype(np.float64) - self.input_zero_point
        rows = centred if self.keep_dims else centred.reshape(len(x), math.prod(x.shape[1:]))
        sums: NDArray[np.float64] = rows @ self.weights.T.astype(np.float64)
        return sums.astype(np.int64) + self.bias


def prepare_fully_connected(operator: Operator, graph: Graph, settings: Settings) -> FullyConnected:
    node = Node(operator, graph, settings)
    values, output = convolution_tensors(node)
    weights = prepare_filter(node, channel_axis=0, rank=2)
    layout = node.option("weights_format", "DEFAULT")
    if layout != "DEFAULT":
        raise node.refuse("weights_format DEFAULT", weights_format=layout)
    bias, wide = prepare_bias(node, values, len(weights))
    return FullyConnected(
        name=operator.name,
        inputs=(values.index,),
        output=output.index,
        weights=weights,
        bias=bias,
        input_zero_point=values.zero_point,
        input_dtype=values.dtype,
        keep_dims=_keep_dims(node, values, weights.shape[1]),
        requantization=_requantization(node, values, output, len(weights), wide),
    )


def _requantization(
    node: Node, values: Tensor, output: Tensor, outputs: int, wide: bool
) -> Requantization:
    """The requantization per channel, as in CONV_2D, or per tensor."""
    quantization = node.tensor(1).quantization
    if quantization is not None and quantization.per_axis:
        if node.tensor(1).dtype == "int4":
            raise node.refuse("int4 weights with one scale", node.tensor(1))
        return channel_requantization(node, values, output, outputs, wide)
    return node.requantization(per_tensor_multiplier(node, values, output), output, wide=wide)


def per_tensor_multiplier(node: Node, values: Tensor, output: Tensor) -> tuple[Integers, Integers]:
    """QM((s_in * s_w) / s_out): the product in `scale_arithmetic`, the division in double."""
    product = effective_scale(
        (values.scale, node.tensor(1).scale), 1.0, node.settings.scale_arithmetic
    )
    return quantize_multiplier(product / output.scale)


def _keep_dims(node: Node, values: Tensor, features: int) -> bool:
    """Whether the last axis alone is contracted; refuses to merge other axes with the batch."""
    shape = values.shape[1:]
    is_static = all(size > 0 for size in shape)
    size = int(np.prod(shape)) if is_static else features
    keep = bool(node.option("keep_num_dims", False))
    if keep and len(values.shape) > 1 and values.shape[-1] == features:
        return True
    if size != features:
        raise node.refuse(f"input of {features} values per sample", values, shape=values.shape)
    return False
