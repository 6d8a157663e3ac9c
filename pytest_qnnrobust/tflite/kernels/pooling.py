"""AVERAGE_POOL_2D and MAX_POOL_2D (RI/pooling.h, M/pooling_common.cc): no rescaling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.tflite.graph import Graph, Operator
from pytest_qnnrobust.tflite.kernels.base import Array, Kernel, Node, Settings
from pytest_qnnrobust.tflite.kernels.conv_2d import convolution_tensors
from pytest_qnnrobust.tflite.kernels.spatial import Window, prepare_window

MAX_SCALE_DIFFERENCE = 1e-6
"""TFLM refuses pools whose input and output scale differ by more."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Kernel):
    """`minimum` and `maximum` are the fused activation's quantized range."""

    window: Window
    image_size: tuple[int, int]
    dtype: str
    minimum: int
    maximum: int

    def _clip(self, values: NDArray[Any]) -> Array:
        clipped: Array = np.clip(values, self.minimum, self.maximum)
        return clipped.astype(self.dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class AveragePool2D(Pool):
    """S / n rounded half away from zero: S over the valid cells, n their number."""

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Valid cells under each output, int64 (1, height, width, 1)."""
        ones = np.ones((1, *self.image_size, 1), np.int64)
        return self._sum(ones)

    def _sum(self, x: NDArray[np.int64]) -> NDArray[np.int64]:
        total = np.zeros((len(x), *self.window.output, x.shape[3]), np.int64)
        for _, _, view in self.window.taps(x, fill=0):
            total += view
        return total

    def run(self, *inputs: Array) -> Array:
        (x,) = inputs
        return self.divide(self._sum(x.astype(np.int64)), self.counts)

    def divide(self, total: NDArray[np.int64], counts: NDArray[np.int64]) -> Array:
        """Sums over `counts` cells -> the output activation, rounded, clipped and cast."""
        half = counts // 2
        mean = np.where(total > 0, (total + half) // counts, -((half - total) // counts))
        return self._clip(mean)


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool2D(Pool):
    """The maximum over the valid cells."""

    def run(self, *inputs: Array) -> Array:
        (x,) = inputs
        # Cells outside of the image hold the lowest value, which never wins.
        lowest = int(np.iinfo(self.dtype).min)
        peak = np.full((len(x), *self.window.output, x.shape[3]), lowest, x.dtype)
        for _, _, view in self.window.taps(x, fill=lowest):
            np.maximum(peak, view, out=peak)
        return self._clip(peak)


def prepare_average_pool_2d(operator: Operator, graph: Graph, settings: Settings) -> AveragePool2D:
    return AveragePool2D(**_fields(Node(operator, graph, settings)))


def prepare_max_pool_2d(operator: Operator, graph: Graph, settings: Settings) -> MaxPool2D:
    return MaxPool2D(**_fields(Node(operator, graph, settings)))


def _fields(node: Node) -> dict[str, Any]:
    image, output = convolution_tensors(node)
    if (
        abs(image.scale - output.scale) > MAX_SCALE_DIFFERENCE
        or image.zero_point != output.zero_point
    ):
        raise node.refuse("output quantized as its input", output, scale=output.scale)
    size = (int(node.option("filter_height", 1)), int(node.option("filter_width", 1)))
    minimum, maximum = node.activation_range(output)
    return {
        "name": node.operator.name,
        "inputs": (image.index,),
        "output": output.index,
        "window": prepare_window(node, image, size),
        "image_size": image.shape[1:3],
        "dtype": image.dtype,
        "minimum": minimum,
        "maximum": maximum,
    }
