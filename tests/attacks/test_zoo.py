"""ZOO: distances on linear models, the probe on quantized inputs, its space, the laws of all."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks.scores import zoo
from pytest_qnnrobust.attacks.scores.zoo import ZOO
from pytest_qnnrobust.attacks.scores.zoo_space import Space, interpolation
from tests.attacks import laws
from tests.attacks.linear import LinearModel, grid_for, problem

QUICK = {"max_iter": 6, "binary_search_steps": 2, "initial_const": 1.0, "coordinates": 8}


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-7.0, 2.5)])
@pytest.mark.parametrize(("shape", "classes"), [((20,), 2), ((4, 4, 1), 12)])
def test_it_reaches_the_nearest_boundary(shape, classes, bounds, memory):
    model, x, y = problem(shape, classes, bounds, samples=6)
    span = bounds[1] - bounds[0]
    attack = ZOO(
        max_iter=300,
        binary_search_steps=8,
        learning_rate=5e-4 * span,
        coordinates=16,
        h=1e-3 * span,
        memory=memory,
        abort_early=False,
    )
    result = attack(model, x, y)
    assert result.success.all()
    ratio = result.l2 / model.distance(x, 2.0)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.01


def test_a_probe_is_at_least_one_step_of_a_quantized_input():
    """A step of 1e-4 would round away; the model is not flat, and the attack must not say so."""
    grid = grid_for("int8", (0.0, 1.0))
    weights = np.random.default_rng(0).integers(-8, 9, (2, 24))
    model = LinearModel(weights, np.zeros(2), (24,), grid.range, grid)
    x = np.random.default_rng(1).uniform(0.4, 0.6, (6, 24)).astype(np.float32)
    y = model.classify(x)
    result = ZOO(h=1e-4, max_iter=40, initial_const=0.01)(model, x, y)
    assert result.success.all()


def test_steps_lengthen_where_they_are_too_short_and_only_there():
    """A small constant fails without them being short; longer ones would overshoot."""
    model, x, y = problem((6, 6, 1), 3, samples=6)
    far = LinearModel(model.weights, model.bias + np.eye(3)[0] * 6, (6, 6, 1), (0.0, 1.0))
    x_far = x[:1]
    assert far.classify(x_far) == [0]
    assert ZOO(learning_rate=0.005, coordinates=36)(far, x_far, [0]).success.all()
    near, nearer = (
        ZOO(initial_const=c, coordinates=36, learning_rate=0.002, max_iter=100)(model, x, y)
        for c in (1e-6, 1.0)
    )
    assert near.success.all()
    assert near.l2.mean() <= 1.2 * nearer.l2.mean()


def test_slopes_from_one_side_find_the_same_at_half_the_queries():
    model, x, y = problem((6, 6, 1), 3, samples=6)
    settings = {"max_iter": 30, "coordinates": 12, "initial_const": 1.0}
    both, one = (ZOO(**settings, symmetric=symmetric)(model, x, y) for symmetric in (True, False))
    np.testing.assert_allclose(one.l2, both.l2, rtol=0.01)
    assert one.queries.mean() <= 0.65 * both.queries.mean()


def test_a_slope_is_measured_inwards_where_the_input_lies_on_its_bound():
    weights = np.array([[1.0] * 8, [0.0] * 8])
    model = LinearModel(weights, np.zeros(2), (8,), (0.0, 1.0))
    result = ZOO(max_iter=100, initial_const=10.0)(model, np.ones((1, 8), np.float32), [0])
    assert not result.success.any()
    model = LinearModel(weights, np.array([-7.5, 0.0]), (8,), (0.0, 1.0))
    result = ZOO(max_iter=100, initial_const=10.0)(model, np.ones((1, 8), np.float32), [0])
    assert result.success.all()


@pytest.mark.parametrize("steps_per_probe", [1, 5])
def test_a_probe_is_a_whole_number_of_steps(steps_per_probe):
    model, x, y = laws.case("int8", (6, 4), 3, (0.0, 1.0), samples=4)
    clean = model.grid.quantize(x)
    seen = []
    evaluate = model.evaluate
    model.evaluate = lambda points: seen.append(points) or evaluate(points)
    settings = QUICK | {"max_iter": 1, "binary_search_steps": 1}
    ZOO(**settings, quantized_h=(steps_per_probe - 0.4) * model.grid.scale)(model, x, y)
    probes = next(points for points in seen if len(points) == 3 * 16)
    steps = model.grid.quantize(probes).astype(int) - np.repeat(clean[1:], 16, axis=0)
    sizes = np.abs(steps.reshape(len(steps), -1)).max(axis=1)
    np.testing.assert_array_equal(sizes, steps_per_probe)
    np.testing.assert_array_equal((steps != 0).reshape(len(steps), -1).sum(axis=1), 1)


def test_a_model_blind_to_small_steps_is_asked_with_larger_ones(monkeypatch):
    """Logits in coarse steps: one element has to move by a third of the domain to be noticed."""
    weights = np.random.default_rng(0).integers(3, 9, (2, 24)) * np.array([[1], [-1]])
    grid = grid_for("int8", (0.0, 1.0))
    model = LinearModel(weights, np.array([-13000.0, 13000.0]), (24,), grid.range, grid)
    exact = model._logits
    monkeypatch.setattr(model, "_logits", lambda x: 500 * np.round(exact(x) / 500))
    x = np.random.default_rng(1).uniform(0.4, 0.6, (6, 24)).astype(np.float32)
    y = model.classify(x)
    settings = {"quantized_h": 0.004, "learning_rate": 0.05}
    adaptive = ZOO(**settings)(model, x, y)
    monkeypatch.setattr(zoo, "FLAT", 1.0)
    fixed = ZOO(**settings)(model, x, y)
    assert adaptive.success.all()
    assert not fixed.success.any()


def test_nothing_is_measured_where_the_hinge_is_inactive():
    model, x, y = problem((200,), 2, samples=5)
    settings = {"max_iter": 30, "binary_search_steps": 1, "initial_const": 1e3, "refine": 0}
    result = ZOO(**settings, coordinates=100, learning_rate=0.02, abort_early=False)(model, x, y)
    assert result.success.all()
    assert result.queries.max() < 30 * 201 / 2


def test_confidence_moves_beyond_the_boundary():
    model, x, y = problem((20,), 2, samples=5)
    settings = {"max_iter": 60, "initial_const": 1.0, "refine": 0, "abort_early": False}
    near, far = (ZOO(**settings, confidence=c)(model, x, y) for c in (0.0, 0.5))
    assert (far.l2 >= near.l2 * 0.999).all()


@pytest.mark.parametrize("image", [(12, 12, 3), (49, 10, 1), (1, 40, 1), (3, 1, 2)])
def test_a_reduced_space_scales_its_noise_up_as_its_basis_says(image):
    space = Space(image, 8)
    noise = np.random.default_rng(0).normal(size=(2, space.size))
    whole = space.expand(noise)
    assert whole.shape == (2, np.prod(image))
    np.testing.assert_allclose(noise @ space.basis(np.arange(space.size)), whole, atol=1e-12)
    np.testing.assert_allclose(space.expand(np.ones((1, space.size))), 1.0)
    same = Space(image, None)
    assert same.size == np.prod(image)
    np.testing.assert_allclose(same.resized(whole, same), whole)


def test_interpolation_doubles_as_it_should():
    expected = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    np.testing.assert_allclose(interpolation(2, 4), expected)


def test_importance_is_that_of_the_cell():
    space = Space((16, 16, 1), None)
    noise = np.zeros((2, 16, 16, 1))
    noise[0, 5, 9] = -2.0
    weights = space.importance(noise.reshape(2, -1)).reshape(2, 16, 16)
    np.testing.assert_array_equal(weights[0, 4:6, 8:10], 2.0)
    assert weights[0].sum() == pytest.approx(4 * 2.0 + 252 * 0.02)
    np.testing.assert_array_equal(weights[1], 1.0)


@pytest.mark.parametrize("shape", [(12, 12, 1), (20, 8, 2), (40,)])
def test_it_succeeds_in_a_reduced_space_that_grows(shape):
    model, x, y = problem(shape, 2, samples=4)
    attack = ZOO(
        max_iter=40,
        initial_const=1.0,
        coordinates=24,
        use_resize=True,
        use_importance=True,
        initial_size=4,
        resize_at=(10,),
    )
    assert laws.honest(attack, model, x, y).success.all()


@pytest.mark.parametrize("case", laws.CASES)
def test_results_are_honest(case):
    model, x, y = laws.case(*case)
    span = model.bounds[1] - model.bounds[0]
    lengths = {"learning_rate": 0.01 * span, "h": 1e-4 * span}
    laws.honest(ZOO(**QUICK, **lengths), model, x, y)


@pytest.mark.parametrize(
    "more", [{}, {"use_resize": True, "use_importance": True, "initial_size": 4}]
)
@pytest.mark.parametrize("dtype", laws.DTYPES)
def test_the_same_result_in_any_batch_and_order(dtype, more):
    laws.same_in_any_batch(ZOO(**QUICK, **more), dtype)


def test_it_stops_at_its_query_budget():
    laws.stops_at_its_budget(ZOO())


@pytest.mark.nightly
def test_it_is_nearer_than_art_at_no_more_queries():
    evasion = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import BlackBoxClassifier

    model, x, y = problem((6, 6, 1), 3, samples=6)
    settings = {"max_iter": 20, "binary_search_steps": 4, "initial_const": 1.0}
    classifier = BlackBoxClassifier(model.logits, (6, 6, 1), 3, clip_values=(0, 1))
    peer = evasion.ZooAttack(
        classifier,
        **settings,
        nb_parallel=12,
        use_resize=False,
        use_importance=False,
        verbose=False,
    )
    np.random.seed(0)
    model.queries = 0
    theirs = peer.generate(x, y)
    queries = model.queries / len(x)
    ours = ZOO(**settings, coordinates=12)(model, x, y)
    fooled = model.classify(theirs) != y
    assert ours.success.sum() >= fooled.sum()
    assert ours.queries.mean() <= 1.5 * queries
    distance = np.sqrt(((theirs - x) ** 2).reshape(len(x), -1).sum(axis=1))
    assert ours.l2[fooled].mean() <= 1.05 * distance[fooled].mean()
