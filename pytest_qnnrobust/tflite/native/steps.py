"""Prepared kernels -> steps of the core, where the core computes the same on every input.

A kernel has no step where one of its bounds is not proved: then its NumPy definition runs.
Weights, biases and multipliers are laid out here as native/kernels.h reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.tflite import fixed_point
from pytest_qnnrobust.tflite.fixed_point import INT32_MAX
from pytest_qnnrobust.tflite.graph import Tensor
from pytest_qnnrobust.tflite.kernels import Kernel
from pytest_qnnrobust.tflite.kernels.add import Add, ScaledOperand
from pytest_qnnrobust.tflite.kernels.conv_2d import Conv2D, DepthwiseConv2D
from pytest_qnnrobust.tflite.kernels.data_movement import (
    Concatenation,
    Pack,
    Pad,
    StridedSlice,
    Transpose,
)
from pytest_qnnrobust.tflite.kernels.elementwise import Binary, Unary
from pytest_qnnrobust.tflite.kernels.fully_connected import FullyConnected
from pytest_qnnrobust.tflite.kernels.mean import Mean, ReduceMax
from pytest_qnnrobust.tflite.kernels.mul import Mul
from pytest_qnnrobust.tflite.kernels.pooling import AveragePool2D, MaxPool2D, Pool
from pytest_qnnrobust.tflite.kernels.reshape import Reshape
from pytest_qnnrobust.tflite.kernels.softmax import (
    Softmax,
    SoftmaxInt16,
    one_over_one_plus_x_lut,
)
from pytest_qnnrobust.tflite.kernels.spatial import Window
from pytest_qnnrobust.tflite.kernels.weighted_sum import WeightedSum
from pytest_qnnrobust.tflite.native import structures
from pytest_qnnrobust.tflite.native.structures import Kind
from pytest_qnnrobust.types import INTEGER_WIDTHS

BLOCK = 8
"""Channels of a register of accumulators."""

DEPTHWISE_ORDER = (0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15)
"""Channels of two registers of accumulators, as the interleaving of two inputs leaves them."""

MAX_MOVED = 1 << 22
"""Values of an activation that is moved value by value, each with an index of four bytes."""

MAX_CLASSES = 4096
"""Classes of a softmax whose sum of int8 exponentials, of 20 bits each, fits 32 bits."""

LINE = 64
"""Bytes of a cache line: a register that straddles two of them takes twice as long to load."""

Shape = tuple[int, ...]


@dataclass
class NativeStep:
    """One step of the core: its fields, and the arrays that they point into.

    `inputs` and `output` are tensor indices of the graph; `scratch` is the number of values of its
    padded image.
    """

    kind: Kind
    inputs: tuple[int, ...]
    output: int
    scratch: int = 0
    fields: dict[str, Any] = field(default_factory=dict)
    arrays: list[NDArray[Any]] = field(default_factory=list)

    def point(self, array: Any, dtype: type) -> int:
        """The address of a copy of `array` that lives as long as the step."""
        values = np.ascontiguousarray(array, dtype)
        room = np.empty(values.nbytes + LINE, np.uint8)
        start = -room.ctypes.data % LINE
        kept = room[start : start + values.nbytes].view(dtype).reshape(values.shape)
        kept[...] = values
        self.arrays.append(kept)
        return int(kept.ctypes.data)


def native_step(
    kernel: Kernel, shapes: Mapping[int, Shape], tensors: Sequence[Tensor]
) -> NativeStep | None:
    """The step of a kernel, None where the core has none.

    `shapes` are those of one sample, `tensors` those of the graph, both by index.
    """
    used = [tensors[index] for index in (*kernel.inputs, kernel.output)]
    if not all(_is_held_exactly(tensor) for tensor in used):
        return None
    make = next((make for kind, make in MAKERS.items() if isinstance(kernel, kind)), None)
    return make(kernel, shapes, tensors) if make else None


def _is_held_exactly(tensor: Tensor) -> bool:
    """Whether every value without its zero point is an int16."""
    if tensor.dtype not in INTEGER_WIDTHS or tensor.quantization is None:
        return False
    return tensor.dtype == "int8" or tensor.zero_point == 0


# ---- sums of products ----


def _convolution(
    kernel: Conv2D, shapes: Mapping[int, Shape], tensors: Sequence[Tensor]
) -> NativeStep | None:
    if not _sums_fit(kernel):
        return None
    window, groups = kernel.window, kernel.groups
    filters = kernel.filter.astype(np.int16)
    channels, size_h, size_w, _ = filters.shape
    joined = groups == 1 and window.dilation[1] == 1
    runs = size_h if joined else size_h * size_w
    step = _weighted(Kind.CONV_2D, kernel, groups, np.arange(BLOCK))
    blocks = _in_blocks(filters.reshape(channels, runs, -1), groups)
    step.fields["weights"] = step.point(blocks, np.int16)
    step.fields["groups"] = groups
    _look_through(step, window, shapes[kernel.inputs[0]], channels, 1)
    return step


def _fully_connected(
    kernel: FullyConnected, shapes: Mapping[int, Shape], tensors: Sequence[Tensor]
) -> NativeStep | None:
    if not _sums_fit(kernel):
        return None
    outputs, inputs = kernel.weights.shape
    rows = math.prod(shapes[kernel.inputs[0]]) // inputs
    step = _weighted(Kind.CONV_2D, kernel, 1, np.arange(BLOCK))
    weights = _in_blocks(kernel.weights.astype(np.int16).reshape(outputs, 1, inputs), 1)
    step.fields["weights"] = step.point(weights, np.int16)
    step.fields["groups"] = 1
    # A window of one cell over an image of one row: a pixel for each row of the input.
    one = Window((1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, rows))
    _look_through(step, one, (1, rows, inputs), outputs, 1)
    return step


def _depthwise(
    kernel: DepthwiseConv2D, shapes: Mapping[int, Shape], tensors: Sequence[Tensor]
) -> NativeStep | None:
    if not _sums_fit(kernel):
        return None
    channels = kernel.filter.shape[3]
    order = np.array(DEPTHWISE_ORDER)
    step = _weighted(Kind.DEPTHWISE_CONV_2D, kernel, 1, order)
    taps = kernel.filter[0].reshape(-1, channels).astype(np.int16)
    padded = np.zeros((_even(len(taps)), whole(channels, len(order))), np.int16)
    padded[: len(taps), :channels] = taps
    # (pairs, 2, blocks, 16) -> (blocks, pairs, 16, 2), channels in the order of the registers.
    pairs = padded.reshape(-1, 2, padded.shape[1] // len(order), len(order))[..., order]
    step.fields["weights"] = step.point(pairs.transpose(2, 0, 3, 1), np.int16)
    _look_through(step, kernel.window, shapes[kernel.inputs[0]], channels, kernel.depth_multiplier)
    return step


def _sums_fit(kernel: WeightedSum) -> bool:
    """Whether no sum leaves an int32, in any order, bias included."""
    return int(kernel.accumulator_bound.max(initial=0)) <= INT32_MAX


def _in_blocks(filters: NDArray[np.int16], groups: int) -> NDArray[np.int16]:
    """(channels, runs, length) -> (blocks, runs, pairs, channels of a block, 2), zeros between."""
    channels, runs, length = filters.shape
    each = channels // groups
    padded = np.zeros((groups, whole(each, BLOCK), runs, _even(length)), np.int16)
    padded[:, :each, :, :length] = filters.reshape(groups, each, runs, length)
    blocks: NDArray[np.int16] = padded.reshape(-1, BLOCK, runs, padded.shape[3] // 2, 2)
    return np.asarray(blocks.transpose(0, 2, 3, 1, 4))


def _weighted(kind: Kind, kernel: WeightedSum, groups: int, order: NDArray[Any]) -> NativeStep:
    """A step with bias and requantization, whose channels come in blocks in this order."""
    step = NativeStep(kind, kernel.inputs, kernel.output)
    scaling = kernel.requantization

    def laid_out(values: Any) -> NDArray[Any]:
        each = len(kernel.bias) // groups
        padded = np.zeros((groups, whole(each, len(order))), np.int64)
        padded[:, :each] = np.broadcast_to(values, len(kernel.bias)).reshape(groups, each)
        return padded.reshape(-1, len(order))[:, order].reshape(-1)

    step.fields["bias"] = step.point(laid_out(kernel.bias), np.int32)
    step.fields["requantization"] = _requantization(step, scaling, laid_out)
    return step


def _look_through(
    step: NativeStep, window: Window, image: Shape, channels: int, repeat: int
) -> None:
    """Set the step's window over an image (height, width, channels)."""
    (top, bottom), (left, right) = window.padding
    height, width, depth = image
    step.fields["window"] = structures.Window(
        height, width, depth, *window.size, *window.stride, *window.dilation,
        top, bottom, left, right, *window.output, channels,
    )  # fmt: skip
    step.scratch = (top + height + bottom) * (left + width + right) * depth * repeat


