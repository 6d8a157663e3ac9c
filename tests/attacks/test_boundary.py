"""The Boundary attack: how near it comes, at what cost, on any input."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks import BoundaryAttack
from tests.attacks import laws
from tests.attacks.linear import LinearModel, problem, quantized_problem

QUICK = {"max_iter": 8, "init_size": 10}


@pytest.mark.parametrize("dtype", [None, "int8", "int16"])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-7.0, 2.5)])
@pytest.mark.parametrize("shape", [(32, 32, 3), (49, 10, 1), (25,)])
@pytest.mark.parametrize("classes", [2, 12])
def test_it_fools_any_model_inside_the_bounds(classes, shape, bounds, dtype):
    if dtype is None:
        model, x, y = problem(shape, classes, bounds, samples=4)
    else:
        model, x, y = quantized_problem(dtype, shape, classes, bounds, samples=4)
    result = BoundaryAttack(**QUICK)(model, x, y)
    assert result.success.all()
    np.testing.assert_array_equal(model.classify(result.x_adv) != y, result.success)
    assert (result.x_adv >= model.bounds[0]).all()
    assert (result.x_adv <= model.bounds[1]).all()
    if model.grid is not None:
        np.testing.assert_array_equal(model.grid.snap(result.x_adv), result.x_adv)


def test_large_images():
    model, x, y = problem((96, 96, 3), 2, samples=2)
    assert BoundaryAttack(**QUICK)(model, x, y).success.all()


@pytest.mark.parametrize("shape", [(2, 2, 3), (5, 4), (7,)])
@pytest.mark.parametrize("bounds", [(0.0, 255.0), (-3.5, 1.25)])
def test_it_reaches_the_nearest_boundary(shape, bounds):
    model, x, y = problem(shape, 2, bounds, samples=6)
    result = BoundaryAttack()(model, x, y)
    ratio = result.l2 / model.distance(x, 2.0)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.01


@pytest.mark.parametrize("dtype", laws.DTYPES)
def test_the_same_result_in_any_batch_and_order(dtype):
    model, x, y = quantized_problem(dtype, (8, 8, 3), samples=10)
    attack = BoundaryAttack(max_iter=12)
    laws.batches_agree(attack, model, x, y, (1, 7, 64), seed=4)


def test_one_query_per_candidate():
    model, x, y = problem()
    few = BoundaryAttack(max_iter=10, sample_size=4)(model, x, y).queries
    more = BoundaryAttack(max_iter=30, sample_size=4)(model, x, y).queries
    np.testing.assert_array_equal(more - few, 20 * 4)


def test_more_iterations_come_nearer():
    model, x, y = problem()
    distances = [BoundaryAttack(max_iter=n)(model, x, y).l2 for n in (5, 50, 300)]
    assert (distances[1] < distances[0]).all()
    assert (distances[2] < distances[1]).all()


def test_a_sample_that_gets_no_nearer_stops():
    model, x, y = problem((1,), samples=4)
    attack = BoundaryAttack(max_iter=2000, num_trial=10, sample_size=4)
    result = attack(model, x, y)
    assert result.success.all()
    assert (result.queries < 2000).all()


def test_a_query_budget_ends_the_walk_where_it_stands():
    model, x, y = problem()
    result = BoundaryAttack()(model, x, y, query_budget=37)
    assert (result.queries <= 37).all()
    assert result.exhausted.all()
    assert result.success.all()


def test_correlated_channels_find_a_slope_of_brightness_sooner():
    rng = np.random.default_rng(0)
    weights = np.repeat(rng.normal(size=(2, 100)), 3, axis=1)
    model = LinearModel(weights, -weights.sum(axis=1) / 2, (10, 10, 3))
    x = rng.uniform(0.45, 0.55, (12, 10, 10, 3)).astype(np.float32)
    y = model.classify(x)
    plain = BoundaryAttack(max_iter=40, channel_correlation=0.0)(model, x, y)
    biased = BoundaryAttack(max_iter=40, channel_correlation=0.5)(model, x, y)
    assert biased.l2.mean() < 0.9 * plain.l2.mean()


@pytest.mark.nightly
def test_nearer_than_art_for_half_of_its_queries():
    estimators = pytest.importorskip("art.estimators.classification")
    evasion = pytest.importorskip("art.attacks.evasion")
    model, x, y = problem((6, 6, 3), 2, samples=2)
    classifier = estimators.BlackBoxClassifierNeuralNetwork(
        lambda images: model.predict(np.asarray(images, np.float32)),
        model.input_shape,
        model.classes,
        clip_values=model.bounds,
    )
    np.random.seed(0)
    peer = evasion.BoundaryAttack(
        classifier, targeted=False, delta=0.1, epsilon=1.0, max_iter=40, verbose=False
    )
    model.queries = 0
    theirs = peer.generate(x, y)
    asked = model.queries / len(x)
    assert (model.classify(theirs) != y).all()
    each = BoundaryAttack().sample_size
    ours = BoundaryAttack(max_iter=int(asked / 2.2 / each))(model, x, y)
    assert (ours.queries <= asked / 2).all()
    distance = np.sqrt(np.square(theirs - x).sum(axis=(1, 2, 3)))
    assert ours.l2.mean() <= distance.mean()
