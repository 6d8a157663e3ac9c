"""Operators that only move values, as one kind of step."""

from __future__ import annotations

import math

import numpy as np

from pytest_qnnrobust.tflite.kernels import Kernel
from pytest_qnnrobust.tflite.kernels.reshape import Reshape
from pytest_qnnrobust.tflite.native.step import Context, NativeStep
from pytest_qnnrobust.tflite.native.structures import Kind

MAX_MOVED = 1 << 22
"""Values of an activation that is moved value by value, each with an index of four bytes."""


def move(kernel: Kernel, context: Context) -> NativeStep | None:
    """A step that moves values, found by running the kernel on the places of its inputs."""
    sizes = [math.prod(context.shapes[index]) for index in kernel.inputs]
    before = [context.tensors[index].zero_point for index in kernel.inputs]
    after = context.tensors[kernel.output]
    if len(sizes) > 2 or len(set(kernel.inputs)) < len(sizes) or len(set(before)) > 1:
        return None
    if math.prod(context.shapes[kernel.output]) > MAX_MOVED or sum(sizes) > MAX_MOVED:
        return None
    step = NativeStep(Kind.MOVE, kernel.inputs, kernel.output)
    step.fields["shift"] = before[0] - after.zero_point
    if isinstance(kernel, Reshape):
        return step
    # Places lie above every constant that a kernel may put between the values.
    lowest = 1 << 20
    starts = np.cumsum([lowest, *sizes])
    places = [
        np.arange(start, start + size).reshape(1, *context.shapes[index])
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
