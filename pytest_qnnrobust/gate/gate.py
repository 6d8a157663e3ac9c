"""The gate: whether a run may pass, held to its baseline under its limits and suppressions.

What a run is held to is read before its first test, and judged and updated after its last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
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
    """The judgement on a run held to its baseline.

    `problems` fail it, one line each; `warnings` do not; `records` have the status of every cell.
    """

    records: tuple[CompareRecord, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def counts(self) -> str:
        """Number of cells by status, such as `40 kept, 1 worse`."""
        counts = Counter(record.status for record in self.records)
        return ", ".join(f"{counts[status]} {status}" for status in sorted(counts)) or "no cells"

    @property
    def accepted(self) -> list[str]:
        """Lines about the cells that are not as they were, and may be."""
        return [
            f"ACCEPTED: {record.name} ({record.status}). {record.accepted}"
            for record in self.records
            if record.accepted
        ]

    @property
    def lines(self) -> list[str]:
        """Lines about single cells: those that are accepted, then problems, then warnings."""
        return [*self.accepted, *self.problems, *self.warnings]


@dataclass(frozen=True)
class HeldTo:
    """The recorded run and the suppressions that a run is judged with.

    Read before the first test, so that a bad file costs no attack. `results` is None where there is
    no baseline.
    """

    results: Results | None = None
    suppressions: tuple[Suppression, ...] = field(default_factory=tuple)


def read_held_to(options: Options) -> HeldTo:
    """Read the baseline and the suppressions that the options name.

    Raises QnnRobustError, one line, for a file that is not what it should be. A baseline that is
    not there is no error here: options without --qnn-update refuse it.
    """
    suppressed = suppressions.read(options.suppressions) if options.suppressions else ()
    if options.baseline is None or not options.baseline.is_file():
        return HeldTo(None, suppressed)
    return HeldTo(document.read(options.baseline), suppressed)


def judge(
    held_to: HeldTo,
    current: Results,
    options: Options,
    today: date | None = None,
    asked: Callable[[CellComparison], bool] = lambda _: True,
) -> Gate:
    """Judge a run against its baseline, if there is one, under its limits and suppressions.

    Only the comparisons that were `asked` for count; the correction for their number is that of
    all.
    """
    if held_to.results is None:
        return judge_comparisons([], held_to.suppressions, options, today)
    rule = Rule(options.alpha, options.margin, options.drop)
    compared = baseline.compare(held_to.results, current, options.fail_if, rule)
    every = [comparison.cell for comparison in compared]
    return judge_comparisons(filter(asked, compared), held_to.suppressions, options, today, every)


def judge_comparisons(
    compared: Iterable[CellComparison],
    suppressed: Sequence[Suppression],
    options: Options,
    today: date | None = None,
    every: Sequence[str] = (),
) -> Gate:
    """Judge cells that were compared: those that no option and no suppression accepts fail.

    An expired suppression fails the run as well, whatever its cells did. A suppression that fits
    none of those compared, nor of `every` cell of either run, is warned of.
    """
    today = today or date.today()
    compared = list(compared)
    expired = [
        f"the suppression of {suppression.pattern} has expired: {suppression}"
        for suppression in suppressions.expired(suppressed, today)
    ]
    records: list[CompareRecord] = []
    problems: list[str] = []
    warnings: list[str] = []
    for cell in compared:
        accepted = _accepted(cell, options, suppressed, today)
        records.append(CompareRecord(cell.name, cell.status, cell.text, accepted))
        if accepted or cell.status == "kept":
            continue
        line = f"{cell.status.upper()}: {cell.name}. {cell.text}"
        if cell.status != "inconclusive" or options.inconclusive == "fail":
            problems.append(line)
        elif options.inconclusive == "warn":
            warnings.append(line)
    names = [*every, *(cell.cell for cell in compared)]
    warnings += [
        f"the suppression of {suppression.pattern} fits no cell"
        for suppression in suppressed
        if names and not any(map(suppression.fits, names))
    ]
    return Gate(tuple(records), (*problems, *expired), tuple(warnings))


def update_baseline(held_to: HeldTo, current: Results, options: Options) -> Path | None:
    """Record the run as --qnn-update or --qnn-update-new says; return the file written, if any."""
    if options.baseline is None or not (options.update or options.update_new):
        return None
    plain = replace(current, comparison=None)
    if options.update_new and held_to.results is not None:
        before = held_to.results
        recorded, measured = baseline.named(before, current)
        new = [outcome for name, outcome in measured.items() if name not in recorded]
        plain = replace(before, outcomes=(*before.outcomes, *new))
    document.write(options.baseline, plain)
    return options.baseline


def _accepted(
    compared: CellComparison, options: Options, suppressed: Sequence[Suppression], today: date
) -> str:
    """Reason why a cell that is not as it was does not fail the run; "" where it does."""
    if compared.status in ("kept", "inconclusive"):
        return ""
    if options.update or (options.update_new and compared.status == "new"):
        return "recorded anew"
    if compared.status in options.allow:
        return f"--qnn-allow {compared.status}"
    for suppression in suppressed:
        if suppression.fits(compared.cell) and not suppression.expired(today):
            return f"suppressed: {suppression}"
    return ""
