"""Sequential tests of a mean: they may be looked at after every value and stopped at any time.

Values in [0, 1] come one by one. Whoever bets the fraction f of a capital on each value against a
mean of m has 1 - f + f * value / m times as much afterwards. Where the mean is m or less, no such
capital grows on average, and by Ville's inequality (1939) one of 1 ever reaches 1 / alpha with
probability alpha at most. This is the betting of Waudby-Smith and Ramdas (2023), with the capital
spread evenly over `FRACTIONS`: for values 0 and 1 that is Robbins' mixture (1970) with a uniform
prior on the means above m. It depends on how often each value came, not on their order, and it
needed fewer samples than their predictable plug-in bets at most rates that a robustness test meets.

The values are taken to be independent draws, so samples have to stand in random order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.types import Double

Value = Literal["holds", "violated", "undecided"]

FRACTIONS = (np.arange(32) + 0.5) / 32
"""Fractions of its capital that a player bets on each value; one 32nd of all players for each."""


@dataclass(frozen=True)
class Decision:
    """The state of a claim after `n` values.

    `decided` is the number of values after which the claim was decided, None while it is not.
    `p_value` is valid at any time: 1 / the largest capital so far, of the test that is nearer to a
    decision.
    """

    value: Value
    decided: int | None
    p_value: float
    n: int

    @property
    def e_value(self) -> float:
        """The largest capital so far; infinite where a value was impossible under the null."""
        return 1 / self.p_value if self.p_value else float("inf")


def log_capital(values: NDArray[Any], mean: float) -> Double:
    """Logarithm of the capital after each value (..., N) of bets against `mean` or less.

    Values and `mean` are in [0, 1]. A value above 0 cannot be where the mean is 0: the capital is
    infinite from there on.
    """
    x = np.asarray(values, np.float64)
    if x.size and not (x.min() >= 0 and x.max() <= 1):
        raise expected("values in [0, 1]", least=float(x.min()), largest=float(x.max()))
    if not 0 <= mean <= 1:
        raise expected("a mean in [0, 1]", mean=mean)
    ratio = np.where(x > 0, np.inf, 0.0) if mean == 0 else x / mean
    # In logarithms: a capital that grows with every value soon exceeds float64.
    total = np.full(x.shape, -np.inf)
    for fraction in FRACTIONS:
        total = np.logaddexp(total, np.cumsum(np.log1p(fraction * (ratio - 1)), axis=-1))
    return np.asarray(total - np.log(len(FRACTIONS)))


def p_values(values: NDArray[Any], mean: float) -> Double:
    """p-value of `the mean is this or less` after each value (..., N); valid at any time."""
    largest = np.maximum.accumulate(log_capital(values, mean), axis=-1)
    return np.asarray(np.exp(-np.maximum(largest, 0.0)))


def mean_at_least(values: NDArray[Any], bound: float, alpha: float) -> Decision:
    """Whether the mean of values (N,) in [0, 1] is `bound` or more.

    Each error has probability `alpha` at most, at whatever time one stops: `violated` where the
    mean is that large, `holds` where it is not.
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not 0 < alpha < 1:
        raise expected("values (N,) and alpha in (0, 1)", shape=x.shape, alpha=alpha)
    tests: dict[Value, Double] = {"holds": p_values(x, bound)}
    tests["violated"] = p_values(1 - x, 1 - bound)
    first = {value: int(np.argmax(p <= alpha)) for value, p in tests.items() if _last(p) <= alpha}
    if not first:
        return Decision("undecided", None, min(map(_last, tests.values())), len(x))
    value = min(first, key=lambda claim: first[claim])
    return Decision(value, first[value] + 1, _last(tests[value]), len(x))


def accuracy_at_least(right: NDArray[np.bool_], least: float, alpha: float) -> Decision:
    """Whether a model is right, bool (N,), on a share of `least` of all samples or more."""
    return mean_at_least(np.asarray(right, bool), least, alpha)


def lost_at_most(
    before: NDArray[np.bool_], now: NDArray[np.bool_], limit: float, alpha: float
) -> Decision:
    """Whether the share of right samples fell by `limit` or less, from pairs of bool (N,)."""
    return mean_at_least(gains(before, now), (1 - limit) / 2, alpha)


def gains(before: NDArray[np.bool_], now: NDArray[np.bool_]) -> Double:
    """1 where only `now` is right, 0 where only `before` is, 1/2 where they agree."""
    first, second = np.asarray(before, bool), np.asarray(now, bool)
    if first.shape != second.shape:
        raise expected("two results of the same samples", before=first.shape, now=second.shape)
    return np.asarray((1 + second.astype(np.float64) - first) / 2)


def confidence_sequence(values: NDArray[Any], level: float = 0.95) -> tuple[Double, Double]:
    """Lower and upper bounds of the mean after each value (N,): all of them cover it together.

    They enclose the means that neither side's bets ever refused at (1 - level) / 2, rounded
    outwards to a millionth; [0, 1] before any mean was refused.
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not 0 < level < 1:
        raise expected("values (N,) and a level in (0, 1)", shape=x.shape, level=level)
    low, high = (_refused(side, (1 - level) / 2) for side in (x, 1 - x))
    return low, np.maximum(1 - high, low)


def _refused(x: Double, alpha: float) -> Double:
    """The largest mean that was refused after each value; the smaller ones were, too."""
    # The capital depends only on how often each distinct value came: few, with 0, 1/2 and 1.
    distinct, which = np.unique(x, return_inverse=True)
    counts = np.cumsum(which[:, None] == np.arange(len(distinct)), axis=0)
    low, high = np.zeros(len(x)), np.ones(len(x))
    for _ in range(20):  # bisection to 2**-20, a millionth
        middle = (low + high) / 2
        gain = distinct / middle[:, None] - 1
        logs = [(counts * np.log1p(fraction * gain)).sum(axis=1) for fraction in FRACTIONS]
        capital = np.logaddexp.reduce(logs, axis=0) - np.log(len(FRACTIONS))
        refused = capital >= -np.log(alpha)
        low, high = np.where(refused, middle, low), np.where(refused, high, middle)
    return np.maximum.accumulate(low) if len(x) else low


def _last(p: Double) -> float:
    return float(p[-1]) if len(p) else 1.0
