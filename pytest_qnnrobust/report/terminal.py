"""The terminal summary: one line per cell, the verdicts in words, what was not run and why."""

from __future__ import annotations

import math
import textwrap

import pytest

from pytest_qnnrobust.claims.verdicts import Verdict
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.options.resolve import INCONCLUSIVE
from pytest_qnnrobust.report.files import error_lines
from pytest_qnnrobust.run.gathered import group_by_reason
from pytest_qnnrobust.run.session import Session
from pytest_qnnrobust.run.subjects import NO_DATA
from pytest_qnnrobust.types import WIDTHS

WIDTH = 80
HEADING = (
    f"{'cell':<27}{'n':>5}{'acc %':>6}  {'interval':<11}{'L2':>7}{'Linf':>9}{'asked':>6}{'s':>6}"
)
UNITS = (
    "acc: correct under attack, of all samples; L2, Linf: means over fooled samples, in "
    "model input units; s: seconds of the attack"
)


def write(terminal: pytest.TerminalReporter, session: Session) -> None:
    """Append the summary to pytest's own; 80 columns, no colour needed."""
    gathered = session.outcomes, session.verdicts, session.notes, session.skipped
    if not (any(gathered) or session.gate.problems):
        return
    terminal.section("robustness")
    for line in lines(session):
        terminal.write_line(line)


def lines(session: Session) -> list[str]:
    """The summary of a session."""
    return [
        *_cells(session),
        *_derived(session),
        *_sequential(session),
        *_verdicts(session),
        *_notes(session),
        *_skipped(session),
        *_baseline(session),
    ]


def not_measured(session: Session) -> str:
    """The last line of a run that attacked nothing."""
    reason = NO_DATA if session.options.data is None and not session.options.demo else "no cell ran"
    return f"robustness was NOT measured: {reason}"


def cell_line(outcome: Outcome, level: float) -> str:
    """Such as `int8-square-linf-direct  100  43.0  33.1-53.3   0.65   0.0150   812   9.1`.

    An id that is too long for its column has a line of its own.
    """
    interval = outcome.interval(level)
    queries = float((outcome.queries + outcome.gradients).mean()) if len(outcome) else 0.0
    return (
        f"{_name(outcome.id)}{len(outcome):>5}{100 * outcome.accuracy:>6.1f}  "
        f"{f'{100 * interval.low:.1f}-{100 * interval.high:.1f}':<11}"
        f"{_distance(outcome.mean_distance('l2')):>7}"
        f"{_distance(outcome.mean_distance('linf')):>9}"
        f"{_count(queries):>6}{_seconds(outcome.seconds):>6}"
    )


def _count(queries: float) -> str:
    return f"{queries:.0f}" if queries < 99_999.5 else f"{queries / 1000:.0f}k"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < 999.95 else f"{seconds:.0f}"


def _name(cell_id: str) -> str:
    return f"{cell_id:<27}" if len(cell_id) < 27 else f"{cell_id}\n{'':<27}"


def _cells(session: Session) -> list[str]:
    if not session.outcomes:
        return []
    level = 1 - session.options.alpha
    ordered = sorted(session.outcomes.values(), key=_order)
    return [
        HEADING,
        *(cell_line(outcome, level) for outcome in ordered),
        *_wrap(f"{UNITS}; asked: queries and gradients per sample; {100 * level:g} % "
               "Clopper-Pearson interval"),
        *_clean(ordered),
        *_cut_short(ordered),
        *_required(session, ordered),
    ]  # fmt: skip


def _clean(outcomes: list[Outcome]) -> list[str]:
    """Accuracy without an attack on the samples of the cells, by width."""
    found = {(o.defense, o.width): o.clean_accuracy for o in outcomes}
    text = ", ".join(
        f"{f'{defense} ' if defense else ''}{width} {100 * found[defense, width]:.1f} %"
        for defense, width in sorted(found, key=lambda key: (key[0], WIDTHS.index(key[1])))
    )
    return _wrap(f"clean accuracy on these samples: {text}")


