"""Comparison of a run with a recorded one, cell by cell on the same images.

A cell is called worse where a one-sided paired test excludes that the loss is within its limit, at
a level that Holm's method (1979) keeps for all cells together. A cell that --qnn-sequential watched
could have stopped at any sample: it is compared on the samples that it has, by the sequential test
at the cell's own share of the level.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.registry import minimizes_distance
from pytest_qnnrobust.claims.verdicts import (
    Rule,
    Value,
    Verdict,
    accuracy_at_least,
    farther_where_both_fooled,
    p_text,
)
from pytest_qnnrobust.data.domain import span
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.options.values import Limits, Loss
from pytest_qnnrobust.results.document import DataRecord, Results, SequentialRecord
from pytest_qnnrobust.statistics import paired, sequential
from pytest_qnnrobust.statistics.discordance import discordance

CellParts = tuple[str, str, str]
"""(model, attack, mode) of a cell, which are joined to its id."""
Mask = NDArray[np.bool_]
Status = Literal["kept", "worse", "inconclusive", "new", "vanished", "stale"]

VARIABLE = ("target", "source", "runtime", "gradient", "settings", "seed")
"""Fields in which two outcomes of one id can differ."""
SAME_SETTINGS = ("settings", "seed", "runtime", "mode", "gradient")
"""Fields, beside the samples, that two outcomes of a cell must share to be comparable."""


@dataclass(frozen=True)
class CellComparison:
    """The comparison of one cell, which one or both runs have.

    `loss` is what its limit is about, None where the outcomes could not be compared; `same` says
    that each sample came out as before, which needs no test.
    """

    cell: str
    status: Status
    text: str
    loss: Loss | None = None
    verdict: Verdict | None = None
    same: bool = False

    @property
    def id(self) -> str:
        """The id of the cell, without what tells it from others of this id."""
        return self.cell.partition(" ")[0]

    @property
    def name(self) -> str:
        """The cell and what was compared, if anything, such as `int8-pgd-direct accuracy`."""
        return f"{self.cell} {self.loss}" if self.loss else self.cell


def compare(
    recorded: Results, current: Results, limits: Limits, rule: Rule
) -> list[CellComparison]:
    """Compare every cell of either run, clean accuracies first.

    A pure function: equal documents have equal comparisons.
    """
    watched = {record.cell: record for record in current.sequential if record.about == "baseline"}
    other_data = other_samples(recorded.data, current.data)
    compared: list[CellComparison] = []
    before, now = named(recorded, current)
    if not other_data:
        compared += _compare_clean(before, now, limits, rule, watched)
    for cell in sorted(before.keys() | now.keys()):
        if cell not in before:
            compared.append(CellComparison(cell, "new", "not in the baseline"))
        elif cell not in now:
            compared.append(CellComparison(cell, "vanished", "in the baseline, not in this run"))
        elif reason := other_data or incomparable(before[cell], now[cell], cell in watched):
            compared.append(CellComparison(cell, "stale", reason))
        elif cell in watched:
            right = before[cell].robust, now[cell].robust
            record = watched[cell]
            compared.append(_compare_watched(cell, "accuracy", *right, limits, rule, record))
        else:
            compared += _compare_outcomes(cell, before[cell], now[cell], limits, rule)
    return _corrected(compared, rule)


def compare_accuracies(
    pairs: Mapping[str, tuple[Mask, Mask]], limits: Limits, rule: Rule
) -> list[CellComparison]:
    """Compare cells given by id as (recorded, now): bool (N,), whether each sample was right."""
    compared = [
        _compare_accuracy(cell, "accuracy", before, now, limits, rule)
        for cell, (before, now) in sorted(pairs.items())
    ]
    return _corrected(compared, rule)


def comparisons(recorded: Results) -> int:
    """The largest number of comparisons that a run can have with a recorded one."""
    clean = {outcome.model for outcome in recorded.outcomes}
    distances = sum(minimizes_distance(outcome.attack) for outcome in recorded.outcomes)
    return len(recorded.outcomes) + distances + len(clean)


def check_limits(limits: Limits, cells: Iterable[CellParts]) -> None:
    """Raise QnnRobustError for a limit that none of the cells can be held to."""
    cells = list(cells)
    names: dict[Loss, set[str]] = {
        "accuracy": {"-".join(parts) for parts in cells},
        "clean": {f"{model}-clean" for model, _, _ in cells},
        "distance": {"-".join(parts) for parts in cells if minimizes_distance(parts[1])},
    }
    for limit in limits.rules:
        if limit.pattern and not any(limit.pattern in name for name in names[limit.loss]):
            rule = "--qnn-fail-if to fit a cell, such as int8-square-linf-direct:accuracy:-3pt"
            if limit.loss == "distance":
                rule = "--qnn-fail-if distance to fit an attack without a budget, such as deepfool"
            raise expected(rule, cell=limit.pattern, loss=limit.loss)


def named(*runs: Results) -> list[dict[str, Outcome]]:
    """The outcomes of each run by name: their ids, with what differs where an id has several."""
    counts = [Counter(outcome.id for outcome in run.outcomes) for run in runs]

    def name(outcome: Outcome) -> str:
        if all(count[outcome.id] < 2 for count in counts):
            return outcome.id
        alike = [other for run in runs for other in run.outcomes if other.id == outcome.id]
        differing = [f for f in VARIABLE if len({getattr(other, f) for other in alike}) > 1]
        return " ".join([outcome.id, *(f"{f}={getattr(outcome, f)}" for f in differing)])

    return [{name(outcome): outcome for outcome in run.outcomes} for run in runs]


def _compare_clean(
    recorded: Mapping[str, Outcome],
    current: Mapping[str, Outcome],
    limits: Limits,
    rule: Rule,
    watched: Mapping[str, SequentialRecord],
) -> list[CellComparison]:
    """Compare the clean accuracy of each model that both runs attacked.

    The samples are those of its longest cell; of several such cells, one that was not watched.
    """
    best: dict[str, tuple[int, bool, str]] = {}
    for cell, now in sorted(current.items()):
        before, rank = recorded.get(cell), (len(now), cell not in watched)
        if before is None or not _begins(before, now, cell in watched):
            continue
        if now.model not in best or rank > best[now.model][:2]:
            best[now.model] = (*rank, cell)
    compared = []
    for model, (_, unwatched, cell) in best.items():
        name = f"{model}-clean"
        right = recorded[cell].clean_correct, current[cell].clean_correct
        if unwatched:
            compared.append(_compare_accuracy(name, "clean", *right, limits, rule))
        else:
            record = watched[cell]
            compared.append(_compare_watched(name, "clean", *right, limits, rule, record))
    return compared


def _begins(before: Outcome, now: Outcome, watched: bool) -> bool:
    """Whether `now` has the recorded samples or, where it was watched, the first of them."""
    if not len(now):
        return False
    if watched and len(now) <= len(before):
        return np.array_equal(before.index[: len(now)], now.index)
    return np.array_equal(before.index, now.index)


def other_samples(recorded: DataRecord | None, current: DataRecord | None) -> str:
    """Reason why two runs do not attack the same samples, in words; "" where they do."""
    if recorded is None or current is None:
        return "no data in one of the runs"
    if recorded.digest == current.digest:
        return ""
    old, new = ((data.low, data.high) for data in (recorded, current))
    if old != new:
        return f"other data: inputs in {span(new)}, recorded with {span(old)}"
    return (
        f"other data: {current.samples} samples of {current.name}, recorded with "
        f"{recorded.samples} of {recorded.name}"
    )


def incomparable(before: Outcome, now: Outcome, watched: bool = False) -> str:
    """Reason why two outcomes cannot be compared, in words; "" where they can.

    A `watched` outcome may have fewer samples.
    """
    for name in SAME_SETTINGS:
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            return f"other {name}: {new}, recorded with {old}"
    if not _begins(before, now, watched):
        return f"other samples: {len(now)}, recorded with {len(before)}"
    return ""


def _compare_outcomes(
    cell: str, before: Outcome, now: Outcome, limits: Limits, rule: Rule
) -> Iterable[CellComparison]:
    yield _compare_accuracy(cell, "accuracy", before.robust, now.robust, limits, rule)
    both = before.fooled & now.fooled
    if minimizes_distance(now.attack) and both.any():
        allowed = replace(rule, margin=limits.of(cell, "distance"))
        outcomes = ("now", now), ("recorded", before)
        verdict = farther_where_both_fooled(cell, *outcomes, allowed, norm="l2")
        same = np.array_equal(before.l2[both], now.l2[both])
        text = _words(verdict, same, f"{-100 * allowed.margin:g} %")
        yield CellComparison(cell, "kept", text, "distance", verdict, same)


def _compare_accuracy(
    cell: str, loss: Loss, before: Mask, now: Mask, limits: Limits, rule: Rule
) -> CellComparison:
    allowed = replace(rule, margin=limits.of(cell, loss))
    verdict = accuracy_at_least(cell, ("now", now), ("recorded", before), allowed)
    same = np.array_equal(before, now)
    text = _words(verdict, same, f"{-100 * allowed.margin:g} points")
    return CellComparison(cell, "kept", text, loss, verdict, same)


def _compare_watched(
    cell: str,
    loss: Loss,
    before: Mask,
    now: Mask,
    limits: Limits,
    rule: Rule,
    record: SequentialRecord,
) -> CellComparison:
    """Compare by the sequential test, on the samples that the cell had when it stopped."""
    n, limit = len(now), limits.of(cell, loss)
    alpha = min(rule.alpha, record.alpha) / record.claims
    decision = sequential.lost_at_most(before[:n], now, limit, alpha)
    level = 1 - 2 * alpha
    bounds = sequential.confidence_sequence(sequential.gains(before[:n], now), level)
    low, high = (2 * float(side[-1]) - 1 for side in bounds)
    interval = paired.Interval(low, high, level)
    effect = discordance(now, before[:n]).difference
    statement = (
        f"now {100 * np.mean(now):.1f} % against recorded {100 * np.mean(before[:n]):.1f} %, "
        f"difference {100 * effect:+.1f} points [{100 * interval.low:+.1f}, "
        f"{100 * interval.high:+.1f}] (paired, first {n} of {len(before)} samples, anytime-valid, "
        f"{p_text(decision.p_value)})"
    )
    value: Value = "inconclusive" if decision.value == "undecided" else decision.value
    verdict = Verdict(cell, value, statement, effect, interval, decision.p_value, float("nan"), n)
    same = n == len(before) and np.array_equal(before, now)
    text = _words(verdict, same, f"{-100 * limit:g} points")
    return CellComparison(cell, "kept", text, loss, verdict, same)


def _words(verdict: Verdict, same: bool, allowed: str) -> str:
    if same:
        return f"the same on each of {verdict.n} samples"
    return f"{verdict.statement}, allowed {allowed}"


def _corrected(compared: Sequence[CellComparison], rule: Rule) -> list[CellComparison]:
    """Correct for the number of tests: a cell is worse where Holm's method says so of them all."""
    tested = [comparison for comparison in compared if comparison.verdict is not None]
    corrected = paired.holm([_p_worse(comparison) for comparison in tested])
    status: Mapping[str, Status] = {
        comparison.name: "worse" if p <= rule.alpha else _short_of_worse(comparison)
        for comparison, p in zip(tested, corrected, strict=True)
    }
    return [
        _with_status(comparison, status.get(comparison.name, comparison.status))
        for comparison in compared
    ]


def _with_status(comparison: CellComparison, status: Status) -> CellComparison:
    """The comparison with its final status; an open one says how many samples would settle it."""
    verdict = comparison.verdict
    settling = verdict.settling if verdict and status == "inconclusive" else ""
    text = "; ".join(filter(None, (comparison.text, settling)))
    return replace(comparison, status=status, text=text)


def _p_worse(comparison: CellComparison) -> float:
    """The p-value of `worse than the limit`: that of the verdict where it is violated, else 1."""
    verdict = comparison.verdict
    return verdict.p_value if verdict is not None and verdict.value == "violated" else 1.0


def _short_of_worse(comparison: CellComparison) -> Status:
    """The status of a cell that is not worse: as it was, or not certainly so."""
    verdict = comparison.verdict
    holds = comparison.same or (verdict is not None and verdict.value == "holds")
    return "kept" if holds else "inconclusive"
