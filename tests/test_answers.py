"""Scores and gradients that are asked once, whatever asks again."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.evaluation import cache_keys
from pytest_qnnrobust.evaluation.cache import ResultCache
from pytest_qnnrobust.evaluation.cache_keys import answer_key
from pytest_qnnrobust.evaluation.cached_model import CachedModel, cached
from tests.attacks.linear import problem


@pytest.fixture
def model():
    found, _, _ = problem((4, 4, 1), samples=9)
    found.digest = "linear"
    return found


@pytest.fixture
def data():
    _, x, y = problem((4, 4, 1), samples=9)
    return x, y


def test_scores_are_asked_once_and_are_the_models_own(tmp_path, model, data):
    x, _ = data
    kept = CachedModel(model, ResultCache(tmp_path))
    kept.predict(x)
    model.queries = 0
    again = CachedModel(model, ResultCache(tmp_path))
    np.testing.assert_array_equal(again.logits(x), model.logits(x))
    np.testing.assert_array_equal(again.classify(x), model.classify(x))
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert (kept.queries, again.queries, model.queries) == (9, 0, 27)


@pytest.mark.parametrize("source", [None, "finite-difference"])
def test_gradients_are_asked_once_and_are_the_models_own(tmp_path, model, data, source):
    x, y = data
    asked = model if source is None else model.with_gradient(source)
    expected = asked.loss_gradient(x, y)
    counts = []
    for _ in range(2):
        kept = cached(model, ResultCache(tmp_path))
        kept = kept if source is None else kept.with_gradient(source)
        found = kept.loss_gradient(x, y)
        counts.append(kept.gradients)
        for name, values in vars(expected).items():
            np.testing.assert_array_equal(getattr(found, name), values)
    assert counts == [9, 0]


def test_another_question_is_another_answer(tmp_path, model, data):
    x, y = data
    kept = CachedModel(model, ResultCache(tmp_path))
    np.testing.assert_array_equal(kept.predict(x[::-1]), kept.predict(x)[::-1])
    for args in ((y, "cross-entropy", None), (y, "margin", None), (1 - y, "cross-entropy", None)):
        found, own = kept.loss_gradient(x, *args), model.loss_gradient(x, *args)
        np.testing.assert_array_equal(found.gradient, own.gradient)
        np.testing.assert_array_equal(found.loss, own.loss)


def test_every_part_of_the_question_is_part_of_the_key(model, data, monkeypatch):
    x, y = data
    other, _, _ = problem((4, 4, 1), samples=9, seed=1)
    other.digest = "another"
    keys = [
        answer_key("scores", model, x),
        answer_key("gradient of cross-entropy", model, x, y, y),
        answer_key("gradient of cross-entropy", model, x, y, 1 - y),
        answer_key("gradient of margin", model, x, y, y),
        answer_key("scores", other, x),
        answer_key("scores", model.with_bounds(0, 2), x),
        answer_key("scores", model.with_gradient("finite-difference"), x),
        answer_key("scores", model, x.astype(np.float64)),
        answer_key("scores", model, x.reshape(9, 16)),
    ]
    monkeypatch.setattr(cache_keys, "code_digest", lambda: "another version")
    keys.append(answer_key("scores", model, x))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "kept",
    [
        {"outputs": np.zeros((9, 2), np.float32)},
        {"outputs": np.zeros((9, 2)), "logits": np.zeros((9, 2))},
        {"outputs": np.zeros((8, 2), np.float32), "logits": np.zeros((8, 2), np.float32)},
    ],
)
def test_unsound_answers_are_not_taken(tmp_path, model, data, kept):
    x, _ = data
    stored = ResultCache(tmp_path)
    stored.store_floats(answer_key("scores", model, x), kept)
    np.testing.assert_array_equal(CachedModel(model, stored).predict(x), model.predict(x))


def test_nothing_is_kept_without_a_cache_or_a_file_behind_the_model(tmp_path, model):
    assert cached(model, None) is model
    model.digest = None
    assert cached(model, ResultCache(tmp_path)) is model


def test_no_samples(tmp_path, model, data):
    x, y = data
    for _ in range(2):
        kept = CachedModel(model, ResultCache(tmp_path))
        assert kept.predict(x[:0]).shape == (0, model.classes)
        assert kept.loss_gradient(x[:0], y[:0]).gradient.shape == (0, 4, 4, 1)
