"""Intervals and tests against their definitions, published values and simulated error rates."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.statistics import paired


def test_proportion_interval_is_clopper_and_pearson() -> None:
    # Clopper-Pearson at 0 of n has the closed form 1 - (alpha/2)^(1/n).
    interval = paired.proportion_interval(0, 20, 0.95)
    assert interval.low == 0.0
    assert interval.high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_no_samples_say_nothing() -> None:
    assert paired.proportion_interval(0, 0) == paired.Interval(0.0, 1.0, 0.95)
    empty = paired.Discordance(0, 0, 0)
    assert paired.difference_interval(empty) == paired.Interval(-1.0, 1.0, 0.95)
    assert paired.paired_proportion_test(empty, "greater", -0.02) == 0.5
    assert paired.detectable_difference(0, 0.0) == 1.0


def test_discordance_counts_each_side() -> None:
    first = np.array([True, True, False, False, True])
    second = np.array([True, False, True, False, False])
    assert paired.discordance(first, second) == paired.Discordance(5, 2, 1)
    assert paired.discordance(first, second).difference == pytest.approx(0.2)


def test_discordance_refuses_other_samples() -> None:
    with pytest.raises(QnnRobustError, match="same samples"):
        paired.discordance(np.ones(3, bool), np.ones(4, bool))


def test_mcnemar_is_the_binomial_tail() -> None:
    pairs = paired.Discordance(100, 9, 3)
    tail = sum(comb(12, k) for k in range(9, 13)) / 2**12
    assert paired.paired_proportion_test(pairs, "greater") == pytest.approx(tail)


def test_no_discordant_pair_shows_no_difference() -> None:
    assert paired.paired_proportion_test(paired.Discordance(50, 0, 0), "less") == 1.0


def test_tango_interval_without_a_discordant_pair() -> None:
    # With no discordant pair the bounds have the closed form z^2 / (n + z^2).
    interval = paired.difference_interval(paired.Discordance(50, 0, 0), 0.95)
    edge = 1.959964**2 / (50 + 1.959964**2)
    assert (interval.low, interval.high) == pytest.approx((-edge, edge), abs=1e-6)


def test_tango_interval_inverts_the_test() -> None:
    pairs = paired.Discordance(200, 30, 12)
    interval = paired.difference_interval(pairs, 0.90)
    assert paired.paired_proportion_test(pairs, "greater", interval.low) == pytest.approx(0.05)
    assert paired.paired_proportion_test(pairs, "less", interval.high) == pytest.approx(0.05)


@pytest.mark.parametrize("pairs", [(50, 50, 0), (50, 0, 50), (10, 1, 0), (1, 1, 0)])
def test_interval_contains_the_estimate_at_the_edges(pairs: tuple[int, int, int]) -> None:
    counts = paired.Discordance(*pairs)
    interval = paired.difference_interval(counts)
    assert -1 <= interval.low <= counts.difference <= interval.high <= 1


def test_signed_rank_of_all_positive_differences() -> None:
    assert paired.signed_rank_test(np.arange(1.0, 9.0), "greater") == pytest.approx(2**-8)


def test_signed_rank_without_a_difference() -> None:
    assert paired.signed_rank_test(np.zeros(5), "greater") == 1.0
    assert paired.signed_rank_test(np.empty(0), "less") == 1.0


def test_location_of_symmetric_data() -> None:
    centre, interval = paired.location_interval(np.arange(-20.0, 21.0) + 3)
    assert centre == pytest.approx(3)
    assert interval.low < 3 < interval.high


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
    draws = rng.multinomial(n, [(rate + d) / 2, (rate - d) / 2, 1 - rate], size=1000)
    p = [paired.paired_proportion_test(paired.Discordance(n, b, c), "greater") for b, c, _ in draws]
    assert 0.72 <= np.mean(np.array(p) <= 0.05) <= 0.88


@pytest.mark.parametrize(("margin", "rate"), [(0.0, 0.05), (0.0, 0.3), (0.05, 0.1), (0.02, 0.3)])
def test_false_alarm_rate_at_the_boundary(margin: float, rate: float) -> None:
    # 2,000 repeats at the worst true difference, -margin; 3 standard errors of 0.05 are 0.015.
    rng = np.random.default_rng(1)
    n = 200
    draws = rng.multinomial(n, [(rate - margin) / 2, (rate + margin) / 2, 1 - rate], size=2000)
    p = [
        paired.paired_proportion_test(paired.Discordance(n, b, c), "less", -margin)
        for b, c, _ in draws
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 0.015


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
