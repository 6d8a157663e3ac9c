"""Checks that keep a weak attack, or a masked gradient, from passing as robustness."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest

from pytest_qnnrobust import attacks
from pytest_qnnrobust.attacks import Attack
from pytest_qnnrobust.claims.verdicts import accuracy_at_least
from pytest_qnnrobust.evaluation.cells import Outcome, split_budget
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.plugin import checks
from pytest_qnnrobust.run.session import Session

pytestmark = pytest.mark.qnn_sanity

Evaluate = Callable[..., Outcome]
SAMPLES = 32


@pytest.mark.qnn_together("square-linf")
def test_stronger_budget_never_helps_the_defender(
    qnn_model: Model, qnn_evaluate: Evaluate, qnn_session: Session
) -> None:
    checks.require_selected(qnn_session, "square-linf")
    outcomes = [
        qnn_evaluate(qnn_model, attack, samples=samples, record=False)
        for attack, samples in _budgets(qnn_session)
    ]
    for weaker, stronger in pairwise(outcomes):
        _require_no_less(weaker, stronger, qnn_session, "a larger eps must not raise accuracy")


def _budgets(session: Session) -> list[tuple[Attack, int | None]]:
    """Attacks of growing eps, and their numbers of samples: the run's own where it has several."""
    plan = session.attacks
    runs = [plan.attack(run) for run in plan.runs if split_budget(run)[0] == "square-linf"]
    if len(runs) > 1:
        return [(attack, None) for attack in sorted(runs, key=lambda run: cast(Any, run).eps)]
    eps = cast(Any, runs[0]).eps
    return [(plan.scaled(runs[0], eps * factor), SAMPLES) for factor in (0.5, 1.0, 2.0)]


@pytest.mark.qnn_together("square-linf")
def test_unbounded_score_attack_reaches_zero(
    qnn_model: Model, qnn_evaluate: Evaluate, qnn_session: Session
) -> None:
    checks.require_selected(qnn_session, "square-linf")
    attack = attacks.create("square-linf", eps=qnn_session.attacks.span, max_iter=500, p_init=0.8)
    _require_zero(qnn_evaluate(qnn_model, attack, samples=SAMPLES, record=False))


@pytest.mark.qnn_together("pgd")
def test_unbounded_gradient_attack_reaches_zero(
    qnn_model: Model, qnn_evaluate: Evaluate, qnn_session: Session
) -> None:
    checks.require_selected(qnn_session, "pgd")
    span = qnn_session.attacks.span
    attack = attacks.create("pgd", eps=span, step=span / 10, max_iter=40, restarts=5)
    _require_zero(qnn_evaluate(qnn_model, attack, samples=SAMPLES, record=False))


@pytest.mark.qnn_together("square-linf")
def test_noise_is_weaker_than_a_score_attack(
    qnn_model: Model, qnn_evaluate: Evaluate, qnn_session: Session
) -> None:
    _require_more_than_noise("square-linf", qnn_model, qnn_evaluate, qnn_session)


@pytest.mark.qnn_together("pgd")
def test_noise_is_weaker_than_a_gradient_attack(
    qnn_model: Model, qnn_evaluate: Evaluate, qnn_session: Session
) -> None:
    _require_more_than_noise("pgd", qnn_model, qnn_evaluate, qnn_session)


@pytest.mark.qnn_together("square-linf")
def test_gradient_attack_is_not_weaker_than_a_score_attack(
    qnn_model: Model, qnn_evaluate: Evaluate, qnn_session: Session
) -> None:
    checks.require_selected(qnn_session, "pgd", "square-linf")
    score = qnn_session.attacks.attack("square-linf")
    gradient = qnn_session.attacks.scaled(qnn_session.attacks.attack("pgd"), cast(Any, score).eps)
    _require_no_less(
        qnn_evaluate(qnn_model, score, record=False),
        qnn_evaluate(qnn_model, gradient, record=False),
        qnn_session,
        "gradients that help less than scores are masked",
    )


def _require_zero(outcome: Outcome) -> None:
    survivors = int(outcome.robust.sum())
    if survivors:
        pytest.fail(
            f"{outcome.attack} may change every input of {outcome.width} at will, and still "
            f"{survivors} of {len(outcome)} samples are classified correctly: its results are no "
            "measure of robustness (masked gradients, or a broken attack)",
            pytrace=False,
        )


def _require_more_than_noise(name: str, model: Model, evaluate: Evaluate, session: Session) -> None:
    checks.require_selected(session, "noise", name)
    noise = session.attacks.attack("noise")
    attack = session.attacks.scaled(session.attacks.attack(name), cast(Any, noise).eps)
    _require_no_less(
        evaluate(model, noise, record=False),
        evaluate(model, attack, record=False),
        session,
        f"{name} is no attack where random noise of the same size does more",
    )


def _require_no_less(weak: Outcome, strong: Outcome, session: Session, why: str) -> None:
    """Fail where the stronger attack leaves a significantly higher accuracy than the weaker."""
    verdict = accuracy_at_least(
        f"accuracy under {weak.settings} >= under {strong.settings}",
        ("weaker attack", weak.robust),
        ("stronger attack", strong.robust),
        session.rule,
    )
    if verdict.value == "violated":
        pytest.fail(f"{why}: {weak.width}, {verdict}", pytrace=False)
