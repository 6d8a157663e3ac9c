"""What GeoDA and HopSkipJump share: starts, bisection, normals, and one result in any batch."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks.decisions.geoda import GeoDA
from pytest_qnnrobust.attacks.decisions.hopskipjump import HopSkipJump
from pytest_qnnrobust.attacks.decisions.normals import Gains, probe_normals, unit, visible
from pytest_qnnrobust.attacks.decisions.starts import propose_nearer, random_starts, to_boundary
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Target
from pytest_qnnrobust.metrics import lp_norm, norm_name
from tests.attacks.laws import DTYPES
from tests.attacks.linear import LinearModel, problem, quantized_problem

QUICK = [
    GeoDA(norm=1, max_iter=120),
    GeoDA(norm=2, max_iter=120, sub_dim=4),
    GeoDA(norm=np.inf, max_iter=120),
    HopSkipJump(norm=2, max_iter=4, init_eval=30),
    HopSkipJump(norm=np.inf, max_iter=4, init_eval=30),
]
CASES = [
    ((32, 32, 3), 2, (0.0, 1.0), 2),
    ((96, 96, 3), 2, (0.0, 255.0), 1),
    ((49, 10, 1), 12, (-7.0, 2.5), 2),
    ((12, 4), 2, (-7.0, 2.5), 4),
    ((25,), 12, (0.0, 255.0), 4),
]


def build(dtype, *arguments, **settings):
    if dtype is None:
        return problem(*arguments, **settings)
    return quantized_problem(dtype, *arguments, **settings)


@pytest.mark.parametrize("attack", QUICK, ids=repr)
@pytest.mark.parametrize("dtype", [None, "int8", "int16"])
@pytest.mark.parametrize(("shape", "classes", "bounds", "samples"), CASES)
def test_any_shape_and_width_ends_in_bounds_and_confirmed(
    attack, dtype, shape, classes, bounds, samples
):
    model, x, y = build(dtype, shape, classes, bounds, samples=samples)
    result = attack(model, x, y, seed=1)
    assert result.success.all()
    np.testing.assert_array_equal(result.success, model.classify(result.x_adv) != y)
    assert result.x_adv.min() >= model.bounds[0]
    assert result.x_adv.max() <= model.bounds[1]


@pytest.mark.parametrize("attack", QUICK, ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_result_in_any_batch_and_order(attack, dtype):
    model, x, y = quantized_problem(dtype, samples=16)
    whole = attack(model, x, y, seed=5, batch_size=64)
    for batch_size in (1, 7):
        again = attack(model, x, y, seed=5, batch_size=batch_size)
        np.testing.assert_array_equal(again.x_adv, whole.x_adv)
        np.testing.assert_array_equal(again.queries, whole.queries)
    order = np.random.default_rng(1).permutation(len(x))
    again = attack(model, x[order], y[order], seed=5, index=order)
    np.testing.assert_array_equal(again.x_adv, whole.x_adv[order])


@pytest.mark.parametrize("attack", QUICK, ids=repr)
def test_the_query_budget_holds_and_what_was_found_is_kept(attack):
    model, x, y = problem(samples=6)
    result = attack(model, x, y, query_budget=37)
    assert (result.queries <= 37).all()
    assert result.exhausted.all()
    assert result.success.all()


@pytest.mark.parametrize("attack", QUICK, ids=repr)
def test_a_budget_that_suffices_changes_nothing(attack):
    model, x, y = problem(samples=5)
    free = attack(model, x, y)
    capped = attack(model, x, y, query_budget=int(free.queries.max()))
    np.testing.assert_array_equal(free.x_adv, capped.x_adv)
    assert not capped.exhausted.any()


def test_a_sample_without_a_start_withstands_after_three_rounds():
    constant = LinearModel(np.zeros((2, 6)), np.array([1.0, 0.0]), (6,))
    x = np.full((2, 6), 0.5, np.float32)
    result = HopSkipJump(init_size=12)(constant, x, np.zeros(2, int))
    assert not result.success.any()
    assert (result.queries == 36).all()
    np.testing.assert_array_equal(result.x_adv, x)


def test_a_class_that_owns_all_noise_is_left_by_a_coarse_pattern():
    """The label wins wherever neighbours differ much, on average: uniform noise always does."""
    size = 16

    class NoiseIsZero(LinearModel):
        def _logits(self, x):
            rough = np.abs(np.diff(x[..., 0], axis=1)).mean(axis=(1, 2))
            return np.stack([rough, np.full(len(x), 0.2)], axis=1).astype(np.float32)

    model = NoiseIsZero(np.zeros((2, size * size)), np.zeros(2), (size, size, 1))
    x = np.indices((size, size)).sum(axis=0)[None, :, :, None].astype(np.float32) % 2
    target = Target(model, x, np.zeros(1, np.int64))
    np.testing.assert_array_equal(random_starts(target, Streams(0, [0]), 20, 2.0), [0])
    assert target.queries[0] > 2 * 20
    assert model.classify(target.proposals) == 1


def test_the_nearest_of_five_starts_is_proposed_at_the_boundary():
    model, x, y = problem((4, 4, 1), 2, samples=30)
    target = Target(model, x, y)
    rows = random_starts(target, Streams(0, range(30)), 5, 2.0)
    slope = model.weights[1 - y] - model.weights[y]
    margin = model.distance(x, 2.0) * np.linalg.norm(slope, axis=1)
    tries = np.asarray(Streams(0, range(30)).uniform(target.all_rows, 5, 4, 4, 1))
    away = (tries - x[:, None]).reshape(30, 5, -1)
    share = margin[:, None] / np.einsum("nkd,nd->nk", away, slope)
    fooled = (share > 0) & (share < 1)
    crossing = np.where(fooled, share * np.linalg.norm(away, axis=2), np.inf).min(axis=1)
    assert set(np.flatnonzero(fooled.any(axis=1))) <= set(rows)
    rows = np.flatnonzero(fooled.any(axis=1))
    found = lp_norm(target.proposals[rows] - x[rows], 2.0)
    assert len(rows) > 10
    assert (found >= crossing[rows] * (1 - 1e-4)).all()
    assert (found <= crossing[rows] + 0.01 * np.linalg.norm(away, axis=2).max()).all()
    np.testing.assert_array_equal(model.classify(target.proposals[rows]), 1 - y[rows])


@pytest.mark.parametrize("dtype", [None, "int8"])
@pytest.mark.parametrize("norm", [1.0, 2.0, np.inf])
def test_bisection_ends_on_the_misclassified_side_within_its_tolerance(norm, dtype):
    model, x, y = build(dtype, (8, 8, 1), 2, samples=6)
    x = x if model.grid is None else model.grid.snap(x)
    target = Target(model, x, y)
    rows = target.all_rows
    slope = model.weights[1 - y] - model.weights[y]
    low, high = target.bounds
    starts = np.where(slope.reshape(x.shape) > 0, high, low).astype(np.float32)
    points = to_boundary(target, rows, starts, 1e-3, norm)
    assert (model.classify(points) != y[rows]).all()
    reached, before = (lp_norm(p - x[rows], norm) for p in (points, starts))
    assert (reached <= before).all()
    np.testing.assert_array_equal(target.proposals[rows], points)
    if model.grid is None and norm == 2:
        back = points + (x[rows] - points) * np.minimum(2e-3 / reached, 1).reshape(-1, 1, 1, 1)
        assert (model.classify(back.astype(np.float32)) == y[rows]).all()


def test_only_a_nearer_point_replaces_a_proposal():
    model, x, y = problem((4,), samples=2)
    target = Target(model, x, y)
    rows = target.all_rows
    for shift, kept in ((0.2, 0.2), (0.3, 0.2), (0.1, 0.1)):
        propose_nearer(target, rows, x + np.float32(shift), 2.0)
        np.testing.assert_allclose(target.proposals, x + kept, atol=1e-6)


def test_the_normal_of_a_linear_boundary_is_its_weights():
    model, x, y = problem((5, 5, 1), 2, samples=3)
    target = Target(model, x, y)
    slope = (model.weights[1 - y] - model.weights[y]).astype(np.float32)
    way = slope / np.linalg.norm(slope, axis=1, keepdims=True)
    points = x + (1.0001 * model.distance(x, 2.0)[:, None] * way).reshape(x.shape)
    streams = Streams(0, range(3))

    def draw(rows, count):
        return streams.normal(rows, count, 5, 5, 1)

    sums = probe_normals(
        target, target.all_rows, points.astype(np.float32), np.full(3, 0.01), 3000, draw
    )
    assert ((unit(sums, 2.0) * way).sum(axis=1) > 0.98).all()
    assert (target.queries == 3000).all()


def test_probes_of_a_quantized_input_are_at_least_one_step():
    model, x, y = quantized_problem("int8")
    target = Target(model, model.grid.snap(x), y)
    wanted = np.array([1e-6, 0.5])
    np.testing.assert_array_equal(visible(target, wanted), [model.grid.scale, 0.5])
    free = Target(*problem())
    np.testing.assert_array_equal(visible(free, wanted), wanted)


def test_samples_stop_when_three_iterations_gain_too_little():
    model, x, y = problem((4,), samples=2)
    target = Target(model, x, y)
    gains = Gains(target, 2.0, 0.05)
    rows = target.all_rows
    for step in range(8):
        shifts = np.array([0.3 * 0.9**step, 0.3 * 0.99**step], np.float32)
        target.propose(rows, x + shifts[:, None])
        left = gains.still_worth(rows)
        np.testing.assert_array_equal(left, rows if step < 3 else [0])


@pytest.mark.parametrize("norm", [2.0, np.inf])
def test_hopskipjump_and_geoda_agree(norm):
    model, x, y = problem((6, 5, 1), 3, samples=6)
    first = getattr(GeoDA(norm=norm)(model, x, y), norm_name(norm))
    second = getattr(HopSkipJump(norm=norm)(model, x, y), norm_name(norm))
    np.testing.assert_allclose(first, second, rtol=0.1)
