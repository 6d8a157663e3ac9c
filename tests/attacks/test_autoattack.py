"""AutoAttack: its authors' stages, the cascade on the survivors, budgets, the stages alone."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks import SquareAttack
from pytest_qnnrobust.attacks.autoattack import AutoAttack, WithinBudget, stage_accuracies
from pytest_qnnrobust.attacks.gradient.apgd import APGD, APGDT
from pytest_qnnrobust.attacks.gradient.fab import FAB
from tests.attacks import laws
from tests.attacks.linear import problem, quantized_problem

NORMS = (1, 2, np.inf)


@pytest.fixture
def short(monkeypatch):
    """AutoAttack whose stages make few iterations: its settings are checked elsewhere."""
    whole = AutoAttack._stage

    def stage(self, name):
        attack = whole(self, name)
        if isinstance(attack, WithinBudget):
            object.__setattr__(attack.attack, "max_iter", 4)
        else:
            object.__setattr__(attack, "max_iter", 10)
        return attack

    monkeypatch.setattr(AutoAttack, "_stage", stage)


def test_repr_builds_the_same_attack_again():
    attack = AutoAttack(norm="l2", eps=0.5, version="plus")
    assert eval(repr(attack), {"np": np, "AutoAttack": AutoAttack}) == attack
    stage = attack.stages()[2].attack
    names = {"np": np, "WithinBudget": WithinBudget, "FAB": FAB}
    assert eval(repr(stage), names) == stage


@pytest.mark.parametrize("norm", NORMS)
def test_standard_is_what_its_authors_run(norm):
    l1 = norm == 1
    ball = {"norm": norm, "eps": 0.3}
    assert AutoAttack(**ball).stages() == [
        ("apgd-ce", APGD(**ball, restarts=5 if l1 else 1, larger_eps=l1)),
        ("apgd-t", APGDT(**ball, targets=5 if l1 else 9, larger_eps=l1)),
        ("fab-t", WithinBudget(**ball, attack=FAB(**ball, targeted=True, early_stop=True))),
        ("square", SquareAttack(**ball, max_iter=5000, p_init=0.8, rescale=False)),
    ]


@pytest.mark.parametrize("norm", NORMS)
def test_plus_is_what_its_authors_run(norm):
    ball = {"norm": norm, "eps": 0.3}
    assert AutoAttack(**ball, version="plus").stages() == [
        ("apgd-ce", APGD(**ball, restarts=5)),
        ("apgd-dlr", APGD(**ball, restarts=5, loss="dlr")),
        ("fab", WithinBudget(**ball, attack=FAB(**ball, restarts=5, early_stop=True))),
        ("square", SquareAttack(**ball, max_iter=5000, p_init=0.8, rescale=False)),
        ("apgd-t", APGDT(**ball)),
        ("fab-t", WithinBudget(**ball, attack=FAB(**ball, targeted=True, early_stop=True))),
    ]


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("norm", NORMS)
def test_it_flips_exactly_what_can_be_flipped(norm, bounds, monkeypatch):
    """Square, which adds nothing on a linear model, is kept short."""
    whole = AutoAttack._stage

    def stage(self, name):
        attack = whole(self, name)
        if name == "square":
            object.__setattr__(attack, "max_iter", 5)
        return attack

    monkeypatch.setattr(AutoAttack, "_stage", stage)
    model, x, y = problem((6, 5, 1), 5, bounds, samples=15)
    nearest = model.distance(x, float(norm))
    eps = float(np.median(nearest))
    result = AutoAttack(norm=norm, eps=eps)(model, x, y)
    clear = np.abs(nearest / eps - 1) > 0.02
    assert clear.sum() > 8
    np.testing.assert_array_equal(result.success[clear], (nearest < eps)[clear])


@pytest.mark.parametrize("version", ["standard", "plus"])
@pytest.mark.parametrize("norm", NORMS)
def test_the_stages_alone_give_what_the_cascade_gives(norm, version, short):
    model, x, y = quantized_problem(classes=6, samples=24)
    y[:3] = (y[:3] + 1) % 6
    eps = {1: 0.3, 2: 0.04, np.inf: 0.0045}[norm]
    attack = AutoAttack(norm=norm, eps=eps, version=version)
    result = attack(model, x, y, seed=3)
    shares = stage_accuracies(attack, model, x, y, seed=3)
    assert list(shares) == ["clean", *(name for name, _ in attack.stages())]
    assert shares["clean"] == 21 / 24
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert 0 < list(shares.values())[-1] < shares["clean"]
    assert list(shares.values())[-1] == (~result.success).mean()


@pytest.mark.parametrize("norm", NORMS)
def test_a_sample_that_the_first_stage_fools_is_left_alone(norm, short):
    model, x, y = problem((6, 5, 1), 4, samples=20)
    eps = float(np.median(model.distance(x, float(norm))))
    attack = AutoAttack(norm=norm, eps=eps)
    first = attack.stages()[0].attack(model, x, y)
    result = attack(model, x, y)
    assert 0 < first.success.sum() < len(x)
    np.testing.assert_array_equal(result.x_adv[first.success], first.x_adv[first.success])
    np.testing.assert_array_equal(result.gradients[first.success], first.gradients[first.success])
    assert (result.gradients > first.gradients)[~first.success].all()


def test_a_sample_that_withstood_keeps_the_point_nearest_to_success(short):
    model, x, y = problem((6, 5, 1), 4, samples=10)
    eps = 0.5 * float(model.distance(x, np.inf).min())
    attack = AutoAttack(norm=np.inf, eps=eps)
    result = attack(model, x, y)
    assert not result.success.any()
    reached = model.loss_gradient(result.x_adv, y, "margin").loss
    for _, stage in attack.stages():
        alone = model.loss_gradient(stage(model, x, y).x_adv, y, "margin").loss
        assert (reached >= alone - 1e-5).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_the_same_result_in_any_batch_and_order(dtype, norm, short):
    model, x, y = quantized_problem(dtype, classes=5, samples=9)
    eps = {1: 0.2, 2: 0.03, np.inf: 0.004}[norm]
    attack = AutoAttack(norm=norm, eps=eps)
    whole = laws.batches_agree(attack, model, x, y, (1, 7))
    assert 0 < whole.success.mean() < 1


@pytest.mark.parametrize("classes", [2, 12])
@pytest.mark.parametrize(
    ("shape", "bounds"),
    [((32, 32, 3), (0.0, 255.0)), ((49, 10, 1), (-7.0, 2.5)), ((25,), (0.0, 1.0))],
)
def test_any_shape_and_domain_stays_in_bounds_and_budget(shape, bounds, classes, short):
    span = bounds[1] - bounds[0]
    for build in (problem, quantized_problem):
        model, x, y = build(shape=shape, classes=classes, bounds=bounds, samples=3)
        for norm in NORMS:
            eps = 1e-3 * span * (1.0 if np.isinf(norm) else float(np.prod(shape) ** (1 / norm)))
            result = AutoAttack(norm=norm, eps=eps, version="plus")(model, x, y)
            distance = {1: result.l1, 2: result.l2, np.inf: result.linf}[norm]
            assert (distance <= eps * (1 if model.grid is None else 1 + 1e-6)).all()
            assert (result.x_adv >= model.bounds[0]).all()
            assert (result.x_adv <= model.bounds[1]).all()
            np.testing.assert_array_equal(result.success, model.classify(result.x_adv) != y)


@pytest.mark.parametrize("budget", [37, 130])
def test_no_sample_spends_more_than_the_query_budget(budget):
    model, x, y = problem()
    attack = AutoAttack(eps=1e-4)
    result = attack(model, x, y, query_budget=budget)
    assert (result.queries + result.gradients <= budget).all()
    assert result.exhausted.all()
    assert (result.linf > 0).all()


def test_progress_rises_to_the_end(short):
    model, x, y = problem(samples=6)
    seen = []
    attack = AutoAttack(eps=1e-4)
    attack(model, x, y, progress=lambda *event: seen.append(event[0]))
    assert len(set(seen)) > 4
    assert seen == sorted(seen)
    assert seen[-1] == 6
