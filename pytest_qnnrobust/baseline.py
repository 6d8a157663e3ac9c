"""A run against a recorded one, cell by cell on the same images: what got worse, and what cannot
be compared.

A cell is called worse where a one-sided paired test excludes that the loss is within its limit, at
a level that Holm's method (1979) keeps for all cells together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust import stats
from pytest_qnnrobust.attacks.registry import minimizes_distance
from pytest_qnnrobust.evaluation import Outcome
from pytest_qnnrobust.option_values import Limits, Loss
from pytest_qnnrobust.results import Results
from pytest_qnnrobust.verdicts import (
    Rule,
    Verdict,
    accuracy_at_least,
    farther_where_both_fooled,
)

Mask = NDArray[np.bool_]
Status = Literal["kept", "worse", "inconclusive", "new", "vanished", "stale"]

SAME_SETTINGS = ("settings", "seed", "runtime", "mode", "gradient")
"""What must be as it was for two outcomes of a cell to be comparable, beside the samples."""


@dataclass(frozen=True)
class CellComparison:
    """One cell of one or both runs. `loss` is what its limit is about, None where there was no
    comparison; `same`: each sample came out as before, which needs no test.
    """

    cell: str
    status: Status
    text: str
    loss: Loss | None = None
    verdict: Verdict | None = None
    same: bool = False

    @property
    def name(self) -> str:
        """The cell and, where it was compared, by what: `int8-pgd-direct accuracy`."""
        return f"{self.cell} {self.loss}" if self.loss else self.cell


def compare(
    recorded: Results, current: Results, limits: Limits, rule: Rule
) -> list[CellComparison]:
    """Every cell of either run, clean accuracies first; pure: the same for the same documents."""
    other_data = _other_data(recorded, current)
    found: list[CellComparison] = [] if other_data else _clean(recorded, current, limits, rule)
    before, now = recorded.cells, current.cells
    for cell in sorted(before.keys() | now.keys()):
        if cell not in before:
            found.append(CellComparison(cell, "new", "not in the baseline"))
        elif cell not in now:
            found.append(CellComparison(cell, "vanished", "in the baseline, not in this run"))
        elif reason := other_data or difference(before[cell], now[cell]):
            found.append(CellComparison(cell, "stale", reason))
        else:
            found += _compared(cell, before[cell], now[cell], limits, rule)
    return _corrected(found, rule)


def compare_accuracies(
    pairs: Mapping[str, tuple[Mask, Mask]], limits: Limits, rule: Rule
) -> list[CellComparison]:
    """Cells by id as (recorded, now): whether each sample (N,) was, and is, classified right."""
    found = [
        _accuracy(cell, "accuracy", before, now, limits, rule)
        for cell, (before, now) in sorted(pairs.items())
    ]
    return _corrected(found, rule)


def _clean(recorded: Results, current: Results, limits: Limits, rule: Rule) -> list[CellComparison]:
    """The clean accuracy of each model that both runs attacked, on the samples of a cell."""
    first: dict[tuple[str, str], tuple[Outcome, Outcome]] = {}
    for cell, now in sorted(current.cells.items()):
        before = recorded.cells.get(cell)
        if before is not None and np.array_equal(before.index, now.index):
            first.setdefault((now.defense, now.width), (before, now))
    return [
        _accuracy("-".join(filter(None, (*key, "clean"))), "clean", before.clean_correct,
                  now.clean_correct, limits, rule)
        for key, (before, now) in first.items()
    ]  # fmt: skip


def _other_data(recorded: Results, current: Results) -> str:
    if recorded.data is None or current.data is None:
        return "no data in one of the runs"
    if recorded.data.digest == current.data.digest:
        return ""
    return (
        f"other data: {current.data.samples} samples of {current.data.name}, recorded with "
        f"{recorded.data.samples} of {recorded.data.name}"
    )


def difference(before: Outcome, now: Outcome) -> str:
    """In words, what keeps two outcomes from being compared; "" where nothing does."""
    if not np.array_equal(before.index, now.index):
        return f"other samples: {len(now)}, recorded with {len(before)}"
    for name in SAME_SETTINGS:
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            return f"other {name}: {new}, recorded with {old}"
    return ""


def _compared(
    cell: str, before: Outcome, now: Outcome, limits: Limits, rule: Rule
) -> Iterable[CellComparison]:
    yield _accuracy(cell, "accuracy", before.robust, now.robust, limits, rule)
    both = before.fooled & now.fooled
    if minimizes_distance(now.attack) and both.any():
        allowed = replace(rule, margin=limits.of(cell, "distance"))
        outcomes = ("now", now), ("recorded", before)
        verdict = farther_where_both_fooled(cell, *outcomes, allowed, norm="l2")
        same = np.array_equal(before.l2[both], now.l2[both])
        yield CellComparison(cell, "kept", _words(verdict, same), "distance", verdict, same)


def _accuracy(
    cell: str, loss: Loss, before: Mask, now: Mask, limits: Limits, rule: Rule
) -> CellComparison:
    allowed = replace(rule, margin=limits.of(cell, loss))
    verdict = accuracy_at_least(cell, ("now", now), ("recorded", before), allowed)
    same = np.array_equal(before, now)
    return CellComparison(cell, "kept", _words(verdict, same), loss, verdict, same)


def _words(verdict: Verdict, same: bool) -> str:
    return f"the same on each of {verdict.n} samples" if same else verdict.statement


def _corrected(found: Sequence[CellComparison], rule: Rule) -> list[CellComparison]:
    """With the status that each compared cell has once Holm's method has seen all of them."""
    judged = [one for one in found if one.verdict is not None]
    worse = stats.holm([_p_worse(one) for one in judged])
    status: Mapping[str, Status] = {
        one.name: "worse" if p <= rule.alpha else _short_of_worse(one)
        for one, p in zip(judged, worse, strict=True)
    }
    return [replace(one, status=status.get(one.name, one.status)) for one in found]


def _p_worse(one: CellComparison) -> float:
    """The p-value of `worse than the limit`: that of the verdict where it is violated, else 1."""
    verdict = one.verdict
    return verdict.p_value if verdict is not None and verdict.value == "violated" else 1.0


def _short_of_worse(one: CellComparison) -> Status:
    verdict = one.verdict
    kept = one.same or (verdict is not None and verdict.value == "holds")
    return "kept" if kept else "inconclusive"
