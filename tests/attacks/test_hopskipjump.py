"""HopSkipJump: its semicircle by geometry, and what it reaches on linear models."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks.decisions.hopskipjump import Arc, HopSkipJump, sideways
from pytest_qnnrobust.attacks.decisions.normals import channel_noise
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Target
from pytest_qnnrobust.metrics import lp_norm, norm_name
from tests.attacks.linear import problem


def test_repr_rebuilds_the_attack():
    attack = HopSkipJump(norm="linf", max_iter=5)
    assert eval(repr(attack), {"np": np, "HopSkipJump": HopSkipJump}) == attack


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-7.0, 2.5)])
@pytest.mark.parametrize("shape", [(3, 2, 1), (25,), (4, 4, 3)])
def test_it_reaches_the_nearest_boundary_in_l2(shape, bounds):
    model, x, y = problem(shape, 2, bounds, samples=6)
    result = HopSkipJump()(model, x, y)
    assert result.success.all()
    ratio = result.l2 / model.distance(x, 2.0)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.01


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-7.0, 2.5)])
def test_it_comes_close_to_the_nearest_boundary_in_linf(bounds):
    model, x, y = problem((6,), 2, bounds, samples=6)
    result = HopSkipJump(norm=np.inf, growth=0.5, tolerance=0)(model, x, y)
    assert result.success.all()
    ratio = result.linf / model.distance(x, np.inf)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.01


def test_the_paper_settings_spend_the_papers_queries():
    model, x, y = problem((25,), samples=3)
    paper = HopSkipJump(growth=0.5, theta=0.01, correlation=0.0, tolerance=0, max_iter=10)
    result = paper(model, x, y)
    probes = sum(int(100 * np.sqrt(step)) for step in range(1, 11))
    assert (result.queries > probes).all()
    assert (result.queries < probes + 40 * 10 + 50).all()


def test_a_sample_that_gains_nothing_more_ends():
    model, x, y = problem((6,), samples=4)
    ended, free = (HopSkipJump(tolerance=t)(model, x, y) for t in (0.005, 0))
    assert (ended.queries < 0.5 * free.queries).all()
    np.testing.assert_allclose(ended.l2, free.l2, rtol=0.01)


def test_the_arc_leads_from_the_point_to_the_foot_of_the_clean_image():
    model, x, y = problem((9,), samples=3)
    target = Target(model, x, y)
    rng = np.random.default_rng(0)
    points = (x + rng.uniform(-0.2, 0.2, x.shape)).astype(np.float32)
    directions = rng.normal(size=x.shape).astype(np.float32)
    arc = Arc(target, target.all_rows, points)
    arc.bend(directions)
    np.testing.assert_allclose(arc.at(target.all_rows, np.full(3, np.pi / 2)), points, atol=1e-6)
    np.testing.assert_allclose(arc.at(target.all_rows, np.zeros(3)), x, atol=1e-6)
    feet = arc.at(target.all_rows, np.full(3, 1.2))
    np.testing.assert_allclose(((feet - x) * (feet - points)).sum(axis=1), 0, atol=1e-6)
    along = (directions * arc.outward).sum(axis=1, keepdims=True)
    assert (((feet - x) * (directions - along * arc.outward)).sum(axis=1) > 0).all()


def test_probes_stay_at_right_angles_to_the_way_back():
    model, x, y = problem((4, 4, 3), samples=3)
    target = Target(model, x, y)
    rows = np.array([0, 2])
    outward = np.random.default_rng(0).normal(size=(2, 48)).astype(np.float32)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    noise = sideways(channel_noise(target, Streams(0, range(3)), 0.5), rows, outward)
    drawn = noise(rows[1:], 50).reshape(50, 48)
    np.testing.assert_allclose(drawn @ outward[1], 0, atol=1e-5)


@pytest.mark.parametrize(("shape", "correlation"), [((6, 5, 3), 0.5), ((6, 5, 1), 0.0)])
def test_the_noise_is_as_correlated_as_asked_and_of_unit_variance(shape, correlation):
    model, x, y = problem(shape, samples=2)
    draw = channel_noise(Target(model, x, y), Streams(0, range(2)), 0.5)
    noise = draw(np.arange(2), 300).reshape(-1, shape[2])
    assert noise.var() == pytest.approx(1, abs=0.05)
    if shape[2] > 1:
        found = np.corrcoef(noise.T)[np.triu_indices(3, 1)]
        np.testing.assert_allclose(found, correlation, atol=0.05)


@pytest.mark.parametrize("norm", [2, np.inf])
@pytest.mark.nightly
def test_art_comes_no_nearer_with_as_many_queries(norm):
    evasion = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    model, x, y = problem((6, 6, 3), 2, samples=3)
    classifier = BlackBoxClassifierNeuralNetwork(
        model.logits, (6, 6, 3), 2, channels_first=False, clip_values=(0.0, 1.0)
    )
    np.random.seed(0)
    art = evasion.HopSkipJump(classifier, norm=norm, max_iter=8, verbose=False)
    theirs = art.generate(x)
    spent = model.queries // len(x)
    fooled = model.classify(theirs) != y
    ours = HopSkipJump(norm=norm, tolerance=0)(model, x, y, query_budget=spent)
    assert ours.success.all()
    reached = getattr(ours, norm_name(norm))
    assert reached[fooled].mean() <= 1.05 * lp_norm(theirs - x, norm)[fooled].mean()
