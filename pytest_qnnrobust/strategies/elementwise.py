"""Operators that compute value by value, or a distribution row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.strategies.description import (
    Activation,
    Place,
    Shape,
    SmallOperator,
    check_zero_point,
)
from pytest_qnnrobust.tflite.kernels.softmax import OUTPUTS as SOFTMAX_OUTPUTS
from pytest_qnnrobust.types import INTEGER_WIDTHS

SIGMOID_OUTPUTS = {
    ("LOGISTIC", "int8"): (2.0**-8, -128),
    ("TANH", "int8"): (2.0**-7, 0),
    ("LOGISTIC", "int16"): (2.0**-15, 0),
    ("TANH", "int16"): (2.0**-15, 0),
}
"""Scale and zero point of the output, which TFLM prescribes."""


@dataclass(frozen=True, repr=False)
class Binary(SmallOperator):
    """An operator of two operands: an activation, and `other` or, where that is None, a constant.

    The constant is seeded; `scale` and `zero_point` are the output's.
    """

    other: int | None = None
    constant: Shape = ()
    constant_scale: float = 1.0
    constant_zero_point: int = 0
    activation: str = "NONE"
    scale: float = 1.0
    zero_point: int = 0

    @property
    def sources(self) -> tuple[int, ...]:
        return (self.of,) if self.other is None else (self.of, self.other)

    def result(self, *operands: Activation) -> Activation:
        x = operands[0]
        for zero_point in (x.zero_point, self.zero_point, self.constant_zero_point):
            check_zero_point(x.dtype, zero_point)
        if operands[-1].dtype != x.dtype:
            raise expected("operands of one dtype", dtypes=(x.dtype, operands[-1].dtype))
        other = self.constant if self.other is None else operands[1].shape
        try:
            shape = np.broadcast_shapes(x.shape, other)
        except ValueError:
            raise expected("shapes that broadcast", shapes=(x.shape, other)) from None
        return Activation(shape, x.dtype, self.scale, self.zero_point)

    def write(self, place: Place) -> None:
        dtype = place.output.dtype
        quantization = (self.constant_scale, self.constant_zero_point)
        constants = []
        if self.other is None:
            constants.append(place.filled(self.constant, dtype, *quantization))
        place.operator(self.name, *constants, fused_activation_function=self.activation)


@dataclass(frozen=True, repr=False)
class Add(Binary):
    name = "ADD"


@dataclass(frozen=True, repr=False)
class Sub(Binary):
    name = "SUB"


@dataclass(frozen=True, repr=False)
class Mul(Binary):
    name = "MUL"


@dataclass(frozen=True, repr=False)
class Rescaled(SmallOperator):
    """An operator of one operand; `scale` and `zero_point` are the output's."""

    scale: float = 1.0
    zero_point: int = 0

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        check_zero_point(x.dtype, x.zero_point)
        check_zero_point(x.dtype, self.zero_point)
        return Activation(x.shape, x.dtype, self.scale, self.zero_point)


@dataclass(frozen=True, repr=False)
class Relu(Rescaled):
    name = "RELU"


@dataclass(frozen=True, repr=False)
class LeakyRelu(Rescaled):
    alpha: float = 0.5
    name = "LEAKY_RELU"

    def write(self, place: Place) -> None:
        place.operator(self.name, alpha=self.alpha)


@dataclass(frozen=True, repr=False)
class PRelu(Rescaled):
    """PRELU with seeded int8 slopes of shape `alpha` (without the batch axis)."""

    alpha: Shape = (1,)
    alpha_scale: float = 0.0078125
    alpha_zero_point: int = 0
    name = "PRELU"

    def result(self, *operands: Activation) -> Activation:
        shape = operands[0].shape
        if len(self.alpha) > len(shape) or any(
            size not in (1, extent)
            for size, extent in zip(reversed(self.alpha), reversed(shape), strict=False)
        ):
            raise expected("alpha that broadcasts to its operand", alpha=self.alpha, shape=shape)
        return Rescaled.result(self, *operands)

    def write(self, place: Place) -> None:
        slopes = place.filled(self.alpha, "int8", self.alpha_scale, self.alpha_zero_point)
        place.operator(self.name, slopes)


@dataclass(frozen=True, repr=False)
class HardSwish(Rescaled):
    name = "HARD_SWISH"

    def result(self, *operands: Activation) -> Activation:
        if operands[0].dtype != "int8":
            raise expected("an int8 operand", dtype=operands[0].dtype)
        return Rescaled.result(self, *operands)


@dataclass(frozen=True, repr=False)
class Quantize(SmallOperator):
    """QUANTIZE to another integer quantization, in the same width or in the other one."""

    dtype: str = "int8"
    scale: float = 1.0
    zero_point: int = 0
    name = "QUANTIZE"

    def result(self, *operands: Activation) -> Activation:
        if self.dtype not in INTEGER_WIDTHS:
            raise expected("dtype int8 or int16", dtype=self.dtype)
        check_zero_point(self.dtype, self.zero_point)
        return Activation(operands[0].shape, self.dtype, self.scale, self.zero_point)


@dataclass(frozen=True, repr=False)
class Relu6(SmallOperator):
    """RELU6 without rescaling: TFLM clamps in the operand's quantization."""

    name = "RELU6"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        check_zero_point(x.dtype, x.zero_point)
        return Activation(x.shape, x.dtype, x.scale, x.zero_point)


@dataclass(frozen=True, repr=False)
class Sigmoid(SmallOperator):
    """LOGISTIC or TANH; the output's quantization is prescribed."""

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        check_zero_point(x.dtype, x.zero_point)
        return Activation(x.shape, x.dtype, *SIGMOID_OUTPUTS[self.name, x.dtype])


@dataclass(frozen=True, repr=False)
class Logistic(Sigmoid):
    name = "LOGISTIC"


@dataclass(frozen=True, repr=False)
class Tanh(Sigmoid):
    name = "TANH"


@dataclass(frozen=True, repr=False)
class Softmax(SmallOperator):
    """SOFTMAX over the last axis, into the width `to`; the output's quantization is prescribed."""

    to: str = "int8"
    beta: float = 1.0
    name = "SOFTMAX"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        check_zero_point(x.dtype, x.zero_point)
        if (x.dtype, self.to) not in SOFTMAX_OUTPUTS:
            raise expected("int8 to int8 or int16, or int16 to int16", dtypes=(x.dtype, self.to))
        scale, zero_point, _ = SOFTMAX_OUTPUTS[x.dtype, self.to]
        return Activation(x.shape, self.to, scale, zero_point)

    def write(self, place: Place) -> None:
        place.operator(self.name, beta=self.beta)
