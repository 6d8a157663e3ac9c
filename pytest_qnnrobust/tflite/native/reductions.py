"""Pools, reductions and softmax as steps."""

from __future__ import annotations

import math

import numpy as np

from pytest_qnnrobust.tflite.fixed_point import INT32_MAX
from pytest_qnnrobust.tflite.kernels import Kernel
from pytest_qnnrobust.tflite.kernels.mean import Mean, ReduceMax
from pytest_qnnrobust.tflite.kernels.pooling import AveragePool2D, Pool
from pytest_qnnrobust.tflite.kernels.softmax import Softmax, SoftmaxInt16, one_over_one_plus_x_lut
from pytest_qnnrobust.tflite.native import structures
from pytest_qnnrobust.tflite.native.step import Context, NativeStep, look_through, requantize_all
from pytest_qnnrobust.tflite.native.structures import Kind

MAX_CLASSES = 4096
"""Classes of a softmax whose sum of int8 exponentials, of 20 bits each, fits 32 bits."""


def pool(kernel: Pool, context: Context) -> NativeStep | None:
    kind = Kind.MAX_POOL_2D
    if isinstance(kernel, AveragePool2D):
        kind = Kind.AVERAGE_POOL_2D
        if int(kernel.counts.min(initial=1)) < 1:
            return None
    step = NativeStep(kind, kernel.inputs, kernel.output)
    image = context.shapes[kernel.inputs[0]]
    look_through(step, kernel.window, image, image[2], 1)
    step.scratch = 0
    zero_point = context.tensors[kernel.output].zero_point
    limits = kernel.minimum - zero_point, kernel.maximum - zero_point
    step.fields["requantization"] = structures.Requantization(None, None, None, 0, *limits)
    return step


def mean(kernel: Mean, context: Context) -> NativeStep | None:
    limits = np.iinfo(context.tensors[kernel.inputs[0]].dtype)
    if kernel.count * (int(limits.max) - int(limits.min)) > INT32_MAX or kernel.requantization.wide:
        return None
    step = _reduction(Kind.MEAN, kernel, kernel.axes, context)
    if step is not None:
        step.fields["requantization"] = requantize_all(step, kernel.requantization, context.lanes)
    return step


def reduce_max(kernel: ReduceMax, context: Context) -> NativeStep | None:
    return _reduction(Kind.REDUCE_MAX, kernel, kernel.axes, context)


def _reduction(
    kind: Kind, kernel: Kernel, axes: tuple[int, ...], context: Context
) -> NativeStep | None:
    """A step over neighbouring axes; others are no (outer, length, inner)."""
    if axes != tuple(range(axes[0], axes[-1] + 1)):
        return None
    shape = (1, *context.shapes[kernel.inputs[0]])
    step = NativeStep(kind, kernel.inputs, kernel.output)
    step.fields["outer"] = math.prod(shape[: axes[0]])
    step.fields["length"] = math.prod(shape[axes[0] : axes[-1] + 1])
    step.fields["inner"] = math.prod(shape[axes[-1] + 1 :])
    return step


def softmax(kernel: Softmax, context: Context) -> NativeStep | None:
    result = context.tensors[kernel.output]
    if kernel.input_dtype != kernel.output_dtype:
        return None
    shape = context.shapes[kernel.output]
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
