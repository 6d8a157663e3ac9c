"""Auto-PGD: closed forms, its three balls, targets and restarts, budgets, ART as an oracle."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks.gradient.apgd import APGD, APGDT
from pytest_qnnrobust.metrics import lp_norm
from tests.attacks import laws
from tests.attacks.linear import problem, quantized_problem

NORMS = (1, 2, np.inf)
DOMAINS = [(0.0, 1.0), (0.0, 255.0), (-7.0, 2.5)]
CASES = [
    ((32, 32, 3), 5, (0.0, 1.0)),
    ((96, 96, 3), 2, (0.0, 255.0)),
    ((49, 10, 1), 6, (-7.0, 2.5)),
    ((49, 10, 1), 6, (0.0, 1.0)),
    ((25,), 8, (0.0, 255.0)),
]


def flips(attack, model, x, y, nearest, eps):
    """Where success is not what the closed-form distance says, outside of a 2 % band."""
    result = attack(model, x, y)
    clear = np.abs(nearest / eps - 1) > 0.02
    assert clear.sum() > 0.6 * len(x)
    return np.flatnonzero((result.success != (nearest < eps)) & clear)


def attacks_in(norm, eps, **more):
    found = [APGD(norm=norm, eps=eps, loss="dlr", **more), APGDT(norm=norm, eps=eps, **more)]
    found.append(APGD(norm=norm, eps=eps, **more))
    return found


@pytest.mark.parametrize("attack", [APGD(norm="l1", larger_eps=True), APGDT(norm=2, targets=3)])
def test_repr_builds_the_same_attack_again(attack):
    assert eval(repr(attack), {"np": np, "APGD": APGD, "APGDT": APGDT}) == attack


@pytest.mark.parametrize("bounds", DOMAINS)
@pytest.mark.parametrize("norm", NORMS)
def test_two_classes_flip_exactly_what_can_be_flipped(norm, bounds):
    model, x, y = problem((6, 5, 1), 2, bounds, samples=40)
    nearest = model.distance(x, float(norm))
    eps = float(np.median(nearest))
    for attack in attacks_in(norm, eps):
        assert not len(flips(attack, model, x, y, nearest, eps)), attack


@pytest.mark.parametrize("norm", NORMS)
def test_every_class_is_aimed_at(norm):
    """Cross-entropy leads to a wrong class now and then; the targeted loss finds the right one."""
    model, x, y = problem((8, 8, 3), 12, samples=20)
    nearest = model.distance(x, float(norm))
    eps = float(np.median(nearest))
    attack = APGDT(norm=norm, eps=eps, targets=11, max_iter=60)
    assert not len(flips(attack, model, x, y, nearest, eps))


def test_the_warm_up_in_larger_balls_ends_in_the_small_one():
    model, x, y = problem((6, 5, 1), 2, samples=40)
    nearest = model.distance(x, 1.0)
    eps = float(np.median(nearest))
    attack = APGD(norm=1, eps=eps, larger_eps=True)
    assert not len(flips(attack, model, x, y, nearest, eps))
    result = attack(model, x, y)
    assert (result.l1 <= eps).all()
    assert result.gradients.max() == 103


@pytest.mark.parametrize("max_iter", [1, 2, 4, 7, 10])
def test_iterations_are_what_they_say_in_every_phase(max_iter):
    model, x, y = problem(samples=3)
    attack = APGD(norm=1, eps=1e-3, max_iter=max_iter, restarts=2, larger_eps=True)
    phases = 1 + 2 * (max_iter >= 4)
    assert (attack(model, x, y).gradients == 2 * (max_iter + phases)).all()


def test_a_confident_model_does_not_hide_behind_its_cross_entropy():
    """Logits so far apart that the cross-entropy and its gradient are zero in float32."""
    model, x, y = problem((6, 5, 1), 2, samples=20)
    nearest = model.distance(x, np.inf)
    eps = 1.01 * float(nearest.max())
    model.weights *= 1e6
    model.bias *= 1e6
    assert APGD(eps=eps)(model, x, y).success.all()


def test_the_second_target_starts_only_where_the_first_withstood():
    model, x, y = problem((8, 8, 3), 12, samples=20)
    eps = float(np.median(model.distance(x, np.inf)))
    one = APGDT(eps=eps, targets=1)(model, x, y)
    all_targets = APGDT(eps=eps, targets=11)(model, x, y)
    np.testing.assert_array_equal(all_targets.gradients[one.success], one.gradients[one.success])
    assert all_targets.success[one.success].all()
    assert (all_targets.gradients[~one.success] > 101).all()


@pytest.mark.parametrize("kind", [APGD, APGDT])
@pytest.mark.parametrize("norm", NORMS)
def test_without_early_stop_the_same_samples_fall_and_climb_on(kind, norm):
    model, x, y = problem((8, 8, 3), 6, samples=20)
    eps = 1.2 * float(np.median(model.distance(x, norm)))
    settings = {"norm": norm, "eps": eps, "max_iter": 30, "restarts": 2}
    early = kind(**settings)(model, x, y)
    late = kind(**settings, early_stop=False)(model, x, y)
    fooled = early.success
    assert 0.4 < fooled.mean() < 1
    np.testing.assert_array_equal(late.success, fooled)
    np.testing.assert_array_equal(late.x_adv[~fooled], early.x_adv[~fooled])
    np.testing.assert_array_equal(late.gradients[~fooled], early.gradients[~fooled])
    assert (late.gradients[fooled] >= 31).all()
    losses = [
        model.loss_gradient(found.x_adv[fooled], y[fooled]).loss.mean() for found in (early, late)
    ]
    assert losses[1] > losses[0] or kind is APGDT


def test_more_targets_than_classes_are_all_others():
    model, x, y = problem((5, 5, 1), 3, samples=6)
    attack = APGDT(eps=1e-4, targets=9, max_iter=3)
    assert (attack(model, x, y).gradients == 2 * 4).all()


def test_a_sample_that_withstood_returns_its_point_of_highest_loss():
    model, x, y = problem((6, 5, 1), 2, samples=20)
    eps = 0.5 * float(model.distance(x, np.inf).min())
    result = APGD(eps=eps)(model, x, y)
    assert not result.success.any()
    reached = model.loss_gradient(result.x_adv, y, "margin").loss
    slope = np.abs(model.weights[1] - model.weights[0]).sum()
    best = model.loss_gradient(x, y, "margin").loss + eps * slope
    np.testing.assert_allclose(reached, best, atol=1e-3 * eps * slope)


@pytest.mark.parametrize(("shape", "samples", "bounds"), CASES)
@pytest.mark.parametrize("dtype", [None, "int8", "int16"])
def test_any_shape_and_domain_stays_in_bounds_and_budget(dtype, shape, samples, bounds):
    build = problem if dtype is None else lambda *a, **k: quantized_problem(dtype, *a, **k)
    span = bounds[1] - bounds[0]
    for classes in (2, 12):
        model, x, y = build(shape, classes, bounds, samples=samples)
        clean = x if model.grid is None else model.grid.snap(x)
        for norm in NORMS:
            size = 1.0 if np.isinf(norm) else np.prod(shape) ** (1 / norm)
            eps = 0.02 * span * float(size)
            for attack in attacks_in(norm, eps, max_iter=6):
                result = attack(model, x, y)
                delta = result.x_adv.astype(np.float64) - clean
                slack = 1.0 if model.grid is None else 1 + 1e-5
                assert (lp_norm(delta, norm) <= eps * slack).all()
                moved = result.x_adv[result.l0 > 0]
                assert (moved >= model.bounds[0]).all()
                assert (moved <= model.bounds[1]).all()
                np.testing.assert_array_equal(result.success, model.classify(result.x_adv) != y)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", laws.DTYPES)
def test_the_same_result_in_any_batch_and_order(dtype, norm):
    model, x, y = quantized_problem(dtype, classes=4, samples=12)
    eps = {1: 0.25, 2: 0.05, np.inf: 0.004}[norm]
    more = {"norm": norm, "eps": eps, "max_iter": 12, "restarts": 2}
    late = APGDT(**more, early_stop=False)
    for attack in (APGD(**more), APGDT(**more), APGD(**more, larger_eps=norm == 1), late):
        whole = laws.batches_agree(attack, model, x, y, (1, 7))
        assert 0 < whole.success.mean() < 1


@pytest.mark.parametrize("attack", [APGD(eps=1e-4, restarts=3), APGDT(eps=1e-4, restarts=20)])
def test_no_sample_spends_more_than_the_query_budget(attack):
    model, x, y = problem()
    result = attack(model, x, y, query_budget=37)
    assert (result.queries + result.gradients == 37).all()
    assert result.exhausted.all()
    assert (result.linf > 0).all()


def test_the_query_budget_is_each_samples_own():
    model, x, y = quantized_problem(samples=12, classes=12)
    attack = APGDT(eps=0.02, restarts=3, max_iter=10)
    whole = attack(model, x, y, query_budget=60)
    single = attack(model, x, y, query_budget=60, batch_size=1)
    np.testing.assert_array_equal(whole.x_adv, single.x_adv)
    np.testing.assert_array_equal(whole.gradients, single.gradients)


def test_progress_rises_to_the_end():
    model, x, y = problem(samples=4)
    seen = []
    attack = APGD(norm=1, eps=1e-3, restarts=3, larger_eps=True)
    attack(model, x, y, progress=lambda *event: seen.append(event[0]))
    assert seen == sorted(seen)
    assert seen[-1] == 4


@pytest.mark.nightly
def test_as_strong_as_art_on_the_same_images():
    """At a budget that fools about half of the images of a curved model."""
    art_attacks = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import TensorFlowV2Classifier

    model, x, y = curved_model()
    import tensorflow as tf

    classifier = TensorFlowV2Classifier(
        model=tf.function(lambda x, training=False: model.network(x, training=False)),
        nb_classes=model.classes,
        input_shape=model.input_shape,
        loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=model.bounds,
    )
    eps = 0.03
    peer = art_attacks.AutoProjectedGradientDescent(
        classifier,
        norm=np.inf,
        eps=eps,
        eps_step=2 * eps,
        max_iter=30,
        nb_random_init=1,
        batch_size=64,
        verbose=False,
    )
    theirs = model.classify(peer.generate(x, y)) != y
    ours = APGD(eps=eps, max_iter=30)(model, x, y).success
    assert 0.1 < ours.mean() < 0.95
    assert ours.mean() >= theirs.mean() - 0.02
    assert APGDT(eps=eps, max_iter=30)(model, x, y).success.mean() >= ours.mean()


def curved_model():
    """A small random convolutional network, and noise with the labels that it gives."""
    import keras

    from pytest_qnnrobust.models.keras import KerasModel

    keras.utils.set_random_seed(7)
    network = keras.Sequential(
        [
            keras.layers.Input((10, 10, 2)),
            keras.layers.Conv2D(12, 3, activation="tanh", kernel_initializer="he_normal"),
            keras.layers.Conv2D(12, 3, activation="tanh", kernel_initializer="he_normal"),
            keras.layers.Flatten(),
            keras.layers.Dense(6, kernel_initializer="he_normal"),
        ]
    )
    model = KerasModel("curved", network)
    x = np.random.default_rng(3).random((48, 10, 10, 2)).astype(np.float32)
    return model, x, model.classify(x)
