"""RELU, RELU6, LEAKY_RELU, PRELU and HARD_SWISH as operators of their own.

M/activations_common.cc, M/leaky_relu_common.cc, M/prelu_common.cc, R/hard_swish.h.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.tflite.fixed_point import (
    Integers,
    Requantization,
    effective_scale,
    quantize,
    quantize_multiplier,
    reduce_multiplier,
    rounding_divide_by_pot,
    saturating_left_shift,
)
from pytest_qnnrobust.tflite.graph import Graph, Operator, Tensor
from pytest_qnnrobust.tflite.kernels.base import Array, Kernel, Node, Settings
from pytest_qnnrobust.tflite.kernels.conv_2d import convolution_tensors
from pytest_qnnrobust.tflite.kernels.elementwise import Unary


@dataclass(frozen=True, eq=False, kw_only=True)
class Relu(Unary):
    """`requantization(x - zero_point)`, its minimum at the output's zero."""

    zero_point: int
    requantization: Requantization

    def evaluate(self, x: Integers) -> Array:
        return self.requantization.apply(x - self.zero_point)


@dataclass(frozen=True, eq=False, kw_only=True)
class Relu6(Unary):
    """Clamps in the INPUT's quantization and does not rescale, as TFLM does."""

    minimum: int
    maximum: int

    def evaluate(self, x: Integers) -> Array:
        return np.clip(x, self.minimum, self.maximum).astype(self.input_dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class LeakyRelu(Unary):
    """`positive` scales x - zero_point >= 0; below it `sign * negative` (alpha may be < 0)."""

    zero_point: int
    positive: Requantization
    negative: Requantization
    sign: int

    def evaluate(self, x: Integers) -> Array:
        centred = x - self.zero_point
        below = self.sign * self.negative.scale(centred)
        scaled = np.where(centred >= 0, self.positive.scale(centred), below)
        output = self.positive
        levels: Integers = np.clip(scaled + output.zero_point, output.minimum, output.maximum)
        return levels.astype(output.dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class PRelu(Kernel):
    """LEAKY_RELU with slopes of its own for elements: `alpha` int64 without its zero point, first
    axis 1."""

    zero_point: int
    alpha: Integers
    positive: Requantization
    negative: Requantization

    def run(self, *inputs: Array) -> Array:
        (x,) = inputs
        centred = x.astype(np.int64) - self.zero_point
        return np.where(
            centred >= 0,
            self.positive.apply(centred),
            self.negative.apply(centred * self.alpha),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class HardSwish(Unary):
    """16-bit arithmetic, int8 only; multipliers have 15 bits."""

    zero_point: int
    output_zero_point: int
    output_multiplier: int
    output_exponent: int
    reluish_multiplier: int
    reluish_exponent: int

    def evaluate(self, x: Integers) -> Array:
        hires = (x - self.zero_point) << 7
        preshift = _multiply_int16(hires, self.output_multiplier)
        product = self._reluish(hires) * preshift
        # SaturatingDoublingHighMul of R/hard_swish.h divides in C, which truncates towards zero.
        truncated = np.minimum(np.sign(product) * (np.abs(product) >> 15), 32767)
        levels = rounding_divide_by_pot(truncated, -self.output_exponent)
        return np.clip(levels + self.output_zero_point, -128, 127).astype(np.int8)

    def _reluish(self, hires: Integers) -> Integers:
        """relu6(x + 3) / 6 in Q0.15."""
        exponent, value = self.reluish_exponent, hires
        # Shifted in two parts, as R/hard_swish.h does: the last bit is added after the multiplier.
        if exponent > 0:
            value = saturating_left_shift(value, exponent - 1, bits=16)
        value = _multiply_int16(value, self.reluish_multiplier)
        if exponent > 0:
            value = saturating_left_shift(value, 1, bits=16)
        if exponent < 0:
            value = rounding_divide_by_pot(value, -exponent)
        return (value + (1 << 15)) >> 1


def _multiply_int16(a: Integers, b: int) -> Integers:
    """gemmlowp's SRDHM of 16-bit numbers, b >= 0."""
    return (a * b + (1 << 14)) >> 15


def prepare_relu(operator: Operator, graph: Graph, settings: Settings) -> Relu:
    node = Node(operator, graph, settings)
    values, output = convolution_tensors(node)
    limits = np.iinfo(output.dtype)
    scale = node.multiplier(values.scale, over=output.scale, arithmetic=settings.scale_arithmetic)
    floor = max(int(limits.min), output.zero_point)
    return Relu(
        name=operator.name,
        inputs=(values.index,),
        output=output.index,
        input_dtype=values.dtype,
        zero_point=values.zero_point,
        requantization=node.requantization(scale, output, limits=(floor, int(limits.max))),
    )


def prepare_relu6(operator: Operator, graph: Graph, settings: Settings) -> Relu6:
    node = Node(operator, graph, settings)
    values, output = convolution_tensors(node)
    six = quantize(6.0, values.scale, values.zero_point, values.dtype)
    return Relu6(
        name=operator.name,
        inputs=(values.index,),
        output=output.index,
        input_dtype=values.dtype,
        minimum=values.zero_point,
        maximum=int(six),
    )


def prepare_leaky_relu(operator: Operator, graph: Graph, settings: Settings) -> LeakyRelu:
    node = Node(operator, graph, settings)
    values, output = convolution_tensors(node)
    alpha = float(node.option("alpha", 0.0))
    arithmetic = settings.scale_arithmetic
    identity = node.multiplier(values.scale, over=output.scale, arithmetic=arithmetic)
    slope = node.multiplier(values.scale, abs(alpha), over=output.scale, arithmetic=arithmetic)
    limits = _limits(output)
    return LeakyRelu(
        name=operator.name,
        inputs=(values.index,),
        output=output.index,
        input_dtype=values.dtype,
        zero_point=values.zero_point,
        positive=node.requantization(identity, output, limits=limits),
        negative=node.requantization(slope, output, limits=limits),
        sign=-1 if alpha < 0 else 1,
    )


def prepare_prelu(operator: Operator, graph: Graph, settings: Settings) -> PRelu:
    """alpha is a constant, int8 for both widths."""
    node = Node(operator, graph, settings)
    values, output = convolution_tensors(node)
    slopes = node.quantized(node.tensor(1, "alpha"), "alpha", ("int8",))
    data = node.constant(1, ("int8",), "alpha").astype(np.int64) - slopes.zero_point
    rank = len(values.shape)
    if data.ndim > rank or (data.ndim == rank and data.shape[0] != 1):
        raise node.refuse("alpha that does not span the batch axis", slopes, shape=data.shape)
    identity = node.multiplier(values.scale, over=output.scale)
    slope = node.multiplier(values.scale, slopes.scale, over=output.scale)
    limits = _limits(output)
    return PRelu(
        name=operator.name,
        inputs=(values.index,),
        output=output.index,
        zero_point=values.zero_point,
        alpha=data.reshape((1,) * (rank - data.ndim) + data.shape),
        positive=node.requantization(identity, output, limits=limits),
        negative=node.requantization(slope, output, limits=limits),
    )


def prepare_hard_swish(operator: Operator, graph: Graph, settings: Settings) -> HardSwish:
    node = Node(operator, graph, settings)
    values = node.quantized(node.tensor(0, "input"), "input", ("int8",))
    output = node.quantized(node.result, "output", ("int8",))
    hires = values.scale / 128
    arithmetic = settings.scale_arithmetic
    reluish_scale = float(np.float32(3) / np.float32(32768))
    scale, exponent = quantize_multiplier(effective_scale((hires,), output.scale, arithmetic))
    reluish, reluish_exponent = quantize_multiplier(
        effective_scale((hires,), reluish_scale, arithmetic)
    )
    if exponent[0] > 0:
        raise node.refuse("input scale at most 128 times the output's", output)
    return HardSwish(
        name=operator.name,
        inputs=(values.index,),
        output=output.index,
        input_dtype=values.dtype,
        zero_point=values.zero_point,
        output_zero_point=output.zero_point,
        output_multiplier=int(reduce_multiplier(scale)[0]),
        output_exponent=int(exponent[0]),
        reluish_multiplier=int(reduce_multiplier(reluish)[0]),
        reluish_exponent=int(reluish_exponent[0]),
    )


def _limits(output: Tensor) -> tuple[int, int]:
    limits = np.iinfo(output.dtype)
    return int(limits.min), int(limits.max)
