"""Draws of each operator of a small graph: `OPERATORS`, simplest first.

Each function draws an operator for the activations that are there, the last one its operand, or
returns None where TFLM has none for it. Scales are powers of two in the simplest example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pytest_qnnrobust.strategies import elementwise, movement, sums
from pytest_qnnrobust.strategies.description import MAX_RANK, Activation, Pair, SmallOperator

Draw = st.DrawFn
Activations = Sequence[Activation]
Drawn = SmallOperator | None

FUSED = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
MANTISSAS = st.integers(0, 1023)
"""Mantissas by number: below 512 a power of two, above it one of 512 that spread evenly."""
ZERO_POINTS = st.integers(-128, 127)
NO_ZERO_POINTS = ZERO_POINTS.map(lambda zero_point: 0)
"""Zero points of int16, always 0 but drawn: so a failure in int16 shrinks to the same in int8."""
PAIRS = st.tuples(st.integers(1, 2), st.integers(1, 2))
PADDINGS = st.tuples(st.integers(0, 2), st.integers(0, 2))
LARGEST_LIMIT = 6.0
"""The largest end of a fused activation's range."""


def scales(low: int = -6, high: int = 5) -> st.SearchStrategy[float]:
    """float32 scales in [2**low, 2**(high + 1)); the simplest is 1."""

    return st.tuples(MANTISSAS, st.integers(low, high)).map(_scale)


def _scale(drawn: tuple[int, int]) -> float:
    number, exponent = drawn
    # 2654435761 is 2**32 over the golden ratio (Knuth's multiplicative hashing).
    fraction = number * 2654435761 % (1 << 23) if number >= 512 else 0
    return ((1 << 23) + fraction) * 2.0 ** (exponent - 23)


def zero_points(dtype: str) -> st.SearchStrategy[int]:
    """Zero points of activations: any of int8, 0 of int16."""
    return ZERO_POINTS if dtype == "int8" else NO_ZERO_POINTS


def times(scale: float, ratio: float) -> float:
    """The product as float32 holds it."""
    return float(np.float32(scale * ratio))


def output(draw: Draw, dtype: str, natural: float, low: int = -6, high: int = 5) -> dict[str, Any]:
    """`scale` (`natural` times a drawn ratio) and `zero_point` of an operator's output."""
    ratio = draw(scales(low, high))
    return {"scale": times(natural, ratio), "zero_point": draw(zero_points(dtype))}


def fused(draw: Draw, scale: float) -> str:
    """Draw a fused activation whose ends are within 30 bits of `scale`."""
    reachable = FUSED if scale * 2.0**30 > LARGEST_LIMIT else FUSED[:2]
    activation: str = draw(st.sampled_from(reachable))
    return activation


def window(draw: Draw, x: Activation, largest: int = 3, dilated: bool = False) -> dict[str, Any]:
    """Draw kernel, stride, padding and perhaps dilation that fit the image."""
    padding = draw(st.sampled_from(("SAME", "VALID")))
    dilation = draw(PAIRS) if dilated else (1, 1)
    kernel = []
    for axis in (0, 1):
        most = (x.shape[axis] - 1) // dilation[axis] + 1 if padding == "VALID" else largest
        kernel.append(draw(st.integers(1, min(most, largest))))
    stride: Pair = draw(PAIRS)
    spatial = {"kernel": tuple(kernel), "stride": stride, "padding": padding}
    return {**spatial, "dilation": dilation} if dilated else spatial


def weighted(draw: Draw, x: Activation, taps: int, *, int64_only: bool = False) -> dict[str, Any]:
    """Draw filter, bias, fused activation and output of a sum of `taps` products."""
    narrow = x.dtype == "int8"
    filter_dtype = draw(st.sampled_from(("int8", "int4")))
    filter_dtype = filter_dtype if narrow else "int8"
    biases = (
        [None, "int32"] if narrow else [None, "int64"] if int64_only else [None, "int32", "int64"]
    )
    filter_scale = draw(scales(-8, 0))
    natural = sums.natural_scale(x.scale, filter_scale, taps, filter_dtype)
    result = output(draw, x.dtype, natural, -7, 6)
    return {
        "filter_dtype": filter_dtype,
        "filter_scale": filter_scale,
        "per_channel": draw(st.booleans()),
        "bias": draw(st.sampled_from(biases)),
        "activation": fused(draw, result["scale"]),
        **result,
    }


