"""The terminal summary: the headline, the worst cells and what failed; with -v all that there is.

A pure function of the results document, of the gate's judgement and of the run's options.
"""

from __future__ import annotations

import math
import re
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
from pytest_qnnrobust.results.provenance import derived_origins, is_twin
from pytest_qnnrobust.results.wrapping import wrap
from pytest_qnnrobust.run.cell_names import SQUEEZED
from pytest_qnnrobust.types import WIDTHS

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
"""Largest number of cells that the short summary shows: the worst of each budget."""
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
        said = _headline(self)
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
        # The line of the last test is over; pytest would end it again, below the heading.
        terminal.currentfspath = None
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
    queries = float((outcome.queries + outcome.gradients).mean()) if len(outcome) else 0.0
    return (
        f"{_name(outcome.id)}{len(outcome):>5}{100 * outcome.accuracy:>6.1f}  "
        f"{_interval(outcome, level):<11}"
        f"{_distance(outcome.mean_distance('l2')):>6}"
        f"{_budget(outcome):>12}"
        f"{_count(queries):>6}{_seconds(outcome.seconds):>6}"
    )


def _interval(outcome: Outcome, level: float) -> str:
    interval = outcome.interval(level)
    return f"{100 * interval.low:.1f}-{100 * interval.high:.1f}"


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


def _headline(summary: Summary) -> list[str]:
    """A sentence for each model and, where the run came to its end, the verdict.

    A squeezed float network, which no device runs, has its sentence with -v.
    """
    results = summary.results
    said = headline.by_model(results)
    if not summary.verbose:
        said.pop((SQUEEZED, "float32"), None)
    last = [headline.verdict(results)] if summary.closed else []
    return [line for sentence in (*said.values(), *last) for line in wrap(sentence)]


def _worst(results: Results, options: Options) -> list[str]:
    """The cell of each budget in which the user's models withstood least, the worst one first.

    An attack without a budget goes on until nothing is left, which says little of a model.
    """
    own = [o for o in results.outcomes if not is_twin(results.models, o.defense, o.width)]
    cells = [cell for cell in own if cell.eps is not None] or own
    budgets: dict[tuple[str, float | None], Outcome] = {}
    for cell in sorted(cells, key=lambda cell: (cell.accuracy, cell.mode != "direct", cell.id)):
        budgets.setdefault((cell.norm, cell.eps), cell)
    shown = list(budgets.values())[:WORST_CELLS]
    lines = [line for cell in shown for line in wrap(_worst_line(cell, 1 - options.alpha))]
    return [*lines, *_cut_short(own)]


def _worst_line(outcome: Outcome, level: float) -> str:
    """Such as `worst at 2/255: int8-pgd-2/255-direct 43.0 % of 100 (33.1-53.3 %)`."""
    norm = "" if outcome.norm in ("", "linf") else f"{outcome.norm.upper()} "
    at = f" at {norm}{outcome.budget_label}" if outcome.eps is not None else ""
    share = f"{100 * outcome.accuracy:.1f} % of {len(outcome)} ({_interval(outcome, level)} %)"
    return f"worst{at}: {outcome.id} {share}"


def _short(summary: Summary) -> list[str]:
    """What failed, with its number; how much else there is, and how to see it."""
    results, gate = summary.results, summary.gate
    refused = [f"cache: {results.notes['cache']}"] if "cache" in results.notes else []
    verdict = headline.verdict(results) if summary.closed else ""
    # The verdict has told one of them already.
    failed = [f for f in map(_message, failures(results)) if not verdict.startswith(f"FAILED: {f}")]
    problems = [*gate.accepted, *failed, *gate.warnings, *refused]
    lines = [line for problem in problems[:PROBLEMS] for line in wrap(problem)]
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
    more = wrap(f"{told}; -v shows all, --qnn-report=DIR a page")
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
        *wrap(f"{UNITS}; asked: queries and gradients per sample; {100 * level:g} % "
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
    return wrap(f"clean accuracy on these samples: {text}")


def _cut_short(outcomes: list[Outcome]) -> list[str]:
    """Cells in which a time or query budget ended before the attack did."""
    counts = [(int(outcome.exhausted.sum()), outcome.id) for outcome in outcomes]
    text = ", ".join(f"{n} samples of {name}" for n, name in counts if n)
    return wrap(f"CUT SHORT by a budget, not robust: {text}") if text else []


def _required(ordered: Iterable[Outcome], results: Results, options: Options) -> list[str]:
    """The cells below their --qnn-min-accuracy; without one, a line that says so."""
    if not options.min_accuracy:
        return wrap("no --qnn-min-accuracy: the accuracies above were measured, none is required")
    lines = []
    for outcome in ordered:
        threshold = strictest(options.min_accuracy, outcome.id)
        if threshold and is_below(outcome, options.min_accuracy, results.sequential):
            text = f"{100 * outcome.accuracy:.1f} %, required {100 * threshold.accuracy:g} %"
            lines += wrap(f"BELOW --qnn-min-accuracy: {outcome.id} {text}")
    return lines


def _sequential(results: Results) -> list[str]:
    """The claims that --qnn-sequential watched, and when their cells stopped."""
    records = results.sequential
    lines = [line for record in records for line in wrap(f"SEQUENTIAL: {record.cell} {record}")]
    if any(record.attacked < record.planned for record in records):
        lines += wrap("intervals of stopped cells take their number of samples as fixed")
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
        for line in wrap(f"{width} was not given; {origins[width]}")
    ]


def _verdicts(results: Results, options: Options) -> list[str]:
    reported = set(results.findings) if options.findings == "report" else set()
    return [
        line
        for verdict in sorted(results.verdicts, key=lambda verdict: verdict.name)
        for line in wrap(f"{_value(verdict, reported)}: {verdict.name}. {_words(verdict)}")
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
    return [line for name, text in notes for line in wrap(f"{name}: {text}")]


def _skipped(results: Results) -> list[str]:
    return [
        line
        for reason, tests in not_run(results).items()
        for line in wrap(f"NOT RUN: {', '.join(_counted(tests))}: {reason}")
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
    judged = [line for text in summary.gate.lines for line in wrap(text)]
    return [*judged, *_compared(summary)]


def _compared(summary: Summary) -> list[str]:
    """The number of cells by what became of them, and the command that accepts the run."""
    gate, recorded = summary.gate, summary.recorded
    if recorded is None:
        return []
    lines = wrap(f"baseline {summary.options.baseline} of {recorded.created}: {gate.counts}")
    if gate.problems:
        command = f"{summary.results.command} --qnn-update"
        lines += wrap(f"to accept this run as the baseline: {command}")
    return lines


def _files(summary: Summary) -> list[str]:
    """The files that the run wrote, and the lines that a job of GitHub's shows."""
    lines = [f"wrote {path}" for path in summary.written]
    lines += [line for text in summary.unwritten for line in wrap(text)]
    return [*lines, *(error_lines(summary.results) if summary.closed else ())]


def _distance(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"
