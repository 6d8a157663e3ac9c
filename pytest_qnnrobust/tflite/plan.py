"""Plan of a graph: the integer steps that are really executed, prepared and checked at load."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pytest_qnnrobust.errors import ModelFileError, UnsupportedOperatorError
from pytest_qnnrobust.tflite import kernels
from pytest_qnnrobust.tflite.graph import Graph, Operator, Tensor
from pytest_qnnrobust.tflite.kernels import Kernel, Settings
from pytest_qnnrobust.tflite.kernels.reshape import Reshape
from pytest_qnnrobust.tflite.kernels.spatial import Window
from pytest_qnnrobust.tflite.kernels.weighted_sum import WeightedSum
from pytest_qnnrobust.types import INTEGER_WIDTHS as INTEGER_WIDTHS

CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
"""Operators that lead into and out of the integer part of a graph."""
MAX_ACTIVATION = 1 << 24
"""Values of one activation of one sample, far beyond what a microcontroller holds."""
MAX_WORK = 1 << 32
"""Multiply-accumulates of one sample, about those of ResNet-50; seconds here."""
MAX_CELLS = 1 << 18
"""Window cells and groups of all operators, each a turn of a loop when the file is read."""
VALUE_WORK = 32
"""Cost of one value of an activation beside its sum, in multiply-accumulates, about."""


@dataclass(frozen=True, eq=False)
class Step:
    """One prepared operator: the activations it reads, by tensor index, and the one it writes."""

    operator: Operator
    kernel: Kernel
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True, eq=False)
class Plan:
    """The integer part of a graph, from its quantized `input` to its quantized `output`.

    Conversions at its ends are left outside, be they to float (QUANTIZE first, DEQUANTIZE last, as
    the converter writes it by default) or to uint8 (QUANTIZE first and last, int8 values moved by
    128): `input` and `output` are the tensors inside of them. `logits` is the input of a final
    SOFTMAX, or `output` where there is none.
    """

    graph: Graph
    input: Tensor
    output: Tensor
    logits: Tensor
    steps: tuple[Step, ...]

    @cached_property
    def shapes(self) -> dict[int, tuple[int, ...]]:
        """Tensor index -> shape of one sample, as the kernels compute it of an empty batch.

        The file leaves some of them open.
        """
        values = {self.input.index: np.zeros((0, *self.input.shape[1:]), self.input.dtype)}
        for step in self.steps:
            values[step.output] = step.kernel.run(*(values[index] for index in step.inputs))
        return {index: value.shape[1:] for index, value in values.items()}

    @property
    def largest(self) -> int:
        """Values of the largest activation of a sample."""
        return max(map(math.prod, self.shapes.values()))

    @cached_property
    def last_use(self) -> dict[int, int]:
        """Tensor index -> position of the last step that reads it."""
        uses = {index: place for place, step in enumerate(self.steps) for index in step.inputs}
        never = len(self.steps)
        return {**uses, self.output.index: never, self.logits.index: never}


def plan_integer_graph(graph: Graph, settings: Settings) -> Plan:
    """Prepare every operator of a fully quantized classifier.

    Raises ModelFileError where the graph is no classifier of one input and one output, and
    UnsupportedOperatorError where an operator has no kernel.
    """
    check_signature(graph)
    start, operators = _strip_first(graph, list(graph.operators))
    end, operators = _strip_last(graph, operators)
    for tensor in (start, end):
        _check_quantized(tensor)
    steps = _prepare(graph, operators, start, settings)
    _dry_run(graph, start, steps)
    return Plan(graph, start, end, _logits(graph, steps, end), steps)


def _check_quantized(tensor: Tensor) -> None:
    where = f"tensor {tensor.index} ({tensor.name})"
    if tensor.dtype not in INTEGER_WIDTHS or tensor.quantization is None:
        raise ModelFileError(
            f"expected a quantized int8 or int16 {where}, "
            f"got dtype={tensor.dtype}; convert with full-integer quantization"
        )
    check_scale(tensor)


def check_scale(tensor: Tensor) -> None:
    """Raise ModelFileError unless quantized integers have one scale and a range of float32."""
    where = f"tensor {tensor.index} ({tensor.name})"
    limits = np.iinfo(tensor.dtype)
    quantization = tensor.quantization
    if quantization is None or quantization.per_axis or not tensor.scale > 0:
        scale = None if quantization is None else tensor.scale
        raise ModelFileError(f"expected one positive scale for {where}, got scale={scale}")
    if not limits.min <= tensor.zero_point <= limits.max:
        raise ModelFileError(
            f"expected a zero point within {tensor.dtype} for {where}, "
            f"got zero_point={tensor.zero_point}"
        )
    if tensor.scale * (int(limits.max) - int(limits.min)) > float(np.finfo(np.float32).max):
        raise ModelFileError(f"expected a range of float32 for {where}, got scale={tensor.scale}")


def check_signature(graph: Graph) -> None:
    """Raise ModelFileError unless the graph is a classifier of one input and one output."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ModelFileError(
            f"expected a classifier with one input and one output, got "
            f"inputs={len(graph.inputs)}, outputs={len(graph.outputs)}"
        )
    for tensor in (graph.input, graph.output):
        if len(tensor.shape) < 2 or tensor.shape[0] not in (-1, 1) or min(tensor.shape[1:]) < 1:
            raise ModelFileError(
                f"expected shape (1 or dynamic, ...) for tensor {tensor.index} ({tensor.name}), "
                f"got shape={tensor.shape}"
            )
    if len(graph.output.shape) != 2 or graph.output.shape[1] < 2:
        raise ModelFileError(
            f"expected class scores of shape (batch, classes >= 2) as output, "
            f"got shape={graph.output.shape}"
        )


