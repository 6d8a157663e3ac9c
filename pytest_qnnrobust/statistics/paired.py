"""Confidence intervals and tests of models that are compared on the same images, in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Alternative = Literal["greater", "less"]

EXACT_RANKS = 300
"""Differences up to which every assignment of signs is counted: 300 take 40 ms."""
SORTED_PAIRS = 500
"""Values whose pairwise means are made and sorted; of more, single ones are searched for."""


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

    Exact for up to `EXACT_RANKS` differences, ties among them included: every sign is as likely
    for the ranks that there are. Beyond that, the normal approximation with its correction for
    continuity. Zeros are dropped; 1 where none is left.
    """
    from scipy.stats import rankdata, wilcoxon

    d = np.asarray(differences, np.float64)
    d = d[d != 0] * (1 if alternative == "greater" else -1)
    if not len(d):
        return 1.0
    if len(d) > EXACT_RANKS:
        return float(wilcoxon(d, alternative="greater", method="approx", correction=True).pvalue)
    doubled = np.rint(2 * rankdata(np.abs(d))).astype(np.int64)
    chance = np.zeros(doubled.sum() + 1)
    chance[0] = 1.0
    for rank in doubled:
        chance[rank:] += chance[:-rank].copy()
        chance /= 2
    return float(min(chance[doubled[d > 0].sum() :].sum(), 1.0))


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

    d = np.sort(np.asarray(differences, np.float64))
    n = len(d)
    if n == 0:
        return 0.0, Interval(-np.inf, np.inf, level)
    # Normal approximation of the signed rank statistic: mean n (n + 1) / 4, this deviation.
    spread = norm.ppf((1 + level) / 2) * np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    cut, total = int(np.floor(n * (n + 1) / 4 - spread)), n * (n + 1) // 2
    middle = (total - 1) // 2, total // 2
    ranks = (*middle, cut - 1, total - cut) if cut >= 1 else middle
    if n <= SORTED_PAIRS:
        rows, columns = np.triu_indices(n)
        means = [float(mean) for mean in np.sort((d[rows] + d[columns]) / 2)[[*ranks]]]
    else:
        means = [pairwise_mean(d, rank) for rank in ranks]
    low, high = means[2:] or (-np.inf, np.inf)
    return (means[0] + means[1]) / 2, Interval(low, high, level)


def pairwise_mean(values: NDArray[np.float64], rank: int) -> float:
    """The mean of this rank, from 0, of the means of all pairs of sorted `values`, each with
    itself too: without making them all, in about 64 n log n steps.
    """
    rows = np.arange(len(values))

    def at_most(limit: float) -> int:
        low, high = rows.copy(), np.full(len(values), len(values))
        while (low < high).any():
            middle = (low + high) // 2
            inside = middle < high
            below = inside & ((values[rows] + values[np.minimum(middle, rows[-1])]) / 2 <= limit)
            low = np.where(below, middle + 1, low)
            high = np.where(inside & ~below, middle, high)
        return int((low - rows).sum())

    # Bisection over the floats themselves, which are ordered as these integers are.
    low, high = (_as_ordered(values[end]) for end in (0, -1))
    while low < high:
        middle = (low + high) // 2
        if at_most(_from_ordered(middle)) > rank:
            high = middle
        else:
            low = middle + 1
    return _from_ordered(low)


def _as_ordered(value: float) -> int:
    """The place of a float64 among all of them."""
    bits = int(np.float64(value + 0.0).view(np.int64))
    return bits if bits >= 0 else -(bits & (2**63 - 1))


def _from_ordered(place: int) -> float:
    magnitude = float(np.int64(abs(place)).view(np.float64))
    return magnitude if place >= 0 else -magnitude


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
