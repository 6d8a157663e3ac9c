"""Fixed-point steps as `floor(slope * value + offset)` in float64, proved equal at load.

Every integer step between two convolutions (requantization, rounding division, the rescaling of
an ADD) is a non-decreasing function f from an integer to at most 65,536 levels. A line in float64
computes it exactly if, and only if, it crosses each level k between the same two neighbouring
integers as f does:

    k <= slope * t_k + offset        t_k = min {t : f(t) >= k}
    k >  slope * (t_k - 1) + offset

For a given slope these are intervals for the offset. Where they intersect with room for float64's
own rounding, the form is exact on the whole range; else None says that it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.tflite.fixed_point import Integers
from pytest_qnnrobust.types import Double

Reals = Double
"""float64 slopes, offsets and lines."""

MAX_CONSTRAINTS = 4_000_000
"""Levels times channels beyond which a proof would cost more than it saves."""


@dataclass(frozen=True, eq=False)
class AffineForm:
    """`clip(floor(slope * t + offset), minimum, maximum)`, arrays of length 1 or channels.

    `offset_below` replaces `offset` where t < 0: rounding half away from zero after a first
    rounding is not one line through both signs.
    """

    slope: Reals
    offset: Reals
    offset_below: Reals
    minimum: int
    maximum: int

    def apply(self, t: NDArray[Any]) -> Integers:
        offset = np.where(t < 0, self.offset_below, self.offset)
        levels = np.floor(t * self.slope + offset)
        return np.clip(levels, self.minimum, self.maximum).astype(np.int64)


def prove_affine(
    function: Callable[[Integers], NDArray[Any]],
    slope: Reals,
    low: Integers,
    high: Integers,
    levels: tuple[int, int],
) -> AffineForm | None:
    """The affine form of a non-decreasing `function` on [low, high]; None where there is none.

    `function` maps int64 (rows, channels) to integers within `levels` (minimum, maximum);
    `slope`, `low` and `high` have length channels (or 1).
    """
    minimum, maximum = levels
    slope, low, high = np.broadcast_arrays(slope, low, high)
    if (maximum - minimum) * len(slope) > MAX_CONSTRAINTS or maximum == minimum:
        return None
    k = np.arange(minimum + 1, maximum + 1, dtype=np.int64)[:, None]
    t = _thresholds(function, k, low, high)
    reached = t <= high
    inside = t > low
    at_least = np.where(reached, k - t * slope, -np.inf)
    less_than = np.where(inside, k - (t - 1) * slope, np.inf)
    # float64 rounds slope * t and the sum: a few units in the last place of the largest level.
    margin = 16 * np.finfo(np.float64).eps * max(abs(minimum), abs(maximum), 1)
    whole = _middle(at_least, less_than, margin)
    if whole is not None:
        return AffineForm(slope, whole, whole, minimum, maximum)
    above = _middle(np.where(t >= 0, at_least, -np.inf), np.where(t > 0, less_than, np.inf), margin)
    below = _middle(np.where(t < 0, at_least, -np.inf), np.where(t <= 0, less_than, np.inf), margin)
    if above is None or below is None:
        return None
    return AffineForm(slope, above, below, minimum, maximum)


def fit_affine(
    values: Integers, line: Reals, below: NDArray[np.bool_], levels: tuple[int, int]
) -> tuple[float, float] | None:
    """Offsets (where not `below`, where `below`) with `clip(floor(line + offset)) == values`.

    The function's domain is small enough to list: `values` are its values there, `line` the slope
    times the argument. None where no offset fits.
    """
    minimum, maximum = levels
    at_least = np.where(values > minimum, values - line, -np.inf)
    less_than = np.where(values < maximum, values + 1 - line, np.inf)
    margin = 16 * np.finfo(np.float64).eps * float(np.abs(values).max(initial=1))
    offsets = []
    for side in (~below, below):
        offset = _middle(at_least[side, None], less_than[side, None], margin)
        if offset is None:
            return None
        offsets.append(float(offset[0]))
    whole = _middle(at_least[:, None], less_than[:, None], margin)
    return (float(whole[0]),) * 2 if whole is not None else (offsets[0], offsets[1])


def _thresholds(
    function: Callable[[Integers], NDArray[Any]], k: Integers, low: Integers, high: Integers
) -> Integers:
    """The smallest t in [low, high + 1] with function(t) >= k, by bisection on f itself."""
    shape = (len(k), len(low))
    first: Integers = np.broadcast_to(low, shape).copy()
    last = np.broadcast_to(high + 1, shape).copy()
    while (first < last).any():
        middle = first + (last - first) // 2
        reached = function(middle) >= k
        open_ = first < last
        last = np.where(open_ & reached, middle, last)
        first = np.where(open_ & ~reached, middle + 1, first)
    return first


def _middle(at_least: Reals, less_than: Reals, margin: float) -> Reals | None:
    """An offset per channel in the intersection of the intervals, `margin` away from its ends."""
    lower, upper = at_least.max(axis=0, initial=-np.inf), less_than.min(axis=0, initial=np.inf)
    if (upper <= lower + 2 * margin).any():
        return None
    lower = np.where(np.isinf(lower), upper - 1, lower)
    upper = np.where(np.isinf(upper), lower + 1, upper)
    return np.where(np.isinf(lower), 0.0, lower / 2 + upper / 2)
