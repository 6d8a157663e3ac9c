"""Carlini and Wagner: L2, L0 and Linf against closed forms, each other's norms and a peer."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks import DeepFool, score_losses
from pytest_qnnrobust.attacks.carlini.l0 import CarliniL0
from pytest_qnnrobust.attacks.carlini.l2 import CarliniL2
from pytest_qnnrobust.attacks.carlini.linf import CarliniLinf
from tests.attacks.laws import CASES, DTYPES, case, honest, same_in_any_batch, stops_at_its_budget
from tests.attacks.linear import problem, quantized_problem

QUICK = {
    CarliniL2: {"max_iter": 5, "binary_search_steps": 4, "polish_steps": 4},
    CarliniL0: {"max_iter": 4, "largest_const": 10.0, "drop_rate": 1.0, "polish_steps": 4},
    CarliniLinf: {"max_iter": 4, "largest_const": 2.0, "polish_steps": 4},
}
ATTACKS = list(QUICK)


@pytest.mark.parametrize("setting", CASES, ids=str)
@pytest.mark.parametrize("attack", ATTACKS)
def test_results_are_honest_on_any_input(attack, setting):
    model, x, y = case(*setting)
    result = honest(attack(**QUICK[attack]), model, x, y)
    if setting[1] != (1, 1, 1):
        assert result.success.all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_the_same_in_any_batch_and_order(attack, dtype):
    same_in_any_batch(attack(**QUICK[attack]), dtype)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_sample_spends_more_than_its_budget(attack):
    stops_at_its_budget(attack())


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-7.0, 2.5)])
@pytest.mark.parametrize("shape", [(8, 8, 3), (49, 10, 1), (25,)])
@pytest.mark.parametrize(("attack", "norm"), [(CarliniL2, 2.0), (CarliniLinf, np.inf)])
def test_the_nearest_boundary_of_a_linear_model(attack, norm, shape, bounds):
    model, x, y = problem(shape, 2, bounds)
    result = attack()(model, x, y)
    assert result.success.all()
    ratio = getattr(result, "l2" if norm == 2 else "linf") / model.distance(x, norm)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.01


def test_more_iterations_come_nearer_without_the_polish():
    model, x, y = problem((6, 5, 1), 2)
    nearest = model.distance(x, 2.0)
    ratios = [
        CarliniL2(polish_steps=0, max_iter=n)(model, x, y).l2.mean() / nearest.mean()
        for n in (5, 100)
    ]
    assert ratios[1] < ratios[0]
    assert ratios[1] <= 1.02


def fewest_elements(model, x, y):
    """How many elements have to move to a bound on a linear model of two classes."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    slope = model.weights[1 - y] - model.weights[y]
    gap = -((flat * slope).sum(axis=1) + model.bias[1 - y] - model.bias[y])
    room = np.where(slope > 0, model.bounds[1] - flat, flat - model.bounds[0])
    gains = np.cumsum(np.sort(np.abs(slope) * room, axis=1)[:, ::-1], axis=1)
    return (gains < gap[:, None]).sum(axis=1) + 1


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-7.0, 2.5)])
@pytest.mark.parametrize("shape", [(8, 8, 3), (49, 10, 1), (25,)])
def test_the_fewest_elements_of_a_linear_model(shape, bounds):
    model, x, y = problem(shape, 2, bounds)
    result = CarliniL0(independent_channels=True)(model, x, y)
    assert result.success.all()
    np.testing.assert_array_equal(result.l0, fewest_elements(model, x, y))


def test_whole_pixels_are_dropped_unless_channels_are_independent():
    model, x, y = problem((8, 8, 3), 2)
    moved = CarliniL0(polish_steps=0)(model, x, y).x_adv != x
    pixels, elements = moved.any(axis=3).sum(axis=(1, 2)), moved.sum(axis=(1, 2, 3))
    np.testing.assert_array_equal(elements, 3 * pixels)
    assert (pixels < 32).all()
    single = CarliniL0(polish_steps=0, independent_channels=True)(model, x, y)
    assert single.l0.mean() < elements.mean()


@pytest.mark.parametrize("attack", ATTACKS)
def test_confidence_is_the_margin_of_the_result(attack):
    model, x, y = problem((6, 5, 1), 3, samples=6)
    result = attack(confidence=0.7)(model, x, y)
    margin = score_losses.margin(model.logits(result.x_adv), y)
    assert result.success.all()
    assert (margin >= 0.7 - 1e-5).all()
    assert margin.max() <= 0.8


def test_a_confidence_out_of_reach_leaves_the_nearest_misclassified_point():
    model, x, y = problem((6, 5, 1), 2, samples=6)
    result = CarliniL2(confidence=1e6)(model, x, y)
    assert result.success.all()


def test_no_tau_below_the_smallest():
    model, x, y = problem((8, 8, 3), 2)
    nearest = model.distance(x, np.inf)
    floor = float(nearest.max()) * 2
    rough = CarliniLinf(smallest_tau=floor, polish_steps=0)(model, x, y)
    assert (rough.linf > nearest * 1.05).all()


def test_a_quantized_input_needs_no_less_than_a_step():
    model, x, y = quantized_problem("int8", (8, 8, 3))
    result = CarliniLinf()(model, x, y)
    steps = result.linf / model.grid.scale
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
    assert (steps >= 1).all()


def test_integers_are_fooled_as_near_as_by_deepfool():
    model, x, y = quantized_problem("int8", (8, 8, 3))
    ours, theirs = CarliniL2()(model, x, y), DeepFool()(model, x, y)
    assert ours.success.all()
    assert ours.l2.mean() <= 1.05 * theirs.l2[theirs.success].mean()


@pytest.mark.nightly
def test_l2_comes_nearer_than_foolbox():
    foolbox = pytest.importorskip("foolbox")
    import tensorflow as tf

    model, x, y = problem((6, 5, 1), 4)
    weights, bias = model.weights.T.astype(np.float32), model.bias.astype(np.float32)
    network = foolbox.TensorFlowModel(
        lambda t: tf.reshape(t, (-1, 30)) @ weights + bias, bounds=(0, 1), device="/CPU:0"
    )
    peer = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=10, steps=10, stepsize=0.01, initial_const=0.01
    )
    adversarial = peer.run(network, tf.constant(x), tf.constant(y)).numpy()
    fooled = model.classify(adversarial) != y
    result = CarliniL2()(model, x, y)
    assert result.success.all()
    theirs = np.sqrt(np.square(adversarial - x).sum(axis=(1, 2, 3)))
    assert (result.l2[fooled] <= 1.05 * theirs[fooled]).all()
