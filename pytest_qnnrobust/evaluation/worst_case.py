"""Robust accuracy: what is left of a model under the worst of its attacks, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.evaluation.cells import Outcome, model_id
from pytest_qnnrobust.statistics import paired
from pytest_qnnrobust.types import WIDTHS

WORST = "worst"
"""Stands for an attack in the id of a worst case, such as `int8-worst-8/255`."""

ROUNDING = 1e-5
"""Part by which an example may exceed its Linf budget: distances are sums of float32."""


@dataclass(frozen=True, eq=False)
class WorstCase:
    """A model under the worst of its direct attacks within an Linf budget, on n samples.

    `eps` and `step`, the LSB of its input or None, are in model input units; `label` is the budget
    as cells name it. `attacks` are the ids of those that looked for examples of this budget, or for
    the nearest. `clean_correct` and `robust` (n,) say whether each sample is right before the
    attacks, and after all of them; `cut_short` (n,) whether it is where a query or time budget
    ended an attack on it, so that it is not known to withstand.
    """

    defense: str
    width: str
    label: str
    eps: float
    step: float | None
    attacks: tuple[str, ...]
    clean_correct: NDArray[np.bool_]
    robust: NDArray[np.bool_]
    cut_short: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.robust)

    @property
    def id(self) -> str:
        """The id that thresholds name, such as `int8-worst-8/255` or `sat-int8-worst-8/255`."""
        return worst_id(self.model, self.label)

    @property
    def model(self) -> str:
        """The model as ids name it, such as `int8` or `sat-int8`."""
        return model_id(self.defense, self.width)

    @property
    def accuracy(self) -> float:
        """The robust accuracy: share of the samples that no attack fooled the model with."""
        return float(np.mean(self.robust)) if len(self) else math.nan

    def interval(self, level: float = 0.95) -> paired.Interval:
        """Clopper-Pearson interval of `accuracy` at the confidence `level`."""
        return paired.proportion_interval(int(self.robust.sum()), len(self), level)


def worst_id(model: str, label: str) -> str:
    """The id of the worst case of a model (`int8`, `sat-int8`) at the budget of this label."""
    return f"{model}-{WORST}-{label}"


def models(outcomes: Iterable[Outcome]) -> list[tuple[str, str]]:
    """(defense, width) of the models attacked directly: plain ones first, int8 before the wider."""
    attacked = {(outcome.defense, outcome.width) for outcome in _direct(outcomes)}
    return sorted(attacked, key=lambda model: (model[0], -WIDTHS.index(model[1])))


def worst_cases(outcomes: Iterable[Outcome], defense: str, width: str) -> list[WorstCase]:
    """The worst case of a model at each Linf budget it was attacked with, the smallest first.

    An example counts at every budget that it obeys, whichever attack found it. Where cells have
    different numbers of samples the first ones count, which all have.
    """
    cells = [cell for cell in _direct(outcomes) if (cell.defense, cell.width) == (defense, width)]
    budgets = {cell.eps: cell for cell in cells if cell.norm == "linf" and cell.eps is not None}
    n = min(map(len, cells), default=0)
    cases = []
    for eps, cell in sorted(budgets.items()):
        lost = [_lost(other, n, eps) for other in cells]
        right = cell.clean_correct[:n]
        aimed = {o.attack for o in cells if o.eps is None or (o.norm, o.eps) == ("linf", eps)}
        robust = right & ~np.logical_or.reduce(lost)
        cut = np.logical_or.reduce([o.exhausted[:n] for o in cells if o.attack in aimed])
        parts = cell.budget_label, eps, cell.step, tuple(sorted(aimed))
        cases.append(WorstCase(defense, width, *parts, right, robust, robust & cut))
    return cases


def nearest(outcomes: Iterable[Outcome], defense: str, width: str) -> float:
    """The median L2 distance, in input units, of the nearest example of each sample.

    Over the samples that are right without an attack; infinite where half of them or more have no
    example, NaN where none is right.
    """
    cells = [cell for cell in _direct(outcomes) if (cell.defense, cell.width) == (defense, width)]
    n = min(map(len, cells), default=0)
    if not n or not cells[0].clean_correct[:n].any():
        return math.nan
    distances = [np.where(cell.fooled[:n], cell.l2[:n], np.inf) for cell in cells]
    return float(np.median(np.min(distances, axis=0)[cells[0].clean_correct[:n]]))


def _direct(outcomes: Iterable[Outcome]) -> Sequence[Outcome]:
    return [outcome for outcome in outcomes if outcome.mode == "direct" and len(outcome)]


def _lost(outcome: Outcome, n: int, eps: float) -> NDArray[np.bool_]:
    """Whether the cell has an example within the budget of each of the first n samples, (n,)."""
    return np.asarray(outcome.fooled[:n] & (outcome.linf[:n] <= eps * (1 + ROUNDING)))