def _requantization(
    step: NativeStep,
    scaling: fixed_point.Requantization,
    laid_out: Callable[[Any], NDArray[Any]],
) -> structures.Requantization:
    """Multipliers and shifts as the core reads them, the range without the zero point."""
    shift = np.asarray(scaling.shift, np.int64)
    left = np.maximum(shift, 0)
    if scaling.wide:
        multiplier = fixed_point.reduce_multiplier(scaling.multiplier)
        # Behind the channels, where nothing is kept, the core rounds by a shift of 1 at least.
        right = np.maximum(laid_out(15 - shift), 1)
    else:
        multiplier = np.asarray(scaling.multiplier, np.int64)
        right = laid_out(np.maximum(-shift, 0))
    return structures.Requantization(
        step.point(laid_out(multiplier), np.int32),
        step.point(laid_out(left), np.int32),
        step.point(right, np.int32),
        int(scaling.wide),
        scaling.minimum - scaling.zero_point,
        scaling.maximum - scaling.zero_point,
    )


def _everywhere(values: Any) -> NDArray[Any]:
    """One multiplier or shift for all channels of a register."""
    return np.broadcast_to(np.asarray(values, np.int64).reshape(-1), BLOCK)


# ---- elementwise ----


def _add(kernel: Add, shapes: Mapping[int, Shape], tensors: Sequence[Tensor]) -> NativeStep | None:
    zero_points = (kernel.left.zero_point, kernel.right.zero_point)
    step = _binary(Kind.ADD, kernel, zero_points, shapes)
    if step is None:
        return None
    step.fields["requantization"] = _requantization(step, kernel.requantization, _everywhere)
    first, second = _operand(kernel.left), _operand(kernel.right)
    sign = kernel.sign
    if kernel.constants[0] is not None:
        # The constant comes second: a sum is the same, of a difference there is none.
        if sign < 0:
            return None
        first, second = second, first
    step.fields.update(first=first, second=second, sign=sign)
    return step


