"""PAD, PADV2, CONCATENATION, TRANSPOSE, STRIDED_SLICE and PACK: values move, unchanged.

M/pad_common.cc, M/concatenation.cc, M/transpose_common.cc, M/strided_slice_common.cc, M/pack.cc.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.tflite.graph import Graph, Operator, Tensor
from pytest_qnnrobust.tflite.kernels.base import INTEGER_WIDTHS, Array, Kernel, Node, Settings

MOVABLE = (*INTEGER_WIDTHS, "float32", "int32")
SHAPE_DTYPES = ("int32", "int64")
MAX_CONCATENATED = 10
"""Inputs that TFLM's CONCATENATION accepts."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Kernel):
    """`paddings` (before, after) per axis, the batch's (0, 0); `value` is in quantized units."""

    paddings: tuple[tuple[int, int], ...]
    value: int | float

    def run(self, *inputs: Array) -> Array:
        (x,) = inputs
        return np.pad(x, self.paddings, constant_values=self.value)


@dataclass(frozen=True, eq=False, kw_only=True)
class Joined(Kernel):
    """Several operands along one axis; `constants` holds None for an activation.

    A constant's batch axis has size 1 and is repeated. `axis` counts from 0.
    """

    axis: int
    constants: tuple[Array | None, ...]

    def align(self, *inputs: Array) -> list[Array]:
        """The operands in order, constants repeated to the batch size."""
        activations = iter(inputs)
        batch = len(inputs[0]) if inputs and inputs[0].ndim else 1
        return [
            next(activations) if constant is None else self._repeat(constant, batch)
            for constant in self.constants
        ]

    @staticmethod
    def _repeat(constant: Array, batch: int) -> Array:
        if constant.ndim == 0:
            return constant
        return np.broadcast_to(constant, (batch, *constant.shape[1:]))


@dataclass(frozen=True, eq=False, kw_only=True)
class Concatenation(Joined):
    def run(self, *inputs: Array) -> Array:
        return np.concatenate(self.align(*inputs), axis=self.axis)


@dataclass(frozen=True, eq=False, kw_only=True)
class Pack(Joined):
    """`axis` is the new one."""

    def run(self, *inputs: Array) -> Array:
        return np.stack(self.align(*inputs), axis=self.axis)


@dataclass(frozen=True, eq=False, kw_only=True)
class Transpose(Kernel):
    """`permutation` starts with 0."""

    permutation: tuple[int, ...]

    def run(self, *inputs: Array) -> Array:
        (x,) = inputs
        return np.ascontiguousarray(x.transpose(self.permutation))


@dataclass(frozen=True, eq=False, kw_only=True)
class StridedSlice(Kernel):
    """`index` applies to the whole array: a slice per axis, an int where the axis shrinks."""

    index: tuple[slice | int, ...]

    def run(self, *inputs: Array) -> Array:
        (x,) = inputs
        return np.asarray(x[self.index])


def prepare_pad(operator: Operator, graph: Graph, settings: Settings) -> Pad:
    """PAD fills with the output's zero point, PADV2 with its constant."""
    node = Node(operator, graph, settings)
    values = node.check_dtype(node.tensor(0, "input"), MOVABLE, "input")
    output = node.result
    node.same_dtype(values, output)
    paddings = node.constant(1, ("int32",), "paddings").tolist()
    if np.shape(paddings) != (len(values.shape), 2) or paddings[0] != [0, 0]:
        raise node.refuse("paddings of every axis but the batch", values, paddings=paddings)
    if any(size < 0 for pair in paddings for size in pair):
        raise node.refuse("paddings of at least 0", values, paddings=paddings)
    return Pad(
        name=operator.name,
        inputs=(values.index,),
        output=output.index,
        paddings=tuple((before, after) for before, after in paddings),
        value=_pad_value(node, output),
    )


def _pad_value(node: Node, output: Tensor) -> int | float:
    if node.optional(2) is not None:
        value = node.constant(2, (output.dtype,), "constant_values").reshape(-1)
        if len(value) != 1:
            raise node.refuse("one padding value", output, values=len(value))
        return value[0].item()  # type: ignore[no-any-return]
    return node.quantized(output, "output").zero_point if output.dtype == "int8" else 0


def prepare_concatenation(operator: Operator, graph: Graph, settings: Settings) -> Concatenation:
    node = Node(operator, graph, settings)
    output = node.check_dtype(node.result, MOVABLE, "output")
    tensors = [node.tensor(i, "input") for i in range(len(node.operands))]
    if not 1 <= len(tensors) <= MAX_CONCATENATED:
        raise node.refuse(f"1 to {MAX_CONCATENATED} inputs", output, inputs=len(tensors))
    activation = node.option("fused_activation_function", "NONE")
    if activation != "NONE":
        raise node.refuse("no fused activation", output, activation=activation)
    node.same_dtype(*tensors, output)
    if output.dtype in INTEGER_WIDTHS:
        for tensor in (*tensors, output):
            node.quantized(tensor, "operand")
    for tensor in tensors:
        _check_same_quantization(node, tensor, output)
    inputs, constants = _joined_operands(node, tensors, rank=len(output.shape))
    return Concatenation(
        name=operator.name,
        inputs=inputs,
        output=output.index,
        axis=_joined_axis(node, output),
        constants=constants,
    )


