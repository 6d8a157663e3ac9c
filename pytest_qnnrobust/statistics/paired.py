"""Confidence intervals and tests of models that are compared on the same images, in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected

Alternative = Literal["greater", "less"]


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval and its level."""

    low: float
    high: float
    level: float


def proportion_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Clopper and Pearson (1934): the exact interval of a proportion; [0, 1] for n = 0."""
    from scipy.special import betaincinv

    if n == 0:
        return Interval(0.0, 1.0, level)
    tail, failures = (1 - level) / 2, n - successes
    low = betaincinv(successes, failures + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, failures, 1 - tail) if failures else 1.0
    return Interval(float(low), float(high), level)


def proportion_test(successes: int, n: int, share: float, alternative: Alternative) -> float:
    """p-value of a proportion against `share`, exact binomial; 1 for n = 0."""
    from scipy.stats import binomtest

    return float(binomtest(successes, n, share, alternative).pvalue) if n else 1.0


def detectable_proportion(n: int, share: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest excess over `share` that `proportion_test` sees with `power`; 1 for n = 0."""
    from scipy.stats import binom

    if n == 0:
        return 1.0
    needed = int(binom.isf(alpha, n, share)) + 1
    shares = np.linspace(share, 1, 2001)
    seen = binom.sf(needed - 1, n, shares) >= power
    return float(shares[np.argmax(seen)] - share) if seen.any() else 1.0


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
    """p-value of P(first) - P(second) against `bound`, on the alternative's side.

    At `bound` 0 McNemar's exact test (1947): binomial on the discordant pairs. Elsewhere
    Tango's score test (1998, eq. 3), whose asymptotic statistic at 0 is McNemar's.
    """
    from scipy.stats import binomtest, norm

    if bound == 0:
        total = pairs.first_only + pairs.second_only
        return float(binomtest(pairs.first_only, total, 0.5, alternative).pvalue) if total else 1.0
    score = _tango_score(pairs, bound)
    return float(norm.sf(score) if alternative == "greater" else norm.cdf(score))


def difference_interval(pairs: Discordance, level: float = 0.95) -> Interval:
    """Tango's score interval (1998) of P(first) - P(second); [-1, 1] for no pairs."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    if pairs.n == 0:
        return Interval(-1.0, 1.0, level)
    z = norm.ppf((1 + level) / 2)
    # The score is infinite or undefined at differences of exactly -1 and 1.
    centre, edge = pairs.difference, 1 - 1e-12

    def root(score: float, low: float, high: float, at_edge: float) -> float:
        def excess(bound: float) -> float:
            return _tango_score(pairs, bound) - score

        if low >= high or excess(low) * excess(high) > 0:
            return at_edge
        return float(brentq(excess, low, high, xtol=1e-10))

    low = root(z, -edge, centre - 1e-9, -1.0)
    high = root(-z, centre + 1e-9, edge, 1.0)
    return Interval(low, high, level)


def _tango_score(pairs: Discordance, bound: float) -> float:
    """(b - c - n*bound) / its standard deviation under the constrained estimate of P(c)."""
    n, b, c = pairs.n, pairs.first_only, pairs.second_only
    if n == 0:
        return 0.0
    linear = -b - c + (2 * n - b + c) * bound
    constant = -c * bound * (1 - bound)
    second = (np.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
    variance = n * max(2 * second + bound * (1 - bound), 0.0)
    distance = b - c - n * bound
    if variance <= 0:
        return float(np.copysign(np.inf, distance)) if distance else 0.0
    return float(distance / np.sqrt(variance))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (1979): below alpha together with probability alpha at most."""
    order = np.argsort(np.asarray(p_values, np.float64), kind="stable")
    adjusted = np.ones(len(order))
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = largest
    return [float(p) for p in adjusted]


def signed_rank_test(differences: NDArray[Any], alternative: Alternative) -> float:
    """p-value of Wilcoxon's signed rank test (1945) that the differences are centred off 0.

    Exact for up to 50 differences without ties or zeros; zeros are dropped. 1 where none is left.
    """
    from scipy.stats import wilcoxon

    nonzero = np.asarray(differences, np.float64)
    nonzero = nonzero[nonzero != 0]
    if not len(nonzero):
        return 1.0
    return float(wilcoxon(nonzero, alternative=alternative, method="auto").pvalue)


