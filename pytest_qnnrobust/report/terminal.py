"""The terminal summary: the headline, the worst cells and what failed; with -v all that there is.

A pure function of the results document, of the gate's judgement and of the run's options.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_qnnrobust.claims.verdicts import Verdict
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.gate.gate import Gate
from pytest_qnnrobust.gate.thresholds import is_below, strictest
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.report.files import error_lines
from pytest_qnnrobust.report.matrix import failures, not_run
from pytest_qnnrobust.results import headline
from pytest_qnnrobust.results.document import Results
from pytest_qnnrobust.results.provenance import derived_origins
from pytest_qnnrobust.types import WIDTHS

WIDTH = 80
NAME = 25
HEADING = (
    f"{'cell':<{NAME}}{'n':>5}{'acc %':>6}  {'interval':<11}{'L2':>6}{'budget':>12}"
    f"{'asked':>6}{'s':>6}"
)
UNITS = (
    "acc: correct under attack, of all samples; L2: mean over fooled samples, budget: Linf unless "
    "it says so, with whole steps of the input; both in model input units; s: seconds of the attack"
)
WORST_CELLS = 3
"""Number of cells that the short summary shows."""
PROBLEMS = 8
"""Number of problems that the short summary shows."""


@dataclass(frozen=True)
class Summary:
    """A run as the terminal shows it.

    `recorded` is the baseline that the gate compared with, if any; `written` the files that the
    run left; `unwritten` the errors of those that the disk refused; `closed` says whether the run
    came to its end, and its document is the whole of it.
    """

    results: Results
    gate: Gate
    recorded: Results | None
    options: Options
    written: Sequence[Path] = ()
    unwritten: Sequence[str] = ()
    closed: bool = True
    verbose: bool = False

    def lines(self) -> list[str]:
        """The lines in order; none where nothing was measured and nothing is wrong."""
        results, options = self.results, self.options
        measured = (results.outcomes, results.verdicts, results.notes, results.skipped)
        if not (any(measured) or self.gate.problems or self.unwritten):
            return []
        said = _headline(results, self.closed)
        if not self.verbose:
            return [*said, *_worst(results, options), *_short(self), *_files(self)]
        return [
            *said,
            *_cells(results, options),
            *_derived(results),
            *_sequential(results),
            *_verdicts(results, options),
            *_notes(results),
            *_skipped(results),
            *_baseline(self),
            *_files(self),
        ]


def write(terminal: pytest.TerminalReporter, summary: Summary) -> None:
    """Append the summary to pytest's own; 80 columns, no colour needed."""
    lines = summary.lines()
    if lines:
        terminal.section("robustness")
    for line in lines:
        terminal.write_line(line)


def not_measured(reason: str) -> str:
    """The last line of a run that attacked nothing."""
    return f"robustness was NOT measured: {reason}"


def cell_line(outcome: Outcome, level: float) -> str:
    """The line of a cell under `HEADING`, its interval at confidence `level`, such as
    `int8-square-linf-direct  100  43.0  33.1-53.3  0.65  0.0314 (8)   812   9.1`.

    An id that is too long for its column has a line of its own.
    """
    interval = outcome.interval(level)
    queries = float((outcome.queries + outcome.gradients).mean()) if len(outcome) else 0.0
    return (
        f"{_name(outcome.id)}{len(outcome):>5}{100 * outcome.accuracy:>6.1f}  "
        f"{f'{100 * interval.low:.1f}-{100 * interval.high:.1f}':<11}"
        f"{_distance(outcome.mean_distance('l2')):>6}"
        f"{_budget(outcome):>12}"
        f"{_count(queries):>6}{_seconds(outcome.seconds):>6}"
    )


def _count(queries: float) -> str:
    return f"{queries:.0f}" if queries < 99_999.5 else f"{queries / 1000:.0f}k"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < 999.95 else f"{seconds:.0f}"


def _name(cell_id: str) -> str:
    return f"{cell_id:<{NAME}}" if len(cell_id) < NAME else f"{cell_id}\n{'':<{NAME}}"


