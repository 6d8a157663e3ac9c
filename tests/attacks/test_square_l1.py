"""Candidates of Square-L1, computed on the displaced elements alone, against a dense oracle."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_qnnrobust.attacks.geometry import balls
from pytest_qnnrobust.attacks.square import windows
from pytest_qnnrobust.attacks.square.l1 import L1Search, refill
from pytest_qnnrobust.attacks.target import Target
from tests.attacks.linear import problem, quantized_problem
from tests.helpers.examples import examples

SHAPES = [(8, 8, 3), (11, 7, 1), (12, 4), (30,), (2, 2, 2)]
SAMPLES = 5


@st.composite
def searches(draw, dtypes):
    """A search in its middle, the numbers of two candidates of each sample, a window's size."""
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(dtypes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    build = problem if dtype is None else lambda *a, **k: quantized_problem(dtype, *a, **k)
    model, x, y = build(shape, 2, samples=SAMPLES)
    x = np.clip(rng.uniform(-0.2, 1.2, x.shape), 0, 1).astype(np.float32)
    x = x if dtype is None else model.grid.snap(x)
    share = draw(st.floats(0.05, 0.5))
    eps = draw(st.sampled_from([0.05, 0.5, 3.0]))
    target = Target(model, x, y, norm=1.0, eps=eps)
    search = L1Search(target)
    rows = np.arange(SAMPLES - 1)
    displaced = rng.normal(size=x.shape) * (rng.random(x.shape) < share) * rng.choice([0.01, 0.3])
    points = target.seal(x + displaced)[rows]
    search.keep(rows, points.reshape(-1, *search.image))
    each = np.repeat(np.arange(SAMPLES), 2)
    numbers = rng.random((len(each), 5 + search.image[2]))
    size = windows.window_size(share, search.image, 3)
    return search, each, numbers, size


def dense_step(clean, best, numbers, size, eps):
    """Croce and Hein's update of one displacement (h, w, c), projected; true where it has none."""
    height, width, channels = clean.shape
    delta = best.astype(np.float64) - clean
    places = []
    for top, left in (numbers[:2], numbers[2:4]):
        top, left = int(top * (height - size[0] + 1)), int(left * (width - size[1] + 1))
        places.append((slice(top, top + size[0]), slice(left, left + size[1])))
    first, second = places
    unused = max(eps - np.abs(delta).sum(), 0)
    old = delta[first].copy()
    delta[first] = 0
    freed = np.abs(delta[second]).sum(axis=(0, 1))
    delta[second] = 0
    mass = np.abs(old).sum(axis=(0, 1))
    (bumps,) = windows.two_bumps(*size, np.array([numbers[4] < 0.5]), 1)
    new = bumps[..., None] * np.where(numbers[5:] < 0.5, -1, 1) + old / (1e-10 + mass)
    new *= (unused / channels + mass + freed) / (1e-10 + np.abs(new).sum(axis=(0, 1)))
    delta[first] = new * channels
    fall, rise = balls.rooms(clean.astype(np.float64), (0.0, 1.0))
    return balls.l1_projection(delta[None], fall[None], rise[None], eps)[0], delta == 0


@settings(max_examples=examples(100), deadline=None)
@given(case=searches([None]))
def test_a_candidate_is_the_exact_projection_of_the_authors_update(case):
    search, rows, numbers, size = case
    eps = search.eps
    found = refill(search, rows, numbers, size)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    for row, drawn, point in zip(rows, numbers, found, strict=True):
        step, still = dense_step(search.clean[row], search.best[row], drawn, size, eps)
        moved = point.astype(np.float64) - search.clean[row]
        assert np.abs(moved).sum() <= eps
        np.testing.assert_allclose(moved, step, rtol=0, atol=1e-5 * eps + 1e-6)
        np.testing.assert_array_equal(point[still], search.clean[row][still])


@settings(max_examples=examples(100), deadline=None)
@given(case=searches(["int8", "int16"]))
def test_a_candidate_on_a_grid_is_within_a_step_of_the_dense_projection(case):
    search, rows, numbers, size = case
    grid, eps = search.target.grid, search.eps
    found = refill(search, rows, numbers, size)
    np.testing.assert_array_equal(grid.snap(found), found)
    for row, drawn, point in zip(rows, numbers, found, strict=True):
        clean = search.clean[row].astype(np.float64)
        step, _ = dense_step(search.clean[row], search.best[row], drawn, size, eps)
        aim = (clean + step).reshape(1, *search.target.input_shape)
        dense = search.target.seal(aim, np.array([row]))
        steps = np.rint((point - clean) / grid.scale)
        wanted = np.rint((dense.reshape(clean.shape) - clean) / grid.scale)
        assert np.abs(steps).sum() * grid.scale <= eps * (1 + 2e-6)
        assert np.abs(steps - wanted).max() <= 1 + 2e-5 * eps / grid.scale


@settings(max_examples=examples(50), deadline=None)
@given(case=searches([None, "int8"]), chosen=st.lists(st.integers(0, 2 * SAMPLES - 1), min_size=1))
def test_a_candidate_is_the_same_in_any_company(case, chosen):
    search, rows, numbers, size = case
    whole = refill(search, rows, numbers, size)
    part = refill(search, rows[chosen], numbers[chosen], size)
    np.testing.assert_array_equal(part, whole[chosen])
