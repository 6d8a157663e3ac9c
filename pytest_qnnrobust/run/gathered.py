"""What the tests of one process report, and what the workers of a run report together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from pytest_qnnrobust.claims.verdicts import Verdict
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.results import provenance
from pytest_qnnrobust.results.document import (
    DataRecord,
    Example,
    ModelRecord,
    Results,
    SequentialRecord,
)


class Gathered:
    """Outcomes, verdicts, notes, and why tests were skipped or failed; plain data in and out."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.findings: set[str] = set()
        self.notes: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.derived: dict[str, str] = {}
        self.examples: dict[str, Example] = {}
        self.sequential: dict[str, SequentialRecord] = {}
        self._data_record: dict[str, Any] = {}
        self._model_records: set[ModelRecord] = set()

    def keep(self, outcome: Outcome) -> None:
        """Keep an outcome for the summary; of two of a cell the one with more samples."""
        known = self.outcomes.get(outcome.key)
        if known is None or len(known) <= len(outcome):
            self.outcomes[outcome.key] = outcome

    def judge(self, verdict: Verdict, finding: bool = False) -> None:
        """Keep a verdict for the summary; `finding`: no model is refused where it is violated."""
        self._keep(verdict)
        if finding:
            self.findings.add(verdict.name)

    def _keep(self, verdict: Verdict) -> None:
        known = self.verdicts.setdefault(verdict.name, verdict)
        if str(known) != str(verdict):
            raise expected("one verdict of a name", name=verdict.name)

    def note(self, name: str, text: str) -> None:
        """A measured fact for the summary, which no test passes or fails on."""
        self.notes[name] = text

    def to_json(self) -> dict[str, Any]:
        """What a worker sends: built-in types only."""
        return {
            "outcomes": [outcome.to_json() for outcome in self.outcomes.values()],
            "verdicts": [verdict.to_json() for verdict in self.verdicts.values()],
            "findings": sorted(self.findings),
            "notes": dict(self.notes),
            "derived": dict(self.derived),
            "data": asdict(data) if (data := self.data_record()) else None,
            "models": [asdict(model) for model in self.model_records()],
            "examples": [example.to_json() for example in self.examples.values()],
            "sequential": [asdict(one) for one in self.sequential.values()],
        }

    def merge(self, values: Mapping[str, Any]) -> None:
        """Take in what a worker sent; the order of the workers does not matter."""
        for outcome in map(Outcome.from_json, values["outcomes"]):
            self.keep(outcome)
        for verdict in map(Verdict.from_json, values["verdicts"]):
            self._keep(verdict)
        self.findings.update(values["findings"])
        self.notes.update(values["notes"])
        self.derived.update(values["derived"])
        for example in map(Example.from_json, values["examples"]):
            self.examples.setdefault(example.cell, example)
        for one in values["sequential"]:
            record = SequentialRecord(**one)
            self.sequential[record.name] = record
        self._data_record = values["data"] or self._data_record
        self._model_records |= {ModelRecord(**one) for one in values["models"]}

    def data_record(self) -> DataRecord | None:
        """The data that were attacked; None where there are none."""
        return DataRecord(**self._data_record) if self._data_record else None

    def model_records(self) -> list[ModelRecord]:
        """Every model that was tested, plain ones first."""
        return provenance.in_order(list(self._model_records))

    def results(self, command: str, options: dict[str, Any]) -> Results:
        """What was gathered so far, as a document."""
        return Results(
            package=provenance.package_version(),
            command=command,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=provenance.versions(),
            options=options,
            data=self.data_record(),
            models=tuple(self.model_records()),
            outcomes=tuple(sorted(self.outcomes.values(), key=lambda one: one.key)),
            verdicts=tuple(sorted(self.verdicts.values(), key=lambda one: one.name)),
            findings=tuple(sorted(self.findings)),
            notes=dict(sorted(self.notes.items())),
            skipped=dict(sorted(self.skipped.items())),
            failed=dict(sorted(self.failed.items())),
            examples=tuple(example for _, example in sorted(self.examples.items())),
            sequential=tuple(record for _, record in sorted(self.sequential.items())),
        )


def group_by_reason(skipped: Mapping[str, str]) -> dict[str, list[str]]:
    """Reason -> names of the tests it skipped, sorted."""
    groups: dict[str, list[str]] = {}
    for name, reason in sorted(skipped.items()):
        groups.setdefault(reason, []).append(name)
    return groups
