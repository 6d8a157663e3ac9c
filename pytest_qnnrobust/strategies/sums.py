"""Operators that sum products, and those that pool: windows over NHWC, and FULLY_CONNECTED."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.strategies.description import (
    Activation,
    Pair,
    Place,
    Shape,
    SmallOperator,
    check_zero_point,
)

LARGEST_WEIGHT = {"int8": 127, "int4": 7}
"""Largest weight: TFLite's weights leave out the lowest integer."""
SPREAD = {"int8": 74.0, "int16": 18918.0}
"""Standard deviation of a uniform quantized value."""


def natural_scale(
    scale: float, filter_scale: float, taps: int, filter_dtype: str = "int8"
) -> float:
    """The power of two near which a sum of `taps` products fills its output's range."""
    # Uniform weights up to w have the standard deviation w / sqrt(3), about w / 1.7.
    gain = LARGEST_WEIGHT[filter_dtype] / 1.7 * math.sqrt(taps)
    return float(scale * filter_scale * 2.0 ** math.ceil(math.log2(gain)))


@dataclass(frozen=True, repr=False)
class Weighted(SmallOperator):
    """A sum of products with seeded weights, bias and, `per_channel`, scales up to `filter_scale`.

    `bias` is None, "int32" or, of int16, "int64"; `scale` and `zero_point` are the output's.
    """

    activation: str = "NONE"
    filter_dtype: str = "int8"
    filter_scale: float = 1.0
    per_channel: bool = False
    bias: str | None = None
    scale: float = 1.0
    zero_point: int = 0

    def check(self, x: Activation) -> None:
        check_zero_point(x.dtype, x.zero_point)
        check_zero_point(x.dtype, self.zero_point)
        if self.filter_dtype not in (("int8", "int4") if x.dtype == "int8" else ("int8",)):
            raise expected("an int8 filter, or int4 with int8", filter_dtype=self.filter_dtype)
        if self.bias not in ((None, "int32") if x.dtype == "int8" else (None, "int32", "int64")):
            raise expected(f"a bias that {x.dtype} has", bias=self.bias)

    def constants(self, place: Place, shape: Shape, axis: int) -> list[int]:
        """The filter and, where there is one, the bias; `axis` is that of the output channels."""
        limit, channels = LARGEST_WEIGHT[self.filter_dtype], shape[axis]
        weights = place.rng.integers(-limit, limit + 1, shape)
        spans = place.rng.uniform(0.25, 1, channels) if self.per_channel else np.ones(1)
        scales = np.float32(self.filter_scale) * spans.astype(np.float32)
        tensors = [
            place.builder.tensor(
                shape, self.filter_dtype, scales, data=weights, quantized_dimension=axis
            )
        ]
        if self.bias is not None:
            x = place.operands[0]
            reach = int(SPREAD[x.dtype] * limit * math.sqrt(math.prod(shape) / channels))
            values = place.rng.integers(-reach, reach + 1, channels)
            bias_scale = np.float32(x.scale) * scales
            tensors.append(place.builder.tensor((channels,), self.bias, bias_scale, data=values))
        return tensors


@dataclass(frozen=True, repr=False)
class Convolution(Weighted):
    """A convolution; pairs are (height, width)."""

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: str = "SAME"

    def options(self) -> dict[str, Any]:
        return {
            **spatial_options(self.stride, self.padding, self.activation),
            "dilation_h_factor": self.dilation[0],
            "dilation_w_factor": self.dilation[1],
        }


@dataclass(frozen=True, repr=False)
class Conv2D(Convolution):
    channels: int = 1
    groups: int = 1
    name = "CONV_2D"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        self.check(x)
        size = window_output(x, self.kernel, self.stride, self.dilation, self.padding)
        if x.shape[2] % self.groups or self.channels % self.groups:
            raise expected("channels divisible by the groups", groups=self.groups)
        return Activation((*size, self.channels), x.dtype, self.scale, self.zero_point)

    def write(self, place: Place) -> None:
        depth = place.operands[0].shape[2] // self.groups
        constants = self.constants(place, (self.channels, *self.kernel, depth), axis=0)
        place.operator(self.name, *constants, **self.options())


