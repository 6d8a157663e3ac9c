"""Projections against brute force, and budgets that hold exactly in float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pytest_qnnrobust.attacks.geometry import balls, grids
from pytest_qnnrobust.attacks.geometry.ragged import Ragged
from pytest_qnnrobust.attacks.geometry.steepest import steepest
from pytest_qnnrobust.metrics import lp_norm
from tests.attacks.linear import grid_for
from tests.helpers.examples import examples

BOUNDS = (0.0, 1.0)
ELEMENTS = st.floats(0, 1, width=32)
SLOPES = st.sampled_from([0.0]) | st.floats(-5, 5).filter(lambda v: abs(v) > 1e-6)


def pictures(n=3, size=7):
    return arrays(np.float32, (n, size), elements=ELEMENTS)


@settings(max_examples=examples(200), deadline=None)
@given(
    pictures(),
    arrays(np.float64, (3, 7), elements=st.floats(-2, 3)),
    st.sampled_from([1.0, 2.0, np.inf]),
    st.floats(1e-9, 2),
)
def test_projected_points_are_inside_ball_and_bounds_to_the_last_bit(clean, x, norm, eps):
    inside = balls.project(x, clean, norm, eps, BOUNDS)
    assert inside.dtype == np.float32
    assert (lp_norm(inside.astype(np.float64) - clean, norm) <= eps).all()
    assert (inside >= 0).all()
    assert (inside <= 1).all()
    np.testing.assert_allclose(
        balls.project(inside, clean, norm, eps, BOUNDS), inside, rtol=0, atol=2e-7
    )


@settings(max_examples=examples(100), deadline=None)
@given(
    arrays(np.float64, (2, 6), elements=st.floats(-3, 3)),
    arrays(np.float64, (2, 6), elements=st.floats(0, 1)),
    arrays(np.float64, (2, 6), elements=st.floats(0, 1)),
    st.floats(0.01, 4),
)
def test_l1_projection_is_soft_thresholding_at_the_bisected_level(delta, fall, rise, eps):
    room = np.where(delta > 0, rise, fall)

    def shrunk(level):
        return np.clip(np.abs(delta) - level[:, None], 0, room)

    low, high = np.zeros(2), np.full(2, 4.0)
    for _ in range(60):
        middle = (low + high) / 2
        too_long = shrunk(middle).sum(axis=1) > eps
        low, high = np.where(too_long, middle, low), np.where(too_long, high, middle)
    level = np.where(shrunk(np.zeros(2)).sum(axis=1) > eps, high, 0.0)
    expected = np.sign(delta) * shrunk(level)
    found = balls.l1_projection(delta, fall, rise, eps)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@settings(max_examples=examples(100), deadline=None)
@given(
    arrays(np.float64, (2, 5), elements=SLOPES),
    pictures(2, 5),
    st.sampled_from([1.0, 2.0, np.inf]),
    st.floats(0.01, 3),
    st.integers(0, 1000),
)
def test_no_other_step_raises_a_linear_function_more(slope, clean, norm, eps, seed):
    step = steepest(slope, clean, norm, eps, BOUNDS)
    assert (lp_norm(step, norm) <= eps * (1 + 1e-9)).all()
    assert ((clean + step >= -1e-12) & (clean + step <= 1 + 1e-12)).all()
    gain = (slope * step).sum(axis=1)
    rng = np.random.default_rng(seed)
    for _ in range(50):
        other = rng.normal(size=slope.shape) * (rng.random(slope.shape) < 0.7)
        other *= eps / np.maximum(lp_norm(other, norm), 1e-9)[:, None]
        other = np.clip(clean + other, 0, 1) - clean
        assert (gain >= (slope * other).sum(axis=1) - 1e-9).all()


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@settings(max_examples=examples(100), deadline=None)
@given(
    x=arrays(np.float64, (3, 7), elements=st.floats(-1, 2)),
    clean=pictures(),
    norm=st.sampled_from([1.0, 2.0, np.inf]),
    eps=st.floats(1e-4, 2),
)
def test_grid_points_stay_inside_the_ball_and_lose_little(dtype, x, clean, norm, eps):
    grid = grid_for(dtype, BOUNDS)
    clean = grid.snap(clean)
    found = grids.project_to_grid(x, clean, norm, eps, BOUNDS, grid)
    steps = grid.quantize(found).astype(int) - grid.quantize(clean)
    np.testing.assert_array_equal(grid.snap(found), found)
    assert (lp_norm(steps * grid.scale, norm) <= eps * (1 + grids.BUDGET_TOLERANCE)).all()
    free = balls.project(x, clean, norm, eps, BOUNDS)
    assert np.abs(found - free).max() <= grid.scale * 1.001


@pytest.mark.parametrize("norm", [1.0, 2.0, np.inf])
def test_a_batch_of_several_parts_goes_where_each_row_goes_alone(norm):
    rng = np.random.default_rng(0)
    grid = grid_for("int8", BOUNDS)
    clean = grid.snap(rng.random((11, balls.TOGETHER // 4)))
    x = clean + rng.normal(0, 0.02, clean.shape)
    eps = {1.0: 300.0, 2.0: 3.0, np.inf: 0.03}[norm]
    whole = grids.project_to_grid(x, clean, norm, eps, BOUNDS, grid)
    for row in range(len(x)):
        part = slice(row, row + 1)
        alone = grids.project_to_grid(x[part], clean[part], norm, eps, BOUNDS, grid)
        np.testing.assert_array_equal(whole[part], alone)
    assert (whole != clean).any(axis=1).all()


@settings(max_examples=examples(200), deadline=None)
@given(
    arrays(np.float32, 12, elements=st.floats(-1, 1, width=32) | st.sampled_from([0.0, -0.0])),
    st.floats(1e-46, 3),
)
def test_the_linf_box_ends_at_the_last_float32_values_within_the_budget(clean, eps):
    bounds = (-1.0, 1.0)
    least, most = balls.linf_box(clean[None], eps, bounds)
    lowest, highest = (clean.astype(np.float64) + way for way in (-eps, eps))
    for end, limit, bound, way in ((least[0], lowest, -1, -np.inf), (most[0], highest, 1, np.inf)):
        outside = np.nextafter(end, np.float32(way)).astype(np.float64)
        inwards = -np.sign(way)
        assert (inwards * (end.astype(np.float64) - limit) >= 0).all()
        assert ((inwards * (outside - limit) < 0) | (end == bound)).all()


def test_eight_of_255_hold_eight_steps_of_a_pixel_grid():
    grid = grid_for("int8", BOUNDS)
    assert grids.whole_steps(8 / 255, grid) == 8
    assert grids.whole_steps(7.99 / 255, grid) == 7


@pytest.mark.parametrize(("text", "steps"), [("0.0078431", 2), ("0.0313", 7), ("0.031372", 8)])
def test_a_budget_of_whole_steps_may_be_written_with_a_few_digits(text, steps):
    grid = grid_for("int8", BOUNDS)
    assert grids.whole_steps(float(text), grid) == steps


def test_bounds_that_float32_cannot_hold_are_narrowed():
    low, high = balls.float32_bounds((0.1, 0.3))
    assert 0.1 <= float(low) < 0.1 + 1e-8
    assert 0.3 - 3e-8 < float(high) <= 0.3


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 3))
def test_rows_of_any_lengths_go_to_the_grid_points_of_each_alone(dtype, seed, eps):
    rng = np.random.default_rng(seed)
    grid = grid_for(dtype, BOUNDS)
    lengths = rng.integers(1, 40, 7)
    clean = grid.snap(np.clip(rng.uniform(-0.2, 1.2, lengths.sum()), 0, 1).astype(np.float32))
    starts = np.cumsum(lengths)[:-1]
    steps = []
    for row in np.split(clean.astype(np.float64), starts):
        wanted = rng.normal(size=(1, len(row))) * rng.integers(0, 2, len(row))
        fall, rise = balls.rooms(row[None], BOUNDS)
        steps.append(balls.l1_projection(wanted, fall, rise, eps * (1 - 1e-6))[0])
    shape = Ragged(lengths)
    found = grids.ragged_l1_to_grid(clean, np.concatenate(steps), shape, eps, BOUNDS, grid)
    np.testing.assert_array_equal(grid.snap(found), found)
    for row, step, point in zip(
        np.split(clean, starts), steps, np.split(found, starts), strict=True
    ):
        alone = grids.project_to_grid((row + step)[None], row[None], 1.0, eps, BOUNDS, grid)
        np.testing.assert_array_equal(point, alone[0])