def _budget(outcome: Outcome) -> str:
    """The budget in input units, and in steps of the input: `0.0314 (8)`, `L2 1`."""
    if outcome.eps is None:
        return "-"
    if outcome.norm != "linf":
        return f"{outcome.norm.upper()} {outcome.eps:.3g}"
    steps = f" ({outcome.eps / outcome.step:.3g})" if outcome.step else ""
    return f"{outcome.eps:.3g}{steps}"


def _headline(results: Results, closed: bool) -> list[str]:
    """A sentence for each model and, where the run came to its end, the verdict."""
    said = [*headline.sentences(results), *([headline.verdict(results)] if closed else [])]
    return [line for sentence in said for line in _wrap(sentence)]


def _worst(results: Results, options: Options) -> list[str]:
    """The cells of the user's models that withstood least, of each budget the worst one first."""
    derived = derived_origins(results.models)
    cells = [
        cell
        for cell in results.outcomes
        if cell.defense or cell.width not in derived or cell.width != "float32"
    ]
    if not cells:
        return []
    ordered = sorted(cells, key=lambda cell: (cell.accuracy, cell.mode != "direct", cell.id))
    budgets: dict[tuple[str, float | None], Outcome] = {}
    for cell in ordered:
        budgets.setdefault((cell.norm, cell.eps), cell)
    first = [cell for cell in ordered if cell in budgets.values()]
    rest = [cell for cell in ordered if cell not in first]
    shown = [*first, *rest][:WORST_CELLS]
    level = 1 - options.alpha
    return [HEADING, *(cell_line(cell, level) for cell in shown), *_cut_short(cells)]


def _short(summary: Summary) -> list[str]:
    """What failed, with its number; how much else there is, and how to see it."""
    results, gate = summary.results, summary.gate
    refused = [f"cache: {results.notes['cache']}"] if "cache" in results.notes else []
    problems = [*gate.accepted, *map(_message, failures(results)), *gate.warnings, *refused]
    lines = [line for problem in problems[:PROBLEMS] for line in _wrap(problem)]
    if len(problems) > PROBLEMS:
        lines.append(f"... and {len(problems) - PROBLEMS} more")
    values = Counter(verdict.value for verdict in results.verdicts)
    counts = {
        "cell": len(results.outcomes),
        "claim that does not hold": values["violated"],
        "open claim": values["inconclusive"],
        "test not run": sum(map(len, not_run(results).values())),
    }
    told = ", ".join(f"{n} {name}" for name, n in _plural(counts).items() if n)
    more = _wrap(f"{told}; -v shows all, --qnn-report=DIR a page")
    return [*lines, *_compared(summary), *more]


def _message(failure: str) -> str:
    """A failure without the module of its test."""
    return failure.partition("::")[2] if "::" in failure.partition(": ")[0] else failure


