"""What a run as a whole is required to show, known before its first test and judged after its last.

Each requirement is one test: a cell of the baseline, an accuracy under the worst attack, what
quantization may cost, a suppression. What a single attack shows its own test judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from pytest_qnnrobust.claims.verdicts import Rule, Verdict, accuracy_at_least
from pytest_qnnrobust.evaluation.cells import Outcome, model_id
from pytest_qnnrobust.evaluation.worst_case import WORST, WorstCase, worst_cases, worst_id
from pytest_qnnrobust.evaluation.worst_case import models as attacked
from pytest_qnnrobust.gate.gate import Gate, HeldTo
from pytest_qnnrobust.gate.thresholds import is_below, strictest
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.results.document import RequirementRecord, Results
from pytest_qnnrobust.results.provenance import DERIVED

Kind = Literal["baseline", "robust_accuracy", "quantization", "suppression", "required"]

UNRECORDED = "cells without a record"
"""Subject of the requirement that the baseline knows every cell of the run."""


@dataclass(frozen=True)
class Requirement:
    """A requirement of one `kind` about a `subject`, a cell or a model at a budget."""

    kind: Kind
    subject: str

    @property
    def id(self) -> str:
        """The name of its test, such as `test_baseline[int8-pgd-8/255-direct]`."""
        return f"test_{self.kind}[{self.subject}]"


@dataclass(frozen=True)
class Plan:
    """What a run will attack, as far as requirements ask.

    `models` are those given, such as `int8` and `sat-int8`; `budgets` the labels of its Linf
    budgets; `float_given` says whether a float network was given, to compare the others with;
    `cells` are the ids of the cells that its tests of attacks make.
    """

    models: Sequence[str]
    budgets: Sequence[str]
    float_given: bool
    cells: Sequence[str] = ()


def plan_of(results: Results) -> Plan:
    """The plan of a run that is over, from what it attacked."""
    given = [m.width for m in results.models if not (m.defense or m.origin.startswith(DERIVED))]
    models = [
        model_id(*model)
        for model in attacked(results.outcomes)
        if model != ("", "float32") or "float32" in given
    ]
    labels = {
        outcome.budget_label: outcome.eps
        for outcome in results.outcomes
        if outcome.norm == "linf" and outcome.eps is not None
    }
    budgets = sorted(labels, key=lambda label: labels[label] or 0.0)
    return Plan(models, budgets, "float32" in given)


def requirements(options: Options, held_to: HeldTo, plan: Plan) -> list[Requirement]:
    """Everything that the run is held to, in the order of its tests.

    A part of a run (--qnn-shard) does not have all attacks: the whole is judged when it is merged.
    """
    if options.shard is not None:
        return []
    recorded = held_to.results if not options.update else None
    about: list[Requirement] = []
    if recorded is not None:
        cells = sorted({*plan.cells, *(outcome.id for outcome in recorded.outcomes)})
        subjects = [*_clean_ids(recorded.outcomes), *cells, UNRECORDED]
        about += [Requirement("baseline", subject) for subject in subjects]
    worst = [worst_id(model, label) for model in plan.models for label in plan.budgets]
    about += [
        Requirement("robust_accuracy", subject) for subject in worst if _asks(options, subject)
    ]
    if plan.float_given:
        compared = [f"{w}-{label}" for w in ("int16", "int8") for label in plan.budgets]
        about += [
            Requirement("quantization", s) for s in compared if s.partition("-")[0] in plan.models
        ]
    about += [Requirement("suppression", known.pattern) for known in held_to.suppressions]
    return [*about, Requirement("required", "something")] if options.require else about


def judge(
    requirement: Requirement, results: Results, gate: Gate, held_to: HeldTo, options: Options
) -> RequirementRecord:
    """Judge one requirement by the results of the whole run, and by the gate's comparisons."""
    kind, subject = requirement.kind, requirement.subject
    if kind == "baseline":
        return _against_baseline(requirement, gate)
    if kind == "robust_accuracy":
        return _robust_accuracy(requirement, results, options)
    if kind == "quantization":
        return _quantization(requirement, results, options)
    if kind == "suppression":
        known = next(known for known in held_to.suppressions if known.pattern == subject)
        expired = known.expired(date.today())
        if expired:
            return _record(requirement, "violated", f"has expired: {known}")
        return _record(requirement, "open", "the suppression is in force", str(known))
    held = any(record.value == "held" for record in results.requirements)
    text = "a requirement held" if held else "nothing that was required was decided (--qnn-require)"
    return _record(requirement, "held" if held else "violated", text)


def judge_all(
    asked: Iterable[Requirement], results: Results, gate: Gate, held_to: HeldTo, options: Options
) -> tuple[list[RequirementRecord], list[RequirementRecord]]:
    """Judge those asked for, in their order: their records, and those of the whole run.

    The latter are also the records that `results` has, and those of single cells.
    """
    cells = of_cells(results, options)
    every = {record.name: record for record in (*results.requirements, *cells)}
    judged = []
    for requirement in asked:
        so_far = replace(results, requirements=tuple(every.values()))
        record = judge(requirement, so_far, gate, held_to, options)
        every[record.name] = record
        judged.append(record)
    return judged, list(every.values())


