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
    WIDTHS,
    Activation,
    SmallGraph,
    SmallOperator,
)
from pytest_qnnrobust.strategies.draws import OPERATORS, Draw, Known, scales, zero_points

MAX_OPERATORS = 32
MAX_VALUES = 256
"""Values of one activation, beyond which an operator is not drawn."""
SIZES = st.integers(1, 5)
SEEDS = st.integers(0, 255)
KEPT = st.integers(0, 15)
"""0 leaves an operator out: so a failing graph loses one after the other."""
BACK = st.integers(0, 4)
"""4 goes on from an earlier activation."""
OFTEN = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MAX_POOL_2D", "MEAN", "SOFTMAX")
"""Drawn three times as often: they have many forms, or few activations to follow."""
SCALE_LIMITS = (2.0**-40, 2.0**20)
"""Scales of activations, so that chains of products stay within float32."""


def tflite_graphs(
    *,
    widths: Iterable[str] = WIDTHS,
    operators: Iterable[str] | None = None,
    min_operators: int = 1,
    max_operators: int = 6,
    boundaries: Iterable[str | None] = BOUNDARIES,
) -> st.SearchStrategy[SmallGraph]:
    """Legal `.tflite` graphs of `min_operators` to `max_operators` operators, chains and branches.

    `widths` are those of the input; `operators` are TFLite's names (default: every operator that
    the interpreter has). Draws a `SmallGraph`: `.to_tflite()` gives the bytes, its `repr` is the
    call that makes it again. Shrinks to as few operators and choices as fail still.
    """
    chosen = check_choices("widths", widths, WIDTHS)
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
    """Boundary, seed and length come first, so that what is left out later moves nothing."""
    boundary, seed = draw(st.sampled_from(boundaries)), draw(SEEDS)
    start = draw(_inputs(widths))
    names = [*names, *2 * [name for name in OFTEN if name in names]]
    known: list[Activation] = [start]
    operators: list[SmallOperator] = []
    for _ in range(draw(st.integers(least, most))):
        kept = draw(KEPT) > 0
        operator = draw(_step(tuple(known), names))
        if kept:
            operators.append(operator)
            known.append(operator.result(*(known[source] for source in operator.sources)))
    assume(len(operators) >= least)
    assume(boundary != "uint8" or (start.dtype, known[-1].dtype) == ("int8", "int8"))
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
    """The same choices in every width and rank, so that both shrink."""
    dtype = draw(st.sampled_from(widths))
    rank = draw(st.sampled_from((1, 3, 2, 3, 3)))
    *spatial, channels = (draw(SIZES) for _ in range(3))
    shape = (*spatial, channels + 1)[-rank:]
    scale = draw(scales(-8, 2)) * (1.0 if dtype == "int8" else 2.0**-8)
    return Activation(shape, dtype, scale, draw(zero_points(dtype)))


@st.composite
def _step(draw: Draw, known: Known, names: list[str]) -> SmallOperator:
    """An operator on one of the known activations."""
    of = -1 if draw(BACK) < 4 else -draw(st.integers(1, len(known)))
    seen = known[: len(known) + of + 1]
    operators = st.sampled_from(names).flatmap(lambda name: _operator(name, seen))
    operator = draw(operators.filter(lambda operator: _is_legal(operator, seen)))
    assert operator is not None
    other = getattr(operator, "other", None)
    shifted = {"of": of} if other is None else {"of": of, "other": other + of + 1}
    return replace(operator, **shifted)


@st.composite
def _operator(draw: Draw, name: str, known: Known) -> SmallOperator | None:
    return OPERATORS[name](draw, known)


def _is_legal(operator: SmallOperator | None, known: Known) -> bool:
    if operator is None:
        return False
    try:
        result = operator.result(*(known[source] for source in operator.sources)).require()
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
