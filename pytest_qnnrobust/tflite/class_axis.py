"""Scores of shape (batch, classes), where the file has them along one of several axes."""

from __future__ import annotations

from dataclasses import replace

from pytest_qnnrobust.tflite.graph import Graph, Operator
from pytest_qnnrobust.tflite.plan import CONVERSIONS, is_unary

KEEPING = (*CONVERSIONS, "SOFTMAX")
"""Operators behind the scores that treat each of them, or each row of them, alone."""


def with_one_class_axis(graph: Graph) -> Graph:
    """The same graph, with scores of shape (1, 1, 1, C), (1, C, 1) ... as (1, C).

    A RESHAPE goes before the conversions and the SOFTMAX that end the graph, so that they are
    found behind the logits as ever. A graph of one such axis, or of several longer than 1, and one
    whose SOFTMAX is over another axis, comes back as it is.
    """
    shape = graph.output.shape
    longer = [size for size in shape[1:] if size != 1]
    if len(graph.outputs) != 1 or len(shape) < 3 or len(longer) != 1:
        return graph
    flat = (shape[0], *longer)
    last = _last_operators(graph)
    if any(operator.name == "SOFTMAX" for operator in last) and shape[-1] == 1:
        return graph
    scores = graph.tensors[last[0].inputs[0] if last else graph.outputs[0]]
    if scores.index in graph.inputs:
        return graph
    tensors = list(graph.tensors)
    flattened = replace(scores, index=len(tensors), name=f"{scores.name} (flat)", shape=flat)
    tensors.append(flattened)
    reshape = Operator(
        len(graph.operators), "RESHAPE", (scores.index,), (flattened.index,), {"new_shape": flat}
    )
    operators = [operator for operator in graph.operators if operator not in last]
    operators.append(reshape)
    end = flattened.index
    for operator in last:
        operators.append(replace(operator, inputs=(end,)))
        (end,) = operator.outputs
        tensors[end] = replace(tensors[end], shape=flat)
    return replace(graph, tensors=tuple(tensors), operators=tuple(operators), outputs=(end,))


def _last_operators(graph: Graph) -> list[Operator]:
    """The operators of `KEEPING` that end the graph, one behind the other, in order."""
    writers = {index: operator for operator in graph.operators for index in operator.outputs}
    chain: list[Operator] = []
    tensor = graph.output
    while (writer := writers.get(tensor.index)) is not None and writer.name in KEEPING:
        if not is_unary(writer):
            break
        tensor = graph.tensors[writer.inputs[0]]
        if tensor.shape[1:] != graph.output.shape[1:]:
            break
        chain.insert(0, writer)
    return chain
