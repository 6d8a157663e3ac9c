"""Shortest steps onto a hyperplane inside a box, against linear and quadratic programming."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_qnnrobust.attacks.geometry import balls, hyperplanes
from pytest_qnnrobust.attacks.geometry.ragged import Ragged
from tests.helpers.examples import examples

NORMS = [1.0, 2.0, np.inf]
BOUNDS = [(0.0, 1.0), (-7.0, 2.5)]


@st.composite
def planes(draw):
    """One point in a box, some of it on the bounds, and a slope with zeros and ties."""
    low, high = bounds = draw(st.sampled_from(BOUNDS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.integers(1, 7))
    x = np.clip(rng.uniform(low - 0.5, high + 0.5, size), low, high)
    slope = np.round(rng.normal(size=size), draw(st.integers(0, 3)))
    corner = np.where(slope > 0, high, low)
    reach = float(slope @ (corner - x))
    gap = draw(st.floats(0.01, 0.99)) * reach
    return x, slope, gap, bounds


def least_norm(x, slope, gap, bounds, norm):
    """The least norm of a step onto the plane, by SciPy."""
    from scipy import optimize

    size = len(x)
    room = list(zip(bounds[0] - x, bounds[1] - x, strict=True))
    if norm == 2:
        found = optimize.minimize(
            lambda d: d @ d,
            np.zeros(size),
            jac=lambda d: 2 * d,
            bounds=room,
            constraints={"type": "eq", "fun": lambda d: slope @ d - gap, "jac": lambda d: slope},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        return np.sqrt(found.fun)
    caps = size if norm == 1 else 1
    cost = np.concatenate([np.zeros(size), np.ones(caps)])
    cap = np.eye(size) if norm == 1 else np.ones((size, 1))
    above = np.block([[np.eye(size), -cap], [-np.eye(size), -cap]])
    found = optimize.linprog(
        cost,
        A_ub=above,
        b_ub=np.zeros(2 * size),
        A_eq=[np.concatenate([slope, np.zeros(caps)])],
        b_eq=[gap],
        bounds=room + [(0, None)] * caps,
    )
    return found.fun


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=examples(60), deadline=None)
@given(case=planes())
def test_the_step_is_the_shortest_onto_the_plane_inside_the_box(norm, case):
    x, slope, gap, bounds = case
    gaps = np.array([gap])
    step = hyperplanes.shortest_step(x[None], slope[None], gaps, bounds, norm)[0]
    assert slope @ step == pytest.approx(gap, abs=1e-9)
    assert (x + step >= bounds[0] - 1e-9).all()
    assert (x + step <= bounds[1] + 1e-9).all()
    length = np.linalg.norm(step, norm)
    assert length == pytest.approx(least_norm(x, slope, gap, bounds, norm), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_out_of_reach_the_step_ends_in_the_nearest_corner(norm, sign):
    rng = np.random.default_rng(1)
    x, slope = rng.uniform(size=(2, 3, 300))
    slope -= 0.5
    slope[:, :20] = 0.0
    step = hyperplanes.shortest_step(x, slope, np.full(3, sign * 1e4), (0.0, 1.0), norm)
    corner = np.where(sign * slope > 0, 1.0, 0.0)
    np.testing.assert_allclose((x + step)[:, 20:], corner[:, 20:], atol=1e-9)
    assert not step[:, :20].any()


@pytest.mark.parametrize("norm", NORMS)
def test_no_gap_no_step_and_no_slope_no_step(norm):
    x = np.full((2, 5), 0.5)
    slope = np.array([np.ones(5), np.zeros(5)])
    step = hyperplanes.shortest_step(x, slope, np.array([0.0, 1.0]), (0.0, 1.0), norm)
    np.testing.assert_array_equal(step, 0.0)


@pytest.mark.parametrize("norm", NORMS)
def test_single_precision_is_near_double_and_independent_of_the_batch(norm):
    rng = np.random.default_rng(2)
    x = np.clip(rng.uniform(-0.2, 1.2, (9, 3072)), 0, 1).astype(np.float32)
    slope = rng.normal(size=x.shape).astype(np.float32)
    gap = rng.uniform(-300, 300, 9).astype(np.float32)
    step = hyperplanes.shortest_step(x, slope, gap, (0.0, 1.0), norm)
    assert step.dtype == np.float32
    exact = hyperplanes.shortest_step(*(a.astype(float) for a in (x, slope, gap)), (0.0, 1.0), norm)
    np.testing.assert_allclose(
        np.linalg.norm(step, norm, axis=1), np.linalg.norm(exact, norm, axis=1), rtol=1e-4
    )
    for row in range(9):
        alone = slice(row, row + 1)
        single = hyperplanes.shortest_step(x[alone], slope[alone], gap[alone], (0.0, 1.0), norm)
        np.testing.assert_array_equal(single[0], step[row])


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 2**32), st.floats(0.001, 30), st.integers(1, 80))
def test_the_fast_l1_projection_is_the_exact_one(seed, eps, size):
    rng = np.random.default_rng(seed)
    x = np.clip(rng.uniform(-0.3, 1.3, (5, size)), 0, 1)
    step = rng.normal(size=x.shape) * rng.integers(0, 2, x.shape)
    found = balls.l1_ball_step(x, step, eps, (0.0, 1.0))
    exact = balls.l1_projection(step, *balls.rooms(x, (0.0, 1.0)), eps)
    assert (np.abs(found).sum(axis=1) <= eps).all()
    np.testing.assert_allclose(found, exact, atol=1e-5 * eps)


@st.composite
def ragged_rows(draw):
    """Rows of 1 to 60 elements, some on the bounds or without a step; whole rows may stay still."""
    low, high = bounds = draw(st.sampled_from(BOUNDS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    lengths = rng.integers(1, 61, draw(st.integers(1, 12)))
    count, span = lengths.sum(), high - low
    x = np.clip(rng.uniform(low - 0.3 * span, high + 0.3 * span, count), low, high)
    far = np.repeat(rng.choice([0, 0.001, 0.1, 3], len(lengths)), lengths) * span
    step = far * rng.normal(size=count) * rng.integers(0, 2, count)
    eps = draw(st.floats(0.001, 30)) * span
    return x, step, lengths, eps, bounds


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=examples(100), deadline=None)
@given(case=ragged_rows())
def test_rows_of_any_lengths_have_the_l1_projection_of_each_alone(dtype, case):
    x, step, lengths, eps, bounds = case
    x, step = x.astype(dtype), step.astype(dtype)
    found = balls.ragged_l1_ball_step(x, step, Ragged(lengths), eps, bounds)
    rounding = 100 * np.finfo(dtype).eps * (bounds[1] - bounds[0])
    assert found.dtype == dtype
    assert (x + found >= bounds[0] - rounding).all()
    assert (x + found <= bounds[1] + rounding).all()
    for end, length in zip(np.cumsum(lengths), lengths, strict=True):
        row = slice(end - length, end)
        alone = balls.ragged_l1_ball_step(x[row], step[row], Ragged([length]), eps, bounds)
        np.testing.assert_array_equal(found[row], alone)
        fall, rise = balls.rooms(x[row][None].astype(np.float64), bounds)
        exact = balls.l1_projection(step[row][None].astype(np.float64), fall, rise, eps)[0]
        assert np.abs(found[row]).sum(dtype=np.float64) <= eps * (1 + 1e-6)
        np.testing.assert_allclose(found[row], exact, atol=1e-5 * eps + rounding)
