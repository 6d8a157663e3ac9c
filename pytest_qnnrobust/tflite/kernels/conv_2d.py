"""CONV_2D and DEPTHWISE_CONV_2D (RI/conv.h, RI/depthwise_conv.h; M/conv_common.cc)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.tflite.fixed_point import Integers, Requantization
from pytest_qnnrobust.tflite.graph import Graph, Operator, Tensor
from pytest_qnnrobust.tflite.kernels.base import Array, Node, Settings
from pytest_qnnrobust.tflite.kernels.spatial import Pair, Window, prepare_window
from pytest_qnnrobust.tflite.kernels.weighted_sum import WeightedSum

MAX_BIAS = 2.0**47
"""Magnitude of a bias, and of an accumulator, that MBQM64 takes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Convolution(WeightedSum):
    """`filter` is int8, in the file's layout (int4 unpacked)."""

    filter: NDArray[np.int8]
    window: Window

    @property
    def stride(self) -> Pair:
        return self.window.stride

    @property
    def dilation(self) -> Pair:
        return self.window.dilation

    @property
    def padding(self) -> tuple[Pair, Pair]:
        """((top, bottom), (left, right)), filled with the input zero point."""
        return self.window.padding

    @property
    def output_size(self) -> Pair:
        """Spatial (height, width) of the output."""
        return self.window.output


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2D(Convolution):
    """`filter` is OHWI; `groups` = input channels / I."""

    groups: int

    @property
    def filter_magnitude(self) -> Integers:
        magnitude: Integers = np.abs(self.filter.astype(np.int64)).sum(axis=(1, 2, 3))
        return magnitude

    def accumulate(self, x: Array) -> Integers:
        """sum w * (x - zero_point) + bias, int64 (N, height, width, channels).

        float64 products are exact: the sums stay below 2**53, because |w * x| < 2**23 and no
        filter that fits in memory has 2**30 taps.
        """
        channels, _, _, depth = self.filter.shape
        per_group = channels // self.groups
        image = x.astype(np.float64) - self.input_zero_point
        total = np.zeros((len(x), *self.output_size, channels), np.float64)
        # One product a tap: no copy of the image that is as large as all its windows together.
        for row, column, view in self.window.taps(image, fill=0):
            for group in range(self.groups):
                outputs = slice(group * per_group, (group + 1) * per_group)
                weights = self.filter[outputs, row, column].astype(np.float64)
                inputs = view[..., group * depth : (group + 1) * depth]
                total[..., outputs] += inputs @ weights.T
        accumulator: Integers = total.astype(np.int64) + self.bias
        return accumulator


@dataclass(frozen=True, eq=False, kw_only=True)
class DepthwiseConv2D(Convolution):
    """`filter` is 1HWC; output channel = input channel * depth_multiplier + m."""

    depth_multiplier: int

    @property
    def filter_magnitude(self) -> Integers:
        magnitude: Integers = np.abs(self.filter.astype(np.int64)).sum(axis=(0, 1, 2))
        return magnitude

    def accumulate(self, x: Array) -> Integers:
        """sum w * (x - zero_point) + bias, int64 (N, height, width, channels)."""
        image = x.astype(np.int64) - self.input_zero_point
        total = np.zeros((len(x), *self.output_size, self.filter.shape[3]), np.int64)
        for row, column, view in self.window.taps(image, fill=0):
            channels = np.repeat(view, self.depth_multiplier, axis=3)
            total += channels * self.filter[0, row, column].astype(np.int64)
        accumulator: Integers = total + self.bias
        return accumulator


