"""The values that a `.tflite` file holds, as frozen plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class QuantizationParameters:
    """`real = scale * (quantized - zero_point)`, per tensor or along `quantized_dimension`.

    `scale` is float32 and `zero_point` int64, both of length 1 (per tensor) or of the length of
    the quantized dimension (per axis).
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    quantized_dimension: int = 0

    @property
    def per_axis(self) -> bool:
        return len(self.scale) > 1


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of the graph; `data` holds a constant's values, None for an activation.

    `dtype` is a NumPy name (`int8`, `int16`, `int32`, `int64`, `float32`, ...) or `int4`, whose
    constants are unpacked to int8. `shape` is the shape in the file: the batch axis of an
    activation is 1 there, or -1 where it is dynamic.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    quantization: QuantizationParameters | None = None
    data: NDArray[Any] | None = None

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    @property
    def scale(self) -> float:
        """The per-tensor scale, exactly the file's float32 widened to a Python float."""
        return float(self._quantization.scale[0])

    @property
    def zero_point(self) -> int:
        return int(self._quantization.zero_point[0])

    @property
    def _quantization(self) -> QuantizationParameters:
        if self.quantization is None:
            raise ValueError(f"tensor {self.index} ({self.name}) is not quantized")
        return self.quantization


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator: TFLite's builtin name, tensor indices (-1: absent), and its options.

    `options` uses the schema's field names in snake_case with enums as their names:
    `{"padding": "SAME", "stride_w": 1, "fused_activation_function": "RELU"}`; a field that the
    file leaves out has the schema's default.
    """

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True, eq=False)
class Graph:
    """One subgraph in execution order."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    description: str = ""

    @property
    def input(self) -> Tensor:
        return self.tensors[self.inputs[0]]

    @property
    def output(self) -> Tensor:
        return self.tensors[self.outputs[0]]

    def operands(self, operator: Operator) -> tuple[Tensor | None, ...]:
        """The operator's input tensors in order, None where an optional one is absent."""
        return tuple(None if i < 0 else self.tensors[i] for i in operator.inputs)

    def results(self, operator: Operator) -> tuple[Tensor, ...]:
        return tuple(self.tensors[i] for i in operator.outputs)