def _strip_first(graph: Graph, operators: list[Operator]) -> tuple[Tensor, list[Operator]]:
    readers = [operator for operator in operators if graph.inputs[0] in operator.inputs]
    if [reader.name for reader in readers] == ["QUANTIZE"] and is_unary(readers[0]):
        inner = graph.results(readers[0])[0]
        if _is_conversion(graph.input, inner):
            return inner, [operator for operator in operators if operator is not readers[0]]
    return graph.input, operators


def _strip_last(graph: Graph, operators: list[Operator]) -> tuple[Tensor, list[Operator]]:
    writer = next((o for o in operators if graph.outputs[0] in o.outputs), None)
    if writer is not None and writer.name in CONVERSIONS and is_unary(writer):
        inner = graph.tensors[writer.inputs[0]]
        if _is_conversion(graph.output, inner):
            return inner, [operator for operator in operators if operator is not writer]
    return graph.output, operators


def _is_conversion(outer: Tensor, inner: Tensor) -> bool:
    """Whether the two tensors differ in their number format alone, float or uint8 outside."""
    if len(outer.shape) != len(inner.shape) or outer.shape[1:] != inner.shape[1:]:
        return False
    return outer.dtype == "float32" or _moved_by_128(outer, inner)


def _moved_by_128(outer: Tensor, inner: Tensor) -> bool:
    """Whether a uint8 tensor holds an int8 tensor's values + 128, which QUANTIZE gives exactly."""
    return (
        (outer.dtype, inner.dtype) == ("uint8", "int8")
        and outer.quantization is not None
        and inner.quantization is not None
        and (outer.scale, outer.zero_point) == (inner.scale, inner.zero_point + 128)
    )


def final_softmax(graph: Graph, end: Tensor) -> Operator | None:
    """The SOFTMAX whose result `end` is, perhaps behind a conversion; None where there is none."""
    writers = {index: operator for operator in graph.operators for index in operator.outputs}
    writer = writers.get(end.index)
    while writer is not None and writer.name in CONVERSIONS and is_unary(writer):
        writer = writers.get(writer.inputs[0])
    if writer is None or writer.name != "SOFTMAX" or not is_unary(writer):
        return None
    return writer


def is_unary(operator: Operator) -> bool:
    """Whether the operator reads one tensor and writes one."""
    return len(operator.inputs) == len(operator.outputs) == 1 and operator.inputs[0] >= 0