def prepare_conv_2d(operator: Operator, graph: Graph, settings: Settings) -> Conv2D:
    node = Node(operator, graph, settings)
    image, output = convolution_tensors(node)
    node.sample_shape(image, rank=4)
    weights = prepare_filter(node, channel_axis=0, rank=4)
    depth, in_channels = weights.shape[3], image.shape[3]
    if in_channels % depth or weights.shape[0] % (in_channels // depth):
        raise node.refuse(
            "channels divisible by the groups", input=in_channels, filter=weights.shape
        )
    bias, wide = prepare_bias(node, image, len(weights))
    return Conv2D(
        name=operator.name,
        inputs=(image.index,),
        output=output.index,
        filter=weights,
        bias=bias,
        input_zero_point=image.zero_point,
        input_dtype=image.dtype,
        window=prepare_window(node, image, weights.shape[1:3], _dilation(node)),
        requantization=channel_requantization(node, image, output, len(weights), wide),
        groups=in_channels // depth,
    )


def prepare_depthwise_conv_2d(
    operator: Operator, graph: Graph, settings: Settings
) -> DepthwiseConv2D:
    node = Node(operator, graph, settings)
    image, output = convolution_tensors(node)
    node.sample_shape(image, rank=4)
    weights = prepare_filter(node, channel_axis=3, rank=4)
    channels, in_channels = weights.shape[3], image.shape[3]
    depth_multiplier = int(node.option("depth_multiplier", 0)) or channels // in_channels
    if weights.shape[0] != 1 or depth_multiplier * in_channels != channels:
        raise node.refuse(
            "filter of shape (1, height, width, input channels * depth multiplier)",
            filter=weights.shape,
            channels=in_channels,
            depth_multiplier=depth_multiplier,
        )
    bias, wide = prepare_bias(node, image, channels, int32_accumulators=False)
    return DepthwiseConv2D(
        name=operator.name,
        inputs=(image.index,),
        output=output.index,
        filter=weights,
        bias=bias,
        input_zero_point=image.zero_point,
        input_dtype=image.dtype,
        window=prepare_window(node, image, weights.shape[1:3], _dilation(node)),
        requantization=channel_requantization(node, image, output, channels, wide),
        depth_multiplier=depth_multiplier,
    )


def convolution_tensors(node: Node) -> tuple[Tensor, Tensor]:
    """The input activation and the output, of one quantized dtype."""
    image = node.quantized(node.tensor(0, "input"), "input")
    output = node.quantized(node.result, "output")
    node.same_dtype(image, output)
    return image, output


def prepare_filter(node: Node, channel_axis: int, rank: int) -> NDArray[np.int8]:
    """The constant filter: int8, or int4 with an int8 input; scales per tensor or per channel."""
    allowed = ("int8", "int4") if node.tensor(0).dtype == "int8" else ("int8",)
    data = node.constant(1, allowed, "filter")
    tensor = node.tensor(1)
    if data.ndim != rank or 0 in data.shape:
        raise node.refuse(f"filter of rank {rank}", tensor, shape=data.shape)
    quantization = tensor.quantization
    if quantization is None or len(quantization.scale) not in (1, data.shape[channel_axis]):
        raise node.refuse("filter with one scale, or one per output channel", tensor)
    if quantization.per_axis and quantization.quantized_dimension != channel_axis:
        raise node.refuse(
            f"filter quantized along dimension {channel_axis}",
            tensor,
            quantized_dimension=quantization.quantized_dimension,
        )
    if quantization.zero_point.any():
        raise node.refuse(
            "filter with zero point 0", tensor, zero_point=quantization.zero_point.tolist()[:4]
        )
    return data.astype(np.int8)


def prepare_bias(
    node: Node, image: Tensor, channels: int, *, int32_accumulators: bool = True
) -> tuple[Integers, bool]:
    """(bias, wide): int64 values, and whether accumulators have 64 bits (MBQM64).

    int8 has int32 accumulators. int16 has int64 ones, unless `int32_accumulators` is allowed and
    the bias is int32, or absent with the option `quantized_bias_type` int32 (M/conv.cc).
    """
    tensor = node.optional(2)
    if image.dtype == "int8":
        allowed: tuple[str, ...] = ("int32",)
    else:
        allowed = ("int32", "int64") if int32_accumulators else ("int64",)
    if tensor is None:
        narrow = int32_accumulators and node.option("quantized_bias_type", "float32") == "int32"
        return np.zeros(channels, np.int64), image.dtype == "int16" and not narrow
    bias = node.constant(2, allowed, "bias").astype(np.int64).reshape(-1)
    if len(bias) != channels:
        raise node.refuse("bias of one value per output channel", tensor, shape=tensor.shape)
    if not (np.abs(bias.astype(np.float64)) < MAX_BIAS).all():
        raise node.refuse("bias within 47 bits, as MBQM64 needs its accumulators", tensor)
    return bias, tensor.dtype == "int64"


def channel_requantization(
    node: Node, image: Tensor, output: Tensor, channels: int, wide: bool
) -> Requantization:
    """d = s_in * s_w[c] / s_out, in double always; a single scale is broadcast."""
    quantization = node.tensor(1).quantization
    scales = np.ones(1) if quantization is None else quantization.scale
    if not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise node.refuse("filter with non-negative, finite scales", node.tensor(1))
    multiplier, shift = node.multiplier(image.scale, scales, over=output.scale)
    pair = (np.broadcast_to(multiplier, channels), np.broadcast_to(shift, channels))
    return node.requantization(pair, output, wide=wide)


def _dilation(node: Node) -> Pair:
    return int(node.option("dilation_h_factor", 1)), int(node.option("dilation_w_factor", 1))
