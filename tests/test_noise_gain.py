"""The gain of the input quantizer and of the layers behind it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pytest_qnnrobust import load_model
from pytest_qnnrobust.claims.noise_gain import layer_gains, quantizer_gain
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.models.grid import InputGrid
from tests.helpers.digits import images, network


@pytest.mark.parametrize("steps", [0.1, 0.3, 0.49])
def test_quantizer_absorbs_less_than_half_a_step(steps: float) -> None:
    grid = InputGrid(1 / 255, -128, "int8")
    x = np.random.default_rng(0).random((5, 8, 8, 1), np.float32)
    assert not quantizer_gain(grid, x, steps, (0.0, 1.0)).any()


def test_quantizer_gain_above_half_a_step_is_the_expected_one() -> None:
    # Noise uniform in +-1 step, away from the ends: E[Q^2] = 1/2, E[noise^2] = 1/3.
    grid = InputGrid(0.01, 0, "int16")
    x = np.full((20, 40, 40, 1), 0.5, np.float32)
    gain = quantizer_gain(grid, x, 1.0, (0.0, 1.0))
    assert gain.mean() == pytest.approx(np.sqrt(1.5), abs=0.01)


def test_quantizer_gain_of_a_sample_does_not_depend_on_the_others() -> None:
    grid = InputGrid(1 / 255, -128, "int8")
    x = np.random.default_rng(0).random((6, 8, 8, 1), np.float32)
    whole = quantizer_gain(grid, x, 1.0, (0.0, 1.0), seed=2)
    assert np.array_equal(quantizer_gain(grid, x[:2], 1.0, (0.0, 1.0), seed=2), whole[:2])


@pytest.fixture(scope="module", params=["int8", "int16"])
def network_and_images(request):
    return network(request.param), images()[0][:20]


def test_no_layer_sees_less_than_half_an_input_step(network_and_images):
    model, x = network_and_images
    gains = layer_gains(model, x, 0.49)
    assert len(gains) == len(model.interpreter.plan.steps)
    assert not np.any(list(gains.values()))


def test_every_layer_up_to_the_logits_sees_a_large_step(network_and_images):
    model, x = network_and_images
    steps = 0.2 / model.grid.scale
    gains = layer_gains(model, x, steps)
    *inner, _ = gains.values()
    assert np.all(np.array(inner) > 0)


def test_the_gain_of_a_layer_is_that_of_its_integers(network_and_images):
    model, x = network_and_images
    steps = 0.1 / model.grid.scale
    gains = layer_gains(model, x, steps, seed=3)
    clean = model.grid.snap(x).astype(np.float64)
    noise = [
        np.random.default_rng([3, i]).uniform(-steps, steps, clean[0].shape)
        for i in range(len(clean))
    ]
    noisy = np.clip(clean + np.array(noise) * model.grid.scale, *model.bounds)
    output = model.interpreter.plan.output
    before, after = (
        model.predict_quantized(model.grid.quantize(inputs)).astype(float) - output.zero_point
        for inputs in (clean, noisy)
    )
    change = np.linalg.norm(after - before, axis=1) / np.linalg.norm(before, axis=1)
    moved = np.linalg.norm((noisy - clean).reshape(len(x), -1), axis=1)
    relative = moved / np.linalg.norm(clean.reshape(len(x), -1), axis=1)
    np.testing.assert_allclose(gains[output.name], change / relative, rtol=1e-5)


def test_a_float_model_has_no_integer_layers():
    model = load_model(demo_path("digits_float.keras"))
    with pytest.raises(QnnRobustError, match=re.escape("expected an integer model")):
        layer_gains(model, np.zeros((1, *model.input_shape), np.float32), 1.0)


def test_noise_of_no_size_is_refused(network_and_images):
    model, x = network_and_images
    with pytest.raises(QnnRobustError, match="expected steps to be > 0, got steps=0"):
        layer_gains(model, x, 0)
