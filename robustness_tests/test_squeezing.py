"""The networks behind feature squeezing (--qnn-squeeze), as the literature judges it and honestly.

"As the literature does": examples made for the plain network ("David and Goliath", section 4.2).
Honestly: the attack asks the squeezed network, its gradients pass the defence backwards (BPDA).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pytest_qnnrobust.attacks import Attack
from pytest_qnnrobust.attacks.presets import BUDGETED, BY_TRANSFER, DIRECTLY
from pytest_qnnrobust.claims import takeaways
from pytest_qnnrobust.claims.verdicts import accuracy_at_least
from pytest_qnnrobust.defenses import Defended, FeatureSqueezing
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.plugin import checks
from pytest_qnnrobust.run.session import Session

pytestmark = [pytest.mark.qnn_squeezed, pytest.mark.usefixtures("qnn_data")]

Judge = Callable[..., None]
Evaluate = Callable[..., Outcome]

ADAPTIVE = ("pgd", "square-l2", "square-linf")
"""Attacks that are aimed at the squeezed network itself."""


def squeezed_outcome(
    session: Session, evaluate: Evaluate, model: Model, attack: Attack, made_for: Model
) -> Outcome:
    """The outcome of the squeezed model on examples for a plain one."""
    return evaluate(session.cells.squeezed(model), attack, mode="transfer", source=made_for)


def test_squeezing_keeps_the_clean_accuracy(
    qnn_model: Model, qnn_session: Session, qnn_judge: Judge
) -> None:
    squeezed = checks.squeezed(qnn_session, qnn_model)
    right = qnn_session.right_on_clean(squeezed)
    plain = qnn_session.right_on_clean(qnn_model)
    name = f"{qnn_model.width} keeps its clean accuracy behind {squeezed.defense}"
    qnn_judge(
        accuracy_at_least(name, ("squeezed", right), ("plain", plain), qnn_session.rule),
        finding=True,
    )


@pytest.mark.parametrize("name", [*DIRECTLY, *BY_TRANSFER])
def test_squeezing_withstands_examples_for_the_plain_network(
    name: str, qnn_evaluate: Evaluate, qnn_session: Session, qnn_judge: Judge
) -> None:
    """The networks keep all but --qnn-drop of the plain accuracy, at every width."""
    checks.require_selected(qnn_session, name)
    attack, outcomes = qnn_session.attacks.attack(name), {}
    plain = checks.comparable_models(qnn_session)
    for width, model in plain.items():
        checks.squeezed(qnn_session, model)
        made_for = model if name in DIRECTLY else plain.get("float32")
        if made_for is not None:
            outcomes[width] = squeezed_outcome(qnn_session, qnn_evaluate, model, attack, made_for)
    clean = checks.clean_baseline(qnn_session, outcomes)
    verdict = takeaways.defense_holds("squeezing", clean, outcomes, qnn_session.rule)
    qnn_judge(verdict, finding=name not in BUDGETED)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_squeezing_withstands_attacks_that_know_it(
    qnn_model: Model, name: str, qnn_evaluate: Evaluate, qnn_session: Session, qnn_judge: Judge
) -> None:
    checks.require_selected(qnn_session, name)
    attack = qnn_session.attacks.attack(name)
    checks.require_reachable_budget(qnn_model, attack)
    outcome = qnn_evaluate(checks.squeezed(qnn_session, qnn_model), attack)
    clean = checks.clean_baseline(qnn_session, {qnn_model.width: outcome})[qnn_model.width]
    verdict = takeaways.defense_succeeds(
        f"{qnn_model.width} squeezing withstands {name} that knows it",
        clean,
        outcome,
        qnn_session.rule,
    )
    qnn_judge(verdict, finding=True)


@pytest.mark.qnn_together("square-linf")
@pytest.mark.parametrize("qnn_model", ["int16", "int8"], indirect=True)
def test_squeezing_denoises_more_than_fewer_colours_alone(
    qnn_model: Model, qnn_evaluate: Evaluate, qnn_session: Session, qnn_judge: Judge
) -> None:
    """The median window adds to the colour depth, by the examples of Square-Linf.

    The rival of takeaway 8, Pixel Defend, is a network of two million parameters of its own; what a
    microcontroller could run instead is one half of the squeezing without the other.
    """
    checks.require_selected(qnn_session, "square-linf")
    squeezing = checks.squeezed(qnn_session, qnn_model).defense
    if squeezing.bit_depth is None or squeezing.window == 1:
        pytest.skip(f"{squeezing} has one half only: nothing to compare")
    crafted = qnn_session.craft(qnn_model, qnn_session.attacks.attack("square-linf"))
    images, labels = crafted.x_adv[crafted.success], qnn_session.data.y[crafted.success]
    whole, colours = (
        qnn_session.evaluator.classify(Defended(qnn_model, defense), images) == labels
        for defense in (squeezing, FeatureSqueezing(squeezing.bit_depth, 1))
    )
    pair = ("squeezing", whole), ("fewer colours alone", colours)
    name = f"{qnn_model.width} squeezing denoises more than fewer colours alone"
    qnn_judge(takeaways.denoises_more(name, *pair, qnn_session.rule), finding=True)


def test_squeezing_runs_beside_the_network(qnn_session: Session, qnn_judge: Judge) -> None:
    """T8, counted on an integer graph."""
    models = checks.comparable_models(qnn_session)
    width, network = checks.integer_graph(models)
    defense = checks.squeezed(qnn_session, models[width]).defense
    cost = defense.cost(models[width].input_shape, width)
    qnn_judge(takeaways.runs_beside(network, cost, qnn_session.rule), finding=True)


@pytest.mark.qnn_together("jsma")
def test_squeezing_falls_short_as_more_pixels_are_perturbed(
    qnn_model: Model, qnn_evaluate: Evaluate, qnn_session: Session, qnn_judge: Judge
) -> None:
    """T9, by JSMA, whose examples differ most in how many pixels they change."""
    checks.require_selected(qnn_session, "jsma")
    attack = qnn_session.attacks.attack("jsma")
    checks.squeezed(qnn_session, qnn_model)
    outcome = squeezed_outcome(qnn_session, qnn_evaluate, qnn_model, attack, qnn_model)
    plain = qnn_evaluate(qnn_model, attack)
    recovered = np.asarray(outcome.adv_label == outcome.label)
    l0, recovered = plain.l0[plain.fooled], recovered[plain.fooled]
    verdict = takeaways.squeezing_and_extent(qnn_model.width, l0, recovered, qnn_session.rule)
    qnn_judge(verdict, finding=True)
