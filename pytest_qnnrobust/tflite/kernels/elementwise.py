"""Unary kernels, run as a table, and binary kernels, which broadcast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.tflite.graph import Tensor
from pytest_qnnrobust.tflite.kernels.base import Array, Kernel, Node


@dataclass(frozen=True, eq=False, kw_only=True)
class Unary(Kernel):
    """An elementwise function of one int8 or int16 activation, run as a table."""

    input_dtype: str

    def evaluate(self, x: NDArray[np.int64]) -> Array:
        """The exact formula, on int64 values of the input's dtype."""
        raise NotImplementedError

    @cached_property
    def table(self) -> Array:
        """`evaluate` of every input value: entry i belongs to i + minimum of the input dtype.

        256 entries for int8, 65,536 for int16, of the output's dtype.
        """
        limits = np.iinfo(self.input_dtype)
        return self.evaluate(np.arange(limits.min, limits.max + 1, dtype=np.int64))

    def run(self, *inputs: Array) -> Array:
        (x,) = inputs
        return self.table[x.astype(np.int64) - np.iinfo(self.input_dtype).min]


@dataclass(frozen=True, eq=False, kw_only=True)
class Binary(Kernel):
    """An elementwise function of two operands that broadcast as in TFLite.

    `constants` holds (left, right), None for an activation; a constant has `rank` axes, the first
    of size 1. Shapes align at their last axis, as if the batch were 1.
    """

    constants: tuple[Array | None, Array | None]
    rank: int

    def align(self, *inputs: Array) -> tuple[Array, Array]:
        """(left, right) of `rank` axes each, ready for NumPy's broadcasting."""
        activations = iter(inputs)
        left, right = (
            self._activation(next(activations)) if constant is None else constant
            for constant in self.constants
        )
        return left, right

    def _activation(self, x: Array) -> Array:
        return x.reshape((len(x), *(1,) * (self.rank - x.ndim), *x.shape[1:]))


def binary_operands(node: Node, left: Tensor, right: Tensor, output: Tensor) -> BinaryOperands:
    """Tell activations from constants, and align the constants to the output's rank."""
    rank = len(output.shape)
    operands = (left, right)
    constants = (_constant(node, left, rank), _constant(node, right, rank))
    inputs = tuple(
        tensor.index
        for tensor, constant in zip(operands, constants, strict=True)
        if constant is None
    )
    if not inputs:
        raise node.refuse("to have an activation among its operands", left)
    return BinaryOperands(inputs, constants, rank)


@dataclass(frozen=True, eq=False)
class BinaryOperands:
    inputs: tuple[int, ...]
    constants: tuple[Array | None, Array | None]
    rank: int


def _constant(node: Node, tensor: Tensor, rank: int) -> Array | None:
    if len(tensor.shape) > rank:
        raise node.refuse("operands of no higher rank than the output", tensor, shape=tensor.shape)
    if tensor.data is None:
        return None
    shape = (1,) * (rank - tensor.data.ndim) + tensor.data.shape
    aligned: Array = tensor.data.reshape(shape)
    if shape[:1] != (1,):
        raise node.refuse("constant that does not span the batch axis", tensor, shape=tensor.shape)
    return aligned
