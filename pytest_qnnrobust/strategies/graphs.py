"""Strategies of small graphs and of the integers that go into them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pytest_qnnrobust.errors import QnnRobustError, expected
from pytest_qnnrobust.strategies.arguments import check_choices, check_range
from pytest_qnnrobust.strategies.description import (
    BOUNDARIES,
    Activation,
    SmallGraph,
    SmallOperator,
)
from pytest_qnnrobust.strategies.draws import OPERATORS, Activations, Draw, scales, zero_points
from pytest_qnnrobust.types import INTEGER_WIDTHS

MAX_OPERATORS = 32
MAX_VALUES = 256
"""Values of one activation, beyond which an operator is not drawn."""
SIZES = st.integers(1, 5)
SEEDS = st.integers(0, 255)
KEPT = st.integers(0, 15)
"""Draw of whether an operator stays: 0 leaves it out, so that a failing graph loses one by one."""
BACK = st.integers(0, 4)
"""Draw of whether an operator branches off: 4 goes on from an earlier activation."""
OFTEN = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MAX_POOL_2D", "MEAN", "SOFTMAX")
"""Operators drawn three times as often: they have many forms, or few activations to follow."""
SCALE_LIMITS = (2.0**-40, 2.0**20)
"""Scales of activations, so that chains of products stay within float32."""


def tflite_graphs(
    *,
    widths: Iterable[str] = INTEGER_WIDTHS,
    operators: Iterable[str] | None = None,
    min_operators: int = 1,
    max_operators: int = 6,
    boundaries: Iterable[str | None] = BOUNDARIES,
) -> st.SearchStrategy[SmallGraph]:
    """Legal `.tflite` graphs of `min_operators` to `max_operators` operators, chains and branches.

    `widths` ("int8", "int16") are those of the input; `operators` are TFLite's names (default:
    every operator that the interpreter has); `boundaries` are the number formats at both ends (see
    `SmallGraph`). Draws a `SmallGraph`: `.to_tflite()` gives the bytes, its `repr` is the call that
    makes it again. Shrinks to as few operators and choices as still fail.
    Raises QnnRobustError for an argument out of range.
    """
    chosen = check_choices("widths", widths, INTEGER_WIDTHS)
    names = check_choices("operators", OPERATORS if operators is None else operators, OPERATORS)
    wraps = check_choices("boundaries", boundaries, BOUNDARIES)
    check_range(
        ("min_operators", "max_operators"), min_operators, max_operators, (1, MAX_OPERATORS)
    )
    return _graphs(chosen, names, min_operators, max_operators, wraps)


@st.composite
def _graphs(
    draw: Draw,
    widths: list[str],
    names: list[str],
    least: int,
    most: int,
    boundaries: list[Any],
) -> SmallGraph:
    """Draw a graph, an operator after the other, each for the activations before it."""
    # Boundary, seed and length come first: hypothesis can then leave out later draws alone.
    boundary, seed = draw(st.sampled_from(boundaries)), draw(SEEDS)
    start = draw(_inputs(widths))
    names = [*names, *2 * [name for name in OFTEN if name in names]]
    activations: list[Activation] = [start]
    operators: list[SmallOperator] = []
    for _ in range(draw(st.integers(least, most))):
        stays = draw(KEPT) > 0
        operator = draw(_step(tuple(activations), names))
        if stays:
            operators.append(operator)
            activations.append(operator.result(*(activations[of] for of in operator.sources)))
    assume(len(operators) >= least)
    assume(boundary != "uint8" or (start.dtype, activations[-1].dtype) == ("int8", "int8"))
    return SmallGraph(
        tuple(operators),
        shape=start.shape,
        dtype=start.dtype,
        scale=start.scale,
        zero_point=start.zero_point,
        seed=seed,
        boundary=boundary,
    )


@st.composite
def _inputs(draw: Draw, widths: list[str]) -> Activation:
    """Draw the input of a graph."""
    # The same draws are made in every width and rank, so that both shrink.
    dtype = draw(st.sampled_from(widths))
    rank = draw(st.sampled_from((1, 3, 2, 3, 3)))
    *spatial, channels = (draw(SIZES) for _ in range(3))
    shape = (*spatial, channels + 1)[-rank:]
    scale = draw(scales(-8, 2)) * (1.0 if dtype == "int8" else 2.0**-8)
    return Activation(shape, dtype, scale, draw(zero_points(dtype)))


@st.composite
def _step(draw: Draw, activations: Activations, names: list[str]) -> SmallOperator:
    """Draw an operator on one of the activations."""
    of = -1 if draw(BACK) < 4 else -draw(st.integers(1, len(activations)))
    # An operator is drawn for the last activation it sees, so that the later ones are hidden.
    seen = activations[: len(activations) + of + 1]
    operators = st.sampled_from(names).flatmap(lambda name: _operator(name, seen))
    operator = draw(operators.filter(lambda operator: _is_legal(operator, seen)))
    assert operator is not None
    other = getattr(operator, "other", None)
    shifted = {"of": of} if other is None else {"of": of, "other": other + of + 1}
    return replace(operator, **shifted)


@st.composite
def _operator(draw: Draw, name: str, activations: Activations) -> SmallOperator | None:
    return OPERATORS[name](draw, activations)


def _is_legal(operator: SmallOperator | None, activations: Activations) -> bool:
    if operator is None:
        return False
    try:
        result = operator.result(*(activations[of] for of in operator.sources)).require()
    except QnnRobustError:
        return False
    low, high = SCALE_LIMITS
    return 2 <= result.values <= MAX_VALUES and low <= result.scale <= high


def graph_inputs(graph: SmallGraph, *, samples: int = 2) -> st.SearchStrategy[NDArray[Any]]:
    """Integers (samples, *graph.shape) of the graph's input dtype, each value drawn by itself."""
    if not isinstance(graph, SmallGraph):
        raise expected("a SmallGraph", graph=type(graph).__name__)
    check_range(("samples", "samples"), samples, samples, (0, 1024))
    limits = np.iinfo(graph.dtype)
    values = st.integers(int(limits.min), int(limits.max))
    return arrays(graph.dtype, (samples, *graph.shape), elements=values, fill=st.nothing())