def _prepare(
    graph: Graph, operators: list[Operator], start: Tensor, settings: Settings
) -> tuple[Step, ...]:
    """Prepare the operators that compute activations; those that compute shapes fold away."""
    activations = {start.index}
    steps = []
    for operator in operators:
        inputs = tuple(index for index in operator.inputs if index in activations)
        if not inputs or operator.name == "SHAPE":
            continue
        if len(operator.outputs) != 1:
            raise UnsupportedOperatorError(
                f"operator {operator.index} ({operator.name}) has {len(operator.outputs)} "
                f"outputs; operators with one output are supported"
            )
        kernel = kernels.prepare(operator, graph, settings)
        if kernel.inputs != inputs[: len(kernel.inputs)]:
            raise UnsupportedOperatorError(
                f"operator {operator.index} ({operator.name}) reads a tensor that is neither a "
                f"constant nor computed from the input"
            )
        steps.append(Step(operator, kernel, kernel.inputs, operator.outputs[0]))
        activations.add(operator.outputs[0])
    return tuple(steps)


def _dry_run(graph: Graph, start: Tensor, steps: tuple[Step, ...]) -> None:
    """Run every kernel on an empty batch: its shapes and types must be those that the file states.

    Limits are checked before each allocation, so that no file can fill memory or run for hours.
    """
    check_size(start, start.shape[1:])
    values = {start.index: np.zeros((0, *start.shape[1:]), start.dtype)}
    cells = sum(_cells(step.kernel) for step in steps)
    if cells > MAX_CELLS:
        raise ModelFileError(f"expected windows of at most {MAX_CELLS} cells in all, got {cells}")
    work = 0
    for step in steps:
        output = graph.tensors[step.output]
        where = f"operator {step.operator.index} ({step.operator.name})"
        check_size(output, output.shape[1:])
        try:
            result = step.kernel.run(*(values[index] for index in step.inputs))
        except (ValueError, IndexError) as error:
            raise ModelFileError(f"{where} does not fit its operands: {_one_line(error)}") from None
        stated, computed = output.shape[1:], result.shape[1:]
        same = len(stated) == len(computed) and all(
            size in (extent, -1) for size, extent in zip(stated, computed, strict=True)
        )
        if not (same or isinstance(step.kernel, Reshape)) or result.dtype != output.dtype:
            raise ModelFileError(
                f"{where} computes {result.dtype} of shape {computed} per sample, where the file "
                f"states {output.dtype} of shape {stated}"
            )
        check_size(output, computed)
        work += math.prod(computed) * max(taps(graph, step), VALUE_WORK)
        check_work(work)
        values[step.output] = result


def _cells(kernel: Kernel) -> int:
    """Turns of the loop over a window that the NumPy kernel makes."""
    window: Window | None = getattr(kernel, "window", None)
    return 0 if window is None else math.prod(window.size) * int(getattr(kernel, "groups", 1))


def taps(graph: Graph, step: Step) -> int:
    """Multiply-accumulates, or comparisons, behind one value of the output."""
    if isinstance(step.kernel, WeightedSum):
        weights = graph.tensors[step.operator.inputs[1]].shape
        return math.prod(weights) // len(step.kernel.bias)
    return _cells(step.kernel)


def check_work(work: int) -> None:
    """Raise ModelFileError for more than `MAX_WORK`."""
    if work > MAX_WORK:
        raise ModelFileError(
            f"expected at most {MAX_WORK} multiply-accumulates per sample, got work={work}"
        )


def check_size(tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ModelFileError for more than `MAX_ACTIVATION` values; `shape` is without the batch."""
    if math.prod(shape) > MAX_ACTIVATION:
        raise ModelFileError(
            f"expected at most {MAX_ACTIVATION} values per sample in tensor {tensor.index} "
            f"({tensor.name}), got shape={shape}"
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _logits(graph: Graph, steps: tuple[Step, ...], output: Tensor) -> Tensor:
    last = next((step for step in steps if step.output == output.index), None)
    if last is None:
        raise ModelFileError(f"no operator computes the output tensor {output.index}")
    return graph.tensors[last.inputs[0]] if last.operator.name == "SOFTMAX" else output
