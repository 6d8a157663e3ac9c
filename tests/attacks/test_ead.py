"""EAD finds sparse perturbations, small in the measure of its decision rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_qnnrobust.attacks import score_losses
from pytest_qnnrobust.attacks.carlini.ead import EAD
from pytest_qnnrobust.attacks.carlini.l2 import CarliniL2
from pytest_qnnrobust.attacks.carlini.polish import elastic_plane
from tests.attacks.laws import CASES, DTYPES, case, honest, same_in_any_batch, stops_at_its_budget
from tests.attacks.linear import problem

QUICK = {"max_iter": 8, "binary_search_steps": 3, "polish_steps": 4}


@pytest.mark.parametrize("setting", CASES, ids=str)
@pytest.mark.parametrize("rule", ["EN", "L1"])
def test_results_are_honest_on_any_input(rule, setting):
    model, x, y = case(*setting)
    result = honest(EAD(decision_rule=rule, **QUICK, initial_const=1.0), model, x, y)
    if setting[1] != (1, 1, 1):
        assert result.success.all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_in_any_batch_and_order(dtype):
    same_in_any_batch(EAD(**QUICK), dtype)


def test_no_sample_spends_more_than_its_budget():
    stops_at_its_budget(EAD())


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-7.0, 2.5)])
def test_without_l1_it_finds_the_nearest_boundary_in_l2(bounds):
    model, x, y = problem((6, 5, 1), 2, bounds)
    result = EAD(beta=0)(model, x, y)
    ratio = result.l2 / model.distance(x, 2.0)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.01


def smallest_elastic_net(slope, gain, beta):
    """min beta * L1 + L2^2 over all perturbations that gain so much, off the bounds."""
    low, high = np.zeros(len(slope)), np.full(len(slope), 1e3)
    for _ in range(100):
        middle = (low + high) / 2
        delta = np.maximum(middle[:, None] * slope - beta / 2, 0)
        enough = (delta * slope).sum(axis=1) >= gain
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return beta * delta.sum(axis=1) + np.square(delta).sum(axis=1)


@pytest.mark.parametrize("beta", [0.001, 0.01, 0.1])
def test_it_finds_the_smallest_elastic_net(beta):
    model, x, y = problem((6, 5, 1), 2)
    result = EAD(beta=beta, polish_sparsity=1)(model, x, y)
    slope = np.abs(model.weights[1] - model.weights[0])[None].repeat(len(x), axis=0)
    gain = -model.loss_gradient(x, y, "margin").loss
    ratio = (beta * result.l1 + result.l2**2) / smallest_elastic_net(slope, gain, beta)
    assert ratio.min() >= 1 - 1e-3
    assert ratio.max() <= 1.01
    sparser = EAD(beta=beta)(model, x, y)
    assert sparser.l1.mean() < result.l1.mean()


@pytest.mark.parametrize("beta", [0.0, 0.001, 0.02, 0.3])
def test_a_polish_step_is_the_smallest_elastic_net_on_a_plane(beta):
    rng = np.random.default_rng(0)
    slope = rng.normal(size=(40, 30)).astype(np.float32)
    gain = rng.uniform(0.01, 2, 40).astype(np.float32)
    clean = np.full(slope.shape, 0.5, np.float32)
    step = elastic_plane(beta)(clean, slope, gain, (-10.0, 10.0)).astype(np.float64)
    np.testing.assert_allclose((step * slope).sum(axis=1), gain, rtol=1e-4)
    found = beta * np.abs(step).sum(axis=1) + np.square(step).sum(axis=1)
    np.testing.assert_allclose(found, smallest_elastic_net(np.abs(slope), gain, beta), rtol=1e-3)


def test_a_polish_step_stays_inside_the_bounds():
    rng = np.random.default_rng(0)
    slope = rng.normal(size=(40, 30)).astype(np.float32)
    clean = rng.uniform(0, 1, slope.shape).astype(np.float32)
    gain = np.linspace(0.1, 100, 40, dtype=np.float32)
    step = elastic_plane(0.01)(clean, slope, gain, (0.0, 1.0))
    assert (clean + step >= -1e-6).all()
    assert (clean + step <= 1 + 1e-6).all()
    most = (np.abs(slope) * np.where(slope > 0, 1 - clean, clean)).sum(axis=1)
    np.testing.assert_allclose((step * slope).sum(axis=1), np.minimum(gain, most), rtol=1e-3)


@pytest.mark.parametrize("beta", [0.001, 0.02])
def test_the_polish_makes_the_elastic_net_smaller(beta):
    model, x, y = problem((6, 5, 1), 2)
    slope = np.abs(model.weights[1 - y] - model.weights[y])
    logits = x.reshape(len(x), -1).astype(np.float64) @ model.weights.T + model.bias
    least = smallest_elastic_net(slope, np.abs(logits[:, 0] - logits[:, 1]), beta)
    results = [EAD(beta=beta, polish_steps=steps)(model, x, y) for steps in (0, 20)]
    rough, polished = ((beta * r.l1 + np.square(r.l2)) / least for r in results)
    assert polished.min() >= 1 - 1e-3
    assert (polished <= rough).all()
    assert polished.mean() <= 1.3


@pytest.mark.parametrize("classes", [2, 12])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-7.0, 2.5)])
def test_the_l1_rule_reaches_the_nearest_boundary_in_l1(bounds, classes):
    model, x, y = problem((6, 5, 1), classes, bounds)
    result = EAD(decision_rule="L1")(model, x, y)
    assert result.success.all()
    ratio = result.l1 / model.distance(x, 1.0)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.01


@pytest.mark.parametrize("steps", [0, EAD.polish_steps])
def test_l1_weighs_more_with_beta_and_with_its_decision_rule(steps):
    model, x, y = problem((8, 8, 3), 2)
    attack = EAD(polish_steps=steps)
    by_l1 = replace(attack, decision_rule="L1")
    plain = CarliniL2()(model, x, y)
    mixed, sparse = attack(model, x, y), by_l1(model, x, y)
    very = replace(by_l1, beta=0.02)(model, x, y)
    assert plain.l1.mean() > mixed.l1.mean() >= sparse.l1.mean()
    assert (model.distance(x, 1.0) <= very.l1 * (1 + 1e-4)).all()
    assert very.l0.mean() < mixed.l0.mean() < plain.l0.mean()
    if steps:
        nearest = pytest.approx(model.distance(x, 1.0), rel=2e-3)
        assert sparse.l1 == nearest
        assert very.l1 == nearest
    else:
        assert sparse.l1.mean() > very.l1.mean()


def test_confidence_is_the_margin_of_the_result():
    model, x, y = problem((6, 5, 1), 3, samples=6)
    result = EAD(confidence=0.7)(model, x, y)
    margin = score_losses.margin(model.logits(result.x_adv), y)
    assert (margin >= 0.7 - 1e-5).all()
    assert margin.max() <= 0.75


@pytest.mark.nightly
def test_a_smaller_elastic_net_than_foolbox():
    foolbox = pytest.importorskip("foolbox")
    import tensorflow as tf

    model, x, y = problem((6, 5, 1), 4)
    weights, bias = model.weights.T.astype(np.float32), model.bias.astype(np.float32)
    network = foolbox.TensorFlowModel(
        lambda t: tf.reshape(t, (-1, 30)) @ weights + bias, bounds=(0, 1), device="/CPU:0"
    )
    peer = foolbox.attacks.EADAttack(
        binary_search_steps=10,
        steps=30,
        initial_stepsize=0.01,
        initial_const=0.01,
        regularization=0.001,
    )
    adversarial = peer.run(network, tf.constant(x), tf.constant(y)).numpy()
    fooled = model.classify(adversarial) != y
    delta = (adversarial - x).reshape(len(x), -1)
    theirs = 0.001 * np.abs(delta).sum(axis=1) + np.square(delta).sum(axis=1)
    result = EAD(max_iter=30)(model, x, y)
    ours = 0.001 * result.l1 + np.square(result.l2)
    assert result.success.all()
    assert ours[fooled].mean() <= 1.05 * theirs[fooled].mean()
