"""Intervals and tests against their definitions, published values and simulated error rates."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, norm, rankdata, wilcoxon

from benchmarks import sizes
from pytest_qnnrobust.claims.verdicts import Rule, accuracy_at_least, distance_at_least
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.statistics import paired
from pytest_qnnrobust.statistics.discordance import (
    UNSEARCHED,
    Discordance,
    difference_interval,
    discordance,
    paired_proportion_test,
    tango_scores,
)
from tests.helpers.examples import examples


def test_proportion_interval_is_clopper_and_pearson() -> None:
    # Clopper-Pearson at 0 of n has the closed form 1 - (alpha/2)^(1/n).
    interval = paired.proportion_interval(0, 20, 0.95)
    assert interval.low == 0.0
    assert interval.high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_no_samples_say_nothing() -> None:
    assert paired.proportion_interval(0, 0) == paired.Interval(0.0, 1.0, 0.95)
    empty = Discordance(0, 0, 0)
    assert difference_interval(empty) == paired.Interval(-1.0, 1.0, 0.95)
    assert paired_proportion_test(empty, "greater", -0.02) == 1.0
    assert paired.detectable_difference(0, 0.0) == 1.0


def test_discordance_counts_each_side() -> None:
    first = np.array([True, True, False, False, True])
    second = np.array([True, False, True, False, False])
    assert discordance(first, second) == Discordance(5, 2, 1)
    assert discordance(first, second).difference == pytest.approx(0.2)


def test_discordance_refuses_other_samples() -> None:
    with pytest.raises(QnnRobustError, match="same samples"):
        discordance(np.ones(3, bool), np.ones(4, bool))


@pytest.mark.parametrize("n", [1, 3, 6])
def test_all_pairs_on_one_side_have_the_chance_of_a_fair_coin(n: int) -> None:
    # Against no difference the worst case is that every pair is discordant, a coin for each.
    p = paired_proportion_test(Discordance(n, n, 0), "greater")
    assert 0.5**n <= p <= 0.5**n * 1.05 + 1e-4


def lower_limit(n: int, b: int, c: int) -> float:
    """Tango's lower limit of a table, by a search of differences; -1 where c is all."""
    if c == n:
        return -1.0
    score = lambda d: float(tango_scores(n, b, c, d)) - norm.ppf(0.95)  # noqa: E731
    return float(brentq(score, -1 + 1e-12, (b - c) / n))


@pytest.mark.parametrize("bound", [-0.1, 0.0, 0.03, 0.2])
def test_p_is_the_worst_case_over_the_rates_that_are_allowed(bound: float) -> None:
    """Against a plain search of all tables of 10 pairs on a grid of rates."""
    n = 10
    tables = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    limits = np.array([lower_limit(n, b, c) for b, c in tables])
    b, c = np.array(tables).T
    for table, limit in zip(tables, limits, strict=True):
        searched = paired.proportion_interval(table[1], n, 1 - UNSEARCHED)
        low, high = max(searched.low, -bound), min(searched.high, 1 - 1e-9)
        worst = 0.0
        if low <= high:
            rates = np.linspace(low, high, 401)[:, None]
            given_c = np.clip(rates + bound, 0, 1 - rates) / (1 - rates)
            chances = binom.pmf(c, n, rates) * binom.pmf(b, n - c, given_c)
            worst = chances[:, limits >= limit - 1e-7].sum(axis=1).max()
        p = paired_proportion_test(Discordance(n, *table), "greater", bound)
        assert min(worst, 1.0) <= p <= 1.06 * worst + 1e-4


tables = st.integers(1, 120).flatmap(
    lambda n: st.integers(0, n).flatmap(
        lambda b: st.tuples(st.just(n), st.just(b), st.integers(0, n - b))
    )
)


@given(tables, st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=5))
@settings(max_examples=examples(90))
def test_p_never_falls_as_the_limit_grows(table: tuple[int, int, int], limits: list[float]) -> None:
    pairs = Discordance(*table)
    rising = [paired_proportion_test(pairs, "greater", limit) for limit in sorted(limits)]
    assert rising == sorted(rising)
    falling = [paired_proportion_test(pairs, "less", limit) for limit in sorted(limits)]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize("bound", [-0.03, 0.0, 0.03, 0.1])
def test_no_true_difference_is_denied_more_often_than_the_level_says(bound: float) -> None:
    """By counting every table; `python -m benchmarks.sizes` does so up to 200 pairs."""
    assert all(sizes.paired_size(n, bound, rates=401) <= 0.05 for n in range(1, 16))
    assert sizes.paired_size(60, bound, rates=401) <= 0.05


