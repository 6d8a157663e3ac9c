"""Convolutions and dense layers as steps, with weights in the order that the core reads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.tflite.fixed_point import INT32_MAX
from pytest_qnnrobust.tflite.kernels.conv_2d import Conv2D, DepthwiseConv2D
from pytest_qnnrobust.tflite.kernels.fully_connected import FullyConnected
from pytest_qnnrobust.tflite.kernels.spatial import Window
from pytest_qnnrobust.tflite.kernels.weighted_sum import WeightedSum
from pytest_qnnrobust.tflite.native.step import (
    Context,
    NativeStep,
    look_through,
    requantize,
    whole,
)
from pytest_qnnrobust.tflite.native.structures import Kind


def convolution(kernel: Conv2D, context: Context) -> NativeStep | None:
    if not _sums_fit(kernel):
        return None
    window, groups = kernel.window, kernel.groups
    filters = kernel.filter.astype(np.int16)
    channels, size_h, size_w, _ = filters.shape
    joined = groups == 1 and window.dilation[1] == 1
    runs = size_h if joined else size_h * size_w
    step = _weighted(Kind.CONV_2D, kernel, groups, np.arange(context.lanes))
    blocks = _in_blocks(filters.reshape(channels, runs, -1), groups, context.lanes)
    step.fields["weights"] = step.point(blocks, np.int16)
    step.fields["groups"] = groups
    look_through(step, window, context.shapes[kernel.inputs[0]], channels, 1)
    return step


def fully_connected(kernel: FullyConnected, context: Context) -> NativeStep | None:
    if not _sums_fit(kernel):
        return None
    outputs, inputs = kernel.weights.shape
    rows = math.prod(context.shapes[kernel.inputs[0]]) // inputs
    step = _weighted(Kind.CONV_2D, kernel, 1, np.arange(context.lanes))
    weights = kernel.weights.astype(np.int16).reshape(outputs, 1, inputs)
    step.fields["weights"] = step.point(_in_blocks(weights, 1, context.lanes), np.int16)
    step.fields["groups"] = 1
    # A window of one cell over an image of one row: a pixel for each row of the input.
    one = Window((1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, rows))
    look_through(step, one, (1, rows, inputs), outputs, 1)
    return step


def depthwise(kernel: DepthwiseConv2D, context: Context) -> NativeStep | None:
    if not _sums_fit(kernel):
        return None
    channels = kernel.filter.shape[3]
    order = _interleaved(context.lanes)
    step = _weighted(Kind.DEPTHWISE_CONV_2D, kernel, 1, order)
    taps = kernel.filter[0].reshape(-1, channels).astype(np.int16)
    padded = np.zeros((whole(len(taps), 2), whole(channels, len(order))), np.int16)
    padded[: len(taps), :channels] = taps
    # (pairs, 2, blocks, c) -> (blocks, pairs, c, 2), channels in the order of the registers.
    pairs = padded.reshape(-1, 2, padded.shape[1] // len(order), len(order))[..., order]
    step.fields["weights"] = step.point(pairs.transpose(2, 0, 3, 1), np.int16)
    look_through(
        step, kernel.window, context.shapes[kernel.inputs[0]], channels, kernel.depth_multiplier
    )
    return step


def _sums_fit(kernel: WeightedSum) -> bool:
    """Whether no sum leaves an int32, in any order, bias included."""
    return int(kernel.accumulator_bound.max(initial=0)) <= INT32_MAX


def _in_blocks(filters: NDArray[np.int16], groups: int, lanes: int) -> NDArray[np.int16]:
    """(channels, runs, length) -> (blocks, runs, pairs, channels of a block, 2), zeros between."""
    channels, runs, length = filters.shape
    each = channels // groups
    padded = np.zeros((groups, whole(each, lanes), runs, whole(length, 2)), np.int16)
    padded[:, :each, :, :length] = filters.reshape(groups, each, runs, length)
    blocks: NDArray[np.int16] = padded.reshape(-1, lanes, runs, padded.shape[3] // 2, 2)
    return np.asarray(blocks.transpose(0, 2, 3, 1, 4))


def _interleaved(lanes: int) -> NDArray[np.int64]:
    """Channels of two registers of accumulators, as interleaving two inputs leaves them.

    The halves of every eight channels lie in one register each: 0 to 3, 8 to 11 ... and 4 to 7,
    12 to 15 ...
    """
    return np.asarray(np.arange(2 * lanes).reshape(-1, 2, 4).swapaxes(0, 1).reshape(-1))


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
    step.fields["requantization"] = requantize(step, scaling, laid_out)
    return step
