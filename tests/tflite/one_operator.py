"""One-operator graphs for the tests: each function returns a `Build`, to be run on a builder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pytest_qnnrobust.tflite.builder import GraphBuilder

Build = Callable[[GraphBuilder, np.random.Generator], tuple[Sequence[int], int]]
"""Adds one operator; returns the graph's input tensors and its output tensor."""

SPREAD = {"int8": 74.0, "int16": 18918.0}
"""Standard deviation of a uniform quantized value."""
STRIDE_1 = {"stride_h": 1, "stride_w": 1}


def convolution(
    width: str,
    *,
    operator: str = "CONV_2D",
    image: tuple[int, int, int] = (7, 6, 4),
    filter_shape: tuple[int, ...] = (5, 3, 3, 4),
    filter_dtype: str = "int8",
    per_channel: bool = True,
    bias: str | None = "default",
    gain: float = 1.0,
    zero_points: tuple[int, int] = (-7, 11),
    **options: Any,
) -> Build:
    """A CONV_2D or DEPTHWISE_CONV_2D whose outputs fill about `gain` times the dtype's range."""

    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        axis = 0 if operator == "CONV_2D" else 3
        channels = filter_shape[axis]
        limit = 7 if filter_dtype == "int4" else 127
        weights = rng.integers(-limit, limit + 1, filter_shape)
        scales = rng.uniform(0.002, 0.02, channels if per_channel else 1)
        taps = math.prod(filter_shape) / channels
        spread = 0.02 * scales.mean() * SPREAD[width] * limit / 1.7 * math.sqrt(taps)
        in_zero, out_zero = zero_points if width == "int8" else (0, 0)
        x = builder.tensor((1, *image), width, 0.02, in_zero)
        inputs = [
            x,
            builder.tensor(
                filter_shape, filter_dtype, scales, data=weights, quantized_dimension=axis
            ),
        ]
        if bias is not None:
            dtype = {"int8": "int32", "int16": "int64"}[width] if bias == "default" else bias
            reach = int(SPREAD[width] * limit * math.sqrt(taps))
            values = rng.integers(-reach, reach + 1, channels)
            inputs.append(
                builder.tensor((channels,), dtype, np.float32(0.02) * scales, data=values)
            )
        size = [_output_size(image[a], filter_shape[a + 1], options, "hw"[a]) for a in (0, 1)]
        out_scale = spread / SPREAD[width] / gain
        y = builder.tensor((1, *size, channels), width, out_scale, out_zero)
        builder.operator(operator, inputs, [y], **{**STRIDE_1, **options})
        return [x], y

    return build


