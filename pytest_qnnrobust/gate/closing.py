"""What follows the last test: the comparison with a baseline, its update, and the reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from pytest_qnnrobust.claims.verdicts import Rule
from pytest_qnnrobust.gate import baseline, suppressions
from pytest_qnnrobust.gate.baseline import CellComparison
from pytest_qnnrobust.gate.suppressions import Suppression
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.results import document
from pytest_qnnrobust.results.document import CompareRecord, Results


@dataclass(frozen=True)
class Gate:
    """Whether a run may pass beside its baseline.

    `problems` fail it, one line each; `warnings` do not; `records` say what became of every cell.
    """

    records: tuple[CompareRecord, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def counts(self) -> str:
        """Such as `40 kept, 1 worse`."""
        found = Counter(record.status for record in self.records)
        return ", ".join(f"{found[status]} {status}" for status in sorted(found)) or "no cells"

    @property
    def lines(self) -> list[str]:
        """What is to be said of single cells: the accepted ones, problems, warnings."""
        accepted = [
            f"ACCEPTED: {record.name} ({record.status}). {record.accepted}"
            for record in self.records
            if record.accepted
        ]
        return [*accepted, *self.problems, *self.warnings]


@dataclass(frozen=True)
class Recorded:
    """What a run is held to: read before the first test, so that a bad file costs no attack."""

    results: Results | None = None
    suppressions: tuple[Suppression, ...] = field(default_factory=tuple)


def recorded(options: Options) -> Recorded:
    """Raises QnnRobustError, one line, for a file that is not what it should be."""
    known = suppressions.read(options.suppressions) if options.suppressions else ()
    if options.baseline is None or not options.baseline.is_file():
        return Recorded(None, known)
    return Recorded(document.read(options.baseline), known)


def judge(held_to: Recorded, current: Results, options: Options, today: date | None = None) -> Gate:
    """Compare with the baseline, if there is one, under the run's limits and suppressions."""
    if held_to.results is None:
        return judge_compared([], held_to.suppressions, options, today)
    rule = Rule(options.alpha, options.margin, options.drop)
    compared = baseline.compare(held_to.results, current, options.fail_if, rule)
    return judge_compared(compared, held_to.suppressions, options, today)


def judge_compared(
    compared: Sequence[CellComparison],
    known: Sequence[Suppression],
    options: Options,
    today: date | None = None,
) -> Gate:
    """What the run's options and the suppressions make of comparisons."""
    today = today or date.today()
    expired = suppressions.expired(known, today)
    over = [f"the suppression of {one.pattern} has expired: {one}" for one in expired]
    accepted = [_accepted(one, options, known, today) for one in compared]
    records = tuple(
        CompareRecord(one.name, one.status, one.text, why)
        for one, why in zip(compared, accepted, strict=True)
    )
    open_ones = [one for one, why in zip(compared, accepted, strict=True) if not why]
    problems = [f"{one.status.upper()}: {one.name}. {one.text}" for one in open_ones
                if one.status != "kept" and _fails(one, options)]  # fmt: skip
    warnings = [f"INCONCLUSIVE: {one.name}. {one.text}" for one in open_ones
                if one.status == "inconclusive" and options.inconclusive == "warn"]  # fmt: skip
    return Gate(records, (*problems, *over), tuple(warnings))


def update(held_to: Recorded, current: Results, options: Options) -> Path | None:
    """Record the run as --qnn-update or --qnn-update-new says; the file that was written."""
    if options.baseline is None or not (options.update or options.update_new):
        return None
    plain = replace(current, comparison=None)
    if options.update_new and held_to.results is not None:
        old = held_to.results
        new = [one for one in current.outcomes if one.id not in old.cells]
        plain = replace(old, outcomes=(*old.outcomes, *new))
    document.write(options.baseline, plain)
    return options.baseline


def _fails(one: CellComparison, options: Options) -> bool:
    return one.status != "inconclusive" or options.inconclusive == "fail"


def _accepted(
    one: CellComparison, options: Options, known: Sequence[Suppression], today: date
) -> str:
    """Why a cell that is not as it was does not fail the run; "" where it does."""
    if one.status in ("kept", "inconclusive"):
        return ""
    if options.update or (options.update_new and one.status == "new"):
        return "recorded anew"
    if one.status in options.allow:
        return f"--qnn-allow {one.status}"
    for suppression in known:
        if suppression.fits(one.cell) and not suppression.expired(today):
            return f"suppressed: {suppression}"
    return ""
