"""UAP: the shared direction on linear models, one perturbation for all, the laws of all attacks."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks.gradient.uap import INNER, UAP
from tests.attacks import laws
from tests.attacks.linear import LinearModel, problem, quantized_problem


def one_sided(bounds=(0.0, 1.0), samples=40):
    """Two classes, about 30 of 40 samples in class 0, and their distances to the boundary."""
    model, x, _ = problem((5, 4, 1), 2, bounds, samples)
    gap = np.diff(model.logits(x))[:, 0]
    model.bias[0] += np.quantile(gap, 0.75)
    y = model.classify(x)
    return model, x, y


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("norm", [2, np.inf])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-7.0, 2.5)])
def test_the_shared_direction_flips_one_class_as_far_as_the_budget_goes(bounds, norm, inner):
    model, x, y = one_sided(bounds)
    nearest = model.distance(x, float(norm))
    eps = float(np.median(nearest[y == 0]))
    attack = UAP(norm=norm, eps=eps, inner=inner, inner_eps=eps / 2, max_iter=10)
    result = attack(model, x, y)
    clear = np.abs(nearest / eps - 1) > 0.02
    assert clear.sum() > 25
    np.testing.assert_array_equal(result.success[clear], ((nearest < eps) & (y == 0))[clear])


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("dtype", [None, "int8"])
def test_all_samples_get_the_same_perturbation(dtype, inner):
    build = problem if dtype is None else lambda *a, **k: quantized_problem(dtype, *a, **k)
    model, x, y = build((5, 4, 1), 3, samples=12)
    result = UAP(eps=0.05, inner=inner, inner_eps=0.02, max_iter=3)(model, x, y)
    clean = x if model.grid is None else model.grid.snap(x)
    shift = result.x_adv - clean
    assert np.abs(shift[0]).max() > 0.01
    step = 0.0 if model.grid is None else model.grid.scale
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:1], shift.shape), atol=1e-6 + step)


def test_it_stops_at_the_desired_fooling_rate():
    model, x, y = one_sided()
    eps = float(np.quantile(model.distance(x, np.inf)[y == 0], 0.9))
    settings = {"eps": eps, "inner_eps": eps / 6, "group": 64, "max_iter": 20}
    some, most = (UAP(**settings, delta=delta)(model, x, y) for delta in (0.8, 0.0))
    assert 0.2 <= some.success.mean() < most.success.mean()
    assert some.gradients.sum() < most.gradients.sum()


def test_it_fools_samples_that_it_was_not_trained_on():
    model, x, y = one_sided(samples=80)
    eps = 2 * float(np.median(model.distance(x, np.inf)))
    result = UAP(eps=eps, inner_eps=eps / 2, max_iter=5)(model, x[:40], y[:40])
    shift = (result.x_adv - x[:40])[result.success][0]
    others = model.classify(np.clip(x[40:] + shift, 0, 1))
    assert (others != y[40:])[y[40:] == 0].mean() > 0.8


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("case", laws.CASES)
def test_results_are_honest(case, inner):
    model, x, y = laws.case(*case, samples=6)
    span = model.bounds[1] - model.bounds[0]
    attack = UAP(eps=0.4 * span, inner=inner, inner_eps=0.2 * span, inner_iter=3, max_iter=2)
    laws.honest(attack, model, x, y)


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("dtype", laws.DTYPES)
def test_the_same_result_in_any_batch_and_order(dtype, inner):
    laws.same_in_any_batch(UAP(eps=0.05, inner=inner, inner_iter=3, max_iter=3, group=4), dtype)


@pytest.mark.parametrize("inner", INNER)
def test_it_stops_at_its_query_budget(inner):
    laws.stops_at_its_budget(UAP(eps=1e-4, inner_eps=1e-5, inner=inner, max_iter=50))


@pytest.mark.nightly
def test_it_fools_at_least_as_many_as_art():
    evasion = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import BlackBoxClassifier
    from art.estimators.classification.classifier import ClassifierMixin
    from art.estimators.estimator import LossGradientsMixin

    model, x, y = problem((20,), 3, samples=30)

    class Classifier(LossGradientsMixin, BlackBoxClassifier, ClassifierMixin):
        def loss_gradient(self, x, y, **kwargs):
            return model.loss_gradient(x, y.argmax(axis=1)).gradient

    classifier = Classifier(model.logits, (20,), 3, clip_values=(0, 1))
    eps = float(np.median(model.distance(x, np.inf)))
    peer = evasion.UniversalPerturbation(
        classifier,
        attacker="fgsm",
        attacker_params={"eps": eps / 4},
        delta=0.0,
        max_iter=5,
        eps=eps,
        norm=np.inf,
        verbose=False,
    )
    theirs = peer.generate(x, np.eye(3)[y])
    ours = UAP(eps=eps, inner_eps=eps / 4, max_iter=5)(model, x, y)
    assert ours.success.sum() >= (model.classify(theirs) != y).sum()


def test_a_set_of_which_every_sample_is_wrong_is_left_alone():
    model = LinearModel(np.ones((2, 4)), np.array([1.0, 0.0]), (4,))
    x = np.full((3, 4), 0.5, np.float32)
    result = UAP()(model, x, np.ones(3, np.int64))
    np.testing.assert_array_equal(result.x_adv, x)
