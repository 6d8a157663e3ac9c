"""Elementwise operators as steps: sums, products, tables."""

from __future__ import annotations

import math

import numpy as np

from pytest_qnnrobust.tflite.kernels.add import Add, ScaledOperand
from pytest_qnnrobust.tflite.kernels.elementwise import Binary, Unary
from pytest_qnnrobust.tflite.kernels.mul import Mul
from pytest_qnnrobust.tflite.native import structures
from pytest_qnnrobust.tflite.native.step import Context, NativeStep, requantize_all, whole
from pytest_qnnrobust.tflite.native.structures import Kind


def add(kernel: Add, context: Context) -> NativeStep | None:
    zero_points = (kernel.left.zero_point, kernel.right.zero_point)
    step = _binary(Kind.ADD, kernel, zero_points, context)
    if step is None:
        return None
    step.fields["requantization"] = requantize_all(step, kernel.requantization, context.lanes)
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


def mul(kernel: Mul, context: Context) -> NativeStep | None:
    step = _binary(Kind.MUL, kernel, (kernel.left_zero_point, kernel.right_zero_point), context)
    if step is not None:
        step.fields["requantization"] = requantize_all(step, kernel.requantization, context.lanes)
    return step


def _binary(
    kind: Kind, kernel: Binary, zero_points: tuple[int, int], context: Context
) -> NativeStep | None:
    """A step on two activations of one shape, or on one and a constant spread over its shape."""
    shape = context.shapes[kernel.output]
    if any(math.prod(context.shapes[index]) != math.prod(shape) for index in kernel.inputs):
        return None
    step = NativeStep(kind, kernel.inputs, kernel.output)
    for constant, zero_point in zip(kernel.constants, zero_points, strict=True):
        if constant is None:
            continue
        centred = constant.astype(np.int64)[0] - zero_point
        if np.any(centred != centred.astype(np.int16)):
            return None
        # Whole registers are read of it.
        spread = np.zeros(whole(math.prod(shape), context.lanes), np.int16)
        spread[: math.prod(shape)] = np.broadcast_to(centred, shape).reshape(-1)
        step.fields["constant"] = step.point(spread, np.int16)
    return step


def table(kernel: Unary, context: Context) -> NativeStep | None:
    source, result = context.tensors[kernel.inputs[0]], context.tensors[kernel.output]
    step = NativeStep(Kind.TABLE, kernel.inputs, kernel.output)
    centred = kernel.table.astype(np.int64) - result.zero_point
    step.fields["table"] = step.point(centred, np.int16)
    # The input comes without its zero point, the table starts at the dtype's lowest value.
    step.fields["table_start"] = source.zero_point - int(np.iinfo(source.dtype).min)
    return step
