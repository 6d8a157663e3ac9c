"""A defence and the network behind it: one model, attacked as one; and the detector."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pytest_qnnrobust import attacks, evaluate
from pytest_qnnrobust.defenses import Defended, FeatureSqueezing, SqueezingDetector
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.evaluation.cells import Cell
from pytest_qnnrobust.types import WIDTHS
from tests.helpers.digits import images, network

SQUEEZING = FeatureSqueezing(bit_depth=3, window=2)
SAMPLES = 60


@pytest.fixture(scope="module", params=WIDTHS)
def network_and_samples(request):
    x, y = images()
    return network(request.param), x[:SAMPLES], y[:SAMPLES]


def test_it_decides_what_the_network_says_of_the_squeezed_input(network_and_samples):
    model, x, _ = network_and_samples
    defended = Defended(model, SQUEEZING)
    squeezed = SQUEEZING(x, model.bounds, model.grid)
    np.testing.assert_array_equal(defended.predict(x), model.predict(squeezed))
    np.testing.assert_array_equal(defended.logits(x), model.logits(squeezed))
    assert (defended.width, defended.grid) == (model.width, model.grid)
    assert defended.queries == 2 * SAMPLES
    assert "FeatureSqueezing" in defended.name
    assert defended.digest != model.digest


def test_an_input_that_is_squeezed_already_changes_nothing(network_and_samples):
    model, x, _ = network_and_samples
    colours = FeatureSqueezing(bit_depth=2, window=1)
    defended = Defended(model, colours)
    squeezed = colours(x, model.bounds, model.grid)
    np.testing.assert_array_equal(defended.logits(squeezed), model.logits(squeezed))


def test_integers_in_integers_out(network_and_samples):
    model, x, _ = network_and_samples
    defended = Defended(model, SQUEEZING)
    if model.grid is None:
        with pytest.raises(QnnRobustError, match="expected an integer model"):
            defended.predict_quantized(x)
        return
    q = model.grid.quantize(x)
    wanted = model.predict_quantized(SQUEEZING.squeeze_quantized(q, model.bounds, model.grid))
    np.testing.assert_array_equal(defended.predict_quantized(q), wanted)


def test_an_adaptive_attack_undoes_what_old_examples_do_not(network_and_samples):
    """Examples for the plain network make the defence look better than it is."""
    model, x, y = network_and_samples
    attack = attacks.create("pgd", eps=0.12, step=0.024, max_iter=20, restarts=1)
    defended = Defended(model, SQUEEZING)
    old = evaluate(Cell(defended, attack, "transfer", model), (x, y))
    adaptive = evaluate(Cell(defended, attack), (x, y))
    assert old.accuracy >= adaptive.accuracy + 0.2


@pytest.mark.parametrize("name", ["fgsm", "deepfool", "cw-l2", "jsma", "square-linf", "boundary"])
def test_every_kind_of_attack_runs_on_it(network_and_samples, name):
    model, x, y = network_and_samples
    defended = Defended(model, SQUEEZING)
    result = attacks.preset(name, "smoke")(defended, x[:8], y[:8])
    np.testing.assert_array_equal(result.success, defended.classify(result.x_adv) != y[:8])


def test_its_gradient_may_come_from_elsewhere(network_and_samples):
    model, x, y = network_and_samples
    defended = Defended(model, SQUEEZING)
    attack = attacks.create("pgd", eps=0.3, step=0.1, max_iter=5, restarts=1)
    for source in ("straight-through", "surrogate"):
        result = attack(defended, x[:8], y[:8], gradient=source)
        assert np.abs(result.x_adv - x[:8]).max() <= 0.3 + 0.01
    assert defended.surrogate.width == "float32"


def test_the_score_is_the_largest_change_of_the_probabilities(network_and_samples):
    model, x, _ = network_and_samples
    squeezers = (FeatureSqueezing(2, 1), FeatureSqueezing(None, 3))
    detector = SqueezingDetector(model, 0.5, squeezers)
    plain = model.predict(x)
    changes = [np.abs(Defended(model, s).predict(x) - plain).sum(axis=1) for s in squeezers]
    np.testing.assert_allclose(detector.scores(x), np.maximum(*changes), atol=1e-6)
    np.testing.assert_array_equal(detector.detects(x), np.maximum(*changes) > 0.5)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5])
def test_a_fitted_detector_keeps_its_false_positive_rate_and_no_more(network_and_samples, rate):
    model, x, _ = network_and_samples
    detector = SqueezingDetector.fitted(model, x, rate)
    assert detector.detects(x).mean() <= rate
    if detector.threshold:
        looser = SqueezingDetector(model, detector.threshold - 1e-9)
        assert looser.detects(x).mean() > rate


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"threshold": -0.1}, "expected threshold to be an L1 distance in [0, 2]"),
        ({"threshold": 1.0, "squeezers": ()}, "expected one squeezer or more"),
    ],
)
def test_a_bad_detector_is_one_clear_line(network_and_samples, arguments, text):
    with pytest.raises(QnnRobustError, match=re.escape(text)):
        SqueezingDetector(network_and_samples[0], **arguments)
