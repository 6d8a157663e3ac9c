"""The parts of the Square attack against the formulas of its authors, written out."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks import SquareAttack, square
from tests.attacks.linear import problem


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
    assert square.p_schedule(0.8, iteration, 10000) == 0.8 / divisor


def test_the_schedule_scales_with_the_number_of_iterations():
    long = [square.p_schedule(0.05, 10 * i, 10000) for i in range(1000)]
    assert [square.p_schedule(0.05, i, 1000) for i in range(1000)] == long


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
    assert square.window_size(share, image, least) == size


def authors_bump(rows: int, columns: int) -> np.ndarray:
    """M^(k) of the paper's equation for eta: concentric rectangles around (rows//2, columns//2)."""
    total = np.zeros((rows, columns))
    for k in range(max(rows // 2, columns // 2) + 1):
        ring = np.zeros((rows, columns))
        top, left = max(rows // 2 - k, 0), max(columns // 2 - k, 0)
        ring[top : rows // 2 + k + 1, left : columns // 2 + k + 1] = 1 / (k + 1) ** 2
        total += ring
    return total / np.linalg.norm(total)


@pytest.mark.parametrize("side", [3, 6, 7, 29])
def test_two_bumps_are_those_of_the_paper(side):
    half = side // 2
    pair = np.vstack([authors_bump(half, side), -authors_bump(side - half, side)])
    pair /= np.linalg.norm(pair)
    upright, sideways = square.two_bumps(side, side, np.array([True, False]))
    np.testing.assert_allclose(upright, pair, atol=1e-12)
    np.testing.assert_allclose(sideways, pair.T, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1), (2, 9)])
def test_two_bumps_of_any_shape_have_unit_length(shape):
    for bump in square.two_bumps(*shape, np.array([True, False])):
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
