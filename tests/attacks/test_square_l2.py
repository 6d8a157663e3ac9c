"""Candidates of Square-L2 on a quantized input, made in two windows, against a dense oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_qnnrobust.attacks import SquareAttack
from pytest_qnnrobust.attacks.geometry import grids
from pytest_qnnrobust.attacks.square import windows
from pytest_qnnrobust.attacks.square.l2 import GridL2Search, redistribute_steps
from pytest_qnnrobust.attacks.target import Target
from tests.attacks.linear import quantized_problem
from tests.helpers.examples import examples

SHAPES = [(8, 8, 3), (11, 7, 1), (12, 4), (30,), (2, 2, 2)]
SAMPLES = 5


@st.composite
def searches(draw):
    """A search in its middle, the numbers of two candidates of each sample, a window's size."""
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(["int8", "int16"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    model, x, y = quantized_problem(dtype, shape, 2, samples=SAMPLES)
    x = model.grid.snap(np.clip(rng.uniform(-0.2, 1.2, x.shape), 0, 1))
    eps = draw(st.sampled_from([0.02, 0.3, 2.0]))
    target = Target(model, x, y, norm=2.0, eps=eps)
    search = GridL2Search(target, model.grid)
    rows = np.arange(SAMPLES - 1)
    points = target.seal(x + rng.normal(size=x.shape) * rng.choice([0.01, 0.3]))[rows]
    search.keep(rows, points.reshape(-1, *search.image))
    each = np.repeat(np.arange(SAMPLES), 2)
    numbers = rng.random((len(each), 5 + search.image[2]))
    share = draw(st.sampled_from([0.05, 0.3, 0.8]))
    return search, each, numbers, windows.window_size(share, search.image, 3)


def authors_step(delta, numbers, size, radius):
    """Algorithm 3 on one displacement (h, w, c) in steps; and where the best point stays."""
    height, width, channels = delta.shape
    delta = delta.copy()
    places = []
    for top, left in (numbers[:2], numbers[2:4]):
        top, left = int(top * (height - size[0] + 1)), int(left * (width - size[1] + 1))
        places.append((slice(top, top + size[0]), slice(left, left + size[1])))
    unused = max(radius**2 - (delta**2).sum(), 0)
    still = np.ones(delta.shape, bool)
    still[places[0]] = still[places[1]] = False
    old = delta[places[0]].copy()
    delta[places[0]] = 0
    freed = (delta[places[1]] ** 2).sum(axis=(0, 1))
    delta[places[1]] = 0
    mass = (old**2).sum(axis=(0, 1))
    (bumps,) = windows.two_bumps(*size, np.array([numbers[4] < 0.5]), 2)
    new = bumps[..., None] * np.where(numbers[5:] < 0.5, -1, 1) + old / (1e-10 + np.sqrt(mass))
    length = 1e-10 + np.sqrt((new**2).sum(axis=(0, 1)))
    delta[places[0]] = new * np.sqrt(unused / channels + mass + freed) / length
    return delta, still


@settings(max_examples=examples(150), deadline=None)
@given(case=searches())
def test_a_candidate_is_the_authors_update_within_the_budget(case):
    search, rows, numbers, size = case
    grid, eps = search.grid, search.eps
    found = redistribute_steps(search, rows, numbers, size)
    np.testing.assert_array_equal(found, grid.snap(found))
    assert found.min() >= 0
    assert found.max() <= 1
    for row, drawn, point in zip(rows, numbers, found, strict=True):
        clean, best = search.clean[row].astype(np.float64), search.best[row]
        before = np.rint((best - clean) / grid.scale)
        wanted, still = authors_step(before, drawn, size, eps / grid.scale)
        np.testing.assert_array_equal(point[still], best[still])
        steps = np.rint((point - clean) / grid.scale)
        limit = eps / grid.scale * (1 + grids.BUDGET_TOLERANCE)
        assert np.sqrt((steps**2).sum()) <= limit * (1 + 1e-12)
        low, high = np.rint(-clean / grid.scale), np.rint((1 - clean) / grid.scale)
        nearest = np.clip(np.rint(wanted), low, high)
        tie = np.abs(wanted - np.floor(wanted) - 0.5) < 1e-9
        undone = np.where(tie, 0, np.abs(nearest) - np.abs(steps))
        assert undone.min() == 0
        assert undone.max() <= 1
        if undone.any():
            last = (2 * np.abs(nearest[undone > 0]) - 1).max()
            assert (steps**2).sum() + last > limit**2


@settings(max_examples=examples(50), deadline=None)
@given(case=searches())
def test_the_spent_budget_is_that_of_the_best_points(case):
    search, rows, numbers, size = case
    candidates = redistribute_steps(search, rows, numbers, size)
    search.keep(rows[::2], candidates[::2])
    steps = np.rint((search.best.astype(np.float64) - search.clean) / search.grid.scale)
    np.testing.assert_array_equal(search.spent, (steps**2).sum(axis=(1, 2, 3)))


@pytest.mark.parametrize(("dtype", "slack"), [("int8", 0.02), ("int16", 1e-4)])
def test_the_budget_is_used_to_the_step(dtype, slack):
    model, x, y = quantized_problem(dtype, (10, 10, 3), 2, samples=6)
    result = SquareAttack(norm=2, eps=0.05, max_iter=40, p_init=0.5)(model, x, y)
    assert (~result.success).sum() >= 3
    assert (result.l2 <= 0.05 * (1 + grids.BUDGET_TOLERANCE)).all()
    np.testing.assert_allclose(result.l2[~result.success], 0.05, rtol=slack)
