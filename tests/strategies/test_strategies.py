"""What the strategies promise of what they draw, and the arguments that they refuse."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_qnnrobust import strategies as qst
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.strategies.draws import OPERATORS
from pytest_qnnrobust.strategies.parameters import BITS
from pytest_qnnrobust.tflite import fixed_point
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.interpreter import Interpreter
from pytest_qnnrobust.tflite.kernels import KERNELS
from pytest_qnnrobust.tflite.kernels.weighted_sum import WeightedSum

many = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
few = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


def test_every_operator_of_the_interpreter_is_drawn() -> None:
    """DEQUANTIZE stands at a float boundary."""
    assert set(OPERATORS) | {"DEQUANTIZE"} == set(KERNELS)


@many
@given(qst.tflite_graphs())
def test_no_accumulator_of_a_drawn_graph_wraps(graph: qst.SmallGraph) -> None:
    plan = Interpreter(graph.to_graph(), engine="reference").plan
    for step in plan.steps:
        if isinstance(step.kernel, WeightedSum):
            assert (
                step.kernel.accumulator_bound <= step.kernel.requantization.safe_magnitude
            ).all()


@many
@given(qst.tflite_graphs())
def test_activations_are_the_first_tensors_of_the_file(graph: qst.SmallGraph) -> None:
    read = read_graph(graph.to_tflite(every_output=True))
    for tensor, activation in zip(read.tensors, graph.activations, strict=False):
        assert tensor.shape == (1, *activation.shape)
        assert (tensor.dtype, tensor.scale, tensor.zero_point) == (
            activation.dtype,
            activation.scale,
            activation.zero_point,
        )


def test_asked_for_is_drawn() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=100, deadline=None, database=None)
    @given(
        qst.tflite_graphs(
            widths=["int16"],
            operators=["ADD", "MUL"],
            min_operators=2,
            max_operators=3,
            boundaries=["float32"],
        )
    )
    def check(graph: qst.SmallGraph) -> None:
        assert (graph.dtype, graph.boundary) == ("int16", "float32")
        assert 2 <= len(graph.operators) <= 3
        seen.update(graph.names)
        seen["branch"] += any(o.other is not None for o in graph.operators[1:])

    check()
    assert set(seen) == {"ADD", "MUL", "branch"}
    assert min(seen.values()) > 10


@many
@given(st.data())
def test_quantization_parameters_are_what_was_asked_for(data: st.DataObject) -> None:
    bits = data.draw(st.sets(st.sampled_from(BITS), min_size=1))
    granularity = data.draw(st.sampled_from(("per-tensor", "per-axis")))
    scheme = data.draw(st.sampled_from(("affine", "symmetric")))
    narrow = data.draw(st.booleans())
    parameters = data.draw(
        qst.quantization_parameters(
            bits=bits, granularity=[granularity], schemes=[scheme], narrow_range=narrow
        )
    )
    assert parameters.bits in bits
    assert (parameters.quantized_dimension is not None) == (granularity == "per-axis")
    assert parameters.symmetric or scheme == "affine"
    assert parameters.minimum == -(2 ** (parameters.bits - 1)) + narrow
    read = parameters.graph_parameters
    assert read.scale.dtype == np.float32
    assert tuple(read.scale.tolist()) == parameters.scale
    assert tuple(read.zero_point.tolist()) == parameters.zero_point


@many
@given(st.data())
def test_probes_fit_their_axis_and_are_finite(data: st.DataObject) -> None:
    parameters = data.draw(qst.quantization_parameters())
    x = data.draw(qst.probing_tensors(parameters))
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    if parameters.quantized_dimension is not None:
        assert x.shape[parameters.quantized_dimension] == len(parameters.scale)


def test_probes_reach_every_kind_of_value() -> None:
    """With scale 0.5 and zero point 3 half-way points are exact: k * 0.5 + 0.25."""
    seen: Counter[str] = Counter()
    parameters = qst.AffineParameters(scale=(0.5,), zero_point=(3,))

    @settings(max_examples=300, deadline=None, database=None)
    @given(qst.probing_tensors(parameters, shape=(8,)))
    def collect(x: np.ndarray) -> None:
        x = x[np.abs(x) < 1e6]
        exact = x.astype(np.float64)
        half = np.float32(np.round((exact - 0.25) * 2) / 2 + 0.25)
        seen["half-way"] += int((x == half).sum())
        seen["just above"] += int((x == np.nextafter(half, np.float32(np.inf))).sum())
        seen["just below"] += int((x == np.nextafter(half, np.float32(-np.inf))).sum())
        seen["grid"] += int((x * 2 == np.round(x * 2)).sum())
        seen["negative zero"] += int((np.signbit(x) & (x == 0)).sum())
        seen["subnormal"] += int(((x != 0) & (np.abs(x) < 2.0**-126)).sum())
        seen["saturated high"] += int((x > 62.25).sum())
        seen["saturated low"] += int((x < -65.75).sum())

    collect()
    assert min(seen.values()) > 20, seen


@many
@given(qst.requantization_multipliers(), st.integers(-(2**47), 2**47))
def test_multipliers_are_legal_and_nothing_wraps_within_their_reach(
    multiplier: qst.Multiplier, x: int
) -> None:
    assert multiplier.multiplier == 0 or 2**30 <= multiplier.multiplier < 2**31
    assert -31 <= multiplier.shift <= (7 if multiplier.wide else 30)
    x = max(min(x, multiplier.largest), -multiplier.largest)
    if not multiplier.wide:
        x = max(min(x, 2**31 - 1), -(2**31))
    exact = x * multiplier.real
    slack = 1 + abs(exact) * (2.0**-15 if multiplier.wide else 2.0**-30)
    assert abs(int(multiplier.apply(x)) - exact) <= slack


def test_multipliers_cover_both_paths_and_the_ends() -> None:
    seen: Counter[Any] = Counter()

    @settings(max_examples=400, deadline=None, database=None)
    @given(qst.requantization_multipliers())
    def collect(multiplier: qst.Multiplier) -> None:
        seen[multiplier.wide, multiplier.shift] += 1
        seen[multiplier.multiplier] += 1

    collect()
    ends = {(False, -31), (False, 30), (True, -31), (True, 7), 2**30, 2**31 - 1, 0}
    assert ends <= set(seen)


@few
@given(qst.keras_models(max_layers=3), st.sampled_from(("int8", "int16")))
def test_drawn_networks_convert_and_run(network: qst.SmallNetwork, width: Any) -> None:
    interpreter = Interpreter(read_graph(network.to_tflite(width)), engine="reference")
    tensor = interpreter.plan.input
    q = fixed_point.quantize(network.calibration(5), tensor.scale, tensor.zero_point, tensor.dtype)
    assert interpreter.invoke(q).shape == (5, network.classes)


BAD: dict[str, tuple[Any, str]] = {
    "widths": (lambda: qst.tflite_graphs(widths=["int4"]), "widths among int8, int16"),
    "a width as text": (lambda: qst.tflite_graphs(widths="int8"), "widths among"),
    "no operators": (lambda: qst.tflite_graphs(operators=[]), "operators among RELU"),
    "unknown operator": (lambda: qst.tflite_graphs(operators=["EXP"]), "got operators=.'EXP'."),
    "boundaries": (lambda: qst.tflite_graphs(boundaries=None), "boundaries among None"),
    "order": (
        lambda: qst.tflite_graphs(min_operators=3, max_operators=2),
        "1 <= min_operators <= max_operators <= 32, got min_operators=3, max_operators=2",
    ),
    "zero operators": (lambda: qst.tflite_graphs(min_operators=0), "1 <= min_operators"),
    "half an operator": (lambda: qst.tflite_graphs(max_operators=2.5), "to be integers"),
    "bits": (lambda: qst.quantization_parameters(bits=[1]), "bits among"),
    "schemes": (lambda: qst.quantization_parameters(schemes=["log"]), "schemes among affine"),
    "granularity": (lambda: qst.quantization_parameters(granularity=()), "granularity among"),
    "narrow range": (lambda: qst.quantization_parameters(narrow_range="no"), "narrow_range"),
    "channels": (lambda: qst.quantization_parameters(max_channels=0), "1 <= max_channels"),
    "exponents": (lambda: qst.quantization_parameters(max_exponent=200), "max_exponent <= 16"),
    "paths": (lambda: qst.requantization_multipliers(paths=["MBQM16"]), "paths among MBQM32"),
    "parameters": (lambda: qst.probing_tensors("int8"), "AffineParameters"),
    "graph": (lambda: qst.graph_inputs(b"TFL3"), "a SmallGraph, got graph='bytes'"),
    "layers": (lambda: qst.keras_models(max_layers=9), "max_layers <= 8"),
    "network": (lambda: qst.SmallNetwork(layers=("lambda",)), "layers among relu"),
    "scale": (lambda: qst.AffineParameters(scale=(0.1,)), "scales that float32 holds"),
    "zero point": (lambda: qst.AffineParameters(zero_point=(200,)), "zero points in -128 .. 127"),
    "no graph": (lambda: qst.SmallGraph(()), "one operator or more"),
    "operand of nowhere": (
        lambda: qst.SmallGraph((qst.Relu(of=-2),)),
        "an activation in -1 .. -1 for operator 0, got of=-2",
    ),
    "int16 zero point": (
        lambda: qst.SmallGraph((qst.Relu(zero_point=3),), dtype="int16"),
        "operator 0 .Relu.zero_point=3..: expected zero point 0 for int16",
    ),
    "a window too large": (
        lambda: qst.SmallGraph((qst.MaxPool2D(kernel=(3, 3), padding="VALID"),), shape=(2, 2, 1)),
        "a window within the image",
    ),
    "one class": (lambda: qst.SmallGraph((qst.Relu(),), shape=(1,)), "two values or more"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_refused_in_one_line(name: str) -> None:
    make, reason = BAD[name]
    with pytest.raises(QnnRobustError, match=reason) as error:
        make()
    assert "\n" not in str(error.value)


def test_hypothesis_is_imported_where_properties_are_drawn_alone() -> None:
    import ast
    from pathlib import Path

    root = Path(qst.__file__).parent
    users = {
        path.parent
        for path in root.parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hypothesis"))
        or (isinstance(node, ast.Import) and any(a.name == "hypothesis" for a in node.names))
    }
    assert root in users
    assert users <= {root, root.parent / "quantizers"}
