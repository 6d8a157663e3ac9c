"""Exact integer sums of products on floating-point or VNNI hardware.

An int8 activation is one plane of 8 bits, an int16 activation two; every plane is convolved by
itself and the accumulator is their weighted sum plus a constant:

    acc = sum_i weight_i * product_i + correction
    correction = bias - offset * sum(filter taps inside the image)

so a zero-padded product of shifted integers (q + offset) is still the sum over (q - zero_point).

- `quantized`: `QuantizedConv2D` on quint8 planes q + 2**(bits - 1), int32 sums. oneDNN's kernel
  is used where it proves exact on this processor (without VNNI it may saturate).
- `float32`: exact while every partial sum stays within 2**24, which is proved from sum|w|.
- `float64`: exact within 2**53.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.tflite.fixed_point import Integers
from pytest_qnnrobust.tflite.kernels.spatial import Pair, Window

Engine = Literal["quantized", "float32", "float64"]

LARGEST_PLANE = {"quantized": 255, "float32": 128, "float64": 32768}
"""Largest magnitude of a plane's integers: float64 takes an int16 activation as one plane."""
EXACT_WITHIN = {"quantized": 2**31 - 1, "float32": 2**24, "float64": 2**53}
"""Magnitude up to which every integer, and so every partial sum, is exact."""
NO_PADDING = ((0, 0), (0, 0))


