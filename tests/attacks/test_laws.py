"""The laws of attacks refuse an attack that does nothing."""

from __future__ import annotations

import pytest

from pytest_qnnrobust.attacks import FixedBudgetAttack, MinimalDistortionAttack
from tests.attacks import laws


class Idle(MinimalDistortionAttack):
    """Proposes nothing and asks nothing."""

    knowledge = "black"
    norms = (2.0,)

    def run(self, target, x, y, streams):
        pass


class IdleInBudget(FixedBudgetAttack):
    """The same within a budget."""

    knowledge = "black"
    norms = (2.0,)

    def run(self, target, x, y, streams):
        pass


@pytest.mark.parametrize("attack", [Idle(), IdleInBudget(norm=2.0, eps=1.0)])
@pytest.mark.parametrize(
    "law",
    [
        lambda attack: laws.honest(attack, *laws.case(None, (4, 4, 3), 2, (0.0, 1.0))),
        lambda attack: laws.same_in_any_batch(attack, "int8"),
        lambda attack: laws.stops_at_its_budget(attack),
        lambda attack: laws.every_sample_has_its_own_budget(attack, 7),
    ],
    ids=["honest", "batches", "budget", "own-budget"],
)
def test_no_law_holds_for_an_attack_that_does_nothing(attack, law):
    with pytest.raises(AssertionError):
        law(attack)
