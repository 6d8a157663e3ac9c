"""Laws that the integers of any graph keep, on generated graphs.

**Fused activations.** `f(x)` with a fused RELU, RELU6 or RELU_N1_TO_1 clips the rescaled sum to the
activation's range. Without it the sum is clipped to the width's range, and a RELU or RELU6 of the
same output scale and zero point clips again: its multiplier is 1 = 2**30 * 2**(1 - 31), for which
MBQM32 is the identity, and both round the end 6 / scale alike. So both are equal, exactly. With
another scale behind the RELU there is one rounding more, and no law.

**Coarse twins.** An int16 input 256 * q in scale s / 256 is the int8 input q in scale s. Operators
that move, compare or copy values keep the factor exactly, and so does every accumulator without
bias. The rescaling behind an accumulator does not: its int16 output keeps bits that int8 rounds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, assume, find, given, settings
from hypothesis import strategies as st

from pytest_qnnrobust.strategies import (
    Pad,
    Relu,
    Relu6,
    SmallGraph,
    SmallOperator,
    graph_inputs,
    tflite_graphs,
)
from pytest_qnnrobust.tflite.interpreter import Interpreter
from pytest_qnnrobust.tflite.kernels.weighted_sum import WeightedSum

many = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
search = settings(max_examples=500, phases=(Phase.generate,), database=None, deadline=None)
FUSING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL")
SUMS = FUSING[:3]
EXACT = (
    "RELU",
    "RESHAPE",
    "MAX_POOL_2D",
    "PAD",
    "PADV2",
    "TRANSPOSE",
    "STRIDED_SLICE",
    "EXPAND_DIMS",
    "SQUEEZE",
    "SHAPE",
)
"""Operators under which a coarse twin stays one, value by value."""


def activations(graph: SmallGraph, q: np.ndarray) -> list[np.ndarray]:
    interpreter = Interpreter(graph.to_graph(), engine="reference")
    return interpreter.tensors(q, range(1, len(graph.activations)))


def unfused(graph: SmallGraph, behind: SmallOperator) -> SmallGraph:
    """The one operator of `graph` without its fused activation, and `behind` after it."""
    (operator,) = graph.operators
    plain: Any = replace(operator, activation="NONE")  # type: ignore[call-arg]
    return replace(graph, operators=(plain, behind))


@many
@given(st.data(), st.sampled_from(("RELU", "RELU6")))
def test_a_fused_activation_equals_the_operator_behind(
    data: st.DataObject, activation: str
) -> None:
    graph = data.draw(tflite_graphs(operators=FUSING, max_operators=1, boundaries=[None]))
    (operator,) = graph.operators
    output = graph.activations[-1]
    assume(output.scale * 2.0**27 > 6)
    fused = replace(graph, operators=(replace(operator, activation=activation),))  # type: ignore
    behind = Relu6() if activation == "RELU6" else Relu(-1, output.scale, output.zero_point)
    q = data.draw(graph_inputs(graph, samples=4))
    np.testing.assert_array_equal(
        activations(fused, q)[-1], activations(unfused(fused, behind), q)[-1]
    )


def test_a_rescaling_relu_behind_is_no_law() -> None:
    """The second rounding shows: the law's condition on the scales is needed."""

    def differs(graph: SmallGraph) -> bool:
        (operator,) = graph.operators
        scale = graph.activations[-1].scale * 3
        fused = replace(graph, operators=(replace(operator, activation="RELU", scale=scale),))  # type: ignore
        apart = unfused(graph, Relu(-1, scale, graph.activations[-1].zero_point))
        q = np.arange(-128, 127, dtype=np.int8)[:, None].repeat(graph.activations[0].values, 1)
        q = q.reshape(-1, *graph.shape)
        return bool((activations(fused, q)[-1] != activations(apart, q)[-1]).any())

    options = {"operators": ["FULLY_CONNECTED"], "max_operators": 1, "widths": ["int8"]}
    assert find(tflite_graphs(**options, boundaries=[None]), differs, settings=search)


def coarse_twin(graph: SmallGraph) -> tuple[SmallGraph, SmallGraph]:
    """An int8 graph with zero points 0, and the int16 graph with scales 256 times finer."""
    scale = graph.scale

    def at(scale: float, factor: int, operator: SmallOperator) -> SmallOperator:
        if isinstance(operator, Relu):
            return replace(operator, scale=scale, zero_point=0)
        if isinstance(operator, Pad) and operator.value is not None:
            return replace(operator, value=operator.value * factor)
        return operator

    coarse, fine = (
        tuple(at(scale / factor, factor, o) for o in graph.operators) for factor in (1, 256)
    )
    int8 = replace(graph, operators=coarse, zero_point=0)
    return int8, replace(int8, operators=fine, dtype="int16", scale=scale / 256)


@many
@given(st.data())
def test_zero_low_bytes_stay_zero_where_values_only_move(data: st.DataObject) -> None:
    drawn = tflite_graphs(operators=EXACT, widths=["int8"], boundaries=[None])
    coarse, fine = coarse_twin(data.draw(drawn.filter(without_fused_ends)))
    q = data.draw(graph_inputs(coarse))
    twins = zip(activations(coarse, q), activations(fine, q.astype(np.int16) * 256), strict=True)
    for small, large in twins:
        np.testing.assert_array_equal(small.astype(np.int16) * 256, large)


def without_fused_ends(graph: SmallGraph) -> bool:
    """6 and 1 are whole steps of one scale, perhaps not of the other."""
    return all(getattr(o, "activation", "NONE") in ("NONE", "RELU") for o in graph.operators)


@many
@given(st.data())
def test_accumulators_without_bias_keep_the_factor(data: st.DataObject) -> None:
    drawn = tflite_graphs(operators=SUMS, widths=["int8"], max_operators=1, boundaries=[None])
    graph = data.draw(drawn)
    (operator,) = graph.operators
    shared = {"bias": None, "filter_dtype": "int8", "zero_point": 0}
    sum_only = replace(operator, **shared)
    coarse = replace(graph, operators=(sum_only,), zero_point=0)
    fine = replace(coarse, dtype="int16", scale=graph.scale / 256)
    kernels = [
        Interpreter(g.to_graph(), engine="reference").plan.steps[0].kernel for g in (coarse, fine)
    ]
    q = data.draw(graph_inputs(coarse)).astype(np.int64)
    assert all(isinstance(kernel, WeightedSum) for kernel in kernels)
    int8, int16 = (
        kernel.accumulate(x)
        for kernel, x in zip(kernels, (q.astype(np.int8), (256 * q).astype(np.int16)), strict=True)
        if isinstance(kernel, WeightedSum)
    )
    np.testing.assert_array_equal(int8 * 256, int16)


@many
@given(st.data())
def test_samples_may_be_chosen_ordered_and_repeated(data: st.DataObject) -> None:
    graph = data.draw(tflite_graphs(boundaries=[None]))
    q = data.draw(graph_inputs(graph, samples=3))
    rows = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=6))
    for whole, part in zip(activations(graph, q), activations(graph, q[rows]), strict=True):
        np.testing.assert_array_equal(whole[rows], part)
