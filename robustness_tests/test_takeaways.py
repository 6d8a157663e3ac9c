"""Findings of "David and Goliath" (Costa and Pinto), judged on these models."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_qnnrobust.claims import gradient_metrics, noise_gain, takeaways
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.plugin import checks
from pytest_qnnrobust.run.session import Session

pytestmark = pytest.mark.qnn_takeaway

Judge = Callable[..., None]
BELOW, ABOVE = 0.4, 1.0
"""Noise amplitudes in input steps, on either side of the half step that rounding absorbs."""


@pytest.mark.qnn_together("deepfool")
@pytest.mark.qnn_compares
def test_deepfool_transfer_accuracy_rises_as_precision_falls(
    qnn_evaluate: Callable[..., Outcome], qnn_session: Session, qnn_judge: Judge
) -> None:
    checks.require_selected(qnn_session, "deepfool")
    attack = qnn_session.attacks.attack("deepfool")
    outcomes = {}
    for width, model in checks.comparable_models(qnn_session).items():
        mode = "direct" if width == "float32" else "transfer"
        outcomes[width] = qnn_evaluate(model, attack, mode=mode)
    qnn_judge(takeaways.transfer_accuracy(outcomes, qnn_session.rule))


@pytest.mark.qnn_together("boundary")
@pytest.mark.qnn_compares
def test_boundary_distance_does_not_shrink_as_precision_falls(
    qnn_evaluate: Callable[..., Outcome], qnn_session: Session, qnn_judge: Judge
) -> None:
    checks.require_selected(qnn_session, "boundary")
    attack = qnn_session.attacks.attack("boundary")
    models = checks.comparable_models(qnn_session)
    outcomes = {width: qnn_evaluate(model, attack) for width, model in models.items()}
    qnn_judge(takeaways.boundary_distance(outcomes, qnn_session.rule))


@pytest.mark.parametrize("qnn_model", ["int16", "int8"], indirect=True)
@pytest.mark.usefixtures("qnn_data")
def test_noise_is_attenuated_below_half_a_step_and_passed_above(
    qnn_model: Model, qnn_session: Session, qnn_judge: Judge
) -> None:
    grid, x = qnn_model.grid, qnn_session.data.x
    assert grid is not None
    below, above = (
        noise_gain.quantizer_gain(grid, x, steps, qnn_model.bounds, qnn_session.options.seed)
        for steps in (BELOW, ABOVE)
    )
    qnn_judge(takeaways.noise_threshold(qnn_model.width, below, above, qnn_session.rule))


@pytest.mark.qnn_compares
@pytest.mark.usefixtures("qnn_data")
def test_gradients_have_more_zeros_as_precision_falls(
    qnn_session: Session, qnn_judge: Judge
) -> None:
    """T2, by differences over whole int8 steps at every width (--qnn-probe-steps)."""
    densities = {
        width: gradient_metrics.zero_density(checks.measured_gradient(qnn_session, model))
        for width, model in checks.comparable_models(qnn_session).items()
    }
    qnn_judge(takeaways.zero_gradients(densities, qnn_session.rule), finding=True)


@pytest.mark.qnn_compares
@pytest.mark.parametrize("name", ["zoo", "square-linf"])
@pytest.mark.parametrize("qnn_model", ["int16", "int8"], indirect=True)
def test_a_direct_attack_is_weaker_than_a_transferred_one(
    qnn_model: Model,
    name: str,
    qnn_evaluate: Callable[..., Outcome],
    qnn_session: Session,
    qnn_judge: Judge,
) -> None:
    """T2: what the paper reads as masked gradients."""
    checks.require_selected(qnn_session, name)
    attack = qnn_session.attacks.attack(name)
    checks.require_reachable_budget(qnn_model, attack)
    direct = qnn_evaluate(qnn_model, attack)
    transfer = qnn_evaluate(qnn_model, attack, mode="transfer")
    qnn_judge(takeaways.masked_gradients(direct, transfer, qnn_session.rule), finding=True)


@pytest.mark.parametrize("qnn_model", ["int16", "int8"], indirect=True)
@pytest.mark.usefixtures("qnn_data")
def test_gradients_of_quantized_models_point_elsewhere(
    qnn_model: Model, qnn_float: Model, qnn_session: Session, qnn_judge: Judge
) -> None:
    """T4, by straight-through gradients of the integer graph."""
    x, y = qnn_session.data
    first, second = (
        qnn_session.cached(model).loss_gradient(x, y).gradient for model in (qnn_model, qnn_float)
    )
    cosine = gradient_metrics.cosine_similarity(first, second)
    verdict = takeaways.gradient_misalignment(qnn_model.width, cosine, qnn_session.rule)
    qnn_judge(verdict, finding=True)
