"""Networks trained to resist attacks (--qnn-defended) beside the plain ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_qnnrobust.attacks.presets import BUDGETED, BY_TRANSFER, DIRECTLY
from pytest_qnnrobust.claims import takeaways
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.plugin import checks
from pytest_qnnrobust.run.session import Session
from pytest_qnnrobust.run.subjects import Defense

pytestmark = pytest.mark.qnn_defended

Judge = Callable[..., None]
Evaluate = Callable[..., Outcome]


def attacked(
    defense: Defense, name: str, evaluate: Evaluate, session: Session
) -> dict[str, Outcome]:
    """The outcome of the attack on each width, directly or by transfer, as the paper does."""
    checks.require_selected(session, name)
    attack, outcomes = session.attacks.attack(name), {}
    plain = checks.comparable_models(session)
    for width, model in defense.models.items():
        if width not in plain:
            continue
        direct = name in DIRECTLY or width == "float32"
        outcomes[width] = evaluate(model, attack, mode="direct" if direct else "transfer")
    return outcomes


@pytest.mark.parametrize("name", BUDGETED)
def test_the_defense_succeeds(
    qnn_defense: Defense,
    name: str,
    qnn_evaluate: Evaluate,
    qnn_session: Session,
    qnn_judge: Judge,
) -> None:
    """The model loses no more than --qnn-drop of the plain model's accuracy at any width."""
    outcomes = attacked(qnn_defense, name, qnn_evaluate, qnn_session)
    clean = checks.clean_baseline(qnn_session, outcomes)
    verdict = takeaways.defense_holds(qnn_defense.name, clean, outcomes, qnn_session.rule)
    qnn_judge(verdict, required=True)


@pytest.mark.parametrize("name", [*DIRECTLY, *BY_TRANSFER])
def test_the_defense_carries_over_to_quantized_models(
    qnn_defense: Defense,
    name: str,
    qnn_evaluate: Evaluate,
    qnn_session: Session,
    qnn_judge: Judge,
) -> None:
    """T7, against each attack."""
    checks.require_widths(qnn_defense, "float32", 2)
    outcomes = attacked(qnn_defense, name, qnn_evaluate, qnn_session)
    clean = checks.clean_baseline(qnn_session, outcomes)
    verdict = takeaways.defense_carries_over(qnn_defense.name, clean, outcomes, qnn_session.rule)
    qnn_judge(verdict, required=True)


@pytest.mark.qnn_together("deepfool")
def test_the_defense_increases_the_distance_to_the_boundary(
    qnn_defense: Defense, qnn_evaluate: Evaluate, qnn_session: Session, qnn_judge: Judge
) -> None:
    """T5, by DeepFool on each width itself; the paper has it for some defences only."""
    checks.require_selected(qnn_session, "deepfool")
    attack = qnn_session.attacks.attack("deepfool")
    plain = checks.comparable_models(qnn_session)
    widths = [width for width in qnn_defense.models if width in plain]
    before = {width: qnn_evaluate(plain[width], attack) for width in widths}
    after = {width: qnn_evaluate(qnn_defense.models[width], attack) for width in widths}
    rule = qnn_session.rule
    qnn_judge(takeaways.larger_distance(qnn_defense.name, before, after, rule), finding=True)


@pytest.mark.parametrize("name", ["cw-linf", "autoattack"])
def test_examples_for_the_defended_float_model_transfer(
    qnn_defense: Defense,
    name: str,
    qnn_evaluate: Evaluate,
    qnn_session: Session,
    qnn_judge: Judge,
) -> None:
    """T6, by the two attacks that transfer best."""
    checks.require_widths(qnn_defense, "float32", 2)
    outcomes = attacked(qnn_defense, name, qnn_evaluate, qnn_session)
    crafted_on = outcomes.pop("float32")
    verdict = takeaways.transfer_survives(qnn_defense.name, crafted_on, outcomes, qnn_session.rule)
    qnn_judge(verdict, finding=True)


def test_the_defense_adds_no_computation(
    qnn_defense: Defense, qnn_session: Session, qnn_judge: Judge
) -> None:
    """T10, counted on an integer graph."""
    width, defended = checks.integer_graph(qnn_defense.models)
    _, plain = checks.integer_graph({width: qnn_session.subject(width).model})
    rule = qnn_session.rule
    qnn_judge(takeaways.no_extra_computation(qnn_defense.name, plain, defended, rule))
