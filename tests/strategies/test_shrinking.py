"""A failure ends as the smallest graph and tensor, printed as the call that makes it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pytest_qnnrobust import strategies as qst

few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
search = settings(
    max_examples=2000,
    database=None,
    derandomize=True,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
)
NAMESPACE = {name: getattr(qst, name) for name in qst.__all__}


def find(strategy: st.SearchStrategy[Any], condition: Callable[[Any], bool]) -> Any:
    """The smallest example that meets the condition, which a failing test sees last.

    Hypothesis's own `find` returns the last that met it while it shrank, smaller or not.
    """
    seen: list[Any] = []

    @search
    @given(strategy)
    def fails(example: Any) -> None:
        if condition(example):
            seen.append(example)
            raise _FoundError

    with pytest.raises(_FoundError):
        fails()
    return seen[-1]


class _FoundError(Exception):
    pass


@pytest.mark.parametrize(
    "operator", [pytest.param("LOGISTIC", marks=pytest.mark.nightly), "CONCATENATION"]
)
def test_a_graph_with_one_bad_operator_shrinks_to_that_operator(operator: str) -> None:
    found = find(qst.tflite_graphs(), lambda graph: operator in graph.names)
    assert found.names == (operator,)
    assert (found.shape, found.dtype, found.scale, found.seed) == ((2,), "int8", 1.0, 0)


def test_a_convolution_shrinks_to_one_pixel() -> None:
    def fails(graph: qst.SmallGraph) -> bool:
        return any(isinstance(o, qst.Conv2D) and o.bias for o in graph.operators)

    found = find(qst.tflite_graphs(operators=("CONV_2D",), max_operators=2), fails)
    (convolution,) = found.operators
    assert isinstance(convolution, qst.Conv2D)
    assert (convolution.kernel, convolution.stride) == ((1, 1), (1, 1))
    assert found.shape[:2] <= (1, 2)


def test_a_graph_and_its_tensor_shrink_together() -> None:
    @st.composite
    def pairs(draw: st.DrawFn) -> tuple[qst.SmallGraph, np.ndarray]:
        graph = draw(qst.tflite_graphs(operators=("RELU", "RESHAPE"), max_operators=3))
        return graph, draw(qst.graph_inputs(graph))

    def fails(pair: tuple[qst.SmallGraph, np.ndarray]) -> bool:
        graph, q = pair
        return "RELU" in graph.names and bool((q > 20).any())

    graph, q = find(pairs(), fails)
    assert graph == qst.SmallGraph((qst.Relu(),))
    assert sorted(q.reshape(-1).tolist()) == [0, 0, 0, 21]


@few
@given(qst.tflite_graphs())
def test_a_pasted_graph_builds_the_same_file(graph: qst.SmallGraph) -> None:
    pasted = eval(repr(graph), dict(NAMESPACE))
    assert pasted == graph
    assert pasted.to_tflite() == graph.to_tflite()
    assert len(repr(graph)) < 1200


@few
@given(
    qst.quantization_parameters() | qst.requantization_multipliers() | qst.keras_models(),
)
def test_every_other_description_can_be_pasted(drawn: Any) -> None:
    assert eval(repr(drawn), dict(NAMESPACE)) == drawn


def test_the_simplest_examples() -> None:
    def anything(_: Any) -> bool:
        return True

    assert len(find(qst.tflite_graphs(), anything).operators) == 1
    parameters = find(qst.quantization_parameters(), anything)
    assert (parameters.scale, parameters.zero_point) == ((1.0,), (0,))
    assert find(qst.requantization_multipliers(), anything) == qst.Multiplier()
    assert find(qst.keras_models(), anything) == qst.SmallNetwork()
    np.testing.assert_array_equal(
        find(qst.probing_tensors(qst.AffineParameters()), lambda x: x.size == 1), [0.0]
    )