def _operand(operand: ScaledOperand) -> structures.Operand:
    shift = int(operand.shift[0])
    return structures.Operand(
        operand.left_shift, int(operand.multiplier[0]), max(shift, 0), max(-shift, 0)
    )


def _mul(kernel: Mul, shapes: Mapping[int, Shape], tensors: Sequence[Tensor]) -> NativeStep | None:
    step = _binary(Kind.MUL, kernel, (kernel.left_zero_point, kernel.right_zero_point), shapes)
    if step is not None:
        step.fields["requantization"] = _requantization(step, kernel.requantization, _everywhere)
    return step


def _binary(
    kind: Kind, kernel: Binary, zero_points: tuple[int, int], shapes: Mapping[int, Shape]
) -> NativeStep | None:
    """A step on two activations of one shape, or on one and a constant spread over its shape."""
    shape = shapes[kernel.output]
    if any(math.prod(shapes[index]) != math.prod(shape) for index in kernel.inputs):
        return None
    step = NativeStep(kind, kernel.inputs, kernel.output)
    for constant, zero_point in zip(kernel.constants, zero_points, strict=True):
        if constant is None:
            continue
        centred = constant.astype(np.int64)[0] - zero_point
        if np.any(centred != centred.astype(np.int16)):
            return None
        # Whole registers are read of it.
        spread = np.zeros(whole(math.prod(shape), BLOCK), np.int16)
        spread[: math.prod(shape)] = np.broadcast_to(centred, shape).reshape(-1)
        step.fields["constant"] = step.point(spread, np.int16)
    return step


def _table(
    kernel: Unary, shapes: Mapping[int, Shape], tensors: Sequence[Tensor]
) -> NativeStep | None:
    source, result = tensors[kernel.inputs[0]], tensors[kernel.output]
    step = NativeStep(Kind.TABLE, kernel.inputs, kernel.output)
    centred = kernel.table.astype(np.int64) - result.zero_point
    step.fields["table"] = step.point(centred, np.int16)
    # The input comes without its zero point, the table starts at the dtype's lowest value.
    step.fields["table_start"] = source.zero_point - int(np.iinfo(source.dtype).min)
    return step


def _softmax(
    kernel: Softmax, shapes: Mapping[int, Shape], tensors: Sequence[Tensor]
) -> NativeStep | None:
    result = tensors[kernel.output]
    if kernel.input_dtype != kernel.output_dtype:
        return None
    shape = shapes[kernel.output]
    if shape[-1] > MAX_CLASSES:
        return None
    step = NativeStep(Kind.SOFTMAX, kernel.inputs, kernel.output)
    wide = isinstance(kernel, SoftmaxInt16)
    top = int(np.iinfo(result.dtype).max) - result.zero_point
    step.fields["requantization"] = structures.Requantization(None, None, None, int(wide), 0, top)
    step.fields["exponentials"] = step.point(kernel.exp_table, np.int32)
    step.fields["table_start"] = len(kernel.exp_table) - 1
    if wide:
        step.fields["table"] = step.point(one_over_one_plus_x_lut(), np.int16)
    step.fields["outer"], step.fields["length"] = math.prod(shape[:-1]), shape[-1]
    return step


