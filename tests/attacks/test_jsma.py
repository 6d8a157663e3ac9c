"""JSMA: the exact pair search, the fewest features on linear models, the laws of all attacks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pytest_qnnrobust.attacks.gradient.jsma import JSMA, SALIENCIES, best_pair, steepest_pair
from tests.attacks import laws
from tests.attacks.linear import LinearModel, problem, quantized_problem
from tests.helpers.examples import examples


def brute_force(gain, relief, allowed):
    """The best product of all pairs, 0 where none is admissible."""
    best = 0.0
    for p in np.flatnonzero(allowed):
        for q in np.flatnonzero(allowed[p + 1 :]) + p + 1:
            a, b = gain[p] + gain[q], relief[p] + relief[q]
            if a > 0 and b > 0:
                best = max(best, a * b)
    return best


VALUES = st.one_of(st.integers(-3, 3).map(float), st.floats(-4, 4, width=16))


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_the_pair_search_is_exact(data):
    size = data.draw(st.integers(1, 14))
    shape = (3, size)
    gain = data.draw(arrays.arrays(np.float64, shape, elements=VALUES))
    relief = data.draw(arrays.arrays(np.float64, shape, elements=VALUES))
    allowed = data.draw(arrays.arrays(bool, shape))
    for row, (p, q) in enumerate(best_pair(gain, relief, allowed)):
        best = brute_force(gain[row], relief[row], allowed[row])
        if best == 0:
            assert (p, q) == (-1, -1)
            continue
        assert p != q
        assert allowed[row, [p, q]].all()
        assert (gain[row, p] + gain[row, q]) * (relief[row, p] + relief[row, q]) == best


@pytest.mark.parametrize("slope", [-1.0, 1.0])
def test_the_pair_search_survives_features_of_which_none_dominates(slope):
    rng = np.random.default_rng(0)
    gain = rng.normal(size=(2, 300)).round(3)
    relief = slope * gain + 1e-3 * rng.integers(-5, 6, gain.shape)
    allowed = np.ones(gain.shape, bool)
    for row, (p, q) in enumerate(best_pair(gain, relief, allowed)):
        found = (gain[row, p] + gain[row, q]) * (relief[row, p] + relief[row, q])
        assert found == brute_force(gain[row], relief[row], allowed[row])


def test_without_an_admissible_pair_the_two_that_rise_most_move():
    rise = np.array([[1.0, 3.0, 2.0, 9.0], [-1.0, 4.0, -2.0, 0.0], [-1.0, -4.0, -2.0, 0.0]])
    allowed = np.array([[True, True, True, False]] * 3)
    np.testing.assert_array_equal(steepest_pair(rise, allowed), [[1, 2], [1, 1], [-1, -1]])


def opposed(bounds=(0.0, 1.0), lead=6.0, size=40, samples=20):
    """Two classes with opposite logits: the saliency of a pair is the square of its gain.

    Class 0 is ahead by far, so that several features have to move.
    """
    model, x, _ = problem((size,), 2, bounds, samples)
    weights = model.weights[1] - model.weights[0]
    bias = model.bias[1] - model.bias[0] - lead
    model = LinearModel(np.stack([-weights, weights]), np.array([-bias, bias]), (size,), bounds)
    return model, x, model.classify(x)


def fewest_features(model, x, y, upwards):
    """How many features an attacker has to push to one bound, the most useful first."""
    logits = model.logits(x).astype(np.float64)
    gap = logits[np.arange(len(x)), y] - logits[np.arange(len(x)), 1 - y]
    slope = model.weights[1 - y] - model.weights[y]
    room = model.bounds[1] - x if upwards else x.astype(np.float64) - model.bounds[0]
    gains = np.sort(np.maximum(slope * (1 if upwards else -1), 0) * room, axis=1)[:, ::-1]
    return (np.cumsum(gains, axis=1) < gap[:, None]).sum(axis=1) + 1


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-7.0, 2.5)])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("saliency", SALIENCIES)
def test_it_changes_as_few_features_as_pairs_allow(saliency, sign, bounds):
    """With one step to the bound and equal rooms, the best pairs are the best features."""
    model, x, y = opposed(bounds)
    x = np.full_like(x, (bounds[0] + bounds[1]) / 2) + (x - x.mean(axis=1, keepdims=True)) * 1e-6
    result = JSMA(theta=sign * (bounds[1] - bounds[0]), saliency=saliency)(model, x, y)
    assert result.success.all()
    fewest = fewest_features(model, x, y, sign > 0)
    assert fewest.max() > 2
    np.testing.assert_array_equal(result.l0, fewest + fewest % 2)


def test_gamma_limits_the_share_of_features_and_not_how_far_they_go():
    model, x, y = opposed(lead=5.0)
    free = JSMA(theta=0.05)(model, x, y)
    held = JSMA(theta=0.05, gamma=0.1)(model, x, y)
    assert (held.l0 <= 4).all()
    assert held.success[free.l0 <= 4].all()
    assert not held.success.all()
    assert (held.linf[held.success] > 0.2).all()


def test_every_class_as_target_needs_no_more_features_than_any_single_one():
    model, x, y = problem((30,), 12, samples=15)
    everything = JSMA(theta=0.5, target="all")(model, x, y)
    for target in ("nearest", "random"):
        one = JSMA(theta=0.5, target=target)(model, x, y)
        assert (everything.l0 <= one.l0)[one.success].all()
        assert everything.success[one.success].all()
        assert one.gradients.sum() < everything.gradients.sum()


def test_a_step_below_one_lsb_is_one_lsb():
    model, x, y = quantized_problem("int8", (6, 6, 3), samples=6)
    result = JSMA(theta=1e-6)(model, x, y)
    assert result.success.all()
    moved = model.grid.quantize(result.x_adv).astype(int) - model.grid.quantize(x)
    assert (moved >= 0).all()


def test_theta_has_the_direction_of_its_sign():
    model, x, y = problem((30,), 3, samples=10)
    up, down = JSMA(theta=0.1)(model, x, y), JSMA(theta=-0.1)(model, x, y)
    assert (up.x_adv >= x).all()
    assert (down.x_adv <= x).all()


@pytest.mark.parametrize("saliency", SALIENCIES)
@pytest.mark.parametrize("case", laws.CASES)
def test_results_are_honest(case, saliency):
    model, x, y = laws.case(*case)
    span = model.bounds[1] - model.bounds[0]
    laws.honest(JSMA(theta=0.3 * span, saliency=saliency, max_iter=60), model, x, y)


@pytest.mark.parametrize("target", ["nearest", "random", "all"])
@pytest.mark.parametrize("saliency", SALIENCIES)
@pytest.mark.parametrize("dtype", laws.DTYPES)
def test_the_same_result_in_any_batch_and_order(dtype, saliency, target):
    laws.same_in_any_batch(JSMA(theta=0.1, target=target, saliency=saliency), dtype)


@pytest.mark.parametrize("target", ["nearest", "all"])
def test_it_stops_at_its_query_budget(target):
    laws.stops_at_its_budget(JSMA(theta=1e-4, target=target))


@pytest.mark.nightly
def test_it_needs_no_more_features_than_art():
    evasion = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import BlackBoxClassifier

    model, x, y = problem((40,), 3, samples=20)

    class Classifier(evasion.saliency_map.ClassGradientsMixin, BlackBoxClassifier):
        def class_gradient(self, x, label=None, **kwargs):
            return model.weights[label][:, None].astype(np.float32)

    classifier = Classifier(model.logits, (40,), 3, clip_values=(0, 1))
    scores = model.logits(x)
    scores[np.arange(len(x)), y] = -np.inf
    goals = np.eye(3)[scores.argmax(axis=1)]
    peer = evasion.SaliencyMapMethod(classifier, theta=0.3, batch_size=64, verbose=False)
    theirs = peer.generate(x, goals)
    ours = JSMA(theta=0.3)(model, x, y)
    assert ours.success.sum() >= (model.classify(theirs) != y).sum()
    assert ours.l0.mean() <= 1.05 * (theirs != x).sum(axis=1).mean()