@dataclass(frozen=True)
class Planes:
    """The planes into which an activation of `dtype` is cut for one engine."""

    engine: Engine
    dtype: str

    @property
    def weights(self) -> tuple[int, ...]:
        return (256, 1) if self.dtype == "int16" and self.engine != "float64" else (1,)

    @property
    def offset(self) -> int:
        """The constant by which the planes' weighted sum exceeds the integers."""
        return 2 ** (15 if self.dtype == "int16" else 7) if self.engine == "quantized" else 0

    def cut(self, q: Any) -> list[Any]:
        """Integer tf.Tensor -> its planes, in the engine's input type."""
        import tensorflow as tf

        if self.engine == "float64":
            return [tf.cast(q, tf.float64)]
        wide = tf.cast(q, tf.int32) + self.offset
        if self.engine == "quantized":
            parts = [wide] if self.dtype == "int8" else [wide // 256, wide % 256]
            return [tf.cast(part, tf.uint8) for part in parts]
        if self.dtype == "int8":
            return [tf.cast(q, tf.float32)]
        # A signed low byte reaches 128: with an unsigned one, up to 255, some models are not exact.
        low = (wide + 128) % 256 - 128
        return [tf.cast(part, tf.float32) for part in ((wide - low) // 256, low)]


def choose_planes(dtype: str, magnitude: Integers, engines: tuple[Engine, ...]) -> Planes:
    """The first of `engines` that is exact on any input, for filters of `magnitude` sum|w|.

    Raises ValueError where even float64 could round, which no filter that fits a file reaches.
    """
    largest = int(magnitude.max(initial=0))
    for engine in engines:
        if engine == "quantized" and not quantized_convolution_is_exact():
            continue
        if largest * LARGEST_PLANE[engine] <= EXACT_WITHIN[engine]:
            return Planes(engine, dtype)
    raise ValueError(f"no engine of {engines} sums {largest} exactly")


def convolution(
    planes: Planes, kernel: NDArray[np.int8], stride: Pair, padding: tuple[Pair, Pair]
) -> Callable[[Any], Any]:
    """Make a function of one plane (n, h, w, in) -> (n, h', w', out), taps outside counted as zero.

    `kernel` is HWIO.
    """
    import tensorflow as tf

    if planes.engine != "quantized":
        filters = kernel.astype(planes.engine)
        edges = [(0, 0), *padding, (0, 0)]
        return lambda x: tf.nn.conv2d(x, tf.constant(filters), stride, edges)
    scheme = "VALID" if padding == NO_PADDING else "SAME"
    return lambda x: _quantized_conv2d(x, kernel, stride, scheme)


def depthwise_convolution(
    planes: Planes, kernel: NDArray[np.int8], stride: Pair, padding: tuple[Pair, Pair]
) -> Callable[[Any], Any]:
    """Make a function like `convolution`'s, channel by channel.

    `kernel` is (h, w, in, multiplier); TensorFlow has it with equal strides only.
    """
    import tensorflow as tf

    filters = kernel.astype(planes.engine)
    scheme = "VALID" if padding == NO_PADDING else "SAME"
    return lambda x: tf.nn.depthwise_conv2d(x, tf.constant(filters), (1, *stride, 1), scheme)


def _quantized_conv2d(x: Any, kernel: NDArray[np.int8], stride: tuple[int, int], pad: str) -> Any:
    """Convolve quint8 with qint8 into int32 sums, by oneDNN's kernel."""
    import tensorflow as tf

    # The op wants real ranges, which do not touch its sums; the filter has to be a constant.
    sums, _, _ = tf.raw_ops.QuantizedConv2D(
        input=tf.bitcast(x, tf.quint8),
        filter=tf.constant(kernel, tf.qint8),
        min_input=0.0,
        max_input=255.0,
        min_filter=-127.0,
        max_filter=127.0,
        out_type=tf.qint32,
        strides=[1, *stride, 1],
        padding=pad,
    )
    return tf.bitcast(sums, tf.int32)


def taps_inside(kernel: NDArray[np.int8], image: Pair, window: Window) -> Integers:
    """Sum of the filter taps that fall inside the image, per output position: (h', w', out).

    `kernel` is (h, w, in, out). Without padding the result is (1, 1, out).
    """
    taps: Integers = kernel.astype(np.int64).sum(axis=2)
    if window.padding == NO_PADDING:
        everywhere: Integers = taps.sum(axis=(0, 1), keepdims=True)
        return everywhere
    rows, columns = (_inside(window, image, axis) for axis in (0, 1))
    inside: Integers = np.einsum("ih,jw,ijc->hwc", rows, columns, taps)
    return inside


def _inside(window: Window, image: Pair, axis: int) -> Integers:
    """1 where tap i of output position p reads a pixel of the image, else 0: (taps, positions)."""
    start = np.arange(window.output[axis]) * window.stride[axis] - window.padding[axis][0]
    tap = np.arange(window.size[axis]) * window.dilation[axis]
    pixel = start[None, :] + tap[:, None]
    return ((pixel >= 0) & (pixel < image[axis])).astype(np.int64)


@lru_cache(maxsize=1)
def quantized_convolution_is_exact() -> bool:
    """Whether `QuantizedConv2D` exists here and keeps sums that 16-bit intermediates would clip."""
    import tensorflow as tf

    shapes = [(1, 1, 32, 16), (3, 3, 3, 16), (3, 3, 16, 16), (3, 3, 64, 64)]
    # Largest inputs and pairs of weights of alternating sign: without VNNI, x86 adds two products
    # in 16 bits and saturates, which small or random values would not show.
    largest = np.full((2, 8, 8, 1), 255, np.uint8)

    def difference(size: tuple[int, ...]) -> Any:
        signs = np.where(np.arange(size[-1]) % 2, 127, -128)
        kernel = np.broadcast_to(signs, size).astype(np.int8)
        x = np.broadcast_to(largest, (2, 8, 8, size[2]))
        exact = tf.nn.conv2d(
            tf.constant(x, tf.float64), tf.constant(kernel, tf.float64), (1, 1), "SAME"
        )
        sums = _quantized_conv2d(tf.constant(x), kernel, (1, 1), "SAME")
        return tf.reduce_max(tf.abs(tf.cast(sums, tf.float64) - exact))

    try:
        compiled = tf.function(lambda: [difference(size) for size in shapes], autograph=False)
        return not any(float(value) for value in compiled())
    except (tf.errors.OpError, ValueError, TypeError):
        return False
