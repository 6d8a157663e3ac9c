"""CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED and MAX_POOL_2D on TensorFlow's own kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.tflite.accumulate import (
    NO_PADDING,
    Engine,
    Planes,
    choose_planes,
    convolution,
    depthwise_convolution,
    taps_inside,
)
from pytest_qnnrobust.tflite.fixed_point import Integers, Requantization
from pytest_qnnrobust.tflite.graph import Graph
from pytest_qnnrobust.tflite.kernels.conv_2d import Conv2D, Convolution, DepthwiseConv2D
from pytest_qnnrobust.tflite.kernels.fully_connected import FullyConnected
from pytest_qnnrobust.tflite.kernels.pooling import MaxPool2D
from pytest_qnnrobust.tflite.lowering.forms import Product, levels, requantization_form


def lower_conv_2d(kernel: Conv2D, graph: Graph, engines: tuple[Engine, ...]) -> Product | None:
    if kernel.groups != 1 or kernel.window.dilation != (1, 1):
        return None
    hwio = np.ascontiguousarray(kernel.filter.transpose(1, 2, 3, 0))
    planes = choose_planes(kernel.input_dtype, kernel.filter_magnitude, engines)
    multiply = convolution(planes, hwio, kernel.window.stride, kernel.window.padding)
    return _product(kernel, graph, planes, hwio, multiply)


def lower_depthwise_conv_2d(kernel: DepthwiseConv2D, graph: Graph) -> Product | None:
    if kernel.window.dilation != (1, 1) or len(set(kernel.window.stride)) != 1:
        return None
    _, height, width, channels = kernel.filter.shape
    depth = channels // kernel.depth_multiplier
    hwcm = kernel.filter.reshape(height, width, depth, kernel.depth_multiplier)
    planes = choose_planes(kernel.input_dtype, kernel.filter_magnitude, ("float32", "float64"))
    multiply = depthwise_convolution(planes, hwcm, kernel.window.stride, kernel.window.padding)
    return _product(kernel, graph, planes, kernel.filter[0][:, :, None, :], multiply)


def _product(
    kernel: Convolution,
    graph: Graph,
    planes: Planes,
    taps: NDArray[np.int8],
    multiply: Callable[[Any], Any],
) -> Product | None:
    """A convolution as a product; `taps` (h, w, in, out) are those that an output channel sums."""
    _, height, width, _ = graph.tensors[kernel.inputs[0]].shape
    inside = taps_inside(taps, (height, width), kernel.window)
    correction = kernel.bias - (kernel.input_zero_point + planes.offset) * inside
    finish = _finish(kernel.requantization, kernel.accumulator_bound, planes, correction)
    return finish and Product(planes.cut, multiply, finish)


def lower_fully_connected(kernel: FullyConnected) -> Product | None:
    """Lower FULLY_CONNECTED to a product of two matrices, whatever the axes.

    TensorFlow 2.21 writes beyond its memory where it multiplies float32 (n, 1, m, k) by a matrix.
    """
    planes = choose_planes(kernel.input_dtype, kernel.filter_magnitude, ("float32", "float64"))
    weights = kernel.weights.T.astype(planes.engine)
    correction = kernel.bias - kernel.input_zero_point * weights.sum(axis=0).astype(np.int64)
    finish = _finish(kernel.requantization, kernel.accumulator_bound, planes, correction)

    def multiply(x: Any) -> Any:
        import tensorflow as tf

        sums = tf.linalg.matmul(tf.reshape(x, (-1, len(weights))), tf.constant(weights))
        if not kernel.keep_dims:
            return sums
        return tf.reshape(sums, tf.concat([tf.shape(x)[:-1], weights.shape[1:]], 0))

    return finish and Product(planes.cut, multiply, finish)


def _finish(
    requantization: Requantization, bound: Integers, planes: Planes, correction: Integers
) -> Callable[..., Any] | None:
    """Products of the planes -> accumulator -> output activation; None if not provable."""
    form = requantization_form(requantization, bound)
    if form is None:
        return None
    scale = levels(form, requantization.dtype)

    def finish(*products: Any) -> Any:
        import tensorflow as tf

        parts = zip(planes.weights, products, strict=True)
        sums = [tf.cast(part, tf.float64) * float(weight) for weight, part in parts]
        return scale(tf.add_n(sums) + tf.constant(correction, tf.float64))

    return finish


def lower_max_pool_2d(kernel: MaxPool2D) -> Product:
    window = kernel.window
    scheme = "VALID" if window.padding == NO_PADDING else "SAME"

    def operands(x: Any) -> list[Any]:
        import tensorflow as tf

        return [tf.cast(x, tf.float32)]

    def multiply(x: Any) -> Any:
        import tensorflow as tf

        return tf.nn.max_pool2d(x, window.size, window.stride, scheme)

    def finish(peak: Any) -> Any:
        import tensorflow as tf

        clipped = tf.clip_by_value(peak, float(kernel.minimum), float(kernel.maximum))
        return tf.cast(tf.cast(clipped, tf.int32), kernel.dtype)

    return Product(operands, multiply, finish)