# ---- pools, reductions and movement ----


def _pool(
    kernel: Pool, shapes: Mapping[int, Shape], tensors: Sequence[Tensor]
) -> NativeStep | None:
    kind = Kind.MAX_POOL_2D
    if isinstance(kernel, AveragePool2D):
        kind = Kind.AVERAGE_POOL_2D
        if int(kernel.counts.min(initial=1)) < 1:
            return None
    step = NativeStep(kind, kernel.inputs, kernel.output)
    image = shapes[kernel.inputs[0]]
    _look_through(step, kernel.window, image, image[2], 1)
    step.scratch = 0
    zero_point = tensors[kernel.output].zero_point
    limits = kernel.minimum - zero_point, kernel.maximum - zero_point
    step.fields["requantization"] = structures.Requantization(None, None, None, 0, *limits)
    return step


def _mean(
    kernel: Mean, shapes: Mapping[int, Shape], tensors: Sequence[Tensor]
) -> NativeStep | None:
    limits = np.iinfo(tensors[kernel.inputs[0]].dtype)
    if kernel.count * (int(limits.max) - int(limits.min)) > INT32_MAX or kernel.requantization.wide:
        return None
    step = _reduction(Kind.MEAN, kernel, kernel.axes, shapes)
    if step is not None:
        step.fields["requantization"] = _requantization(step, kernel.requantization, _everywhere)
    return step


def _reduce_max(
    kernel: ReduceMax, shapes: Mapping[int, Shape], tensors: Sequence[Tensor]
) -> NativeStep | None:
    return _reduction(Kind.REDUCE_MAX, kernel, kernel.axes, shapes)


def _reduction(
    kind: Kind, kernel: Kernel, axes: tuple[int, ...], shapes: Mapping[int, Shape]
) -> NativeStep | None:
    """A step over neighbouring axes; others are no (outer, length, inner)."""
    if axes != tuple(range(axes[0], axes[-1] + 1)):
        return None
    shape = (1, *shapes[kernel.inputs[0]])
    step = NativeStep(kind, kernel.inputs, kernel.output)
    step.fields["outer"] = math.prod(shape[: axes[0]])
    step.fields["length"] = math.prod(shape[axes[0] : axes[-1] + 1])
    step.fields["inner"] = math.prod(shape[axes[-1] + 1 :])
    return step


def _move(
    kernel: Kernel, shapes: Mapping[int, Shape], tensors: Sequence[Tensor]
) -> NativeStep | None:
    """A step that moves values, found by running the kernel on the places of its inputs."""
    sizes = [math.prod(shapes[index]) for index in kernel.inputs]
    before, after = [tensors[index].zero_point for index in kernel.inputs], tensors[kernel.output]
    if len(sizes) > 2 or len(set(kernel.inputs)) < len(sizes) or len(set(before)) > 1:
        return None
    if math.prod(shapes[kernel.output]) > MAX_MOVED or sum(sizes) > MAX_MOVED:
        return None
    step = NativeStep(Kind.MOVE, kernel.inputs, kernel.output)
    step.fields["shift"] = before[0] - after.zero_point
    if isinstance(kernel, Reshape):
        return step
    # Places lie above every constant that a kernel may put between the values.
    lowest = 1 << 20
    starts = np.cumsum([lowest, *sizes])
    places = [
        np.arange(start, start + size).reshape(1, *shapes[index])
        for start, size, index in zip(starts, sizes, kernel.inputs, strict=False)
    ]
    moved = np.asarray(kernel.run(*places), np.int64).reshape(-1)
    constant = moved < lowest
    values = moved[constant] - after.zero_point
    source = moved - lowest
    source[constant] = -1 - np.arange(len(values))
    step.fields["source"] = step.point(source, np.int32)
    step.fields["constant"] = step.point(values, np.int16)
    return step


def _even(number: int) -> int:
    return whole(number, 2)


def whole(number: int, block: int) -> int:
    """The next multiple of `block`."""
    return -(-number // block) * block


Maker = Callable[..., NativeStep | None]
MAKERS: Mapping[type, Maker] = {
    Conv2D: _convolution,
    DepthwiseConv2D: _depthwise,
    FullyConnected: _fully_connected,
    Add: _add,
    Mul: _mul,
    Unary: _table,
    Softmax: _softmax,
    AveragePool2D: _pool,
    MaxPool2D: _pool,
    Mean: _mean,
    ReduceMax: _reduce_max,
    Reshape: _move,
    Pad: _move,
    Concatenation: _move,
    Pack: _move,
    Transpose: _move,
    StridedSlice: _move,
}
