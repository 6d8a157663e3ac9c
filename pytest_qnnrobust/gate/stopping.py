"""Claims about the cells of a run, and whether they are certain before all samples are attacked.

Every claim of the run has the same share of the level (Bonferroni): a cell has to know its level
when it stops, while others, perhaps in other processes, are still attacked; Holm's method would
have to know their p-values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.registry import minimizes_distance
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.gate import baseline
from pytest_qnnrobust.gate.thresholds import strictest
from pytest_qnnrobust.options.values import Limits, Threshold
from pytest_qnnrobust.results.document import DataRecord, Results, SequentialRecord
from pytest_qnnrobust.statistics import sequential
from pytest_qnnrobust.statistics.sequential import Decision

NEIGHBOURS = 6.0
"""Standard errors by which neighbours of one class may exceed what a random order has."""


@dataclass(frozen=True, eq=False)
class Stopping:
    """The claims about `cells` (ids): thresholds, and the losses against a `recorded` run.

    `data` are those of this run: against a run with other data nothing is claimed.
    """

    cells: tuple[str, ...]
    thresholds: tuple[Threshold, ...]
    recorded: Results | None
    limits: Limits
    data: DataRecord | None
    alpha: float

    @property
    def claims(self) -> int:
        """Number of claims that share the level: thresholds, comparisons with the recorded run."""
        required = sum(self._required(cell) is not None for cell in self.cells)
        recorded = self._comparable
        return required + (baseline.comparisons(recorded) if recorded else 0)

    @property
    def _comparable(self) -> Results | None:
        """The recorded run, where it attacked the same data."""
        if self.recorded and not baseline.other_samples(self.recorded.data, self.data):
            return self.recorded
        return None

    def _required(self, cell: str) -> Threshold | None:
        """The cell's threshold, unless it asks nothing."""
        threshold = strictest(self.thresholds, cell)
        return threshold if threshold and threshold.accuracy > 0 else None

    def judge(self, outcome: Outcome, planned: int) -> list[SequentialRecord]:
        """Judge each claim about a cell after the samples of `outcome`, out of `planned`.

        The list is empty where all samples have to be attacked: nothing is claimed about the cell,
        or it is held to a distance, for which there is no sequential test.
        """
        if outcome.id not in self.cells:
            return []
        level = self.alpha / max(self.claims, 1)
        records = []
        before = self._comparable.cells.get(outcome.id) if self._comparable else None
        if before is not None and not baseline.incomparable(before, outcome, watched=True):
            if minimizes_distance(outcome.attack):
                return []
            limit = self.limits.of(outcome.id, "accuracy")
            right = before.robust[: len(outcome)], outcome.robust
            decision = sequential.lost_at_most(*right, limit, level)
            text = f"a loss of at most {100 * limit:g} points"
            records.append(self._record(outcome, "baseline", text, decision, planned))
        threshold = self._required(outcome.id)
        if threshold is not None:
            decision = sequential.accuracy_at_least(outcome.robust, threshold.accuracy, level)
            text = f"accuracy >= {threshold.accuracy:g}"
            records.append(self._record(outcome, "threshold", text, decision, planned))
        return records

    def _record(
        self, outcome: Outcome, about: str, text: str, decision: Decision, planned: int
    ) -> SequentialRecord:
        return SequentialRecord(
            cell=outcome.id,
            about="threshold" if about == "threshold" else "baseline",
            claim=text,
            value=decision.value,
            decided=decision.decided,
            attacked=len(outcome),
            planned=planned,
            alpha=self.alpha,
            claims=self.claims,
            p_value=decision.p_value,
        )


def require_random_order(labels: NDArray[np.int64]) -> None:
    """Raise QnnRobustError for labels (N,) that stand together by class.

    The first samples of such data are no sample of all, which a sequential test takes them for.
    """
    _, sizes = np.unique(labels, return_counts=True)
    by_chance = float((sizes * (sizes - 1)).sum()) / max(len(labels), 1)
    same = int(np.sum(labels[1:] == labels[:-1]))
    if len(sizes) > 1 and same > by_chance + NEIGHBOURS * np.sqrt(by_chance + 1):
        raise expected(
            "samples in random order for --qnn-sequential",
            neighbours_of_one_class=same,
            by_chance=round(by_chance),
            cure="shuffle the data once, with a fixed seed",
        )
