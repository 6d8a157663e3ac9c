"""A case of the table made ready: its model, its graph, its sample inputs, its kernel's output."""

from __future__ import annotations

import math
import zlib

import numpy as np

from pytest_qnnrobust.tflite.builder import GraphBuilder
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.graph import Graph
from pytest_qnnrobust.tflite.kernels import Settings, prepare
from tests.tflite.one_operator import Build


def samples(
    graph: Graph, rng: np.random.Generator, uniform: int = 10, one_hot: int = 3
) -> list[np.ndarray]:
    """One batch per graph input: uniform, all-minimum, all-maximum, one-hot, in every pairing."""
    batches = []
    for position, index in enumerate(graph.inputs):
        tensor = graph.tensors[index]
        shape = tuple(tensor.shape[1:])
        if tensor.dtype == "float32":
            batches.append(rng.normal(0, 3, (uniform + one_hot + 4, *shape)).astype(np.float32))
            continue
        limits = np.iinfo(tensor.dtype)
        drawn = rng.integers(limits.min, limits.max + 1, (uniform, *shape))
        lowest, highest = np.full(shape, limits.min), np.full(shape, limits.max)
        extremes = [lowest, highest, lowest, highest]
        if position:
            extremes = [lowest, highest, highest, lowest]
        hot = np.full((one_hot, math.prod(shape)), limits.min)
        hot[np.arange(one_hot), rng.integers(0, hot.shape[1], one_hot)] = limits.max
        stacked = np.concatenate([drawn, np.stack(extremes), hot.reshape(one_hot, *shape)])
        batches.append(stacked.astype(tensor.dtype))
    return batches


def one_operator(name: str, build: Build) -> tuple[bytes, Graph, list[np.ndarray]]:
    """The model, its graph and its sample inputs, seeded by the case's name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    builder = GraphBuilder()
    inputs, output = build(builder, rng)
    model = builder.build(inputs, [output])
    graph = read_graph(model)
    return model, graph, samples(graph, rng)


def run_kernel(
    graph: Graph, batches: list[np.ndarray], settings: Settings | None = None
) -> np.ndarray:
    """The output of the graph's one kernel, by the NumPy kernels alone."""
    kernel = prepare(graph.operators[0], graph, settings)
    by_index = dict(zip(graph.inputs, batches, strict=True))
    return kernel.run(*[by_index[index] for index in kernel.inputs])