def of_cells(results: Results, options: Options) -> list[RequirementRecord]:
    """The records of the accuracies that single cells were required to have."""
    records = []
    for outcome in results.outcomes:
        limit = strictest(options.min_accuracy, outcome.id)
        if limit is not None and limit.accuracy > 0:
            watched = [
                r for r in results.sequential if r.cell == outcome.id and r.about == "threshold"
            ]
            text = f"{100 * outcome.accuracy:.1f} %, required {100 * limit.accuracy:g} %"
            if any(record.value == "undecided" for record in watched):
                value = "open"
            else:
                below = is_below(outcome, options.min_accuracy, results.sequential)
                value = "violated" if below else "held"
            records.append(RequirementRecord(outcome.id, value, text))  # type: ignore[arg-type]
    return records


def _asks(options: Options, subject: str) -> bool:
    """Whether a threshold is about this worst case: one for all cells is about single attacks."""
    limit = strictest([limit for limit in options.min_accuracy if WORST in limit.pattern], subject)
    return limit is not None and limit.accuracy > 0


def _clean_ids(outcomes: Iterable[Outcome]) -> list[str]:
    return sorted({f"{outcome.model}-clean" for outcome in outcomes})


def _record(
    requirement: Requirement,
    value: Literal["held", "violated", "open"],
    text: str,
    accepted: str = "",
) -> RequirementRecord:
    return RequirementRecord(requirement.id, value, text, accepted)


def _against_baseline(requirement: Requirement, gate: Gate) -> RequirementRecord:
    """Held where all comparisons of the cell are: its accuracy and, if it has one, its distance."""
    about = [record for record in gate.records if record.cell == requirement.subject]
    if requirement.subject == UNRECORDED:
        about = [record for record in gate.records if record.status == "new"]
        # Where nothing could be compared, that nothing is new is no reason to pass.
        if not about and any(record.status == "kept" for record in gate.records):
            return _record(requirement, "held", "each cell of this run is in the baseline")
    bad = [record for record in about if record.status not in ("kept", "inconclusive")]
    failing = [record for record in bad if not record.accepted]
    text = "; ".join(
        f"{record.status.upper()}: {record.name}. {record.text}" for record in failing or bad
    )
    if failing:
        return _record(requirement, "violated", text)
    if bad:
        return _record(requirement, "open", text, bad[0].accepted)
    still_open = [record for record in about if record.status == "inconclusive"]
    told = still_open or about
    if not told:
        return _record(requirement, "open", "there was nothing to compare")
    text = "; ".join(f"{record.name}. {record.text}" for record in told)
    return _record(requirement, "open" if still_open else "held", text)


def _robust_accuracy(
    requirement: Requirement, results: Results, options: Options
) -> RequirementRecord:
    case = _worst_case(results, requirement.subject)
    limit = strictest(options.min_accuracy, requirement.subject)
    if case is None or limit is None:
        return _record(requirement, "violated", "no attack of this budget was run on the model")
    interval = case.interval(1 - options.alpha)
    text = (
        f"{100 * case.accuracy:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}] of "
        f"{len(case)} samples withstand all of {', '.join(case.attacks)}; required "
        f"{100 * limit.accuracy:g} %"
    )
    if case.accuracy < limit.accuracy:
        return _record(requirement, "violated", text)
    if cut := int(case.cut_short.sum()):
        return _record(requirement, "open", f"{text}; a budget cut {cut} of them short")
    return _record(requirement, "held", text)


def _quantization(
    requirement: Requirement, results: Results, options: Options
) -> RequirementRecord:
    width, _, label = requirement.subject.partition("-")
    quantized, reference = (
        _worst_case(results, worst_id(model, label)) for model in (width, "float32")
    )
    if quantized is None or reference is None:
        missing = width if quantized is None else "float32"
        return _record(requirement, "open", f"no attack on {missing} has this budget")
    verdict = quantization_cost(quantized, reference, Rule(options.alpha, options.margin))
    text = "; ".join(filter(None, (verdict.statement, verdict.settling)))
    return RequirementRecord.of_verdict(requirement.id, verdict, text)


def quantization_cost(quantized: WorstCase, reference: WorstCase, rule: Rule) -> Verdict:
    """Quantization costs no more robust accuracy than the margin, on the samples of both."""
    n = min(len(quantized), len(reference))
    pairs = [(case.width, case.robust[:n]) for case in (quantized, reference)]
    name = f"{quantized.width} keeps the robust accuracy of float32 at {quantized.label}"
    return accuracy_at_least(name, pairs[0], pairs[1], rule)


def _worst_case(results: Results, subject: str) -> WorstCase | None:
    models = {(outcome.defense, outcome.width) for outcome in results.outcomes}
    for model in sorted(models):
        for case in worst_cases(results.outcomes, *model):
            if case.id == subject:
                return case
    return None