def test_a_loss_at_no_limit_is_one_at_a_small_limit_first() -> None:
    """Four of twenty lost was inconclusive at 0 and worse than 0.1 points."""
    now, before = np.ones(20, bool), np.ones(20, bool)
    now[:4] = False
    values = [
        accuracy_at_least("a", ("now", now), ("then", before), Rule(margin=margin)).value
        for margin in (0.0, 0.001, 0.01, 0.03, 0.1)
    ]
    assert values == ["violated"] * 4 + ["inconclusive"]


@pytest.mark.parametrize(
    ("first", "second", "margin"), [(45 / 255, 50 / 255, 0.1), (0.56, 0.7, 0.2)]
)
def test_a_loss_of_exactly_the_margin_is_a_tie(first: float, second: float, margin: float) -> None:
    for dtype in (np.float32, np.float64):
        pair = [("n", np.full(8, value, dtype)) for value in (first, second)]
        verdict = distance_at_least("d", *pair, Rule(margin=margin))
        assert (verdict.value, verdict.p_value) == ("inconclusive", 1.0)


def test_no_discordant_pair_shows_no_difference() -> None:
    assert paired_proportion_test(Discordance(50, 0, 0), "less") == 1.0


def test_tango_interval_without_a_discordant_pair() -> None:
    # With no discordant pair the bounds have the closed form z^2 / (n + z^2).
    interval = difference_interval(Discordance(50, 0, 0), 0.95)
    edge = 1.959964**2 / (50 + 1.959964**2)
    assert (interval.low, interval.high) == pytest.approx((-edge, edge), abs=1e-6)


@pytest.mark.parametrize("pairs", [(200, 30, 12), (100, 0, 4), (40, 9, 9), (597, 1, 1)])
def test_the_interval_ends_where_the_exact_test_begins_to_refuse(pairs) -> None:
    table = Discordance(*pairs)
    interval = difference_interval(table, 0.90)
    for side, end in (("greater", interval.low), ("less", interval.high)):
        assert 0.03 < paired_proportion_test(table, side, end) < 0.09


@pytest.mark.parametrize("pairs", [(50, 50, 0), (50, 0, 50), (10, 1, 0), (1, 1, 0)])
def test_interval_contains_the_estimate_at_the_edges(pairs: tuple[int, int, int]) -> None:
    counts = Discordance(*pairs)
    interval = difference_interval(counts)
    assert -1 <= interval.low <= counts.difference <= interval.high <= 1


def test_signed_rank_of_all_positive_differences() -> None:
    assert paired.signed_rank_test(np.arange(1.0, 9.0), "greater") == pytest.approx(2**-8)


@pytest.mark.parametrize("d", [[3, -1, 1, 2, 2, -2, 5], [1, 1, -1, 1], [4, -1, 3, 2, 6, -5]])
def test_signed_rank_counts_every_assignment_of_signs(d: list[int]) -> None:
    ranks = rankdata(np.abs(d))
    statistics = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in product((False, True), repeat=len(d))
    ]
    observed = ranks[np.array(d) > 0].sum()
    expected = np.mean([s >= observed for s in statistics])
    assert paired.signed_rank_test(np.array(d), "greater") == pytest.approx(expected)
    assert paired.signed_rank_test(-np.array(d), "less") == pytest.approx(expected)


@pytest.mark.parametrize("n", [9, 50, 200])
def test_signed_rank_is_that_of_scipy(n: int) -> None:
    d = np.random.default_rng(n).normal(0.1, 1, n)
    for side in ("greater", "less"):
        expected = wilcoxon(d, alternative=side, method="exact").pvalue
        assert paired.signed_rank_test(d, side) == pytest.approx(expected, rel=1e-9)


def test_many_signed_ranks_are_near_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    d = np.random.default_rng(0).normal(0.1, 1, 250)
    exact = paired.signed_rank_test(d, "greater")
    monkeypatch.setattr(paired, "EXACT_RANKS", 0)
    assert paired.signed_rank_test(d, "greater") == pytest.approx(exact, rel=0.02)


def test_signed_rank_without_a_difference() -> None:
    assert paired.signed_rank_test(np.zeros(5), "greater") == 1.0
    assert paired.signed_rank_test(np.empty(0), "less") == 1.0


def test_location_of_symmetric_data() -> None:
    centre, interval = paired.location_interval(np.arange(-20.0, 21.0) + 3)
    assert centre == pytest.approx(3)
    assert interval.low < 3 < interval.high


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.data())
def test_a_pairwise_mean_is_that_of_the_sorted_list(
    values: list[float], data: st.DataObject
) -> None:
    d = np.sort(values)
    rows, columns = np.triu_indices(len(d))
    means = np.sort((d[rows] + d[columns]) / 2)
    rank = data.draw(st.integers(0, len(means) - 1))
    assert paired.pairwise_mean(d, rank) == means[rank]


