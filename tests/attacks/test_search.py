"""What attacks share: the search for a constant, the best point so far, Adam."""

from __future__ import annotations

import numpy as np

from pytest_qnnrobust.attacks.search import Adam, Best, ConstantSearch, ElementwiseAdam


def test_a_constant_grows_tenfold_and_is_then_bisected():
    search = ConstantSearch(2, 1.0, largest=50.0)
    search.narrow(np.array([False, False]))
    np.testing.assert_array_equal(search.constant, [10.0, 10.0])
    search.narrow(np.array([True, False]))
    np.testing.assert_array_equal(search.constant, [(1 + 10) / 2, 50.0])
    np.testing.assert_array_equal(search.without_success, [False, True])
    search.narrow(np.array([False, False]))
    np.testing.assert_array_equal(search.constant, [(5.5 + 10) / 2, 50.0])
    search.repeat_smallest_success()
    np.testing.assert_array_equal(search.constant, [10.0, 50.0])


def test_a_preferred_point_comes_before_a_cheaper_one():
    best, rows = Best(3), np.array([0, 2])
    assert best.update(rows, np.array([1.0, 1.0])).all()
    better = best.update(rows, np.array([5.0, 0.5]), np.array([True, False]))
    np.testing.assert_array_equal(better, [True, True])
    better = best.update(rows, np.array([2.0, np.nan]), np.array([False, False]))
    np.testing.assert_array_equal(better, [False, False])
    np.testing.assert_array_equal(best.cost, [5.0, np.inf, 0.5])


def test_the_first_step_of_adam_has_the_length_of_its_rate():
    variables = np.zeros((2, 3), np.float32)
    Adam(variables).descend(variables, np.full((2, 3), 7, np.float32), np.array([0.1, 0.2]))
    np.testing.assert_allclose(variables, [[-0.1] * 3, [-0.2] * 3], rtol=1e-6)


def test_an_element_that_rests_keeps_its_step_count():
    resting, moving = ElementwiseAdam((1, 2)), ElementwiseAdam((1, 2))
    row, gradient = np.array([0]), np.array([[3.0, -1.0]])
    resting.step(row, gradient, np.array([[False, True]]))
    late = resting.step(row, gradient, np.array([[True, True]]))[0, 0]
    assert late == moving.step(row, gradient, np.array([[True, True]]))[0, 0]
