"""Every operator and width: one-operator graphs, equal to TFLM's interpreter value by value."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from pytest_qnnrobust.tflite.builder import GraphBuilder
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.graph import Graph
from pytest_qnnrobust.tflite.kernels import KERNELS, Settings, prepare
from tests.tflite.cases import CASES, PRECISE
from tests.tflite.one_operator import Build
from tests.tflite.tflm import run_tflm


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
    kernel = prepare(graph.operators[0], graph, settings)
    by_index = dict(zip(graph.inputs, batches, strict=True))
    return kernel.run(*[by_index[index] for index in kernel.inputs])


@pytest.mark.parametrize("name", CASES)
def test_kernel_equals_tflm(name: str) -> None:
    model, graph, batches = one_operator(name, CASES[name])
    ours = run_kernel(graph, batches)
    theirs = run_tflm(model, batches)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("operator", ["FULLY_CONNECTED", "RELU", "LEAKY_RELU", "SUB"])
def test_float_scale_arithmetic_gives_other_integers(operator: str) -> None:
    differing = 0
    for name, build in PRECISE.items():
        if name.startswith(operator + " "):
            _, graph, batches = one_operator(name, build)
            double, single = (
                run_kernel(graph, batches, Settings(arithmetic)).astype(int)
                for arithmetic in ("double", "float")
            )
            assert abs(double - single).max() <= 1
            differing += int((double != single).sum())
    assert differing > 0


@pytest.mark.parametrize("name", CASES)
def test_samples_do_not_depend_on_their_batch(name: str) -> None:
    _, graph, batches = one_operator(name, CASES[name])
    whole = run_kernel(graph, batches)
    alone = [run_kernel(graph, [batch[i : i + 1] for batch in batches]) for i in (0, 3)]
    np.testing.assert_array_equal(np.concatenate(alone), whole[[0, 3]])
    empty = run_kernel(graph, [batch[:0] for batch in batches])
    assert (empty.shape, empty.dtype) == ((0, *whole.shape[1:]), whole.dtype)


def test_every_kernel_has_a_case() -> None:
    covered = {name.split()[0] for name in CASES}
    assert set(KERNELS) - covered == {"SHAPE"}
