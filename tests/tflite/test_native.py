"""The native core against the NumPy kernels that define it, on every instruction set there is."""

from __future__ import annotations

import _ctypes
import ctypes
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.strategies import graph_inputs, tflite_graphs
from pytest_qnnrobust.tflite import native
from pytest_qnnrobust.tflite.builder import GraphBuilder
from pytest_qnnrobust.tflite.fixed_point import INT32_MAX, Requantization
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.graph import Graph
from pytest_qnnrobust.tflite.interpreter import Interpreter
from pytest_qnnrobust.tflite.kernels import Settings, prepare
from pytest_qnnrobust.tflite.kernels.fully_connected import FullyConnected
from pytest_qnnrobust.tflite.native import shared_library
from pytest_qnnrobust.tflite.native.shared_library import ISA, instruction_sets
from pytest_qnnrobust.tflite.plan import Plan, Step
from tests.tflite.cases import CASES
from tests.tflite.run_case import one_operator

CORE = "QNNROBUST_TEST_CORE"
"""Environment variable with the path of another core to test than the package's."""

OTHER = os.environ.get(CORE)
BEST = native.Library(ctypes.CDLL(OTHER), "portable") if OTHER else native.library()
SETS = instruction_sets(BEST.functions) if BEST else ()

pytestmark = pytest.mark.skipif(BEST is None, reason=f"no native core: {native.missing()}")

NUMPY = ("DEQUANTIZE", "PRELU", "QUANTIZE", "SHAPE", "SOFTMAX")
"""Operators that no step of the core computes, or not all of their cases."""

generated = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def core(isa: str) -> native.Library:
    """The core computing with one instruction set."""
    assert BEST is not None
    return native.Library(BEST.functions, isa)


def program(name: str, isa: str) -> tuple[Graph, Step, list[np.ndarray], native.Program]:
    """A case of the table as a plan of one step."""
    _, graph, batches = one_operator(name, CASES[name])
    kernel = prepare(graph.operators[0], graph, Settings())
    step = Step(graph.operators[0], kernel, kernel.inputs, kernel.output)
    by_index = dict(zip(graph.inputs, batches, strict=True))
    inputs = [by_index[index] for index in kernel.inputs]
    first, end = graph.tensors[kernel.inputs[0]], graph.tensors[kernel.output]
    return graph, step, inputs, native.Program(Plan(graph, first, end, end, (step,)), core(isa))


ONE_INPUT = [name for name, build in CASES.items() if len(one_operator(name, build)[1].inputs) == 1]
TWO_INPUTS = [name for name in CASES if name not in ONE_INPUT]


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("operator", dict.fromkeys(name.split()[0] for name in ONE_INPUT))
def test_each_case_of_an_operator_equals_its_kernel(operator: str, isa: str) -> None:
    for name in ONE_INPUT:
        if name.split()[0] != operator:
            continue
        _, step, (x,), run = program(name, isa)
        expected = step.kernel.run(x)
        for q in (x, x[:1], x[:0]):
            (result,) = run.run(q, [step.output])
            assert result.dtype == expected.dtype, name
            np.testing.assert_array_equal(result, expected[: len(q)], name)


@pytest.mark.parametrize("isa", SETS)
def test_operators_of_two_activations_equal_their_kernels(isa: str) -> None:
    """Behind an operator that makes the second of the first, as a graph of one input has them."""
    operators = set()

    @settings(generated, max_examples=100)
    @given(st.data())
    def law(data: st.DataObject) -> None:
        names = ("ADD", "SUB", "MUL", "CONCATENATION", "PACK")
        graph = data.draw(tflite_graphs(min_operators=2, operators=(*names, "RELU", "CONV_2D")))
        equal_everywhere(graph.to_graph(), data.draw(graph_inputs(graph)), isa)
        operators.update(set(graph.names) & set(names))

    law()
    assert {"ADD", "MUL", "CONCATENATION"} <= operators


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("width", ["int8", "int16"])
def test_generated_graphs_are_the_same_on_every_activation(width: str, isa: str) -> None:
    taken = []

    @generated
    @given(st.data())
    def law(data: st.DataObject) -> None:
        graph = data.draw(tflite_graphs(widths=[width]))
        taken.extend(equal_everywhere(graph.to_graph(), data.draw(graph_inputs(graph)), isa))

    law()
    assert np.mean(taken) > 0.7


def equal_everywhere(graph: Graph, q: np.ndarray, isa: str) -> tuple[bool, ...]:
    """Compare every activation; return of each step whether the core computed it."""
    reference = Interpreter(graph, engine="reference")
    wanted = [step.output for step in reference.plan.steps]
    run = native.Program(reference.plan, core(isa))
    for step, ours, theirs in zip(
        reference.plan.steps, run.run(q, wanted), reference.tensors(q, wanted), strict=True
    ):
        assert ours.dtype == theirs.dtype, step.operator.name
        np.testing.assert_array_equal(ours, theirs, step.operator.name)
    return run.native