def test_the_location_of_many_is_found_as_that_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    d = np.random.default_rng(0).normal(size=83).round(1)
    sorted_ones = paired.location_interval(d)
    monkeypatch.setattr(paired, "SORTED_PAIRS", 0)
    assert paired.location_interval(d) == sorted_ones


def test_location_of_too_few_samples_is_unbounded() -> None:
    _, interval = paired.location_interval(np.array([1.0, 2.0]))
    assert interval.low == -np.inf


def test_detectable_difference_follows_samples_and_discordance() -> None:
    found = [paired.detectable_difference(n, 0.1) for n in (20, 100, 1000)]
    assert found == sorted(found, reverse=True)
    assert paired.detectable_difference(200, 0.3) > paired.detectable_difference(200, 0.1)


def test_power_at_the_detectable_difference() -> None:
    rng = np.random.default_rng(0)
    n, rate = 400, 0.2
    d = paired.detectable_difference(n, rate, alpha=0.05, power=0.8)
    draws = rng.multinomial(n, [(rate + d) / 2, (rate - d) / 2, 1 - rate], size=300)
    p = [paired_proportion_test(Discordance(n, b, c), "greater") for b, c, _ in draws]
    assert 0.7 <= np.mean(np.array(p) <= 0.05) <= 0.9


@pytest.mark.parametrize(("margin", "rate"), [(0.0, 0.05), (0.0, 0.3), (0.05, 0.1), (0.02, 0.3)])
def test_false_alarm_rate_at_the_boundary(margin: float, rate: float) -> None:
    # 500 repeats at the worst true difference, -margin; 3 standard errors of 0.05 are 0.03.
    rng = np.random.default_rng(1)
    n = 200
    draws = rng.multinomial(n, [(rate - margin) / 2, (rate + margin) / 2, 1 - rate], size=500)
    p = [paired_proportion_test(Discordance(n, b, c), "less", -margin) for b, c, _ in draws]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 0.03


def test_superiority_counts_pairs() -> None:
    """Against a count of all pairs, ties as half; the interval holds the estimate."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, 9), rng.integers(0, 8, 14)
        pairs = np.sign(a[:, None] - b[None, :])
        share, interval = paired.superiority(a, b)
        assert share == pytest.approx((pairs.mean() + 1) / 2)
        assert interval.low <= share <= interval.high


def test_superiority_interval_covers_at_its_level() -> None:
    rng = np.random.default_rng(1)
    truth = 0.7602  # P(X > Y) for X ~ N(1, 1), Y ~ N(0, 1): the normal cdf at 1 / sqrt(2).
    covered = 0
    for _ in range(500):
        _, interval = paired.superiority(rng.normal(1, 1, 40), rng.normal(0, 1, 60), 0.9)
        covered += interval.low <= truth <= interval.high
    assert covered / 500 == pytest.approx(0.9, abs=0.045)


def test_an_empty_sample_has_no_rank() -> None:
    assert paired.superiority(np.empty(0), np.ones(3)) == (0.5, paired.Interval(0.0, 1.0, 0.95))
    assert paired.rank_sum_test(np.empty(0), np.ones(3), "greater") == 1.0
    assert paired.detectable_superiority(0, 3) == 0.5


def test_power_at_the_detectable_superiority() -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(2)
    effect = paired.detectable_superiority(80, 100)
    shift = np.sqrt(2) * norm.ppf(0.5 + effect)
    found = [
        paired.rank_sum_test(rng.normal(shift, 1, 80), rng.normal(0, 1, 100), "greater") <= 0.05
        for _ in range(400)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)


def test_samples_to_settle() -> None:
    interval = paired.Interval(-0.1, 0.1, 0.9)
    near, far = (paired.samples_to_settle(100, effect, interval) for effect in (0.01, 0.02))
    assert near == pytest.approx(4 * far)
    # Half a width of 0.1 at 1.645 standard errors; 0.01 needs 1.645 + 0.842 of them.
    assert near == pytest.approx(100 * ((1.644854 + 0.841621) * 0.1 / 1.644854 / 0.01) ** 2)
    assert paired.samples_to_settle(100, 0.02, interval, bound=0.01) == pytest.approx(near)
    assert paired.samples_to_settle(100, -0.02, interval, bound=-0.02) == np.inf
    assert np.isnan(paired.samples_to_settle(3, 0.1, paired.Interval(-np.inf, np.inf, 0.9)))
