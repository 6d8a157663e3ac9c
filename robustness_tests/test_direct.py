"""Each attack on each width itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_qnnrobust.attacks import Attack
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.plugin import checks
from pytest_qnnrobust.run.session import Session

pytestmark = pytest.mark.qnn_direct


def test_direct(
    qnn_model: Model,
    qnn_attack: Attack,
    qnn_evaluate: Callable[..., Outcome],
    qnn_session: Session,
) -> None:
    """The cell is measured, its examples obey the budget, and its accuracy the threshold."""
    checks.require_reachable_budget(qnn_model, qnn_attack)
    outcome = qnn_evaluate(qnn_model, qnn_attack, stop=True)
    checks.require_legal_examples(qnn_session, qnn_model, qnn_attack, len(outcome))
    checks.require_accuracy(qnn_session, outcome)
