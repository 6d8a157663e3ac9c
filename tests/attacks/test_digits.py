"""On the embedded digits, whose int8 logits tie and which lie far from their boundaries."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust import attacks
from pytest_qnnrobust.attacks import MinimalDistortionAttack
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.models.load import load_model

MINIMAL = [
    name
    for name in attacks.available()
    if isinstance(attacks.preset(name, "smoke"), MinimalDistortionAttack)
]
FASTER = {"hopskipjump": {"init_eval": 25}, "geoda": {"max_iter": 200}, "zoo": {"coordinates": 32}}
SAMPLES = 10


@pytest.fixture(
    scope="module",
    params=[pytest.param("digits_float.keras", marks=pytest.mark.nightly), "digits_int8.tflite"],
)
def network_and_samples(request):
    data = np.load(demo_path("digits.npz"))
    settings = {"bounds": (0.0, 1.0)} if request.param.endswith("tflite") else {}
    model = load_model(demo_path(request.param), **settings)
    x = data["x"].astype(np.float32)[: 2 * SAMPLES] / 255
    y = data["y"].astype(np.int64)[: 2 * SAMPLES]
    right = np.flatnonzero(model.classify(x) == y)[:SAMPLES]
    return model, x[right], y[right]


@pytest.mark.parametrize("name", MINIMAL)
def test_smoke_settings_find_an_adversarial_example_of_every_sample(network_and_samples, name):
    model, x, y = network_and_samples
    result = attacks.preset(name, "smoke", **FASTER.get(name, {}))(model, x, y)
    assert result.success.all()
