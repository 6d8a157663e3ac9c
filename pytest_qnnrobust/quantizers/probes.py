"""Tensors that probe a quantizer: inputs at the values of codes, at edges, between and beyond."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.quantizers.base import QuantizerUnderTest

Rows = NDArray[np.float32]

MOST = 64
"""The most codes of a run."""

OFFSETS = (0.0, 0.25, -0.25, 0.5, -0.5)
EDGES = (0.0, 0.5, -0.5)
NUDGES = (1, -1, 2, -2)
PLACES = (*((0, offset) for offset in OFFSETS), *product(NUDGES, EDGES))
"""(nudge, offset) of inputs where mistakes show, the simplest first (see `run`)."""

SPECIALS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    float("inf"),
    float("-inf"),
    float(np.finfo(np.float32).max),
    float(np.finfo(np.float32).min),
    float(np.finfo(np.float32).smallest_normal),
    float(np.finfo(np.float32).smallest_subnormal),
    -float(np.finfo(np.float32).smallest_subnormal),
)
_LAST = int(np.float32(SPECIALS[6]).view(np.int32))


def probing_rows(tested: QuantizerUnderTest, least: int = 1) -> Any:
    """Hypothesis strategy of rows (n, channels) of float32 inputs, `least` <= n <= `MOST`.

    Draws a run of neighbouring codes, each at the same offset from its value, in steps, and up to
    as many steps beyond either end as there are codes; or a signed zero, a subnormal, an infinity.
    Shrinks to a short run about 0. With several channels n is their number, so that a confusion of
    axes changes codes and not only shapes.
    """
    from hypothesis import strategies as st

    runs = code_runs(tested, tested.maximum - tested.minimum + 1, least)
    between = st.floats(-0.5, 0.5, width=32).map(lambda offset: (0, offset))
    places = st.one_of(st.sampled_from(PLACES), between)
    return st.one_of(
        st.builds(partial(run, tested), runs, places),
        st.sampled_from(SPECIALS).map(partial(special, tested, least)),
    )


def code_runs(tested: QuantizerUnderTest, beyond: int = 0, least: int = 1) -> Any:
    """Hypothesis strategy of neighbouring codes (n, channels), up to `beyond` out of the range.

    They begin at the ends of the range more often than elsewhere.
    """
    from hypothesis import strategies as st

    centre = tested.centre
    lowest, most = tested.minimum - beyond, tested.maximum + beyond
    ends = (tested.maximum, tested.minimum, tested.maximum + 1, tested.minimum - 1)
    first = st.one_of(
        st.integers(lowest - centre, most - centre),
        st.sampled_from([end - centre for end in ends if lowest <= end <= most]),
    )

    def of(length: int, start: int) -> NDArray[np.int64]:
        n = tested.channels if tested.channels > 1 else length
        steps = np.arange(n, dtype=np.int64) % length
        column = np.minimum(centre + start + steps, most)
        return np.repeat(column[:, None], tested.channels, axis=1)

    return st.builds(of, st.integers(least, MOST), first)


def run(tested: QuantizerUnderTest, codes: NDArray[np.int64], place: tuple[int, float]) -> Rows:
    """Inputs `offset` steps from the values of `codes`, moved on by `nudge` float32 numbers.

    `place` is (nudge, offset). Codes out of the range go on in equal steps.
    """
    nudge, offset = place
    inner = np.clip(codes, tested.minimum, tested.maximum)
    below, above = tested.gaps(inner)
    gap = np.where(codes + offset >= inner, above, below)
    real = tested.values(inner) + (codes - inner + offset) * gap
    x = preimage(tested, real) if tested.has_warp else real.astype(np.float32)
    for _ in range(abs(nudge)):
        x = np.nextafter(x, np.float32(np.inf if nudge > 0 else -np.inf))
    return x


def special(tested: QuantizerUnderTest, least: int, value: float) -> Rows:
    """One special value, 0 in the other rows that there have to be."""
    n = tested.channels if tested.channels > 1 else least
    rows = np.zeros((n, tested.channels), np.float32)
    rows[0] = value
    return rows


def preimage(tested: QuantizerUnderTest, real: NDArray[np.float64]) -> Rows:
    """The smallest finite float32 x with warp(x) >= `real`, by bisection of all float32 numbers.

    The warp must not decrease.
    """
    low = np.full(real.shape, -_LAST, np.int64)
    high = np.full(real.shape, _LAST, np.int64)
    while np.any(low < high):
        middle = (low + high) // 2
        reached = tested.warped(_float32(middle)) >= real
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
        high = np.maximum(low, high)
    return _float32(np.minimum(high, _LAST))


def _float32(order: NDArray[np.int64]) -> Rows:
    """Whole numbers -> the float32 numbers in the same order, 0 to 0."""
    size = np.abs(order).astype(np.int32).view(np.float32)
    return np.where(order < 0, -size, size)
