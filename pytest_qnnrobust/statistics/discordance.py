"""Yes-or-no results of two models on the same images: an exact test of their difference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.statistics.paired import Alternative, Interval, proportion_interval

UNSEARCHED = 1e-5
"""Probability that the interval in which the nuisance rate is searched does not cover it."""
ORDERING_SCORE = 1.6448536269514722
"""Tango's score at the limit that orders tables: the 0.95 quantile of the normal distribution."""
NEGLIGIBLE = 1e-10
"""Chance of a count that is left out: a thousand of them are a hundredth of `UNSEARCHED`."""
COARSE, FINE = 5, 10
"""Cells of nuisance rates in a standard deviation, and cells that each of those is cut into."""


@dataclass(frozen=True)
class Discordance:
    """Counts of `n` paired yes/no results.

    `first_only` counts the pairs in which only the first is true, `second_only` only the second.
    """

    n: int
    first_only: int
    second_only: int

    @property
    def difference(self) -> float:
        """P(first) - P(second); 0 for no pairs."""
        return (self.first_only - self.second_only) / self.n if self.n else 0.0

    @property
    def rate(self) -> float:
        return (self.first_only + self.second_only) / self.n if self.n else 0.0


def discordance(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Discordance:
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.shape != second.shape or first.ndim != 1:
        raise expected("two results of the same samples", first=first.shape, second=second.shape)
    return Discordance(len(first), int(np.sum(first & ~second)), int(np.sum(second & ~first)))


def paired_proportion_test(
    pairs: Discordance, alternative: Alternative, bound: float = 0.0
) -> float:
    """p-value of P(first) - P(second) against `bound`, on the alternative's side; 1 for no pairs.

    Exact and unconditional: the largest probability, over the rates that the null hypothesis
    allows, of a table at least as extreme. Tables are ordered by Tango's confidence limit (1998),
    the same whatever the bound: p never falls as the bound comes nearer to the estimate, as in
    Buehler's limits for a designated statistic (Lloyd and Kabaila, 2003). The rate of one kind of
    discordant pairs is searched in its confidence interval, whose error is added to p (Berger and
    Boos, 1994).
    """
    if alternative == "less":
        return _exact_tail(pairs.n, pairs.second_only, pairs.first_only, -bound)
    return _exact_tail(pairs.n, pairs.first_only, pairs.second_only, bound)


@lru_cache(maxsize=1 << 14)
def _exact_tail(n: int, b: int, c: int, bound: float) -> float:
    """sup P(a table at least as extreme as (b, c) of n pairs) where P(b) - P(c) <= bound.

    Nuisance rates are taken in cells, each at the corner that makes extreme tables likeliest: the
    result is never below the supremum, and never falls as `bound` grows.
    """
    from scipy.special import betainc

    if n == 0 or c == n:
        return 1.0
    least_b = _least_extreme(n, b, c)
    interval = proportion_interval(c, n, 1 - UNSEARCHED)
    # In this scale a standard deviation is 1 / (2 sqrt(n)) everywhere.
    low, high = (float(np.arcsin(np.sqrt(end))) for end in (interval.low, interval.high))
    count = int(np.ceil((high - low) * 2 * np.sqrt(n) * COARSE))
    edges = np.sin(np.linspace(low, high, count * FINE + 1)) ** 2

    def tails(first: NDArray[np.float64], last: NDArray[np.float64]) -> NDArray[np.float64]:
        rate = np.minimum(first, 1 - 1e-15)
        top = np.clip(last + bound, 0, 1 - rate) / (1 - rate)
        chance = _binomial(n, rate)
        cell, other = np.nonzero((chance > NEGLIGIBLE) & (least_b <= n))
        least = least_b[other]
        beyond = betainc(np.maximum(least, 1), n - other - least + 1, top[cell])
        beyond[least == 0] = 1.0
        total = np.bincount(cell, chance[cell, other] * beyond, len(rate))
        return np.where(last + bound >= 0, total, 0.0)

    starts, stops = edges[:-1:FINE], edges[FINE::FINE]
    reached = tails(starts, starts).max()
    chosen = np.repeat(tails(starts, stops) >= reached, FINE)
    largest = tails(edges[:-1][chosen], edges[1:][chosen]).max(initial=0.0)
    return float(min(largest + UNSEARCHED, 1.0))


def _binomial(n: int, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chances of 0 to n successes at each rate, (rates, n + 1)."""
    from scipy.special import gammaln, xlog1py, xlogy

    k = np.arange(n + 1)
    ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    rate = rates[:, None]
    chances: NDArray[np.float64] = np.exp(ways + xlogy(k, rate) + xlog1py(n - k, -rate))
    return chances


@lru_cache(maxsize=1 << 14)
def _least_extreme(n: int, b: int, c: int) -> NDArray[np.int64]:
    """For every count of c, the smallest b of a table at least as extreme as (b, c); (n + 1,)."""
    limit = _lower_limit(Discordance(n, b, c), ORDERING_SCORE)
    others = np.arange(n + 1)
    low, high = np.zeros(n + 1, np.int64), n - others + 1
    while (low < high).any():
        middle = (low + high) // 2
        extreme = tango_scores(n, middle, others, limit) >= ORDERING_SCORE - 1e-7
        low, high = (
            np.where(extreme, low, np.minimum(middle + 1, high)),
            np.where(extreme, middle, high),
        )
    low[low > n - others] = n + 1
    return np.minimum.accumulate(low[::-1])[::-1]


def difference_interval(pairs: Discordance, level: float = 0.95) -> Interval:
    """Tango's score interval (1998) of P(first) - P(second); [-1, 1] for no pairs.

    It orders the tables of `paired_proportion_test`, and ends within a few tenths of a point of
    the limits that the exact test refuses, at a hundredth of their cost.
    """
    from scipy.stats import norm

    if pairs.n == 0:
        return Interval(-1.0, 1.0, level)
    score = float(norm.ppf((1 + level) / 2))
    swapped = Discordance(pairs.n, pairs.second_only, pairs.first_only)
    return Interval(_lower_limit(pairs, score), -_lower_limit(swapped, score), level)


def _lower_limit(pairs: Discordance, score: float) -> float:
    """The difference against which Tango's score is `score`; -1 where all pairs are second_only."""
    from scipy.optimize import brentq

    if pairs.second_only == pairs.n:
        return -1.0
    # The score is infinite or undefined at a difference of exactly -1.
    ends = -1 + 1e-12, pairs.difference
    return float(brentq(lambda d: _tango_score(pairs, d) - score, *ends, xtol=1e-13))


def _tango_score(pairs: Discordance, bound: float) -> float:
    return float(tango_scores(pairs.n, pairs.first_only, pairs.second_only, bound))


def tango_scores(n: int, b: Any, c: Any, bound: float) -> NDArray[np.float64]:
    """Tango's score (1998, eq. 3) of tables with counts b and c of n pairs, broadcast.

    (b - c - n*bound) / its standard deviation under the constrained estimate of P(c).
    """
    b, c = np.asarray(b, np.float64), np.asarray(c, np.float64)
    linear = -b - c + (2 * n - b + c) * bound
    constant = -c * bound * (1 - bound)
    second = (np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
    variance = n * np.maximum(2 * second + bound * (1 - bound), 0.0)
    distance = b - c - n * bound
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distance == 0, 0.0, distance / np.sqrt(variance))