def _output_size(length: int, size: int, options: dict[str, Any], axis: str) -> int:
    stride = options.get(f"stride_{axis}", 1)
    effective = (size - 1) * options.get(f"dilation_{axis}_factor", 1) + 1
    covered = length if options.get("padding", "SAME") == "SAME" else length - effective + 1
    return -(-covered // stride)


def fully_connected(
    width: str,
    *,
    shape: tuple[int, ...] = (33,),
    features: int = 33,
    outputs: int = 9,
    filter_dtype: str = "int8",
    per_channel: bool = False,
    bias: str | None = "default",
    gain: float = 1.0,
    **options: Any,
) -> Build:
    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        limit = 7 if filter_dtype == "int4" else 127
        weights = rng.integers(-limit, limit + 1, (outputs, features))
        scales = rng.uniform(0.002, 0.02, outputs if per_channel else 1)
        reach = SPREAD[width] * limit / 1.7 * math.sqrt(features)
        in_zero, out_zero = (-5, 3) if width == "int8" else (0, 0)
        x = builder.tensor((1, *shape), width, 0.037, in_zero)
        inputs = [x, builder.tensor(weights.shape, filter_dtype, scales, data=weights)]
        if bias is not None:
            dtype = {"int8": "int32", "int16": "int64"}[width] if bias == "default" else bias
            values = rng.integers(-int(reach), int(reach), outputs)
            inputs.append(
                builder.tensor((outputs,), dtype, np.float32(0.037) * scales, data=values)
            )
        else:
            inputs.append(-1)
        out_shape = (*shape[:-1], outputs) if options.get("keep_num_dims") else (outputs,)
        out_scale = 0.037 * scales.mean() * reach / SPREAD[width] / gain
        y = builder.tensor((1, *out_shape), width, out_scale, out_zero)
        builder.operator("FULLY_CONNECTED", inputs, [y], **options)
        return [x], y

    return build


def binary(
    operator: str,
    width: str,
    *,
    left: tuple[int, ...] = (5, 4, 3),
    right: tuple[int, ...] = (5, 4, 3),
    constant: tuple[int, ...] | None = None,
    scales: tuple[float, float, float] = (0.031, 0.0177, 0.0391),
    zero_points: tuple[int, int, int] = (-9, 14, 5),
    **options: Any,
) -> Build:
    """`left`, `right`: shapes without the batch axis; `constant`: right is one, of this shape."""

    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        zeros = zero_points if width == "int8" else (0, 0, 0)
        inputs = [builder.tensor((1, *left), width, scales[0], zeros[0])]
        if constant is None:
            other = builder.tensor((1, *right), width, scales[1], zeros[1])
            inputs.append(other)
        else:
            limits = np.iinfo(width)
            data = rng.integers(limits.min, limits.max + 1, constant)
            other = builder.tensor(constant, width, scales[1], zeros[1], data)
        shape = np.broadcast_shapes((1, *left), constant or (1, *right))
        y = builder.tensor(shape, width, scales[2], zeros[2])
        builder.operator(operator, [inputs[0], other], [y], **options)
        return inputs, y

    return build


def pool(operator: str, width: str, image: tuple[int, int, int], **options: Any) -> Build:
    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        zero = -4 if width == "int8" else 0
        scale = 0.05 if width == "int8" else 0.0005
        x = builder.tensor((1, *image), width, scale, zero)
        size = [
            _output_size(image[a], options[f"filter_{n}"], options, n[0])
            for a, n in enumerate(("height", "width"))
        ]
        y = builder.tensor((1, *size, image[2]), width, scale, zero)
        builder.operator(operator, [x], [y], **options)
        return [x], y

    return build


def mean(
    width: str,
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    keep_dims: bool,
    scales: tuple[float, float] = (0.05, 0.021),
    *,
    operator: str = "MEAN",
    zero_points: tuple[int, int] = (-6, 9),
) -> Build:
    """A MEAN, or with one scale and one zero point a REDUCE_MAX."""

    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        zeros = zero_points if width == "int8" else (0, 0)
        x = builder.tensor((1, *shape), width, scales[0], zeros[0])
        axis = builder.tensor((len(axes),), "int32", data=axes)
        reduced = np.zeros((1, *shape)).mean(axis=axes, keepdims=keep_dims).shape
        y = builder.tensor(reduced, width, scales[1], zeros[1])
        builder.operator(operator, [x, axis], [y], keep_dims=keep_dims)
        return [x], y

    return build


def unary(
    operator: str,
    input_dtype: str,
    output_dtype: str,
    scales: tuple[float | None, float | None],
    zero_points: tuple[int, int] = (0, 0),
    shape: tuple[int, ...] = (64, 16),
    **options: Any,
) -> Build:
    """An elementwise or row-wise operator without constants."""

    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        x = builder.tensor((1, *shape), input_dtype, scales[0], zero_points[0])
        y = builder.tensor((1, *shape), output_dtype, scales[1], zero_points[1])
        builder.operator(operator, [x], [y], **options)
        return [x], y

    return build


def prelu(width: str, alpha: tuple[int, ...], zero_point: int) -> Build:
    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        zeros = (-6, 9) if width == "int8" else (0, 0)
        x = builder.tensor((1, 5, 4, 3), width, 0.05, zeros[0])
        data = rng.integers(-128, 128, alpha)
        slopes = builder.tensor(alpha, "int8", 0.013, zero_point, data)
        y = builder.tensor((1, 5, 4, 3), width, 0.071, zeros[1])
        builder.operator("PRELU", [x, slopes], [y])
        return [x], y

    return build


def pad(
    operator: str, width: str, shape: tuple[int, ...], paddings: Any, value: int | None
) -> Build:
    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        zero = -6 if width == "int8" else 0
        x = builder.tensor((1, *shape), width, 0.05, zero)
        inputs = [x, builder.tensor((len(paddings), 2), "int32", data=paddings)]
        if value is not None:
            inputs.append(builder.tensor((1,), width, 0.05, zero, [value]))
        padded = [size + sum(pair) for size, pair in zip((1, *shape), paddings, strict=True)]
        y = builder.tensor(padded, width, 0.05, zero)
        builder.operator(operator, inputs, [y])
        return [x], y

    return build


def concatenation(width: str, shapes: Sequence[tuple[int, ...]], axis: int) -> Build:
    """The last operand is a constant."""

    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        zero = -6 if width == "int8" else 0
        inputs = [builder.tensor((1, *shape), width, 0.05, zero) for shape in shapes[:-1]]
        data = rng.integers(-128, 128, (1, *shapes[-1]))
        constant = builder.tensor(data.shape, width, 0.05, zero, data)
        joined = np.concatenate([np.zeros((1, *shape)) for shape in shapes], axis=axis).shape
        y = builder.tensor(joined, width, 0.05, zero)
        builder.operator("CONCATENATION", [*inputs, constant], [y], axis=axis)
        return inputs, y

    return build


def transpose(width: str, shape: tuple[int, ...], permutation: tuple[int, ...]) -> Build:
    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        x = builder.tensor((1, *shape), width, 0.05)
        order = builder.tensor((len(permutation),), "int32", data=permutation)
        y = builder.tensor([(1, *shape)[axis] for axis in permutation], width, 0.05)
        builder.operator("TRANSPOSE", [x, order], [y])
        return [x], y

    return build


def strided_slice(
    width: str,
    begin: tuple[int, ...],
    end: tuple[int, ...],
    strides: tuple[int, ...],
    result: tuple[int, ...],
    **options: Any,
) -> Build:
    """Of an image (1, 6, 7, 3)."""

    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        x = builder.tensor((1, 6, 7, 3), width, 0.05)
        vectors = [builder.tensor((4,), "int32", data=v) for v in (begin, end, strides)]
        y = builder.tensor((1, *result), width, 0.05)
        builder.operator("STRIDED_SLICE", [x, *vectors], [y], **options)
        return [x], y

    return build


def pack(width: str, axis: int) -> Build:
    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        inputs = [builder.tensor((1, 4, 3), width, 0.05) for _ in range(2)]
        data = rng.integers(-128, 128, (1, 4, 3))
        constant = builder.tensor(data.shape, width, 0.05, data=data)
        stacked = np.stack([data] * 3, axis=axis).shape
        y = builder.tensor(stacked, width, 0.05)
        builder.operator("PACK", [*inputs, constant], [y], values_count=3, axis=axis)
        return inputs, y

    return build


def reshape(width: str, shape: tuple[int, ...], target: tuple[int, ...]) -> Build:
    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        x = builder.tensor((1, *shape), width, 0.05)
        sizes = builder.tensor((len(target) + 1,), "int32", data=(-1, *target))
        y = builder.tensor((1, *target), width, 0.05)
        builder.operator("RESHAPE", [x, sizes], [y])
        return [x], y

    return build


def expand_dims(width: str, shape: tuple[int, ...], axis: int) -> Build:
    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        x = builder.tensor((1, *shape), width, 0.05)
        place = builder.tensor((), "int32", data=axis)
        y = builder.tensor(np.expand_dims(np.zeros((1, *shape)), axis).shape, width, 0.05)
        builder.operator("EXPAND_DIMS", [x, place], [y])
        return [x], y

    return build


def squeeze(width: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> Build:
    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[Sequence[int], int]:
        x = builder.tensor((1, *shape), width, 0.05)
        y = builder.tensor(np.zeros((1, *shape)).squeeze(axes).shape, width, 0.05)
        builder.operator("SQUEEZE", [x], [y], squeeze_dims=axes)
        return [x], y

    return build
