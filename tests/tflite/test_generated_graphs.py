"""Random graphs: our interpreter equals TFLM's on every activation, not only on the output."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_qnnrobust.strategies import (
    Conv2D,
    FullyConnected,
    Relu,
    SmallGraph,
    graph_inputs,
    tflite_graphs,
)
from tests.tflite.conformance import check_conformance, check_outputs_are_inert, ours, theirs

generated = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("width", ["int8", "int16"])
def test_every_activation_equals_tflm(width: str) -> None:
    operators: Counter[str] = Counter()

    @generated
    @given(st.data())
    def compare(data: st.DataObject) -> None:
        graph = data.draw(tflite_graphs(widths=[width]))
        check_conformance(graph, data.draw(graph_inputs(graph)))
        operators.update(graph.names)

    compare()
    assert operators.total() > 300
    assert len(operators) > 20


@settings(generated, max_examples=30)
@given(st.data())
def test_being_an_output_changes_no_value(data: st.DataObject) -> None:
    graph = data.draw(tflite_graphs(min_operators=2))
    check_outputs_are_inert(graph, data.draw(graph_inputs(graph)))


BRANCHED = SmallGraph(
    (
        Conv2D(kernel=(3, 3), channels=4, activation="RELU", bias="int32", scale=512.0),
        Relu(scale=512.0),
        FullyConnected(outputs=3, of=-2, scale=524288.0),
    ),
    shape=(3, 3, 2),
)


def test_both_engines_equal_tflm_on_a_graph_with_a_branch() -> None:
    q = np.random.default_rng(0).integers(-128, 128, (9, 3, 3, 2)).astype(np.int8)
    for engine in ("reference", "native"):
        check_conformance(BRANCHED, q, engine)
    assert [len(np.unique(values)) > 5 for values in theirs(BRANCHED, q)] == [True] * 4


def test_a_difference_names_the_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.tflite import conformance

    q = np.zeros((1, 3, 3, 2), np.int8)
    wrong = ours(BRANCHED, q)
    wrong[1] = wrong[1] + 1
    monkeypatch.setattr(conformance, "ours", lambda *_: wrong)
    with pytest.raises(AssertionError, match=r"activation 2 \(RELU\)"):
        check_conformance(BRANCHED, q)
