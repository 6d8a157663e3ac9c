"""Cells and outcomes, on a linear model whose attacks can be worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_qnnrobust import attacks
from pytest_qnnrobust.errors import DataError, QnnRobustError
from pytest_qnnrobust.evaluation.cells import Cell, Outcome
from pytest_qnnrobust.evaluation.evaluator import Evaluator, evaluate
from tests.helpers.threshold import SQUARE, ThresholdModel, samples


def test_direct_cell_counts_what_the_attack_did() -> None:
    x, y = samples()
    outcome = evaluate(Cell(ThresholdModel(0.5), SQUARE), (x, y), seed=3)
    reachable = np.abs(x.mean(axis=1) - 0.5) < 0.2
    assert outcome.clean_accuracy == 1.0
    assert np.array_equal(outcome.fooled, reachable)
    assert outcome.accuracy == np.mean(~reachable)
    assert np.all(outcome.linf[outcome.fooled] <= 0.2 + 1e-6)
    assert outcome.id == "float32-square-linf-direct"


def test_sample_that_was_wrong_before_stays_wrong() -> None:
    x, y = samples()
    outcome = evaluate(Cell(ThresholdModel(0.5), SQUARE), (x, 1 - y))
    assert outcome.accuracy == outcome.clean_accuracy == 0.0
    assert not outcome.fooled.any()
    assert not outcome.queries.any()


def test_transfer_asks_the_target_about_the_sources_examples() -> None:
    x, y = samples()
    source, target = ThresholdModel(0.5, "source"), ThresholdModel(0.75, "target")
    outcome = evaluate(Cell(target, SQUARE, "transfer", source), (x, y))
    crafted = SQUARE(source, x, y)
    assert np.array_equal(outcome.adv_label, target.classify(crafted.x_adv))
    assert np.array_equal(outcome.clean_label, target.classify(x))
    assert outcome.source == "source"
    assert outcome.id == "float32-square-linf-transfer"


def test_one_attack_serves_every_target() -> None:
    x, y = samples()
    evaluator = Evaluator(x, y)
    source = ThresholdModel(0.5, "source")
    evaluator.evaluate(Cell(source, SQUARE))
    asked = source.queries
    for cut in (0.4, 0.6):
        evaluator.evaluate(Cell(ThresholdModel(cut), SQUARE, "transfer", source))
    assert source.queries == asked


def test_computed_cell_is_remembered() -> None:
    evaluator = Evaluator(*samples())
    model = ThresholdModel(0.5)
    first = evaluator.evaluate(Cell(model, SQUARE))
    same = attacks.create("square-linf", eps=0.2, max_iter=50)
    assert evaluator.evaluate(Cell(model, same)) is first
    assert evaluator.evaluate(Cell(model, SQUARE), samples=5) is not first


def test_limited_cell_is_the_start_of_the_whole() -> None:
    evaluator = Evaluator(*samples(), seed=1)
    cell = Cell(ThresholdModel(0.5), SQUARE)
    part, whole = evaluator.evaluate(cell, samples=5), evaluator.evaluate(cell)
    assert len(part) == 5
    assert np.array_equal(part.adv_label, whole.adv_label[:5])
    assert np.array_equal(part.l2, whole.l2[:5])


def test_outcome_survives_json() -> None:
    outcome = evaluate(Cell(ThresholdModel(0.5), SQUARE), samples())
    again = Outcome.from_json(json.loads(json.dumps(outcome.to_json())))
    assert again.to_json() == outcome.to_json()
    assert again.key == outcome.key
    assert again.adv_label.dtype == np.int64
    assert again.exhausted.dtype == bool


@pytest.mark.parametrize(
    "change",
    [{"extra": 1}, {"label": [1, 2]}, {"l2": [[0.0]]}],
)
def test_damaged_json_is_refused(change: dict[str, Any]) -> None:
    values = evaluate(Cell(ThresholdModel(0.5), SQUARE), samples()).to_json()
    with pytest.raises(DataError):
        Outcome.from_json(values | change)


def test_missing_field_is_named() -> None:
    values = evaluate(Cell(ThresholdModel(0.5), SQUARE), samples()).to_json()
    del values["linf"]
    with pytest.raises(DataError, match="linf"):
        Outcome.from_json(values)


def test_no_samples_give_nan_and_the_full_interval() -> None:
    x, y = samples()
    outcome = evaluate(Cell(ThresholdModel(0.5), SQUARE), (x[:0], y[:0]))
    assert np.isnan(outcome.accuracy)
    assert (outcome.interval().low, outcome.interval().high) == (0.0, 1.0)
    assert np.isnan(outcome.mean_distance("l2"))


@pytest.mark.parametrize(
    ("mode", "source"), [("direct", ThresholdModel(0.5)), ("transfer", None), ("sideways", None)]
)
def test_contradictory_cell_is_refused(mode: Any, source: ThresholdModel | None) -> None:
    with pytest.raises(QnnRobustError, match="mode"):
        Cell(ThresholdModel(0.5), SQUARE, mode, source)


@pytest.mark.parametrize("name", attacks.available())
def test_attack_id_names_every_preset(name: str) -> None:
    assert attacks.attack_id(attacks.preset(name, "smoke", 255.0)) == name


@settings(max_examples=20, deadline=None)
@given(cut=st.floats(0.1, 0.9), eps=st.floats(0.01, 0.5))
def test_accuracy_under_attack_never_exceeds_clean_accuracy(cut: float, eps: float) -> None:
    attack = attacks.create("square-linf", eps=eps, max_iter=10)
    outcome = evaluate(Cell(ThresholdModel(cut), attack), samples())
    assert outcome.accuracy <= outcome.clean_accuracy
    assert np.array_equal(outcome.robust | outcome.fooled, outcome.clean_correct)
