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
LENGTH = 5
"""One in so many graphs, and one, ends after each operator."""
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
    call that makes it again. Shrinks to one operator, one by one in all sizes, and scales of 1.
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
    boundaries: list[str | None],
) -> SmallGraph:
    start = draw(_inputs(widths))
    names = [*names, *2 * [name for name in OFTEN if name in names]]
    known: list[Activation] = [start]
    operators: list[SmallOperator] = []
    while len(operators) < most:
        operator = draw(_step(tuple(known), names, stop=len(operators) >= least))
        if operator is None:
            break
        operators.append(operator)
        known.append(operator.result(*(known[source] for source in operator.sources)))
    graph = SmallGraph(
        tuple(operators),
        shape=start.shape,
        dtype=start.dtype,
        scale=start.scale,
        zero_point=start.zero_point,
        seed=draw(st.integers(0, 2**16 - 1)),
    )
    ends = (start.dtype, known[-1].dtype)
    fitting = [b for b in boundaries if b != "uint8" or ends == ("int8", "int8")]
    assume(fitting)
    return replace(graph, boundary=draw(st.sampled_from(fitting)))


@st.composite
def _inputs(draw: Draw, widths: list[str]) -> Activation:
    dtype = draw(st.sampled_from(widths))
    vector = (st.integers(2, 8),)
    image = (st.integers(1, 5), st.integers(1, 5), st.integers(2, 4))
    matrix = (st.integers(1, 4), st.integers(2, 6))
    shape = draw(st.tuples(*draw(st.sampled_from((vector, image, matrix, image, image)))))
    scale = draw(scales(-8, 2) if dtype == "int8" else scales(-16, -2))
    return Activation(shape, dtype, scale, draw(zero_points(dtype)))


@st.composite
def _step(draw: Draw, known: Known, names: list[str], *, stop: bool) -> SmallOperator | None:
    """An operator on one of the known activations; None where the graph ends."""
    if stop and draw(st.integers(0, LENGTH)) == 0:
        return None
    of = -1 if draw(st.integers(0, 4)) < 4 else -draw(st.integers(1, len(known)))
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
