"""Windows over the two spatial axes, shared by the convolutions and the pools."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.tflite.graph import Tensor
from pytest_qnnrobust.tflite.kernels.base import Node

Pair = tuple[int, int]

MAX_WINDOW = 1 << 14
"""Cells of a window; each is a turn of a Python loop."""
MAX_PADDING = 1024
"""Cells that an axis may be padded by: a wider window has no use, and costs its size in memory."""


@dataclass(frozen=True)
class Window:
    """A sliding window over NHWC arrays; every pair is (height, width).

    `padding` is ((top, bottom), (left, right)), cells outside the image that the window visits.
    """

    size: Pair
    stride: Pair
    dilation: Pair
    padding: tuple[Pair, Pair]
    output: Pair

    def taps(self, x: NDArray[Any], fill: int) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """Yield (row, column, view (N, *output, C)) of the input under each window cell.

        Cells outside the image hold `fill`.
        """
        padded = np.pad(x, ((0, 0), *self.padding, (0, 0)), constant_values=fill)
        (stride_h, stride_w), (out_h, out_w) = self.stride, self.output
        for row in range(self.size[0]):
            top = row * self.dilation[0]
            rows = padded[:, top : top + (out_h - 1) * stride_h + 1 : stride_h]
            for column in range(self.size[1]):
                left = column * self.dilation[1]
                yield row, column, rows[:, :, left : left + (out_w - 1) * stride_w + 1 : stride_w]


def prepare_window(node: Node, image: Tensor, size: Pair, dilation: Pair = (1, 1)) -> Window:
    """The window of an operator with TFLite's stride and padding options."""
    height, width, _ = node.sample_shape(image, rank=4)
    stride = (int(node.option("stride_h", 1)), int(node.option("stride_w", 1)))
    scheme = str(node.option("padding", "SAME"))
    if scheme not in ("SAME", "VALID"):
        raise node.refuse("padding SAME or VALID", padding=scheme)
    for name, pair in (("stride", stride), ("dilation", dilation), ("window", size)):
        if min(pair) < 1:
            raise node.refuse(f"{name} of at least 1", got=pair)
    if size[0] * size[1] > MAX_WINDOW:
        raise node.refuse(f"window of at most {MAX_WINDOW} cells", window=size)
    out_h, rows = _axis(node, scheme, height, size[0], stride[0], dilation[0])
    out_w, columns = _axis(node, scheme, width, size[1], stride[1], dilation[1])
    return Window(size, stride, dilation, (rows, columns), (out_h, out_w))


def _axis(
    node: Node, scheme: str, length: int, size: int, stride: int, dilation: int
) -> tuple[int, Pair]:
    """Output length and (before, after) padding of one axis (kernels/padding.h)."""
    effective = (size - 1) * dilation + 1
    covered = length if scheme == "SAME" else length - effective + 1
    output = -(-covered // stride)
    if output < 1:
        raise node.refuse("window no larger than the image", window=effective, image=length)
    padding = pad(length, output, effective, stride)
    if sum(padding) > MAX_PADDING:
        raise node.refuse(f"padding of at most {MAX_PADDING} cells", window=effective, image=length)
    return output, padding


def pad(length: int, output: int, effective: int, stride: int) -> Pair:
    """Cells before and after an axis, so that `output` windows of `effective` cells fit on it."""
    total = max((output - 1) * stride + effective - length, 0)
    return total // 2, total - total // 2
