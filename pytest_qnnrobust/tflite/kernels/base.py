"""The base of every kernel, and the checks that every `prepare` function makes at load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import UnsupportedOperatorError, expected
from pytest_qnnrobust.tflite.fixed_point import (
    FUSED_ACTIVATIONS,
    Requantization,
    ScaleArithmetic,
    activation_range,
    effective_scale,
    quantize_multiplier,
)
from pytest_qnnrobust.tflite.graph import Graph, Operator, Tensor
from pytest_qnnrobust.types import INTEGER_WIDTHS as INTEGER_WIDTHS
from pytest_qnnrobust.types import Array as Array
from pytest_qnnrobust.types import IntegerWidth

SHIFT_LIMITS = {True: (-31, 7), False: (-31, 30)}
"""Shifts that MBQM64 (wide) and MBQM32 accept."""


@dataclass(frozen=True)
class Settings:
    """The precision of derived multipliers: "double" (current TFLM) or "float" (older)."""

    scale_arithmetic: ScaleArithmetic = "double"

    def __post_init__(self) -> None:
        if self.scale_arithmetic not in ("double", "float"):
            raise expected(
                "scale_arithmetic to be 'double' or 'float'",
                scale_arithmetic=self.scale_arithmetic,
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class Kernel:
    """One operator, validated, with its constants captured.

    `run` takes one array per index in `inputs` (tensor indices of the activations, in order), each
    with a leading batch axis N, and returns the tensor of index `output`.
    """

    name: str
    inputs: tuple[int, ...]
    output: int

    def run(self, *inputs: Array) -> Array:
        raise NotImplementedError


class Node:
    """An operator of a graph seen by a `prepare` function: its tensors and its refusals."""

    def __init__(self, operator: Operator, graph: Graph, settings: Settings) -> None:
        self.operator = operator
        self.graph = graph
        self.settings = settings
        self.operands = graph.operands(operator)

    def refuse(
        self, rule: str, tensor: Tensor | None = None, **values: Any
    ) -> UnsupportedOperatorError:
        """The error `expected <OPERATOR> <rule>, got operator=..., tensor=..., ...`."""
        where: dict[str, Any] = {"operator": f"{self.operator.index} {self.operator.name}"}
        if tensor is not None:
            where["tensor"] = tensor.name
        error = expected(
            f"{self.operator.name} {rule}", error=UnsupportedOperatorError, **where, **values
        )
        return cast(UnsupportedOperatorError, error)

    def tensor(self, position: int, what: str = "operand") -> Tensor:
        """The operand at `position`; refuses an absent one."""
        tensor = self.optional(position)
        if tensor is None:
            raise self.refuse(f"to have {what} {position}", operands=len(self.operands))
        return tensor

    def optional(self, position: int) -> Tensor | None:
        return self.operands[position] if position < len(self.operands) else None

    @property
    def result(self) -> Tensor:
        results = self.graph.results(self.operator)
        if len(results) != 1:
            raise self.refuse("to have one output", outputs=len(results))
        return results[0]

    def option(self, name: str, default: Any) -> Any:
        return self.operator.options.get(name, default)

    def check_dtype(self, tensor: Tensor, allowed: Sequence[str], what: str) -> Tensor:
        if tensor.dtype not in allowed:
            raise self.refuse(f"{what} of {' or '.join(allowed)}", tensor, dtype=tensor.dtype)
        return tensor

    def quantized(
        self,
        tensor: Tensor,
        what: str,
        allowed: Sequence[str] = INTEGER_WIDTHS,
        *,
        symmetric_int16: bool = True,
    ) -> Tensor:
        """A per-tensor quantized activation; int16 must have zero point 0 (TFLite's spec)."""
        self.check_dtype(tensor, allowed, what)
        quantization = tensor.quantization
        if quantization is None or len(quantization.scale) != 1:
            raise self.refuse(f"{what} with one scale", tensor)
        if not (np.isfinite(tensor.scale) and tensor.scale > 0):
            raise self.refuse(f"{what} with a positive, finite scale", tensor, scale=tensor.scale)
        if tensor.dtype == "int16" and symmetric_int16 and tensor.zero_point != 0:
            raise self.refuse(
                f"int16 {what} with zero point 0", tensor, zero_point=tensor.zero_point
            )
        limits = np.iinfo(tensor.dtype)
        if not limits.min <= tensor.zero_point <= limits.max:
            raise self.refuse(
                f"{what} with a zero point within {tensor.dtype}",
                tensor,
                zero_point=tensor.zero_point,
            )
        return tensor

    def same_dtype(self, *tensors: Tensor) -> str:
        """The one dtype of the tensors."""
        dtypes = [tensor.dtype for tensor in tensors]
        if len(set(dtypes)) != 1:
            raise self.refuse("operands and output of one dtype", tensors[-1], dtypes=dtypes)
        return dtypes[0]

    def constant(self, position: int, allowed: Sequence[str], what: str) -> Array:
        tensor = self.check_dtype(self.tensor(position, what), allowed, what)
        if tensor.data is None:
            raise self.refuse(f"{what} to be a constant", tensor)
        return tensor.data

    def sample_shape(self, tensor: Tensor, rank: int | None = None) -> tuple[int, ...]:
        """The static shape without the batch axis; refuses an unknown size."""
        shape = tensor.shape[1:]
        if rank is not None and len(tensor.shape) != rank:
            raise self.refuse(f"operand of rank {rank}", tensor, shape=tensor.shape)
        if any(size < 1 for size in shape):
            raise self.refuse("operand with a static shape", tensor, shape=tensor.shape)
        return shape

    def activation_range(self, output: Tensor) -> tuple[int, int]:
        function = str(self.option("fused_activation_function", "NONE"))
        if function not in FUSED_ACTIVATIONS:
            raise self.refuse(
                f"fused activation among {', '.join(FUSED_ACTIVATIONS)}", activation=function
            )
        # TFLM holds round(f / scale) plus the zero point in an int32.
        if any(abs(end or 0.0) >= output.scale * 2.0**30 for end in FUSED_ACTIVATIONS[function]):
            raise self.refuse(f"{function} limits within 30 bits", output, scale=output.scale)
        return activation_range(function, output.scale, output.zero_point, output.dtype)

    def multiplier(
        self, *numerators: Any, over: float, arithmetic: ScaleArithmetic = "double"
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(multiplier, shift) of the product of `numerators` over `over`."""
        return quantize_multiplier(effective_scale(numerators, over, arithmetic))

    def requantization(
        self,
        multiplier_shift: tuple[NDArray[np.int64], NDArray[np.int64]],
        output: Tensor,
        *,
        limits: tuple[int, int] | None = None,
        wide: bool = False,
    ) -> Requantization:
        """The requantization into `output`; `limits` default to the fused activation's range."""
        multiplier, shift = multiplier_shift
        lowest, highest = SHIFT_LIMITS[wide]
        if shift.min() < lowest or shift.max() > highest:
            raise self.refuse(
                f"scales with a multiplier shift in [{lowest}, {highest}]",
                output,
                shift=int(shift.max()),
            )
        minimum, maximum = self.activation_range(output) if limits is None else limits
        return Requantization(
            multiplier=multiplier,
            shift=shift,
            zero_point=output.zero_point,
            minimum=minimum,
            maximum=maximum,
            dtype=cast(IntegerWidth, output.dtype),
            wide=wide,
        )


Prepare = Callable[[Operator, Graph, Settings], Kernel]
