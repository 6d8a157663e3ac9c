"""Feature squeezing: fewer colours and a median window, in the integers that the network reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from pytest_qnnrobust.defenses.cost import Cost
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.types import Array, Bounds

SCALE_OPERATIONS = 3
"""Operations that bring an element to its level without a table: multiply, add and shift."""


@dataclass(frozen=True)
class FeatureSqueezing:
    """Fewer colours, then a median window: Xu, Evans, Qi, "Feature Squeezing" (2017), section 3.

    `bit_depth` b keeps 2**b evenly spaced values of the input domain and moves each element to the
    nearest of them, half-way to the upper one; None keeps all values. `window` w replaces each
    element by the median of w x w pixels of its channel (of w elements on one-dimensional inputs):
    the upper of the two in the middle where their number is even, with pixels beyond the edge
    mirrored, as scipy's median_filter does in mode "reflect". 1 leaves pixels alone. Both steps are
    monotone, so their order does not matter.

    On a quantized input both run on its integers, without a division where the network is int8.
    The defaults are those of "David and Goliath", Table 15, for CIFAR-10.
    Raises QnnRobustError for a bit_depth outside 1..15 or a window below 1.
    """

    bit_depth: int | None = 4
    window: int = 2

    def __post_init__(self) -> None:
        if self.bit_depth is not None and not _is_integer(self.bit_depth, 1, 15):
            rule = "bit_depth to be None or an integer in [1, 15]"
            raise expected(rule, bit_depth=self.bit_depth)
        if not _is_integer(self.window, 1, 1 << 15):
            raise expected("window to be an integer >= 1", window=self.window)

    def __call__(self, x: Array, bounds: Bounds, grid: InputGrid | None = None) -> Array:
        """Squeeze real-valued inputs `x` (N, ...) in the domain `bounds`; float32 of that shape.

        `grid` is the network's input grid, None where its input is float.
        """
        if grid is not None:
            return grid.dequantize(self.squeeze_quantized(grid.quantize(x), bounds, grid))
        low, high = bounds
        squeezed = np.asarray(x, np.float64)
        if self.bit_depth is not None:
            levels = 2**self.bit_depth - 1
            share = np.clip((squeezed - low) / (high - low), 0, 1)
            squeezed = low + np.floor(share * levels + 0.5) / levels * (high - low)
        return self._median(squeezed).astype(np.float32)

    def squeeze_quantized(self, q: Array, bounds: Bounds, grid: InputGrid) -> Array:
        """Squeeze integers (N, ...) of the grid's dtype, in integer arithmetic throughout."""
        if self.bit_depth is None:
            return self._median(q)
        low, high = (int(end) for end in grid.quantize(np.array(bounds, np.float32)))
        levels, span = 2**self.bit_depth - 1, high - low
        offset = np.clip(q.astype(np.int64) - low, 0, span)
        # Both are round(a / b), halves up, written as floor((2 a + b) / (2 b)) to stay integer.
        level = (2 * offset * levels + span) // (2 * span)
        squeezed = low + (2 * level * span + levels) // (2 * levels)
        return self._median(squeezed.astype(q.dtype))

    def backward(self, x: Array, gradient: Array, bounds: Bounds, grid: InputGrid | None) -> Array:
        """Turn the gradient in the squeezed input (N, ...) into that in `x`, float32 (N, ...).

        Backward-pass differentiable approximation (Athalye, Carlini, Wagner 2018): the median
        hands its gradient to the element that it took; the steps of the colour depth count as the
        identity.
        """
        if self.window == 1:
            return gradient
        plain = FeatureSqueezing(self.bit_depth, 1)(x, bounds, grid)
        windows, origin = self._windows(plain)
        rank = windows.shape[-1] // 2
        taken = np.argpartition(windows, rank, axis=-1)[..., rank]
        origins = np.take_along_axis(np.broadcast_to(origin, windows.shape), taken[..., None], -1)
        size = int(np.prod(x.shape[1:]))
        places = np.arange(len(x))[:, None] * size + origins.reshape(len(x), size)
        # Several windows may take one element: bincount adds their gradients, assignment would not.
        summed = np.bincount(places.ravel(), gradient.ravel(), minlength=x.size)
        return summed.reshape(x.shape).astype(np.float32)

    def cost(self, input_shape: tuple[int, ...], dtype: str) -> Cost:
        """The cost of one inference on an input of this shape and dtype, as a plain loop has it.

        Colour depth: one table lookup an element for int8, else multiply, add and shift. Median:
        a selection sort up to the middle of each window; rows that later windows still need are
        kept in a ring buffer.
        """
        elements, item = int(np.prod(input_shape)), np.dtype(dtype).itemsize
        total = Cost()
        if self.bit_depth is not None:
            by_table = item == 1
            per_element = 1 if by_table else SCALE_OPERATIONS
            total += Cost(operations=per_element * elements, flash_bytes=256 if by_table else 0)
        if self.window > 1:
            members = self.window ** len(self._axes(input_shape))
            comparisons = sum(members - 1 - i for i in range(members // 2 + 1))
            row = elements // input_shape[0] if len(input_shape) > 1 else 1
            total += Cost(comparisons * elements, self.window * row * item)
        return total

    def _median(self, x: Array) -> Array:
        if self.window == 1:
            return x
        from scipy.ndimage import median_filter

        axes = self._axes(x.shape[1:])
        size = [self.window if axis - 1 in axes else 1 for axis in range(x.ndim)]
        return np.asarray(median_filter(x, size=size, mode="reflect"))

    def _axes(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The axes of the window: height and width, or the only axis of a one-dimensional input."""
        return tuple(range(min(len(input_shape), 2)))

    def _windows(self, x: Array) -> tuple[Array, Array]:
        """The members of each element's window (N, ..., members), and their places (..., members)
        in the flat sample."""
        axes = self._axes(x.shape[1:])
        origin = _window_origins(x.shape[1:], axes, self.window)
        flat = x.reshape(len(x), -1)
        return flat[:, origin.reshape(-1)].reshape(len(x), *origin.shape), origin


@lru_cache(maxsize=16)
def _window_origins(shape: tuple[int, ...], axes: tuple[int, ...], window: int) -> Array:
    """The flat indices (*shape, members) of the members of each element's window."""
    index = np.arange(int(np.prod(shape))).reshape(shape)
    before = window // 2
    widths = [
        (before, window - 1 - before) if axis in axes else (0, 0) for axis in range(len(shape))
    ]
    # NumPy's "symmetric" is what scipy calls "reflect": the edge pixel itself is repeated.
    padded = np.pad(index, widths, mode="symmetric")
    views = np.lib.stride_tricks.sliding_window_view(padded, (window,) * len(axes), axes)
    return views.reshape(*shape, -1)


def _is_integer(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
