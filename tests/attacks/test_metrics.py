"""Distances and accuracies on values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust import metrics
from pytest_qnnrobust.errors import QnnRobustError


def test_four_distances():
    x = np.zeros((2, 2, 2), np.float32)
    x_adv = x.copy()
    x_adv[0] = [[3, 0], [0, -4]]
    found = metrics.distances(x_adv, x)
    assert [found.l0.tolist(), found.l1.tolist()] == [[2, 0], [7, 0]]
    assert [found.l2.tolist(), found.linf.tolist()] == [[5, 0], [4, 0]]
    assert all(a.dtype == np.float64 for a in (found.l0, found.l1, found.l2, found.linf))


def test_differences_are_taken_in_float64():
    x = np.full((1, 1), 1e8, np.float64)
    assert metrics.distances(x + 1, x).linf[0] == 1


def test_no_samples():
    found = metrics.distances(np.empty((0, 3)), np.empty((0, 3)))
    assert found.l2.shape == (0,)
    assert np.isnan(metrics.adversarial_accuracy(*[np.empty(0, int)] * 3))
    assert np.isnan(metrics.mean_distance(np.empty(0), np.empty(0, bool)))


def test_accuracy_over_all_and_among_the_correct():
    y, clean, adv = np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1]), np.array([0, 1, 1, 0])
    assert metrics.adversarial_accuracy(y, clean, adv) == 1 / 4
    assert metrics.adversarial_accuracy(y, clean, adv, among="correct") == 1 / 3
    assert metrics.evasion_rate(y, clean, adv) == 2 / 3
    assert metrics.evasion_rate(y, clean, adv, among="all") == 2 / 4
    assert np.isnan(metrics.evasion_rate(y, y + 1, adv))


def test_mean_distance_over_successes_and_over_all():
    distance, success = np.array([1.0, 3.0, 0.0, 0.0]), np.array([True, True, False, False])
    assert metrics.mean_distance(distance, success) == 2
    assert metrics.mean_distance(distance, success, over="all") == 1


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: metrics.lp_norm(np.zeros((1, 1)), 3), "norm to be one of 0, 1, 2, inf"),
        (lambda: metrics.distances(np.zeros((1, 2)), np.zeros((2, 1))), "two arrays of one shape"),
        (
            lambda: metrics.adversarial_accuracy(np.zeros(2), np.zeros(2), np.zeros(1)),
            "three label arrays of one shape",
        ),
        (
            lambda: metrics.adversarial_accuracy(*[np.zeros(1)] * 3, among="some"),
            "among to be 'all' or 'correct'",
        ),
        (
            lambda: metrics.mean_distance(np.zeros(1), np.zeros(1), over="some"),
            "over to be 'all' or 'successes'",
        ),
    ],
)
def test_bad_arguments(call, text):
    with pytest.raises(QnnRobustError, match=text):
        call()