def superiority(
    first: NDArray[Any], second: NDArray[Any], level: float = 0.95
) -> tuple[float, Interval]:
    """P(first > second) + P(equal) / 2 of two independent samples, and DeLong's interval (1988).

    [0, 1] where a sample has fewer than two values.
    """
    from scipy.stats import norm, rankdata

    a, b = (np.asarray(values, np.float64) for values in (first, second))
    if min(len(a), len(b)) == 0:
        return 0.5, Interval(0.0, 1.0, level)
    ranks = rankdata(np.concatenate([a, b]))
    # DeLong's placements: the share of the other sample below each value, ties counted half.
    above_b = (ranks[: len(a)] - rankdata(a)) / len(b)
    above_a = (ranks[len(a) :] - rankdata(b)) / len(a)
    theta = float(above_b.mean())
    if min(len(a), len(b)) < 2:
        return theta, Interval(0.0, 1.0, level)
    variance = np.var(above_b, ddof=1) / len(a) + np.var(above_a, ddof=1) / len(b)
    reach = float(norm.ppf((1 + level) / 2) * np.sqrt(variance))
    return theta, Interval(max(theta - reach, 0.0), min(theta + reach, 1.0), level)


def rank_sum_test(first: NDArray[Any], second: NDArray[Any], alternative: Alternative) -> float:
    """p-value of Mann and Whitney's test (1947) that `first` tends to be greater (or less).

    The two samples are independent. 1 where one of them is empty.
    """
    from scipy.stats import mannwhitneyu

    if not len(first) or not len(second):
        return 1.0
    return float(mannwhitneyu(first, second, alternative=alternative).pvalue)


def location_interval(differences: NDArray[Any], level: float = 0.95) -> tuple[float, Interval]:
    """Hodges and Lehmann (1963): median of the pairwise means, and its rank-based interval."""
    from scipy.stats import norm

    d = np.asarray(differences, np.float64)
    n = len(d)
    if n == 0:
        return 0.0, Interval(-np.inf, np.inf, level)
    rows, columns = np.triu_indices(n)
    walsh = np.sort((d[rows] + d[columns]) / 2)
    # Normal approximation of the signed rank statistic: mean n (n + 1) / 4, this deviation.
    spread = norm.ppf((1 + level) / 2) * np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    cut = int(np.floor(n * (n + 1) / 4 - spread))
    centre = float(np.median(walsh))
    if cut < 1:
        return centre, Interval(-np.inf, np.inf, level)
    return centre, Interval(float(walsh[cut - 1]), float(walsh[-cut]), level)


def detectable_difference(
    n: int, discordant_rate: float, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest difference of two paired proportions that n pairs show (one-sided).

    Solves Connor (1987) for the difference: n d^2 = (z_alpha sqrt(r) + z_power sqrt(r - d^2))^2,
    where r is the discordant rate, at least d itself. 1 where not even that would show.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z_alpha, z_power = norm.ppf(1 - alpha), norm.ppf(power)

    def surplus(d: float) -> float:
        rate = min(max(discordant_rate, d), 1.0)
        needed = z_alpha * np.sqrt(rate) + z_power * np.sqrt(max(rate - d * d, 0.0))
        return float(n * d * d - needed**2)

    if n == 0 or surplus(1.0) <= 0:
        return 1.0
    return float(brentq(surplus, 1e-9, 1.0))


def detectable_shift(differences: NDArray[Any], alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest shift that a signed rank test on data as scattered as these would show.

    Normal approximation with the test's efficiency 3/pi against the t test; infinite for n < 2.
    """
    from scipy.stats import norm

    d = np.asarray(differences, np.float64)
    if len(d) < 2:
        return float("inf")
    z = norm.ppf(1 - alpha) + norm.ppf(power)
    return float(z * np.std(d, ddof=1) / np.sqrt(len(d) * 3 / np.pi))


def detectable_superiority(n: int, m: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest P(first > second) - 1/2 that samples of n and m values show (one-sided).

    Noether (1987), with the variance under equality. 0.5, the largest there is, where not even
    that would show.
    """
    from scipy.stats import norm

    if not n or not m:
        return 0.5
    z = norm.ppf(1 - alpha) + norm.ppf(power)
    return float(min(z * np.sqrt((n + m + 1) / (12 * n * m)), 0.5))


def samples_to_settle(
    n: int, effect: float, interval: Interval, bound: float = 0.0, power: float = 0.8
) -> float:
    """The number of samples, about, that show on which side of `bound` an effect of this size lies.

    `interval` is that of `effect` from n samples: its width shrinks with the square root of their
    number until the one-sided test of its level sees |effect - bound| with `power`. Infinite where
    the effect lies on the bound, NaN where the interval is not bounded.
    """
    from scipy.stats import norm

    z = norm.ppf((1 + interval.level) / 2)
    error = (interval.high - interval.low) / (2 * z)
    distance = abs(effect - bound)
    if not np.isfinite(error):
        return float("nan")
    if distance == 0:
        return float("inf")
    return float(n * ((z + norm.ppf(power)) * error / distance) ** 2)
