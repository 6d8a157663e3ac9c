"""The accuracies under attack that --qnn-min-accuracy requires, and whether a cell is below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.options.values import Threshold
from pytest_qnnrobust.results.document import SequentialRecord


def strictest(thresholds: Sequence[Threshold], cell: str) -> Threshold | None:
    """The threshold that asks most of a cell (id); None where none applies to it."""
    applicable = [threshold for threshold in thresholds if threshold.pattern in cell]
    return max(applicable, key=lambda threshold: threshold.accuracy, default=None)


def watched(records: Iterable[SequentialRecord], cell: str) -> SequentialRecord | None:
    """The record of the sequential test of the cell's threshold, if --qnn-sequential ran one."""
    return next(
        (record for record in records if record.cell == cell and record.about == "threshold"), None
    )


def is_below(
    outcome: Outcome, thresholds: Sequence[Threshold], records: Iterable[SequentialRecord]
) -> bool:
    """Whether the cell has less than its threshold: surely so, where its claim was watched."""
    if (record := watched(records, outcome.id)) is not None:
        return record.value == "violated"
    threshold = strictest(thresholds, outcome.id)
    return threshold is not None and outcome.accuracy < threshold.accuracy
