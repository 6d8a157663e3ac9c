"""ADD, MUL, pools that tile, MEAN, tables and data movement, fused by XLA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pytest_qnnrobust.tflite.accumulate import NO_PADDING
from pytest_qnnrobust.tflite.affine import fit_affine, prove_affine
from pytest_qnnrobust.tflite.kernels.add import Add, ScaledOperand
from pytest_qnnrobust.tflite.kernels.data_movement import Concatenation, Pad, Transpose
from pytest_qnnrobust.tflite.kernels.elementwise import Binary, Unary
from pytest_qnnrobust.tflite.kernels.mean import Mean, ReduceMax
from pytest_qnnrobust.tflite.kernels.mul import Mul
from pytest_qnnrobust.tflite.kernels.pooling import AveragePool2D
from pytest_qnnrobust.tflite.kernels.reshape import Reshape
from pytest_qnnrobust.tflite.kernels.spatial import Pair
from pytest_qnnrobust.tflite.lowering.forms import (
    Elementwise,
    domain,
    floor_line,
    levels,
    requantization_form,
)


def lower_add(kernel: Add) -> Elementwise | None:
    """Three proved lines: one for each addend, one for their sum."""
    dtype = kernel.requantization.dtype
    left, right = (_addend(operand, dtype) for operand in (kernel.left, kernel.right))
    if left is None or right is None:
        return None
    reach = sum(np.abs(side.apply(domain(dtype))).max() for side in (kernel.left, kernel.right))
    form = requantization_form(kernel.requantization, np.array([reach]))
    if form is None:
        return None
    finish = levels(form, dtype)

    def apply(*activations: Any) -> Any:
        x, y = _align(kernel, activations)
        return finish(left(x) + kernel.sign * right(y))

    return Elementwise(apply)


def _addend(operand: ScaledOperand, dtype: str) -> Callable[[Any], Any] | None:
    """Quantized values (float64) -> the addend on the common scale, proved on every value."""
    centred = domain(dtype) - operand.zero_point
    power = operand.shift[0] - 31 + operand.left_shift
    slope = np.ldexp(operand.multiplier.astype(np.float64), power)
    values = operand.apply(domain(dtype))
    limit = int(np.abs(values).max()) + 1
    offsets = fit_affine(values, centred * slope, centred < 0, (-limit, limit))
    if offsets is None:
        return None
    above, below = (np.array([offset]) for offset in offsets)
    return lambda x: floor_line(x - float(operand.zero_point), slope, above, below)


def lower_mul(kernel: Mul) -> Elementwise | None:
    values = domain(kernel.requantization.dtype)
    zero_points = kernel.left_zero_point, kernel.right_zero_point
    reach = np.prod([np.abs(values - zero_point).max() for zero_point in zero_points])
    form = requantization_form(kernel.requantization, np.array([reach]))
    if form is None:
        return None
    finish = levels(form, kernel.requantization.dtype)

    def apply(*activations: Any) -> Any:
        x, y = _align(kernel, activations)
        return finish((x - float(zero_points[0])) * (y - float(zero_points[1])))

    return Elementwise(apply)


def _align(kernel: Binary, activations: Sequence[Any]) -> tuple[Any, Any]:
    """Both operands as float64 of the output's rank."""
    import tensorflow as tf

    given = iter(activations)
    x, y = (
        _raise_rank(tf.cast(next(given), tf.float64), kernel.rank)
        if constant is None
        else tf.constant(constant, tf.float64)
        for constant in kernel.constants
    )
    return x, y


def _raise_rank(x: Any, rank: int) -> Any:
    import tensorflow as tf

    missing = rank - len(x.shape)
    return tf.reshape(x, (-1, *(1,) * missing, *x.shape[1:])) if missing else x


def lower_average_pool_2d(kernel: AveragePool2D) -> Elementwise | None:
    """Windows that tile the image; others are left to the host."""
    window = kernel.window
    rows, columns = window.size
    tiled = (window.output[0] * rows, window.output[1] * columns) == kernel.image_size
    if not tiled or window.padding != NO_PADDING:
        return None
    count = np.array([rows * columns])
    bound = count * int(np.abs(domain(kernel.dtype)).max())
    form = prove_affine(
        lambda total: kernel.divide(total, count),
        1.0 / count,
        -bound,
        bound,
        (kernel.minimum, kernel.maximum),
    )
    if form is None:
        return None
    finish = levels(form, kernel.dtype)

    def apply(x: Any) -> Any:
        import tensorflow as tf

        tiles = tf.reshape(x, (-1, *_tiled(window.output, window.size), x.shape[3]))
        total = tf.reduce_sum(tf.cast(tiles, tf.int32), axis=(2, 4))
        return finish(tf.cast(total, tf.float64))

    return Elementwise(apply)


def _tiled(output: Pair, size: Pair) -> tuple[int, ...]:
    return output[0], size[0], output[1], size[1]


def lower_mean(kernel: Mean) -> Elementwise | None:
    requantization = kernel.requantization
    centred = domain(requantization.dtype) - kernel.input_zero_point
    bound = np.array([kernel.count * int(np.abs(centred).max())])
    form = requantization_form(requantization, bound)
    if form is None:
        return None
    finish = levels(form, requantization.dtype)

    def apply(x: Any) -> Any:
        import tensorflow as tf

        total = tf.reduce_sum(tf.cast(x, tf.int64), axis=kernel.axes, keepdims=kernel.keep_dims)
        return finish(tf.cast(total - kernel.input_zero_point * kernel.count, tf.float64))

    return Elementwise(apply)


def lower_reduce_max(kernel: ReduceMax) -> Elementwise:
    def apply(x: Any) -> Any:
        import tensorflow as tf

        return tf.reduce_max(x, axis=kernel.axes, keepdims=kernel.keep_dims)

    return Elementwise(apply)


def lower_unary(kernel: Unary) -> Elementwise:
    lowest = int(np.iinfo(kernel.input_dtype).min)

    def apply(x: Any) -> Any:
        import tensorflow as tf

        return tf.gather(tf.constant(kernel.table), tf.cast(x, tf.int32) - lowest)

    return Elementwise(apply)


def lower_reshape(kernel: Reshape) -> Elementwise:
    def apply(x: Any) -> Any:
        import tensorflow as tf

        batch = x.shape[0]
        if batch is None:
            return tf.reshape(x, (-1, *kernel.shape))
        return tf.reshape(x, (batch, *kernel.shape))

    return Elementwise(apply)


def lower_pad(kernel: Pad) -> Elementwise:
    def apply(x: Any) -> Any:
        import tensorflow as tf

        return tf.pad(x, kernel.paddings, constant_values=kernel.value)

    return Elementwise(apply)


def lower_transpose(kernel: Transpose) -> Elementwise:
    def apply(x: Any) -> Any:
        import tensorflow as tf

        return tf.transpose(x, kernel.permutation)

    return Elementwise(apply)


def lower_concatenation(kernel: Concatenation) -> Elementwise | None:
    if any(constant is not None for constant in kernel.constants):
        return None

    def apply(*activations: Any) -> Any:
        import tensorflow as tf

        return tf.concat(activations, axis=kernel.axis)

    return Elementwise(apply)
