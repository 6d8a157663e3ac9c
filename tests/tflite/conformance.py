"""Our interpreter beside TFLM's on a small graph, activation by activation."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.strategies import SmallGraph
from pytest_qnnrobust.tflite import fixed_point, kernels
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.interpreter import Interpreter
from tests.tflite.tflm import run_tflm, run_tflm_outputs

ARENA_BYTES = 200_000
Arrays = list[NDArray[Any]]


def ours(
    graph: SmallGraph, q: NDArray[Any], engine: Literal["native", "reference"] = "reference"
) -> Arrays:
    """Every activation but the input, then the classifier's output, by our interpreter."""
    read = read_graph(graph.to_tflite())
    interpreter = Interpreter(read, engine=engine)
    inner = range(1, len(graph.activations))
    *activations, end = interpreter.tensors(q, [*inner, interpreter.plan.output.index])
    if graph.boundary == "float32":
        end = kernels.prepare(read.operators[-1], read).run(end)
    elif graph.boundary == "uint8":
        end = (end.astype(np.int16) + 128).astype(np.uint8)
    return [*activations, end]


def outer_input(graph: SmallGraph, q: NDArray[Any]) -> NDArray[Any]:
    """What stands for the integers `q` in front of the graph's boundary."""
    if graph.boundary == "float32":
        return fixed_point.dequantize(q, graph.scale, graph.zero_point)
    return (q.astype(np.int16) + 128).astype(np.uint8) if graph.boundary == "uint8" else q


def theirs(graph: SmallGraph, q: NDArray[Any]) -> Arrays:
    """The same by TFLM's, from a file in which every activation is an output.

    Behind a boundary the input comes first, as the boundary's QUANTIZE leaves it: it must be `q`.
    """
    first = 0 if graph.boundary else 1
    read = read_graph(graph.to_tflite(every_output=True))
    outputs = run_tflm_outputs(
        graph.to_tflite(every_output=True), [outer_input(graph, q)], len(read.outputs), ARENA_BYTES
    )
    if first == 0:
        np.testing.assert_array_equal(outputs.pop(0), q, "QUANTIZE at the boundary")
    whole = len(graph.activations) == len(outputs) + 1
    return [*outputs, outputs[-1]] if whole else outputs


def check_conformance(
    graph: SmallGraph, q: NDArray[Any], engine: Literal["native", "reference"] = "reference"
) -> None:
    """Raise AssertionError, naming the activation, where one value differs."""
    names = [f"activation {i + 1} ({name})" for i, name in enumerate(graph.names)]
    for where, mine, device in zip(
        [*names, "the output"], ours(graph, q, engine), theirs(graph, q), strict=True
    ):
        assert mine.dtype == device.dtype, where
        np.testing.assert_array_equal(mine, device, where)


def check_outputs_are_inert(graph: SmallGraph, q: NDArray[Any]) -> None:
    """Raise AssertionError where TFLM computes another output when activations are outputs too."""
    alone = run_tflm(graph.to_tflite(), [outer_input(graph, q)], ARENA_BYTES)
    np.testing.assert_array_equal(alone, theirs(graph, q)[-1])