@st.composite
def requantizations(draw: st.DrawFn) -> tuple[Requantization, np.ndarray]:
    """Multipliers, shifts and ranges of any size, and accumulators that they may meet."""
    wide = draw(st.booleans())
    channels = draw(st.integers(1, 19))
    each = st.integers(-31, 7 if wide else 30)
    shift = np.array(draw(st.lists(each, min_size=channels, max_size=channels)), np.int64)
    mantissa = st.one_of(st.integers(1 << 30, INT32_MAX), st.sampled_from([0, 1 << 30, INT32_MAX]))
    multiplier = np.array(draw(st.lists(mantissa, min_size=channels, max_size=channels)), np.int64)
    dtype = "int16" if wide else draw(st.sampled_from(["int8", "int16"]))
    limits = np.iinfo(dtype)
    zero_point = draw(st.integers(-128, 127)) if dtype == "int8" else 0
    low = draw(st.integers(limits.min, limits.max))
    high = draw(st.integers(low, limits.max))
    sums = st.one_of(
        st.integers(-INT32_MAX, INT32_MAX),
        st.integers(-300, 300),
        st.sampled_from([INT32_MAX, -INT32_MAX, 0, -1, 1 << 30, -(1 << 30)]),
    )
    bias = np.array(draw(st.lists(sums, min_size=channels, max_size=channels)), np.int64)
    return Requantization(multiplier, shift, zero_point, low, high, dtype, wide), bias


def one_step(kernel: FullyConnected, zero_point: int) -> Plan:
    """A dense layer alone, whatever a file could say of it."""
    dtype = kernel.requantization.dtype
    builder = GraphBuilder()
    start = builder.tensor((1, kernel.weights.shape[1]), dtype, 1.0)
    end = builder.tensor((1, len(kernel.bias)), dtype, 1.0, zero_point)
    weights = builder.tensor(kernel.weights.shape, "int8", 1.0, data=kernel.weights)
    builder.operator("FULLY_CONNECTED", [start, weights], [end])
    graph = read_graph(builder.build([start], [end]))
    step = Step(graph.operators[0], kernel, (start,), end)
    return Plan(graph, graph.tensors[start], graph.tensors[end], graph.tensors[end], (step,))


@pytest.mark.parametrize("isa", SETS)
def test_any_accumulator_is_requantized_as_defined(isa: str) -> None:
    """A layer whose weights are zero has its bias for an accumulator, whatever the input."""
    saturated = []

    @settings(generated, max_examples=500)
    @given(requantizations())
    def law(drawn: tuple[Requantization, np.ndarray]) -> None:
        scaling, bias = drawn
        kernel = FullyConnected(
            name="FULLY_CONNECTED",
            inputs=(0,),
            output=1,
            bias=bias,
            input_zero_point=0,
            input_dtype=scaling.dtype,
            requantization=scaling,
            weights=np.zeros((len(bias), 3), np.int8),
            keep_dims=False,
        )
        plan = one_step(kernel, scaling.zero_point)
        x = np.array([[0, 5, -7]], scaling.dtype)
        step = native.Program(plan, core(isa))
        assert step.native == (True,)
        expected = kernel.run(x)
        np.testing.assert_array_equal(step.run(x, [1])[0], expected)
        saturated.extend(((expected == scaling.minimum) | (expected == scaling.maximum)).flat)

    law()
    assert 0.1 < np.mean(saturated) < 0.95


def test_common_operators_are_native() -> None:
    left = [
        name
        for name in ONE_INPUT
        if name.split()[0] not in NUMPY and not all(program(name, SETS[-1])[3].native)
    ]
    assert left == LEFT


LEFT: list[str] = []
"""Cases of other operators that are left to NumPy."""


def test_a_sum_that_could_leave_32_bits_is_left_to_numpy() -> None:
    for inputs, native_step in ((500, True), (600, False)):
        layer = FullyConnected(
            name="FULLY_CONNECTED",
            inputs=(0,),
            output=1,
            bias=np.array([0, INT32_MAX - 500 * 127 * 32768], np.int64),
            input_zero_point=0,
            input_dtype="int16",
            requantization=Requantization(
                np.array([1 << 30]), np.array([-20]), 0, -32768, 32767, "int16", True
            ),
            weights=np.full((2, inputs), 127, np.int8),
            keep_dims=False,
        )
        run = native.Program(one_step(layer, 0), core(SETS[-1]))
        x = np.full((3, inputs), -32768, np.int16)
        assert run.native == (native_step,)
        np.testing.assert_array_equal(run.run(x, [1])[0], layer.run(x))


@pytest.mark.parametrize("content", [b"", b"no library"])
def test_a_damaged_core_is_none(
    content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "core.so"
    file.write_bytes(content)
    refused(file, monkeypatch)


def test_another_library_is_no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    refused(Path(_ctypes.__file__), monkeypatch)


def refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared_library._load.cache_clear()
    monkeypatch.setattr(shared_library, "FILE", file)
    monkeypatch.delenv(ISA, raising=False)
    assert native.library() is None
    assert f"{file.name} cannot be loaded" in native.missing()
    monkeypatch.undo()
    shared_library._load.cache_clear()


def test_an_instruction_set_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ISA, "portable")
    assert native.library().isa == "portable"
    monkeypatch.setenv(ISA, "none")
    assert native.library() is None
    assert native.missing() == "QNNROBUST_ISA=none"
    monkeypatch.setenv(ISA, "mmx")
    with pytest.raises(QnnRobustError, match=r"expected QNNROBUST_ISA to be one of .*isa='?mmx"):
        native.library()
