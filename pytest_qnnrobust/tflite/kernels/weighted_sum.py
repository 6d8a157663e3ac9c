"""Sum, bias and requantization of CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pytest_qnnrobust.tflite.fixed_point import Integers, Requantization
from pytest_qnnrobust.tflite.kernels.base import Array, Kernel


@dataclass(frozen=True, eq=False, kw_only=True)
class WeightedSum(Kernel):
    """`requantization(sum w * (x - input_zero_point) + bias)`.

    `bias` is int64 (channels,), zeros where the file has none; `input_dtype` int8 or int16.
    """

    bias: Integers
    input_zero_point: int
    input_dtype: str
    requantization: Requantization

    @property
    def filter_magnitude(self) -> Integers:
        """sum |w| per output channel, int64 (channels,)."""
        raise NotImplementedError

    @cached_property
    def accumulator_bound(self) -> Integers:
        """max |partial sum| per output channel: sum|w| * max|x - zero_point| + |bias|.

        The bound holds for any order of summation and any input of the dtype.
        """
        limits = np.iinfo(self.input_dtype)
        reach = max(limits.max - self.input_zero_point, self.input_zero_point - limits.min)
        bound: Integers = self.filter_magnitude * reach + np.abs(self.bias)
        return bound

    def accumulate(self, x: Array) -> Integers:
        """sum w * (x - input_zero_point) + bias, int64 (N, ..., channels)."""
        raise NotImplementedError

    def run(self, *inputs: Array) -> Array:
        (x,) = inputs
        return self.requantization.apply(self.accumulate(x))
