"""The parts of the Square attack against the formulas of its authors, written out."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks import SquareAttack
from pytest_qnnrobust.attacks.square import windows
from tests.attacks.linear import problem, quantized_problem

NORMS = [1, 2, np.inf]


@pytest.mark.parametrize(
    ("iteration", "divisor"),
    [
        (0, 1),
        (10, 1),
        (11, 2),
        (50, 2),
        (51, 4),
        (201, 8),
        (501, 16),
        (1001, 32),
        (2001, 64),
        (4001, 128),
        (6001, 256),
        (8001, 512),
        (9999, 512),
    ],
)
def test_the_share_of_pixels_halves_on_the_authors_schedule(iteration, divisor):
    assert windows.p_schedule(0.8, iteration, 10000) == 0.8 / divisor


def test_the_schedule_scales_with_the_number_of_iterations():
    long = [windows.p_schedule(0.05, 10 * i, 10000) for i in range(1000)]
    assert [windows.p_schedule(0.05, i, 1000) for i in range(1000)] == long


def test_without_rescale_a_short_run_is_the_beginning_of_a_long_one():
    model, x, y = problem((6, 6, 3), samples=6)
    settings = {"eps": 1e-4, "p_init": 0.8, "rescale": False}
    whole = SquareAttack(max_iter=120, **settings)(model, x, y)
    part = SquareAttack(max_iter=120, **settings)(model, x, y, query_budget=61)
    short = SquareAttack(max_iter=60, **settings)(model, x, y)
    np.testing.assert_array_equal(short.x_adv, part.x_adv)
    scaled = SquareAttack(max_iter=60, **settings | {"rescale": True})(model, x, y)
    assert not whole.success.any()
    assert (scaled.x_adv != short.x_adv).any()


@pytest.mark.parametrize(
    ("share", "image", "least", "size"),
    [
        (0.05, (32, 32, 3), 1, (7, 7)),
        (0.8, (32, 32, 3), 3, (29, 29)),
        (0.0001, (32, 32, 3), 1, (1, 1)),
        (0.0001, (32, 32, 3), 3, (3, 3)),
        (0.8, (49, 10, 1), 1, (40, 10)),
        (0.3, (1, 64, 1), 1, (1, 16)),
        (1.0, (2, 2, 1), 3, (2, 2)),
    ],
)
def test_windows_cover_the_share_and_fit_into_the_image(share, image, least, size):
    assert windows.window_size(share, image, least) == size


def authors_bump(rows: int, columns: int, norm: int) -> np.ndarray:
    """M^(k) of the paper's equation for eta: concentric rectangles around (rows//2, columns//2)."""
    total = np.zeros((rows, columns))
    for k in range(max(rows // 2, columns // 2) + 1):
        ring = np.zeros((rows, columns))
        top, left = max(rows // 2 - k, 0), max(columns // 2 - k, 0)
        ring[top : rows // 2 + k + 1, left : columns // 2 + k + 1] = 1 / (k + 1) ** (
            4 if norm == 1 else 2
        )
        total += ring
    return total / np.linalg.norm(total.ravel(), norm)


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("side", [3, 6, 7, 29])
def test_two_bumps_are_those_of_the_paper(side, norm):
    half = side // 2
    pair = np.vstack([authors_bump(half, side, norm), -authors_bump(side - half, side, norm)])
    pair /= np.linalg.norm(pair.ravel(), norm)
    upright, sideways = windows.two_bumps(side, side, np.array([True, False]), norm)
    np.testing.assert_allclose(upright, pair, atol=1e-12)
    np.testing.assert_allclose(sideways, pair.T, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1), (2, 9)])
def test_two_bumps_of_any_shape_have_unit_length(shape):
    for bump in windows.two_bumps(*shape, np.array([True, False])):
        assert np.linalg.norm(bump) == pytest.approx(1)


def test_linf_candidates_are_at_the_corners_of_the_ball():
    model, x, y = problem((8, 8, 3))
    eps = 1e-3
    result = SquareAttack(norm=np.inf, eps=eps, max_iter=30)(model, x, y)
    np.testing.assert_allclose(np.abs(result.x_adv - x), eps, rtol=1e-3)


def test_l2_candidates_use_the_whole_budget():
    model, x, y = problem((10, 10, 3))
    result = SquareAttack(norm=2, eps=0.01, max_iter=30, p_init=0.5)(model, x, y)
    np.testing.assert_allclose(result.l2, 0.01, rtol=1e-4)


def test_one_query_per_iteration_and_one_for_the_start():
    model, x, y = problem()
    result = SquareAttack(norm=np.inf, eps=1e-4, max_iter=17)(model, x, y)
    assert (result.queries == 18).all()


def test_l1_candidates_use_the_whole_budget_inside_the_bounds():
    model, x, y = problem((10, 10, 3))
    x[:, :3] = 1.0
    y = model.classify(x)
    eps = 0.2 * float(model.distance(x, 1).min())
    result = SquareAttack(norm=1, eps=eps, max_iter=60, p_init=0.5)(model, x, y)
    assert not result.success.any()
    assert (result.l1 <= eps).all()
    np.testing.assert_allclose(result.l1, eps, rtol=1e-4)
    assert result.x_adv.max() <= 1.0
    assert (result.l0 < x[0].size / 2).all()


@pytest.mark.parametrize("shape", [(10, 10, 1), (40,), (49, 10, 1), (12, 4)])
def test_square_l1_flips_what_it_can_and_nothing_else(shape):
    model, x, y = problem(shape, 2, samples=40)
    nearest = model.distance(x, 1)
    eps = 3 * float(np.median(nearest))
    result = SquareAttack(norm=1, eps=eps, max_iter=600, p_init=0.8)(model, x, y)
    assert not result.success[nearest > eps].any()
    assert result.success[nearest < 0.3 * eps].all()


@pytest.mark.parametrize("bounds", [(0.0, 255.0), (-7.0, 2.5)])
@pytest.mark.parametrize("shape", [(32, 32, 3), (96, 96, 3), (25,)])
def test_l1_results_are_inside_the_ball_on_any_domain(shape, bounds):
    model, x, y = problem(shape, 12, bounds, samples=3)
    eps = 0.5 * (bounds[1] - bounds[0])
    result = SquareAttack(norm=1, eps=eps, max_iter=20, p_init=0.8)(model, x, y)
    assert (result.l1 <= eps).all()
    assert result.x_adv.min() >= bounds[0]
    assert result.x_adv.max() <= bounds[1]
    np.testing.assert_array_equal(model.classify(result.x_adv), result.adv_label)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("norm", NORMS)
def test_every_question_counts_and_the_batch_does_not_matter(norm, dtype):
    model, x, y = quantized_problem(dtype, samples=12)
    eps = {
        "int8": {1: 1.0, 2: 0.12, np.inf: 0.008},
        "int16": {1: 0.3, 2: 0.04, np.inf: 0.004},
    }[dtype][norm]
    attack = SquareAttack(norm=norm, eps=eps, max_iter=120, p_init=0.3)
    whole = attack(model, x, y, seed=2)
    assert model.queries == whole.queries.sum() + 2 * len(x)
    assert whole.success.sum() > 0 or whole.queries.max() == 121
    for size in (7, 1):
        parts = attack(model, x, y, seed=2, batch_size=size)
        np.testing.assert_array_equal(parts.x_adv, whole.x_adv)
        np.testing.assert_array_equal(parts.queries, whole.queries)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("budget", [37, 83])
def test_a_query_budget_ends_the_walk(norm, budget):
    model, x, y = problem(samples=5)
    attack = SquareAttack(norm=norm, eps=1e-4, max_iter=100)
    result = attack(model, x, y, query_budget=budget)
    assert (result.queries == budget).all()
    assert result.exhausted.all()
    enough = attack(model, x, y, query_budget=101)
    assert not enough.exhausted.any()
    np.testing.assert_array_equal(enough.x_adv, attack(model, x, y).x_adv)
