"""Straight-through, surrogate and finite-difference gradients of integer models."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust import attacks
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.models.losses import LOSSES
from tests.attacks.linear import problem, quantized_problem
from tests.helpers.digits import images, network

SOURCES = ("straight-through", "surrogate", "finite-difference")


@pytest.fixture(scope="module", params=["int8", "int16"])
def network_and_samples(request):
    x, y = images()
    return network(request.param), x[:24], y[:24]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(5, 4, 3), (7,)])
def test_differences_of_a_linear_model_are_its_gradient(shape, loss):
    model, x, _ = problem(shape, 5, samples=3)
    model.bias += 5.0 * np.arange(5)
    y, rival = np.array([4, 4, 0]), np.array([3, 0, 1])
    estimated = model.with_gradient("finite-difference")
    exact = model.loss_gradient(x, y, loss, rival)
    found = estimated.loss_gradient(x, y, loss, rival)
    np.testing.assert_allclose(found.loss, exact.loss, rtol=1e-4, atol=1e-4)
    scale = np.abs(exact.gradient).max()
    np.testing.assert_allclose(found.gradient, exact.gradient, atol=0.02 * scale)
    assert estimated.queries == 2 * 3 * np.prod(shape)
    weights = np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32)
    np.testing.assert_allclose(
        estimated.jacobian(x, weights)[1], model.jacobian(x, weights)[1], atol=5e-3
    )


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_a_probe_of_one_lsb_sees_the_slope_of_integers_even_at_the_bounds(dtype):
    model, x, y = quantized_problem(dtype, (6,), samples=4)
    x[0], x[1] = model.bounds
    y = model.classify(x)
    found = model.with_gradient("finite-difference").loss_gradient(x, y, "difference", (y + 1) % 3)
    wanted = (model.weights[(y + 1) % 3] - model.weights[y]) / model.grid.scale
    np.testing.assert_allclose(found.gradient, wanted, rtol=1e-4)


@pytest.mark.parametrize("source", SOURCES)
def test_scores_and_decisions_stay_those_of_the_integers(network_and_samples, source):
    model, x, y = network_and_samples
    twin = model.with_gradient(source, probe_steps=8 if model.width == "int8" else 1024)
    assert twin.gradient_source == source
    assert (twin.width, twin.runtime, twin.grid) == (model.width, model.runtime, model.grid)
    np.testing.assert_array_equal(twin.logits(x), model.logits(x))
    np.testing.assert_array_equal(twin.classify(x), model.classify(x))
    found = twin.loss_gradient(x[:4], y[:4], "margin")
    np.testing.assert_array_equal(found.logits, model.logits(x[:4]))
    own = model.loss_gradient(x[:4], y[:4], "margin")
    np.testing.assert_allclose(found.loss, own.loss, rtol=1e-6)
    for a, b in zip(found.gradient, own.gradient, strict=True):
        assert (a * b).sum() > 0.3 * np.linalg.norm(a) * np.linalg.norm(b)


def test_straight_through_and_surrogate_are_two_gradients(network_and_samples):
    model, x, y = network_and_samples
    own = model.loss_gradient(x, y, "cross-entropy").gradient
    twin = model.with_gradient("surrogate").loss_gradient(x, y, "cross-entropy").gradient
    np.testing.assert_array_equal(
        twin, model.surrogate.loss_gradient(x, y, "cross-entropy").gradient
    )
    assert (own != twin).any()


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_serves_an_attack(network_and_samples, source):
    model, x, y = network_and_samples
    pgd = attacks.PGD(eps=0.3, step=0.1, max_iter=3, restarts=1, random_start=False)
    result = pgd(model, x[:6], y[:6], gradient=source)
    np.testing.assert_array_equal(result.success, model.classify(result.x_adv) != y[:6])
    assert result.success.any()


def test_a_source_replaces_another_and_a_float_model_is_its_own_surrogate(network_and_samples):
    model, _, _ = network_and_samples
    assert model.with_gradient("finite-difference").with_gradient("straight-through") is model
    twin = model.surrogate
    assert twin.gradient_source == "autodiff"
    assert twin.with_gradient("surrogate") is twin.with_gradient("straight-through") is twin


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("exact",), "straight-through, surrogate, finite-difference, got gradient='exact'"),
        (("finite-difference", 0), "probe_steps to be an integer >= 1, got probe_steps=0"),
        (("finite-difference", 0.5), "probe_steps=0.5; a probe below one input LSB"),
    ],
)
def test_bad_arguments(network_and_samples, arguments, text):
    with pytest.raises(QnnRobustError, match=text):
        network_and_samples[0].with_gradient(*arguments)
