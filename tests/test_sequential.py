"""Sequential tests: how often they err at any time, how soon they decide, what they must obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.integrate import quad
from scipy.stats import binom

from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.statistics import paired, sequential
from pytest_qnnrobust.statistics.sequential import (
    accuracy_at_least,
    confidence_sequence,
    gains,
    log_capital,
    lost_at_most,
    mean_at_least,
    p_values,
)
from tests.helpers.examples import examples

REPEATS, N = examples(2000), 300
SLACK = 3 * np.sqrt(0.05 * 0.95 / REPEATS)
"""Three standard errors of a rate of 0.05 over the repeats."""

values = hnp.arrays(np.float64, st.integers(1, 40), elements=st.sampled_from([0.0, 0.5, 1.0]))


def rights(rate, n=N, repeats=REPEATS, seed=0):
    return np.random.default_rng(seed).random((repeats, n)) < rate


def pairs(gain, loss, n=N, repeats=REPEATS, seed=0):
    """(before, now) with P(only now right) = gain and P(only before right) = loss."""
    rng = np.random.default_rng(seed)
    u, common = rng.random((repeats, n)), rng.random((repeats, n)) < 0.5
    gained, lost = u < gain, (u >= gain) & (u < gain + loss)
    agreed = common & ~gained & ~lost
    return agreed | lost, agreed | gained


def called(x, mean, alpha=0.05):
    """Of the repeats (rows), the share in which `the mean is this or less` was ever refused, and
    the mean number of values until then, N where it never was."""
    p = p_values(x, mean) <= alpha
    hit = p.any(axis=1)
    return hit.mean(), np.where(hit, p.argmax(axis=1) + 1, x.shape[1]).mean()


@pytest.mark.parametrize("rate", [0.02, 0.2, 0.35, 0.5, 0.8, 0.97])
def test_accuracy_at_its_threshold_is_called_wrongly_at_level_alpha(rate):
    right = rights(rate, seed=int(100 * rate))
    above, _ = called(right, rate)
    below, _ = called(1 - right, 1 - rate)
    assert above <= 0.05 + SLACK
    assert below <= 0.05 + SLACK


@pytest.mark.parametrize(
    ("gain", "loss", "limit"),
    [(0.0, 0.03, 0.03), (0.05, 0.08, 0.03), (0.2, 0.3, 0.1), (0.1, 0.1, 0.0), (0.0, 0.3, 0.3)],
)
def test_a_loss_at_its_limit_is_called_wrongly_at_level_alpha(gain, loss, limit):
    x = gains(*pairs(gain, loss, seed=int(1000 * loss)))
    bound = (1 - limit) / 2
    assert called(x, bound)[0] <= 0.05 + SLACK
    assert called(1 - x, 1 - bound)[0] <= 0.05 + SLACK


def test_looking_often_with_a_fixed_sample_test_errs_far_more_often():
    """What the sequential test is for: the same looks with the binomial test."""
    counts = rights(0.35).cumsum(axis=1)
    n = np.arange(1, N + 1)
    fixed = (binom.sf(counts - 1, n, 0.35) <= 0.05).any(axis=1).mean()
    assert fixed > 0.15 > called(rights(0.35), 0.35)[0]


@pytest.mark.parametrize(("rate", "most"), [(0.0, 12), (0.1, 30), (0.6, 45), (0.9, 12)])
def test_accuracy_far_from_its_threshold_is_decided_in_few_samples(rate, most):
    right, least = rights(rate), 0.35
    share, stopped = called(right, least) if rate > least else called(1 - right, 1 - least)
    assert share > 0.99
    assert stopped < most < N / 4


@pytest.mark.parametrize(("gain", "loss", "most"), [(0.0, 0.3, 35), (0.02, 0.4, 30)])
def test_a_large_loss_is_decided_in_a_fraction_of_the_samples(gain, loss, most):
    share, stopped = called(1 - gains(*pairs(gain, loss)), 1 - 0.97 / 2)
    assert share > 0.99
    assert stopped < most < N / 4


def test_a_loss_of_none_takes_about_as_many_as_a_fixed_sample():
    """With no loss seen, 1 - limit to the power of n has to fall below alpha: 99 for 3 points."""
    same = np.ones(N, bool)
    decided = lost_at_most(same, same, 0.03, 0.05).decided
    assert decided is not None
    fixed = next(n for n in range(1, N) if 0.97**n <= 0.05)
    assert fixed <= decided <= 1.6 * fixed


@pytest.mark.parametrize(("rate", "fraction"), [(0.42, 0.5), (0.8, 0.1)])
def test_a_mixture_needs_fewer_samples_than_a_bet_on_another_rate(rate, fraction):
    right = rights(rate, n=1200, repeats=300)
    one = np.cumsum(np.log1p(fraction * (right / 0.35 - 1)), axis=1) >= np.log(20)
    single = np.where(one.any(axis=1), one.argmax(axis=1) + 1, 1200).mean()
    assert called(right, 0.35)[1] < 0.8 * single


def test_the_capital_of_yes_and_no_is_robbins_mixture():
    """Likelihood ratios against p = m, averaged over p uniform on (m, 1), by quadrature."""
    right, m = rights(0.5, n=40, repeats=1)[0], 0.35
    for n in (5, 20, 40):
        s = int(right[:n].sum())
        ratio = lambda p, s=s, n=n: (p / m) ** s * ((1 - p) / (1 - m)) ** (n - s)  # noqa: E731
        exact = quad(ratio, m, 1)[0] / (1 - m)
        assert np.exp(log_capital(right, m)[n - 1]) == pytest.approx(exact, rel=0.01)


def test_no_capital_grows_on_average_under_its_null():
    """Exactly, over all outcomes of eight samples, at the boundary and below it."""
    outcomes = (np.arange(256)[:, None] >> np.arange(8)) & 1
    capital = np.exp(log_capital(outcomes, 0.4))
    for rate, expectation in ((0.4, 1.0), (0.2, None)):
        weight = np.prod(np.where(outcomes, rate, 1 - rate), axis=1)
        mean = (weight[:, None] * capital).sum(axis=0)
        if expectation is None:
            assert (np.diff(mean) < 0).all()
        else:
            assert mean == pytest.approx(np.full(8, expectation))


@settings(max_examples=examples(60), deadline=None)
@given(values, st.floats(0.05, 0.95), st.randoms(use_true_random=False))
def test_the_order_of_values_before_a_look_does_not_matter(x, mean, random):
    mixed = list(x)
    random.shuffle(mixed)
    assert log_capital(np.array(mixed), mean)[-1] == pytest.approx(log_capital(x, mean)[-1])


@settings(max_examples=examples(60), deadline=None)
@given(values, st.floats(0.05, 0.9), st.floats(0.0, 0.09))
def test_what_is_refused_for_a_mean_is_refused_for_smaller_ones(x, mean, more):
    assert (p_values(x, mean) <= p_values(x, mean + more) * (1 + 1e-9)).all()


@settings(max_examples=examples(60), deadline=None)
@given(values, st.floats(0.05, 0.95), st.integers(0, 40))
def test_a_decision_is_never_taken_back_and_looks_at_no_later_sample(x, bound, cut):
    part, whole = (mean_at_least(each, bound, 0.2) for each in (x[:cut], x))
    if part.value != "undecided":
        assert (part.value, part.decided) == (whole.value, whole.decided)
    elif whole.decided is not None:
        assert whole.decided > len(x[:cut])


@settings(max_examples=examples(60), deadline=None)
@given(values, st.floats(0.05, 0.95))
def test_the_opposite_values_are_decided_the_other_way(x, bound):
    other = {"holds": "violated", "violated": "holds", "undecided": "undecided"}
    one, two = mean_at_least(x, bound, 0.1), mean_at_least(1 - x, 1 - bound, 0.1)
    assert two.value == other[one.value]
    assert two.decided == one.decided


def test_a_confidence_sequence_covers_the_mean_and_only_narrows():
    missed = 0
    for right in rights(0.4, n=60, repeats=150, seed=9):
        low, high = confidence_sequence(right, 0.9)
        assert (np.diff(low) >= 0).all()
        assert (np.diff(high) <= 0).all()
        missed += (low > 0.4).any() or (high < 0.4).any()
    assert missed / 150 <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 150)


def test_a_confidence_sequence_is_wider_than_an_interval():
    right = rights(0.6, n=200, repeats=1)[0]
    low, high = confidence_sequence(right, 0.9)
    fixed = paired.proportion_interval(int(right.sum()), 200, 0.9)
    assert low[-1] < fixed.low < fixed.high < high[-1]
    assert high[-1] - low[-1] < 0.3
    for bound in (0.3, low[-1] - 0.002, low[-1] + 0.002, 0.6):
        holds = accuracy_at_least(right, bound, 0.05).value == "holds"
        assert holds == (bound <= low[-1])


def test_edges():
    none, wrong = np.zeros(0, bool), np.zeros(30, bool)
    assert accuracy_at_least(none, 0.5, 0.05) == sequential.Decision("undecided", None, 1.0, 0)
    one_wrong = np.array([True, True, False, True])
    sure = accuracy_at_least(one_wrong, 1.0, 0.05)
    assert (sure.value, sure.decided, sure.p_value) == ("violated", 3, 0.0)
    assert sure.e_value == np.inf
    assert accuracy_at_least(~wrong, 1.0, 0.05).value == "undecided"
    assert accuracy_at_least(wrong, 0.35, 0.05).value == "violated"
    low, high = confidence_sequence(none)
    assert len(low) == len(high) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_at_least(np.array([0.2, 1.2]), 0.5, 0.05), r"values in \[0, 1\]"),
        (lambda: mean_at_least(np.array([np.nan]), 0.5, 0.05), r"values in \[0, 1\]"),
        (lambda: mean_at_least(np.zeros(3), 1.5, 0.05), r"a mean in \[0, 1\]"),
        (lambda: mean_at_least(np.zeros(3), 0.5, 0.0), r"alpha in \(0, 1\)"),
        (lambda: confidence_sequence(np.zeros((2, 3))), r"values \(N,\)"),
        (lambda: gains(np.zeros(3, bool), np.zeros(4, bool)), "results of the same samples"),
    ],
)
def test_mistakes_are_one_line(call, message):
    with pytest.raises(QnnRobustError, match=message):
        call()