def conv_2d(draw: Draw, activations: Activations) -> Drawn:
    x = activations[-1]
    if len(x.shape) != 3:
        return None
    spatial = window(draw, x, dilated=True)
    groups = draw(st.sampled_from([g for g in (1, 2, 3, 4) if x.shape[2] % g == 0]))
    channels = groups * draw(st.integers(1, max(4 // groups, 1)))
    taps = math.prod(spatial["kernel"]) * x.shape[2] // groups
    arguments = {**spatial, **weighted(draw, x, taps)}
    return sums.Conv2D(channels=channels, groups=groups, **arguments)


def depthwise_conv_2d(draw: Draw, activations: Activations) -> Drawn:
    x = activations[-1]
    if len(x.shape) != 3:
        return None
    spatial = window(draw, x, dilated=True)
    taps = math.prod(spatial["kernel"])
    return sums.DepthwiseConv2D(
        depth_multiplier=draw(st.integers(1, 2)),
        **spatial,
        **weighted(draw, x, taps, int64_only=True),
    )


def fully_connected(draw: Draw, activations: Activations) -> Drawn:
    x = activations[-1]
    keep_dims = draw(st.booleans()) if len(x.shape) > 1 else False
    arguments = weighted(draw, x, x.shape[-1] if keep_dims else x.values)
    if arguments["filter_dtype"] == "int4":
        arguments["per_channel"] = False
    return sums.FullyConnected(outputs=draw(st.integers(2, 5)), keep_dims=keep_dims, **arguments)


def pool(kind: type[sums.Pool]) -> Callable[[Draw, Activations], Drawn]:
    def drawn(draw: Draw, activations: Activations) -> Drawn:
        x = activations[-1]
        if len(x.shape) != 3:
            return None
        return kind(**window(draw, x), activation=fused(draw, x.scale))

    return drawn


def binary(kind: type[elementwise.Binary]) -> Callable[[Draw, Activations], Drawn]:
    def drawn(draw: Draw, activations: Activations) -> Drawn:
        x = activations[-1]
        count = len(activations)
        mates = [n - count for n in reversed(range(count)) if _mate(x, activations[n])]
        other = draw(st.sampled_from([None, *mates]))
        arguments: dict[str, Any] = {"other": other}
        if other is None:
            shape = draw(st.sampled_from(((), x.shape[-1:], x.shape)))
            scale = times(x.scale, draw(scales()))
            arguments |= {"constant": shape, "constant_scale": scale}
            arguments["constant_zero_point"] = draw(zero_points(x.dtype))
        else:
            scale = activations[other].scale
        arguments |= _binary_output(draw, kind, x, scale)
        return kind(activation=fused(draw, arguments["scale"]), **arguments)

    return drawn


def _binary_output(
    draw: Draw, kind: type[elementwise.Binary], x: Activation, scale: float
) -> dict[str, Any]:
    """Draw the output; that of an int16 MUL is no finer than the product of the scales."""
    # The product of two int16 values has 31 bits: a shift to the left would wrap.
    if kind is not elementwise.Mul:
        return output(draw, x.dtype, max(x.scale, scale))
    bits, low = (7, -9) if x.dtype == "int8" else (14, -13)
    return output(draw, x.dtype, x.scale * scale * 2.0**bits, low, 5)


def _mate(x: Activation, other: Activation) -> bool:
    """Whether the two are operands of one ADD."""
    try:
        np.broadcast_shapes(x.shape, other.shape)
    except ValueError:
        return False
    symmetric = other.dtype != "int16" or other.zero_point == 0
    near = 2.0**-12 < other.scale / x.scale < 2.0**12
    return other.dtype == x.dtype and symmetric and near


def rescaled(kind: type[elementwise.Rescaled]) -> Callable[[Draw, Activations], Drawn]:
    def drawn(draw: Draw, activations: Activations) -> Drawn:
        return kind(**output(draw, activations[-1].dtype, activations[-1].scale))

    return drawn


def leaky_relu(draw: Draw, activations: Activations) -> Drawn:
    x = activations[-1]
    alpha = draw(st.sampled_from((0.5, 0.0)) | st.floats(-2, 2, width=32))
    return elementwise.LeakyRelu(alpha=alpha, **output(draw, x.dtype, x.scale))


def prelu(draw: Draw, activations: Activations) -> Drawn:
    x = activations[-1]
    ones = (1,) * (len(x.shape) - 1)
    shape = draw(st.sampled_from(((1,), (*ones, x.shape[-1]), x.shape)))
    return elementwise.PRelu(
        alpha=shape,
        alpha_scale=draw(scales(-8, -5)),
        alpha_zero_point=draw(zero_points("int8")),
        **output(draw, x.dtype, x.scale),
    )


def hard_swish(draw: Draw, activations: Activations) -> Drawn:
    x = activations[-1]
    return elementwise.HardSwish(**output(draw, "int8", x.scale)) if x.dtype == "int8" else None


def quantize(draw: Draw, activations: Activations) -> Drawn:
    x = activations[-1]
    dtype = draw(st.sampled_from(("int8", "int16")))
    natural = x.scale * {"int8int16": 2.0**-8, "int16int8": 2.0**8}.get(x.dtype + dtype, 1.0)
    return elementwise.Quantize(dtype=dtype, **output(draw, dtype, natural))


def relu6(draw: Draw, activations: Activations) -> Drawn:
    """RELU6 where 6 / scale stays within 30 bits."""
    return elementwise.Relu6() if activations[-1].scale * 2.0**30 > LARGEST_LIMIT else None


def sigmoid(kind: type[elementwise.Sigmoid]) -> Callable[[Draw, Activations], Drawn]:
    def drawn(draw: Draw, activations: Activations) -> Drawn:
        x = activations[-1]
        low, high = (2.0**-27, 8.0) if x.dtype == "int8" else (2.0**-27, 2.66)
        return kind() if low <= x.scale < high else None

    return drawn


def softmax(draw: Draw, activations: Activations) -> Drawn:
    """SOFTMAX of a beta that TFLM takes: it scales an int8 by more than 2**-26."""
    # Of int16, beta * scale stays below 2, so that no difference of two inputs wraps.
    x = activations[-1]
    beta = draw(st.sampled_from((1.0, 0.5, 0.1)))
    low, high = (2.0**-25, math.inf) if x.dtype == "int8" else (2.0**-40, 2.0)
    if not low < beta * x.scale < high:
        return None
    to = draw(st.sampled_from(("int8", "int16"))) if x.dtype == "int8" else "int16"
    return elementwise.Softmax(to=to, beta=beta)


def reduction(kind: type[movement.Reduction]) -> Callable[[Draw, Activations], Drawn]:
    def drawn(draw: Draw, activations: Activations) -> Drawn:
        x = activations[-1]
        keep_dims = draw(st.booleans()) if len(x.shape) > 1 else True
        most = len(x.shape) if keep_dims else len(x.shape) - 1
        axes = draw(st.sets(st.integers(0, len(x.shape) - 1), min_size=1, max_size=most))
        arguments: dict[str, Any] = {"axes": tuple(sorted(axes)), "keep_dims": keep_dims}
        if kind is movement.Mean:
            arguments |= output(draw, x.dtype, x.scale)
        elif x.dtype != "int8":
            return None
        return kind(**arguments)

    return drawn


def reshape(draw: Draw, activations: Activations) -> Drawn:
    n = activations[-1].values
    pairs = [(a, n // a) for a in range(1, n + 1) if n % a == 0]
    shapes = [(n,), *pairs, *((a, c, b // c) for a, b in pairs for c in (1, 2, 3) if b % c == 0)]
    return movement.Reshape(shape=draw(st.sampled_from(shapes)))


def flatten(draw: Draw, activations: Activations) -> Drawn:
    return movement.Flatten()


def expand_dims(draw: Draw, activations: Activations) -> Drawn:
    rank = len(activations[-1].shape)
    if rank + 1 >= MAX_RANK:
        return None
    return movement.ExpandDims(axis=draw(st.integers(0, rank)))


def squeeze(draw: Draw, activations: Activations) -> Drawn:
    x = activations[-1]
    ones = [axis for axis, size in enumerate(x.shape) if size == 1]
    if not ones or len(x.shape) < 2:
        return None
    most = min(len(ones), len(x.shape) - 1)
    axes = draw(st.sets(st.sampled_from(ones), min_size=1, max_size=most))
    return movement.Squeeze(axes=tuple(sorted(axes)))


def transpose(draw: Draw, activations: Activations) -> Drawn:
    order = draw(st.permutations(range(len(activations[-1].shape))))
    return movement.Transpose(permutation=tuple(order))


def pad(with_value: bool) -> Callable[[Draw, Activations], Drawn]:
    def drawn(draw: Draw, activations: Activations) -> Drawn:
        x = activations[-1]
        paddings = tuple(draw(PADDINGS) for _ in x.shape)
        limits = np.iinfo(x.dtype)
        values = st.integers(int(limits.min), int(limits.max))
        return movement.Pad(paddings=paddings, value=draw(values) if with_value else None)

    return drawn


def strided_slice(draw: Draw, activations: Activations) -> Drawn:
    x = activations[-1]
    begin, end, strides = [], [], []
    shrink: list[int] = []
    for axis, size in enumerate(x.shape):
        first, last = sorted(draw(st.tuples(*[st.integers(0, size - 1)] * 2)))
        step = draw(st.sampled_from((1, 2, -1, -2)))
        if step < 0:
            begin.append(last)
            end.append(first - 1 if first else -size - 1)
        else:
            begin.append(first)
            end.append(last + 1)
        strides.append(step)
        if first == last and step == 1 and len(x.shape) - len(shrink) > 1 and draw(st.booleans()):
            shrink.append(axis)
    return movement.StridedSlice(
        begin=tuple(begin), end=tuple(end), strides=tuple(strides), shrink=tuple(shrink)
    )


def concatenation(draw: Draw, activations: Activations) -> Drawn:
    x = activations[-1]
    axis = draw(st.integers(0, len(x.shape) - 1))

    def without(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:axis], *shape[axis + 1 :])

    mates = [
        n - len(activations)
        for n in reversed(range(len(activations)))
        if _alike(x, activations[n])
        and len(activations[n].shape) == len(x.shape)
        and without(activations[n].shape) == without(x.shape)
    ]
    other = draw(st.sampled_from([None, *mates]))
    size = draw(st.integers(1, 3)) if other is None else 1
    return movement.Concatenation(other=other, axis=axis, size=size)


def pack(draw: Draw, activations: Activations) -> Drawn:
    x = activations[-1]
    if len(x.shape) + 1 >= MAX_RANK:
        return None
    mates = [
        n - len(activations)
        for n in reversed(range(len(activations)))
        if _alike(x, activations[n]) and activations[n].shape == x.shape
    ]
    axis = draw(st.integers(0, len(x.shape)))
    return movement.Pack(other=draw(st.sampled_from([None, *mates])), axis=axis)


def _alike(x: Activation, other: Activation) -> bool:
    return replace(x, shape=()) == replace(other, shape=())


OPERATORS: Mapping[str, Callable[[Draw, Activations], Drawn]] = MappingProxyType(
    {
        "RELU": rescaled(elementwise.Relu),
        "RESHAPE": reshape,
        "ADD": binary(elementwise.Add),
        "FULLY_CONNECTED": fully_connected,
        "CONV_2D": conv_2d,
        "DEPTHWISE_CONV_2D": depthwise_conv_2d,
        "SUB": binary(elementwise.Sub),
        "MUL": binary(elementwise.Mul),
        "AVERAGE_POOL_2D": pool(sums.AveragePool2D),
        "MAX_POOL_2D": pool(sums.MaxPool2D),
        "MEAN": reduction(movement.Mean),
        "REDUCE_MAX": reduction(movement.ReduceMax),
        "SOFTMAX": softmax,
        "LOGISTIC": sigmoid(elementwise.Logistic),
        "TANH": sigmoid(elementwise.Tanh),
        "RELU6": relu6,
        "LEAKY_RELU": leaky_relu,
        "PRELU": prelu,
        "HARD_SWISH": hard_swish,
        "QUANTIZE": quantize,
        "CONCATENATION": concatenation,
        "PACK": pack,
        "PAD": pad(False),
        "PADV2": pad(True),
        "TRANSPOSE": transpose,
        "STRIDED_SLICE": strided_slice,
        "EXPAND_DIMS": expand_dims,
        "SQUEEZE": squeeze,
        "SHAPE": flatten,
    }
)
"""TFLite's name -> a function that draws the operator; SHAPE draws Keras' Flatten."""
