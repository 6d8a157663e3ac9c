"""Real-valued inputs and the integers of a quantized input tensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.tflite import fixed_point
from pytest_qnnrobust.types import Float


@dataclass(frozen=True)
class InputGrid:
    """The affine grid on which a quantized model sees its input.

    `real = scale * (quantized - zero_point)`; `dtype` is int8, uint8 or int16. `quantize` is the
    float-to-integer QUANTIZE of TFLM (`reference/quantize.h`): float32 division, round half away
    from zero, saturation.
    """

    scale: float
    zero_point: int
    dtype: str

    @property
    def range(self) -> tuple[float, float]:
        """Real values of the smallest and the largest integer."""
        info = np.iinfo(self.dtype)
        ends = self.dequantize(np.array([info.min, info.max]))
        return float(ends[0]), float(ends[1])

    def quantize(self, x: NDArray[Any]) -> NDArray[Any]:
        return fixed_point.quantize(x, self.scale, self.zero_point, self.dtype)

    def dequantize(self, q: NDArray[Any]) -> Float:
        # A table of 256 or 65,536 values is faster than the arithmetic and equal to it.
        if isinstance(q, np.ndarray) and q.dtype == self.dtype:
            return _real_values(self).take(q.view(_unsigned(self.dtype)))
        return fixed_point.dequantize(q, self.scale, self.zero_point)

    def snap(self, x: NDArray[Any]) -> Float:
        """The nearest points of the grid, which are what the device really evaluates."""
        return self.dequantize(self.quantize(x))


@lru_cache(maxsize=16)
def _real_values(grid: InputGrid) -> Float:
    """The real value of every integer of the grid, by its two's complement bits."""
    info = np.iinfo(grid.dtype)
    bits = np.arange(int(info.max) - int(info.min) + 1).astype(_unsigned(grid.dtype))
    return fixed_point.dequantize(bits.view(grid.dtype), grid.scale, grid.zero_point)


def _unsigned(dtype: str) -> str:
    return f"u{np.dtype(dtype).itemsize}"
