"""Graph -> the integer steps that are really executed, prepared and checked at load."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pytest_qnnrobust.errors import ModelFileError, UnsupportedOperatorError
from pytest_qnnrobust.tflite import kernels
from pytest_qnnrobust.tflite.graph import Graph, Operator, Tensor
from pytest_qnnrobust.tflite.kernels import Kernel, Settings

INTEGER_WIDTHS = ("int8", "int16")


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

    A float boundary (QUANTIZE first, DEQUANTIZE last, as the converter writes it by default) is
    left outside: `input` and `output` are the tensors behind it. `logits` is the input of a final
    SOFTMAX, or `output` where there is none.
    """

    graph: Graph
    input: Tensor
    output: Tensor
    logits: Tensor
    steps: tuple[Step, ...]

    @cached_property
    def last_use(self) -> dict[int, int]:
        """Tensor index -> position of the last step that reads it."""
        uses = {index: place for place, step in enumerate(self.steps) for index in step.inputs}
        kept = len(self.steps)
        return {**uses, self.output.index: kept, self.logits.index: kept}


def plan_integer_graph(graph: Graph, settings: Settings) -> Plan:
    """Prepare every operator of a fully quantized classifier.

    Raises ModelFileError where the graph is no classifier of one input and one output, and
    UnsupportedOperatorError where an operator has no kernel.
    """
    check_signature(graph)
    start, operators = _strip_quantize(graph, list(graph.operators))
    end, operators = _strip_dequantize(graph, operators)
    for tensor in (start, end):
        if tensor.dtype not in INTEGER_WIDTHS or tensor.quantization is None:
            raise ModelFileError(
                f"expected a quantized int8 or int16 tensor {tensor.index} ({tensor.name}), "
                f"got dtype={tensor.dtype}; convert with full-integer quantization"
            )
    steps = _prepare(graph, operators, start, settings)
    return Plan(graph, start, end, _logits(graph, steps, end), steps)


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


def _strip_quantize(graph: Graph, operators: list[Operator]) -> tuple[Tensor, list[Operator]]:
    readers = [operator for operator in operators if graph.inputs[0] in operator.inputs]
    if graph.input.dtype == "float32" and [r.name for r in readers] == ["QUANTIZE"]:
        return graph.results(readers[0])[0], [o for o in operators if o is not readers[0]]
    return graph.input, operators


def _strip_dequantize(graph: Graph, operators: list[Operator]) -> tuple[Tensor, list[Operator]]:
    writer = next((o for o in operators if graph.outputs[0] in o.outputs), None)
    if writer is not None and writer.name == "DEQUANTIZE" and graph.output.dtype == "float32":
        return graph.tensors[writer.inputs[0]], [o for o in operators if o is not writer]
    return graph.output, operators


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
        steps.append(
            Step(operator, kernels.prepare(operator, graph, settings), inputs, operator.outputs[0])
        )
        activations.add(operator.outputs[0])
    return tuple(steps)


def _logits(graph: Graph, steps: tuple[Step, ...], output: Tensor) -> Tensor:
    last = next((step for step in steps if step.output == output.index), None)
    if last is None:
        raise ModelFileError(f"no operator computes the output tensor {output.index}")
    return graph.tensors[last.inputs[0]] if last.operator.name == "SOFTMAX" else output