def _check_same_quantization(node: Node, tensor: Tensor, output: Tensor) -> None:
    """int8 copies need one quantization; TFLM does not check the scales of int16."""
    if output.dtype == "int8" and (tensor.scale, tensor.zero_point) != (
        output.scale,
        output.zero_point,
    ):
        raise node.refuse("int8 inputs quantized as the output", tensor, scale=tensor.scale)


def prepare_pack(operator: Operator, graph: Graph, settings: Settings) -> Pack:
    node = Node(operator, graph, settings)
    output = node.check_dtype(node.result, (*MOVABLE, "int64"), "output")
    tensors = [node.tensor(i, "input") for i in range(len(node.operands))]
    node.same_dtype(*tensors, output)
    inputs, constants = _joined_operands(node, tensors, rank=len(output.shape) - 1)
    return Pack(
        name=operator.name,
        inputs=inputs,
        output=output.index,
        axis=_joined_axis(node, output),
        constants=constants,
    )


def _joined_operands(
    node: Node, tensors: list[Tensor], rank: int
) -> tuple[tuple[int, ...], tuple[Array | None, ...]]:
    for tensor in tensors:
        if len(tensor.shape) != rank:
            raise node.refuse(f"operands of rank {rank}", tensor, shape=tensor.shape)
        if tensor.data is not None and tensor.data.ndim and tensor.data.shape[0] != 1:
            raise node.refuse("constants with a batch axis of 1", tensor, shape=tensor.shape)
    inputs = tuple(tensor.index for tensor in tensors if tensor.data is None)
    return inputs, tuple(tensor.data for tensor in tensors)


def _joined_axis(node: Node, output: Tensor) -> int:
    """The positive axis; 0 only for vectors of shape arithmetic, which have no batch axis."""
    rank = len(output.shape)
    axis = int(node.option("axis", 0))
    axis += rank if axis < 0 else 0
    if not (0 < axis < rank or (axis == 0 and is_shape_vector(output))):
        raise node.refuse("an axis other than the batch axis", output, axis=axis)
    return axis


def is_shape_vector(tensor: Tensor) -> bool:
    """A vector or scalar of integers that describes a shape: no activation, no batch axis."""
    return tensor.dtype in SHAPE_DTYPES and len(tensor.shape) <= 1


def prepare_transpose(operator: Operator, graph: Graph, settings: Settings) -> Transpose:
    node = Node(operator, graph, settings)
    values = node.check_dtype(node.tensor(0, "input"), (*INTEGER_WIDTHS, "float32"), "input")
    output = node.result
    node.same_dtype(values, output)
    permutation = tuple(int(axis) for axis in node.constant(1, ("int32",), "permutation").flat)
    if sorted(permutation) != list(range(len(values.shape))) or permutation[:1] != (0,):
        raise node.refuse("a permutation that keeps the batch axis first", values, perm=permutation)
    return Transpose(
        name=operator.name, inputs=(values.index,), output=output.index, permutation=permutation
    )


def prepare_strided_slice(operator: Operator, graph: Graph, settings: Settings) -> StridedSlice:
    node = Node(operator, graph, settings)
    values = node.check_dtype(node.tensor(0, "input"), (*MOVABLE, "int64"), "input")
    output = node.result
    node.same_dtype(values, output)
    for name in ("ellipsis_mask", "new_axis_mask", "offset"):
        if node.option(name, 0):
            raise node.refuse(f"{name} of 0", values, got=node.option(name, 0))
    index = tuple(_axis_index(node, values, axis) for axis in range(len(values.shape)))
    if not is_shape_vector(values):
        _check_whole_batch(node, values, index)
        index = (slice(None), *index[1:])
    return StridedSlice(
        name=operator.name, inputs=(values.index,), output=output.index, index=index
    )


def _axis_index(node: Node, values: Tensor, axis: int) -> slice | int:
    """The slice of one axis (kernels/internal/strided_slice_logic.h)."""
    vectors = [
        node.constant(i, ("int32",), what).reshape(-1)
        for i, what in ((1, "begin"), (2, "end"), (3, "strides"))
    ]
    if any(len(vector) != len(values.shape) for vector in vectors):
        raise node.refuse("begin, end and strides of every axis", values, shape=values.shape)
    begin, end, stride = (int(vector[axis]) for vector in vectors)
    if stride == 0:
        raise node.refuse("strides other than 0", values, axis=axis)
    if _masked(node, "shrink_axis_mask", axis):
        size = values.shape[axis]
        if size > 0 and not -size <= begin < size:
            raise node.refuse("begin within a shrunk axis", values, begin=begin, size=size)
        return begin
    first = None if _masked(node, "begin_mask", axis) else begin
    last = None if _masked(node, "end_mask", axis) else end
    return slice(first, last, stride)


def _masked(node: Node, name: str, axis: int) -> bool:
    return bool(int(node.option(name, 0)) >> axis & 1)


def _check_whole_batch(node: Node, values: Tensor, index: tuple[slice | int, ...]) -> None:
    """The file's batch is 1: a slice that keeps it whole keeps every batch whole."""
    batch = index[0]
    if isinstance(batch, int) or batch.step < 0 or len(range(1)[batch]) != 1:
        raise node.refuse("a slice that keeps the batch axis whole", values, batch=str(batch))