def _plural(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts, their names in the plural where they are not one."""
    return {
        name if n == 1 else re.sub(r"^(open )?(\w+)", r"\1\2s", name).replace("does", "do"): n
        for name, n in counts.items()
    }


def _cells(results: Results, options: Options) -> list[str]:
    if not results.outcomes:
        return []
    level = 1 - options.alpha
    ordered = sorted(results.outcomes, key=_order)
    return [
        HEADING,
        *(cell_line(outcome, level) for outcome in ordered),
        *_wrap(f"{UNITS}; asked: queries and gradients per sample; {100 * level:g} % "
               "Clopper-Pearson interval"),
        *_clean(ordered),
        *_cut_short(ordered),
        *_required(ordered, results, options),
    ]  # fmt: skip


def _clean(outcomes: list[Outcome]) -> list[str]:
    """Accuracy without an attack on the samples of the cells, by width."""
    accuracy = {(cell.defense, cell.width): cell.clean_accuracy for cell in outcomes}
    text = ", ".join(
        f"{f'{defense} ' if defense else ''}{width} {100 * accuracy[defense, width]:.1f} %"
        for defense, width in sorted(accuracy, key=lambda key: (key[0], WIDTHS.index(key[1])))
    )
    return _wrap(f"clean accuracy on these samples: {text}")


def _cut_short(outcomes: list[Outcome]) -> list[str]:
    """Cells in which a time or query budget ended before the attack did."""
    counts = [(int(outcome.exhausted.sum()), outcome.id) for outcome in outcomes]
    text = ", ".join(f"{n} samples of {name}" for n, name in counts if n)
    return _wrap(f"CUT SHORT by a budget, not robust: {text}") if text else []


def _required(ordered: Iterable[Outcome], results: Results, options: Options) -> list[str]:
    """The cells below their --qnn-min-accuracy; without one, a line that says so."""
    if not options.min_accuracy:
        return _wrap("no --qnn-min-accuracy: the accuracies above were measured, none is required")
    lines = []
    for outcome in ordered:
        threshold = strictest(options.min_accuracy, outcome.id)
        if threshold and is_below(outcome, options.min_accuracy, results.sequential):
            text = f"{100 * outcome.accuracy:.1f} %, required {100 * threshold.accuracy:g} %"
            lines += _wrap(f"BELOW --qnn-min-accuracy: {outcome.id} {text}")
    return lines


def _sequential(results: Results) -> list[str]:
    """The claims that --qnn-sequential watched, and when their cells stopped."""
    records = results.sequential
    lines = [line for record in records for line in _wrap(f"SEQUENTIAL: {record.cell} {record}")]
    if any(record.attacked < record.planned for record in records):
        lines += _wrap("intervals of stopped cells take their number of samples as fixed")
    return lines


def _order(outcome: Outcome) -> tuple[str, bool, str, int]:
    width = WIDTHS.index(outcome.width)
    return outcome.defense, outcome.mode != "direct", outcome.attack, width


def _derived(results: Results) -> list[str]:
    origins = derived_origins(results.models)
    return [
        line
        for width in WIDTHS
        if width in origins
        for line in _wrap(f"{width} was not given; {origins[width]}")
    ]


def _verdicts(results: Results, options: Options) -> list[str]:
    reported = set(results.findings) if options.findings == "report" else set()
    return [
        line
        for verdict in sorted(results.verdicts, key=lambda verdict: verdict.name)
        for line in _wrap(f"{_value(verdict, reported)}: {verdict.name}. {_words(verdict)}")
    ]


def _value(verdict: Verdict, reported: set[str]) -> str:
    if verdict.value == "violated" and verdict.name in reported:
        return "VIOLATED (a finding, no fault of the model)"
    return verdict.value.upper()


def _words(verdict: Verdict) -> str:
    if verdict.value != "inconclusive":
        return verdict.statement
    return f"{verdict.statement}; {verdict.sensitivity}"


def _notes(results: Results) -> list[str]:
    notes = sorted(results.notes.items())
    return [line for name, text in notes for line in _wrap(f"{name}: {text}")]


def _skipped(results: Results) -> list[str]:
    return [
        line
        for reason, tests in not_run(results).items()
        for line in _wrap(f"NOT RUN: {', '.join(_counted(tests))}: {reason}")
    ]


def _counted(nodeids: list[str]) -> list[str]:
    """Test names, with the number of their parametrizations."""
    counts: dict[str, int] = {}
    for nodeid in nodeids:
        name = nodeid.split("::", 1)[-1].split("[")[0]
        counts[name] = counts.get(name, 0) + 1
    return [name if n == 1 else f"{name} x{n}" for name, n in counts.items()]


def _baseline(summary: Summary) -> list[str]:
    """The judgement of the gate, cell by cell."""
    judged = [line for text in summary.gate.lines for line in _wrap(text)]
    return [*judged, *_compared(summary)]


def _compared(summary: Summary) -> list[str]:
    """The number of cells by what became of them, and the command that accepts the run."""
    gate, recorded = summary.gate, summary.recorded
    if recorded is None:
        return []
    lines = _wrap(f"baseline {summary.options.baseline} of {recorded.created}: {gate.counts}")
    if gate.problems:
        command = f"{summary.results.command} --qnn-update"
        lines += _wrap(f"to accept this run as the baseline: {command}")
    return lines


def _files(summary: Summary) -> list[str]:
    """The files that the run wrote, and the lines that a job of GitHub's shows."""
    lines = [f"wrote {path}" for path in summary.written]
    lines += [line for text in summary.unwritten for line in _wrap(text)]
    return [*lines, *(error_lines(summary.results) if summary.closed else ())]


def _distance(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )
