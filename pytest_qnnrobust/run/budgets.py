"""The Linf budgets of a run: the ladder that a gate climbs, and the label of each of its rungs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_qnnrobust.evaluation.cells import budget_name

LADDER = (2, 8)
"""The rungs of a gate, in 255ths of the input domain: the budgets that images are compared by."""


@dataclass(frozen=True)
class Budget:
    """An Linf budget `eps`, in model input units.

    `label` tells its cells from those of the other budgets of the run, "" where there are none.
    """

    label: str
    eps: float


def ladder(span: float, step: float | None = None) -> tuple[Budget, ...]:
    """The rungs for inputs of this span, as whole steps of an input whose LSB is `step`.

    A rung of less than half a step keeps its length: no whole step is near it.
    """
    return tuple(Budget(f"{n}/255", _in_steps(n * span / 255, step)) for n in LADDER)


def given(budgets: Sequence[float]) -> tuple[Budget, ...]:
    """The budgets that a user gave, labelled where there are several."""
    if len(budgets) == 1:
        return (Budget("", budgets[0]),)
    return tuple(Budget(budget_name(eps), eps) for eps in budgets)


def _in_steps(eps: float, step: float | None) -> float:
    return eps if step is None else (round(eps / step) or eps / step) * step
