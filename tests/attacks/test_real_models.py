"""On the integer ResNet-8 itself: one result, however the samples are batched and ordered."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust import attacks
from pytest_qnnrobust.models.load import load_model
from tests.attacks import laws

SETTINGS = {
    "square-linf": {"max_iter": 8},
    "square-l2": {"max_iter": 8},
    "noise": {},
    "pgd": {"eps": 0.02, "step": 0.004, "max_iter": 5, "restarts": 2},
    "deepfool": {"max_iter": 4},
    "boundary": {"max_iter": 1, "sample_size": 4, "num_trial": 4, "init_size": 4},
    "apgd-t": {"eps": 0.02, "max_iter": 5, "targets": 2},
    "fab-t": {"max_iter": 4, "targets": 2},
    "jsma": {"max_iter": 10},
    "cw-l0": {"max_iter": 2, "largest_const": 1.0, "polish_steps": 2, "drop_rate": 8.0},
    "cw-l2": {"max_iter": 3, "binary_search_steps": 3, "polish_steps": 2},
    "cw-linf": {"max_iter": 2, "largest_const": 1.0, "polish_steps": 2},
    "ead": {"max_iter": 3, "binary_search_steps": 3, "polish_steps": 2},
    "uap": {"max_iter": 1},
    "zoo": {"max_iter": 2, "binary_search_steps": 1, "coordinates": 16},
    "spsa": {"max_iter": 2, "samples": 8},
    "square-l1": {"eps": 20.0, "max_iter": 8},
    "geoda": {"max_iter": 60, "init_size": 4},
    "hopskipjump": {"max_iter": 1, "init_eval": 16, "init_size": 4},
}
SAMPLES = 12


@pytest.fixture(scope="module", params=laws.DTYPES)
def target(request, shared):
    model = load_model(shared / "models" / f"cifar_resnet_{request.param}.tflite", bounds=(0, 1))
    data = np.load(shared / "data" / "cifar10_test.npz")
    return model, data["x"][:SAMPLES].astype(np.float32) / 255, data["y"][:SAMPLES].astype(np.int64)


@pytest.mark.parametrize("name", SETTINGS)
def test_batch_size_and_order_do_not_matter(target, name):
    model, x, y = target
    attack = attacks.create(name, **SETTINGS[name])
    whole = attack(model, x, y, seed=2)
    assert name == "noise" or (whole.queries + whole.gradients).any()
    np.testing.assert_array_equal(whole.success, model.classify(whole.x_adv) != y)
    for batch_size in (1, 7):
        again = attack(model, x, y, seed=2, batch_size=batch_size)
        np.testing.assert_array_equal(again.x_adv, whole.x_adv)
    order = np.random.default_rng(0).permutation(SAMPLES)
    again = attack(model, x[order], y[order], seed=2, index=order)
    np.testing.assert_array_equal(again.x_adv, whole.x_adv[order])
