"""Query and time budgets, Ctrl-C and progress."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pytest_qnnrobust import attacks
from pytest_qnnrobust.attacks import target
from tests.attacks.linear import LinearModel, problem

HARD = {
    "noise": {"eps": 1e-4, "repeats": 50},
    "pgd": {"eps": 1e-4, "step": 1e-5, "restarts": 5},
    "square-linf": {"eps": 1e-4},
    "square-l2": {"eps": 1e-4},
    "boundary": {},
}


@pytest.mark.parametrize("name", HARD)
def test_no_sample_spends_more_than_the_query_budget(name):
    model, x, y = problem()
    result = attacks.create(name, **HARD[name])(model, x, y, query_budget=37)
    assert (result.queries + result.gradients <= 37).all()
    assert result.exhausted.all()


@pytest.mark.parametrize("name", [*HARD, "deepfool", "fgsm"])
def test_a_budget_that_suffices_changes_nothing(name):
    model, x, y = problem(samples=5)
    quick = {"boundary": {"max_iter": 5}, "square-l2": {"max_iter": 40}}
    attack = attacks.create(name, **({**HARD, **quick}.get(name, {})))
    free = attack(model, x, y)
    capped = attack(model, x, y, query_budget=int((free.queries + free.gradients).max()))
    np.testing.assert_array_equal(free.x_adv, capped.x_adv)
    assert not capped.exhausted.any()


def test_the_query_budget_is_each_samples_own():
    model, x, y = problem()
    attack = attacks.create("boundary", max_iter=50)
    whole = attack(model, x, y, query_budget=333)
    single = attack(model, x, y, query_budget=333, batch_size=1)
    np.testing.assert_array_equal(whole.x_adv, single.x_adv)
    np.testing.assert_array_equal(whole.queries, single.queries)


def test_an_exhausted_boundary_attack_keeps_what_it_has():
    model, x, y = problem()
    result = attacks.create("boundary")(model, x, y, query_budget=400)
    assert result.success.all()
    assert result.exhausted.all()


def test_queries_and_gradients_are_those_of_the_model_without_the_grading():
    model, x, y = problem()
    result = attacks.create("square-linf", eps=0.001, max_iter=20)(model, x, y)
    graded = 2 * len(x)
    assert model.queries == result.queries.sum() + graded
    result = attacks.create("deepfool", max_iter=1)(model, x, y)
    assert model.gradients == result.gradients.sum() == model.classes * len(x)


def test_a_time_budget_that_is_over_marks_every_sample():
    model, x, y = problem()
    result = attacks.create("square-linf", eps=1e-4)(model, x, y, time_budget=1e-9)
    assert result.exhausted.all()
    assert not result.success.any()


class Timed(LinearModel):
    """A linear model of forty classes, each call of which takes a second of `clock`."""

    def __init__(self, model, clock):
        super().__init__(model.weights, model.bias, model.input_shape, model.bounds)
        self.clock = clock
        self.asked = []

    def _call(self, ask, inputs, gradients):
        self.asked.append((self.clock.now, len(inputs), gradients))
        self.clock.now += 1
        return ask()

    def _evaluate(self, x):
        return self._call(lambda: super(Timed, self)._evaluate(x), x, 0)

    def _loss_gradient(self, x, y, rival, loss):
        return self._call(lambda: super(Timed, self)._loss_gradient(x, y, rival, loss), x, 1)

    def _jacobian(self, x, weights):
        gradients = weights.shape[1]
        return self._call(lambda: super(Timed, self)._jacobian(x, weights), x, gradients)


@pytest.fixture
def timed(monkeypatch):
    """`timed(**problem)`: a model on a clock that only its answers move, and its samples."""

    def start(**settings):
        clock = SimpleNamespace(now=0.0)
        model, x, y = problem((4, 4, 3), 40, **settings)
        monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
        return Timed(model, clock), x, y

    return start


@pytest.mark.parametrize("name", attacks.NAMES)
def test_no_question_is_asked_once_the_time_is_up(name, timed):
    model, x, y = timed(samples=5)
    attack = attacks.create(name)
    if isinstance(attack, attacks.FixedBudgetAttack):
        attack = replace(attack, eps=1e-4)
    result = attack(model, x, y, time_budget=2.5)
    late = [moment for moment, _, _ in model.asked if moment > 2.5]
    assert len(late) <= 1, "the grading alone"
    assert result.exhausted.all() or name in ("noise", "fgsm"), "which ask once"


@pytest.mark.parametrize("name", ["deepfool", "fab"])
def test_the_time_is_looked_at_between_the_classes(name, timed):
    model, x, y = timed(samples=300)
    attacks.create(name)(model, x, y, time_budget=3.5)
    clean, classes, graded = [(256, 0), (44, 0)], [(256, 16), (256, 16)], [(256, 0)]
    assert [call[1:] for call in model.asked] == [*clean, *classes, *graded]


def test_the_time_is_looked_at_between_the_measured_gradients_of_samples(timed):
    model, x, y = timed(samples=4)
    measured = model.with_gradient("finite-difference")
    result = attacks.create("pgd", eps=1e-4)(measured, x, y, time_budget=1.5)
    clean, probes, graded = 4, 2 * x[0].size, 4
    together = target.CHUNK // (probes + 1)
    found = [inputs for _, inputs, _ in model.asked]
    assert found == [clean, together, *[probes] * together, graded]
    assert result.exhausted.all()


@pytest.mark.parametrize("name", ["deepfool", "fab", "uap"])
def test_the_classes_part_by_part_give_what_all_at_once_do(name, monkeypatch):
    model, x, y = problem((4, 4, 3), 40)
    attack = attacks.preset(name, "smoke", **({"inner": "deepfool"} if name == "uap" else {}))
    parts = attack(model, x, y)
    monkeypatch.setattr(target, "SUMS", 1000)
    whole = attack(model, x, y)
    assert parts.success.any()
    np.testing.assert_array_equal(parts.x_adv, whole.x_adv)
    np.testing.assert_array_equal(parts.gradients, whole.gradients)


def test_who_cannot_pay_for_all_classes_gets_none():
    model, x, y = problem((4, 4, 3), 40)
    short = attacks.create("deepfool")(model, x, y, query_budget=39)
    assert short.exhausted.all()
    assert not short.gradients.any()
    assert not model.gradients


class Interrupting:
    """A progress display during which the user presses Ctrl-C."""

    def __init__(self, after: int) -> None:
        self.calls = 0
        self.after = after

    def __call__(self, done: int, total: int, text: str) -> None:
        self.calls += 1
        if self.calls == self.after:
            raise KeyboardInterrupt


def test_ctrl_c_keeps_what_is_finished_and_marks_the_rest():
    model, x, y = problem(samples=12)
    attack = attacks.create("boundary", max_iter=5)
    free = attack(model, x, y, batch_size=4)
    rounds = Interrupting(after=10**9)
    attack(model, x[:4], y[:4], progress=rounds)
    result = attack(model, x, y, batch_size=4, progress=Interrupting(after=rounds.calls + 3))
    assert result.interrupted
    np.testing.assert_array_equal(result.x_adv[:4], free.x_adv[:4])
    assert not result.exhausted[:4].any()
    assert result.exhausted[4:].all()
    assert result.queries[4:8].all()
    assert not result.queries[8:].any()
    np.testing.assert_array_equal(result.success, model.classify(result.x_adv) != y)


@pytest.mark.parametrize("name", ["noise", "fgsm", "square-linf", "deepfool", "boundary", "zoo"])
def test_ctrl_c_while_a_batch_is_graded_keeps_the_batches_before(name, monkeypatch):
    model, x, y = problem(samples=12)
    attack = attacks.preset(name, "smoke")
    free = attack(model, x, y, batch_size=4)
    graded, original = [], type(attack)._grade

    def grade(self, target, rows, recorder):
        graded.append(len(rows))
        if len(graded) == 2:
            raise KeyboardInterrupt
        original(self, target, rows, recorder)

    monkeypatch.setattr(type(attack), "_grade", grade)
    result = attack(model, x, y, batch_size=4)
    assert result.interrupted
    np.testing.assert_array_equal(result.x_adv[:4], free.x_adv[:4])
    np.testing.assert_array_equal(result.exhausted[:4], free.exhausted[:4])
    assert result.exhausted[4:].all()
    np.testing.assert_array_equal(result.x_adv[4:], x[4:])


@pytest.mark.parametrize("name", ["fgsm", "deepfool"])
def test_measured_gradients_are_charged_as_the_questions_they_cost(name):
    model, x, y = problem()
    measured = model.with_gradient("finite-difference")
    price = 2 * x[0].size + 1
    attack = attacks.preset(name, "smoke")
    result = attack(measured, x, y)
    assert not result.gradients.any()
    assert (result.queries >= price).all()
    short = attack(measured, x, y, query_budget=price - 1)
    assert short.exhausted.all()
    assert not short.queries.any()


def test_progress_counts_up_to_the_samples_attacked():
    model, x, y = problem(samples=9)
    y[3] = 1 - y[3]
    seen = []
    attack = attacks.create("square-linf", eps=1e-4, max_iter=5)
    attack(model, x, y, batch_size=4, progress=lambda *event: seen.append(event))
    done = [event[0] for event in seen]
    assert done == sorted(done)
    assert seen[-1] == (8, 8, "SquareAttack")


class PartByPart(attacks.MinimalDistortionAttack):
    """Attacks the odd samples of the data through a part of the target."""

    knowledge = "black"
    norms = (2.0,)

    def _validate(self) -> None:
        pass

    def run(self, target, x, y, streams):
        rows = np.flatnonzero(streams._index % 2)
        part = target.part(rows)
        try:
            for _ in range(4):
                part.evaluate(part.x)
        finally:
            target.absorb(part, rows)
        target.evaluate(x)


def test_a_part_spends_from_the_budget_of_its_samples():
    model, x, y = problem(samples=6)
    free = PartByPart()(model, x, y)
    assert free.queries.tolist() == [1, 5] * 3
    assert 0 < free.model_seconds < free.seconds
    capped = PartByPart()(model, x, y, query_budget=3)
    assert capped.queries.tolist() == [1, 3] * 3
    assert capped.exhausted.tolist() == [False, True] * 3