def _cut_short(outcomes: list[Outcome]) -> list[str]:
    """Cells in which a time or query budget ended before the attack did."""
    counts = [(int(outcome.exhausted.sum()), outcome.id) for outcome in outcomes]
    text = ", ".join(f"{n} samples of {name}" for n, name in counts if n)
    return _wrap(f"CUT SHORT by a budget, not robust: {text}") if text else []


def _required(session: Session, outcomes: list[Outcome]) -> list[str]:
    """Cells below their --qnn-min-accuracy, or that no cell was held to one."""
    if not session.options.min_accuracy:
        return _wrap("no --qnn-min-accuracy: the accuracies above were measured, none is required")
    found = []
    for outcome in outcomes:
        least = session.threshold(outcome)
        if least is not None and session.is_below(outcome):
            text = f"{100 * outcome.accuracy:.1f} %, required {100 * least.accuracy:g} %"
            found += _wrap(f"BELOW --qnn-min-accuracy: {outcome.id} {text}")
    return found


def _sequential(session: Session) -> list[str]:
    """What --qnn-sequential watched, and when it stopped."""
    found = [one for _, one in sorted(session.sequential.items())]
    shown = [line for one in found for line in _wrap(f"SEQUENTIAL: {one.cell} {one}")]
    if any(one.attacked < one.planned for one in found):
        shown += _wrap("intervals of stopped cells take their number of samples as fixed")
    return shown


def _order(outcome: Outcome) -> tuple[str, bool, str, int]:
    width = WIDTHS.index(outcome.width)
    return outcome.defense, outcome.mode != "direct", outcome.attack, width


def _derived(session: Session) -> list[str]:
    return [
        line
        for width in WIDTHS
        if width in session.derived
        for line in _wrap(f"{width} was not given; {session.derived[width]}")
    ]


def _verdicts(session: Session) -> list[str]:
    return [
        line
        for verdict in sorted(session.verdicts.values(), key=lambda v: v.name)
        for line in _wrap(f"{_value(verdict, session)}: {verdict.name}. {_words(verdict)}")
    ]


def _value(verdict: Verdict, session: Session) -> str:
    reported = verdict.name in session.findings and session.options.findings == "report"
    if verdict.value == "violated" and reported:
        return "VIOLATED (a finding, no fault of the model)"
    return verdict.value.upper()


def _words(verdict: Verdict) -> str:
    if verdict.value != "inconclusive":
        return verdict.statement
    return f"{verdict.statement}; {verdict.sensitivity}"


def _notes(session: Session) -> list[str]:
    found = sorted(session.notes.items())
    return [line for name, text in found for line in _wrap(f"{name}: {text}")]


def _skipped(session: Session) -> list[str]:
    found = []
    for reason, names in group_by_reason(session.skipped).items():
        if reason.startswith(INCONCLUSIVE):
            continue
        short = ", ".join(_counted(names))
        found += _wrap(f"NOT RUN: {short}: {reason}")
    return found


def _counted(nodeids: list[str]) -> list[str]:
    """Test names, with the number of their parametrizations."""
    counts: dict[str, int] = {}
    for nodeid in nodeids:
        name = nodeid.split("::", 1)[-1].split("[")[0]
        counts[name] = counts.get(name, 0) + 1
    return [name if n == 1 else f"{name} x{n}" for name, n in counts.items()]


def _baseline(session: Session) -> list[str]:
    """What became of the cells against the baseline, and the command that accepts it."""
    gate, held_to, path = session.gate, session.held_to.results, session.options.baseline
    found: list[str] = []
    if held_to is not None:
        found += _wrap(f"baseline {path} of {held_to.created}: {gate.counts}")
    found += [line for text in gate.lines for line in _wrap(text)]
    if gate.problems and held_to is not None:
        found += _wrap(f"to accept this run as the baseline: {session.command} --qnn-update")
    found += [line for path in session.written for line in _wrap(f"wrote {path}")]
    return [*found, *(error_lines(session.closed) if session.closed else ())]


def _distance(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
