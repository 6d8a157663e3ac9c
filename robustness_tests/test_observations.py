"""Findings of "On Adversarial Robustness of Quantized Neural Networks Against Direct Attacks" and
of "Improving Robustness [...] with Deeply Quantized Neural Networks", judged on these models.

They describe networks of few bits beside full precision; where one does not hold, no model is at
fault (--qnn-findings).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pytest_qnnrobust.claims import observations
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.plugin import checks
from pytest_qnnrobust.run.session import Session
from pytest_qnnrobust.run.subjects import Defense

pytestmark = [
    pytest.mark.qnn_observation,
    pytest.mark.parametrize("qnn_model", ["int16", "int8"], indirect=True),
]

Judge = Callable[..., None]
Evaluate = Callable[..., Outcome]


def both(session: Session, evaluate: Evaluate, model: Model, name: str) -> tuple[Outcome, Outcome]:
    """The outcomes of the attack on the quantized model and on the float one, each directly."""
    checks.require_selected(session, name)
    plain = checks.comparable_models(session)
    if "float32" not in plain:
        pytest.skip("a comparison with full precision needs a float model")
    attack = session.attacks.attack(name)
    checks.require_reachable_budget(model, attack)
    return evaluate(model, attack), evaluate(plain["float32"], attack)


@pytest.mark.qnn_together("boundary")
def test_boundary_is_effective(
    qnn_model: Model, qnn_evaluate: Evaluate, qnn_session: Session, qnn_judge: Judge
) -> None:
    """Observation 1."""
    checks.require_selected(qnn_session, "boundary")
    outcome = qnn_evaluate(qnn_model, qnn_session.attacks.attack("boundary"))
    qnn_judge(observations.boundary_is_effective(outcome, qnn_session.rule), finding=True)


@pytest.mark.qnn_together("boundary")
@pytest.mark.qnn_compares
def test_boundary_is_more_distorted(
    qnn_model: Model, qnn_evaluate: Evaluate, qnn_session: Session, qnn_judge: Judge
) -> None:
    """Observation 1.1."""
    coarse, fine = both(qnn_session, qnn_evaluate, qnn_model, "boundary")
    verdict = observations.boundary_is_more_distorted(coarse, fine, qnn_session.rule)
    qnn_judge(verdict, finding=True)


@pytest.mark.qnn_together("boundary")
def test_the_true_class_comes_second_in_distorted_images(
    qnn_model: Model, qnn_evaluate: Evaluate, qnn_session: Session, qnn_judge: Judge
) -> None:
    """Observation 1.2, on the more distorted half of the images that Boundary fooled."""
    checks.require_selected(qnn_session, "boundary")
    attack = qnn_session.attacks.attack("boundary")
    outcome = qnn_evaluate(qnn_model, attack)
    images = qnn_session.craft(qnn_model, attack).x_adv
    rank = checks.true_class_rank(qnn_session.cached(qnn_model).logits(images), outcome.label)
    middle = np.median(outcome.l2[outcome.fooled]) if outcome.fooled.any() else np.inf
    far = outcome.fooled & (outcome.l2 >= middle)
    verdict = observations.true_class_comes_second(qnn_model.width, rank, far, qnn_session.rule)
    qnn_judge(verdict, finding=True)


@pytest.mark.qnn_compares
@pytest.mark.parametrize("name", ["fgsm", "uap"])
def test_gradient_attacks_are_weaker_on_fewer_bits(
    qnn_model: Model, name: str, qnn_evaluate: Evaluate, qnn_session: Session, qnn_judge: Judge
) -> None:
    """Observation 3."""
    coarse, fine = both(qnn_session, qnn_evaluate, qnn_model, name)
    verdict = observations.gradient_attack_is_weaker(coarse, fine, qnn_session.rule)
    qnn_judge(verdict, finding=True)


@pytest.mark.qnn_together("jsma")
@pytest.mark.qnn_compares
def test_jsma_needs_more_features_on_fewer_bits(
    qnn_model: Model, qnn_evaluate: Evaluate, qnn_session: Session, qnn_judge: Judge
) -> None:
    """Observation 4."""
    coarse, fine = both(qnn_session, qnn_evaluate, qnn_model, "jsma")
    verdict = observations.jsma_needs_more_features(coarse, fine, qnn_session.rule)
    qnn_judge(verdict, finding=True)


@pytest.mark.parametrize("name", ["square-linf", "boundary"])
def test_a_regularized_network_loses_no_more_than_its_parent(
    qnn_model: Model,
    qnn_defense: Defense,
    name: str,
    qnn_evaluate: Evaluate,
    qnn_session: Session,
    qnn_judge: Judge,
) -> None:
    """The third paper's relation, of a network trained to resist attacks."""
    checks.require_selected(qnn_session, name)
    checks.require_widths(qnn_defense, "float32", 2)
    if qnn_model.width not in qnn_defense.models:
        pytest.skip(f"{qnn_defense.name} has no {qnn_model.width} model")
    attack = qnn_session.attacks.attack(name)
    quantized, parent = (
        qnn_evaluate(qnn_defense.models[width], attack) for width in (qnn_model.width, "float32")
    )
    verdict = observations.regularized_loses_less(quantized, parent, qnn_session.rule)
    qnn_judge(verdict, finding=True)
