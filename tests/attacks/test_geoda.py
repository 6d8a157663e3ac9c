"""GeoDA: schedule, rays and subspace by their formulas, and what it reaches in each norm."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks.decisions.geoda import (
    SEARCH,
    GeoDA,
    Ray,
    frequency_noise,
    query_schedule,
)
from pytest_qnnrobust.attacks.geometry.steepest import steepest
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Target
from pytest_qnnrobust.metrics import lp_norm, norm_name
from tests.attacks.linear import problem


def test_repr_rebuilds_the_attack():
    attack = GeoDA(norm="linf", max_iter=500)
    assert eval(repr(attack), {"np": np, "GeoDA": GeoDA}) == attack


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-7.0, 2.5)])
@pytest.mark.parametrize("shape", [(3, 2, 1), (6,)])
@pytest.mark.parametrize(("norm", "slack"), [(1, 1.03), (2, 1.01), (np.inf, 1.01)])
def test_it_reaches_the_nearest_boundary(norm, slack, shape, bounds):
    """L1 may end on an element whose slope is within its slack of the largest."""
    model, x, y = problem(shape, 2, bounds, samples=6)
    result = GeoDA(norm=norm)(model, x, y)
    assert result.success.all()
    ratio = getattr(result, norm_name(norm)) / model.distance(x, float(norm))
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= slack


def test_more_queries_come_nearer():
    model, x, y = problem((8, 8, 3), 2, samples=6)
    reached = [GeoDA(max_iter=budget)(model, x, y).l2.mean() for budget in (200, 1000, 4000)]
    assert reached == sorted(reached, reverse=True)
    assert reached[-1] <= 1.06 * model.distance(x, 2.0).mean()


@pytest.mark.parametrize("lambda_param", [0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("queries", [1, 30, 75, 500, 4000, 20000])
def test_the_queries_grow_by_the_optimal_factor_and_fit_the_budget(queries, lambda_param):
    schedule = query_schedule(queries, lambda_param)
    assert sum(schedule) <= max(queries - SEARCH * len(schedule), 1) + len(schedule)
    if queries >= 500:
        assert schedule[0] >= 50
        growth = np.array(schedule[1:]) / np.array(schedule[:-1])
        np.testing.assert_allclose(growth, lambda_param ** (-2 / 3), rtol=0.02)


@pytest.mark.parametrize("norm", [1.0, 2.0, np.inf])
def test_rays_are_the_steepest_points_of_their_ball(norm):
    model, x, y = problem((5, 4, 1), samples=4)
    target = Target(model, x, y)
    normals = np.random.default_rng(0).normal(size=(4, 20)).astype(np.float32)
    ray = Ray(target, target.all_rows, normals, norm)
    for share in (0.01, 0.3, 0.9):
        length = np.full(4, share * 20 ** (1 / norm) / 2)
        points = ray.at(target.all_rows, length)
        reached = lp_norm(points - x, norm)
        steep = steepest(normals.reshape(x.shape), x, norm, reached.max(), (0.0, 1.0))
        gain = ((points - x).reshape(4, -1) * normals).sum(axis=1)
        same = np.isclose(reached, reached.max(), rtol=1e-6)
        best = (steep.reshape(4, -1) * normals).sum(axis=1)
        np.testing.assert_allclose(gain[same], best[same], rtol=1e-4)
        assert (reached <= length * (1 + 1e-5)).all()


@pytest.mark.parametrize("shape", [(12, 9, 2), (12, 9), (40,)])
def test_the_noise_holds_the_lowest_frequencies_and_no_others(shape):
    from scipy.fft import dctn

    model, x, y = problem(shape, samples=3)
    draw = frequency_noise(Target(model, x, y), Streams(0, range(3)), 4)
    noise = draw(np.arange(3), 200)
    assert noise.shape == (3, 200, *shape)
    assert noise.dtype == np.float32
    assert noise.std() == pytest.approx(1, abs=0.05)
    axes = (2, 3)[: min(len(shape), 2)]
    spectrum = np.abs(dctn(noise, axes=axes, norm="ortho"))
    low = (slice(None), slice(None), *[slice(4)] * len(axes))
    assert spectrum[low].min(axis=(0, 1)).min() > 0
    spectrum[low] = 0
    assert spectrum.max() < 1e-4


def test_every_frequency_is_white_noise():
    model, x, y = problem((6, 5, 3), samples=2)
    draw = frequency_noise(Target(model, x, y), Streams(0, range(2)), 75)
    white = Streams(0, range(2)).normal(np.arange(2), 7, 6, 5, 3)
    np.testing.assert_array_equal(draw(np.arange(2), 7), white)


def test_a_subspace_finds_smooth_weights_sooner():
    model, x, y = problem((16, 16, 1), 2, samples=6)
    ramp = np.cos(np.pi * (np.arange(16) + 0.5) / 16)
    model.weights[:] = np.stack([np.outer(ramp, ramp).ravel(), -np.outer(ramp, ramp).ravel()])
    model.bias[:] = [0.0, -0.5]
    y = model.classify(x)
    narrow, wide = (GeoDA(max_iter=300, sub_dim=dim)(model, x, y) for dim in (3, 16))
    assert narrow.l2.mean() < 0.8 * wide.l2.mean()


@pytest.mark.nightly
def test_art_comes_no_nearer(monkeypatch, tmp_path):
    evasion = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    monkeypatch.setattr(np, "mat", np.asmatrix, raising=False)
    monkeypatch.chdir(tmp_path)
    model, x, y = problem((6, 6, 3), 2, samples=3)
    classifier = BlackBoxClassifierNeuralNetwork(
        model.logits, (6, 6, 3), 2, channels_first=False, clip_values=(0.0, 1.0)
    )
    np.random.seed(0)
    art = evasion.GeoDA(classifier, sub_dim=6, max_iter=500, bin_search_tol=1e-4, verbose=False)
    theirs = art.generate(x, y)
    assert (model.classify(theirs) != y).all()
    ours = GeoDA(sub_dim=6, max_iter=500)(model, x, y)
    assert ours.success.all()
    assert ours.l2.mean() <= 1.05 * lp_norm(theirs - x, 2).mean()
