"""Each attack on the float model, its examples given to the quantized ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_qnnrobust.attacks import Attack
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.plugin import checks
from pytest_qnnrobust.run.session import Session

pytestmark = [pytest.mark.qnn_transfer, pytest.mark.qnn_compares]


@pytest.mark.parametrize("qnn_model", ["int16", "int8"], indirect=True)
def test_transfer(
    qnn_model: Model,
    qnn_attack: Attack,
    qnn_evaluate: Callable[..., Outcome],
    qnn_session: Session,
) -> None:
    """The cell is measured, and its accuracy obeys the threshold."""
    checks.require_reachable_budget(qnn_model, qnn_attack)
    outcome = qnn_evaluate(qnn_model, qnn_attack, mode="transfer", stop=True)
    checks.require_accuracy(qnn_session, outcome)
