"""A step of the core as Python fills it: its fields, its arrays, and what many steps share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.tflite import fixed_point
from pytest_qnnrobust.tflite.graph import Tensor
from pytest_qnnrobust.tflite.kernels.spatial import Window
from pytest_qnnrobust.tflite.native import structures
from pytest_qnnrobust.tflite.native.structures import Kind

LINE = 64
"""Bytes of a cache line: a register that straddles two of them takes longer to load."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Context:
    """What a step is made for: shapes of one sample and tensors, both by index, and the lanes.

    `lanes` is the number of accumulators of a register: channels come in blocks of as many.
    """

    shapes: Mapping[int, Shape]
    tensors: Sequence[Tensor]
    lanes: int


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
        values: NDArray[Any] = np.ascontiguousarray(array, dtype)
        room = np.empty(values.nbytes + LINE, np.uint8)
        start = -room.ctypes.data % LINE
        kept: NDArray[Any] = room[start : start + values.nbytes].view(dtype)
        kept[:] = values.reshape(-1)
        self.arrays.append(kept)
        return int(kept.ctypes.data)


def look_through(
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


def requantize(
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


def requantize_all(
    step: NativeStep, scaling: fixed_point.Requantization, lanes: int
) -> structures.Requantization:
    """The same multiplier and shift in every lane of a register."""

    def everywhere(values: Any) -> NDArray[Any]:
        return np.broadcast_to(np.asarray(values, np.int64).reshape(-1), lanes)

    return requantize(step, scaling, everywhere)


def whole(number: int, block: int) -> int:
    """The next multiple of `block`."""
    return -(-number // block) * block