@dataclass(frozen=True, repr=False)
class DepthwiseConv2D(Convolution):
    depth_multiplier: int = 1
    name = "DEPTHWISE_CONV_2D"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        self.check(x)
        if x.dtype == "int16" and self.bias == "int32":
            raise expected("an int64 bias, or none, for int16", bias=self.bias)
        size = window_output(x, self.kernel, self.stride, self.dilation, self.padding)
        channels = x.shape[2] * self.depth_multiplier
        return Activation((*size, channels), x.dtype, self.scale, self.zero_point)

    def write(self, place: Place) -> None:
        shape = (1, *self.kernel, place.output.shape[2])
        options = {**self.options(), "depth_multiplier": self.depth_multiplier}
        place.operator(self.name, *self.constants(place, shape, axis=3), **options)


@dataclass(frozen=True, repr=False)
class FullyConnected(Weighted):
    """FULLY_CONNECTED on the flattened input, or with `keep_dims` on its last axis alone."""

    outputs: int = 2
    keep_dims: bool = False
    name = "FULLY_CONNECTED"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        self.check(x)
        if self.filter_dtype == "int4" and self.per_channel:
            raise expected("int4 weights with one scale", per_channel=True)
        axes = x.shape[:-1] if self.keep_dims else ()
        return Activation((*axes, self.outputs), x.dtype, self.scale, self.zero_point)

    def write(self, place: Place) -> None:
        x = place.operands[0]
        features = x.shape[-1] if self.keep_dims else x.values
        constants = self.constants(place, (self.outputs, features), axis=0)
        if self.bias is None:
            constants.append(-1)  # TFLite's index of an absent operand
        options = {"fused_activation_function": self.activation, "keep_num_dims": self.keep_dims}
        place.operator(self.name, *constants, **options)


@dataclass(frozen=True, repr=False)
class Pool(SmallOperator):
    """A pool, which does not rescale: the output is quantized as the input."""

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: str = "SAME"
    activation: str = "NONE"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        check_zero_point(x.dtype, x.zero_point)
        size = window_output(x, self.kernel, self.stride, (1, 1), self.padding)
        return Activation((*size, x.shape[2]), x.dtype, x.scale, x.zero_point)

    def write(self, place: Place) -> None:
        options = spatial_options(self.stride, self.padding, self.activation)
        height, width = self.kernel
        place.operator(self.name, filter_height=height, filter_width=width, **options)


@dataclass(frozen=True, repr=False)
class AveragePool2D(Pool):
    name = "AVERAGE_POOL_2D"


@dataclass(frozen=True, repr=False)
class MaxPool2D(Pool):
    name = "MAX_POOL_2D"


def spatial_options(stride: Pair, padding: str, activation: str) -> dict[str, Any]:
    return {
        "stride_h": stride[0],
        "stride_w": stride[1],
        "padding": padding,
        "fused_activation_function": activation,
    }


def window_output(x: Activation, kernel: Pair, stride: Pair, dilation: Pair, padding: str) -> Pair:
    """Spatial size of the output; raises QnnRobustError where a window does not fit."""
    if len(x.shape) != 3:
        raise expected("an image (height, width, channels)", shape=x.shape)
    if padding not in ("SAME", "VALID"):
        raise expected("padding SAME or VALID", padding=padding)
    sizes = []
    for axis in (0, 1):
        effective = (kernel[axis] - 1) * dilation[axis] + 1
        covered = x.shape[axis] if padding == "SAME" else x.shape[axis] - effective + 1
        if min(kernel[axis], stride[axis], dilation[axis], covered) < 1:
            raise expected("a window within the image", kernel=kernel, shape=x.shape)
        sizes.append(-(-covered // stride[axis]))
    return sizes[0], sizes[1]
