"""Reports of the tests of one process, joined with those of the other workers of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from pytest_qnnrobust.claims.verdicts import Verdict
from pytest_qnnrobust.errors import FileChangedError, expected
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.models.files import START_AGAIN
from pytest_qnnrobust.results import example_images, provenance
from pytest_qnnrobust.results.document import (
    DataRecord,
    Example,
    ModelRecord,
    RequirementRecord,
    Results,
    SequentialRecord,
)


class Gathered:
    """Outcomes, verdicts, notes, and why tests were skipped or failed; plain data in and out.

    `data` and `models` are the records of what was tested; `findings` names the verdicts that
    refuse no model where they are violated. `asked` are the requirements of the whole run, by id,
    whose tests were selected, in their order: they wait for the other tests. `unwritten` has the
    error of each output that the disk refused, by its option.
    """

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.findings: set[str] = set()
        self.notes: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.unwritten: dict[str, str] = {}
        self.examples: dict[str, Example] = {}
        self.sequential: dict[str, SequentialRecord] = {}
        self.requirements: dict[str, RequirementRecord] = {}
        self.asked: dict[str, None] = {}
        self.data: DataRecord | None = None
        self.models: set[ModelRecord] = set()

    def keep_outcome(self, outcome: Outcome) -> None:
        """Keep an outcome for the summary; of two of a cell the one with more samples."""
        before = self.outcomes.get(outcome.key)
        if before is None or len(before) <= len(outcome):
            self.outcomes[outcome.key] = outcome

    def keep_verdict(self, verdict: Verdict, finding: bool = False) -> None:
        """Keep a verdict for the summary; `finding`: no model is refused where it is violated.

        Raises QnnRobustError where another verdict has the same name.
        """
        before = self.verdicts.setdefault(verdict.name, verdict)
        if str(before) != str(verdict):
            raise expected("one verdict of a name", name=verdict.name)
        if finding:
            self.findings.add(verdict.name)

    def keep_requirement(self, verdict: Verdict) -> None:
        """Keep that the run is required to show what this verdict says."""
        record = RequirementRecord.of_verdict(verdict.name, verdict, verdict.statement)
        self.requirements[verdict.name] = record

    def keep_example(self, example: Example) -> None:
        """Keep an image for the page; of two of a cell the one that any order of them keeps."""
        before = self.examples.get(example.cell, example)
        self.examples[example.cell] = example_images.preferred(before, example)

    def note(self, name: str, text: str) -> None:
        """Keep a measured fact for the summary, which no test passes or fails on."""
        self.notes[name] = text

    def to_json(self) -> dict[str, Any]:
        """Everything that a worker sends, as built-in types."""
        return {
            "outcomes": [outcome.to_json() for outcome in self.outcomes.values()],
            "verdicts": [verdict.to_json() for verdict in self.verdicts.values()],
            "findings": sorted(self.findings),
            "notes": dict(self.notes),
            "unwritten": dict(self.unwritten),
            "data": asdict(self.data) if self.data else None,
            "models": [asdict(model) for model in self.models],
            "examples": [example.to_json() for example in self.examples.values()],
            "sequential": [asdict(record) for record in self.sequential.values()],
            "requirements": [asdict(record) for record in self.requirements.values()],
            "asked": list(self.asked),
            "skipped": dict(self.skipped),
        }

    def merge(self, values: Mapping[str, Any]) -> None:
        """Take in what a worker sent; the order of the workers does not matter.

        Raises FileChangedError where it tested another model or other data than one before it.
        """
        for outcome in map(Outcome.from_json, values["outcomes"]):
            self.keep_outcome(outcome)
        for verdict in map(Verdict.from_json, values["verdicts"]):
            self.keep_verdict(verdict)
        self.findings.update(values["findings"])
        self.notes.update(values["notes"])
        self.unwritten.update(values["unwritten"])
        for example in map(Example.from_json, values["examples"]):
            self.keep_example(example)
        for fields in values["sequential"]:
            record = SequentialRecord(**fields)
            self.sequential[record.name] = record
        for fields in values["requirements"]:
            requirement = RequirementRecord(**fields)
            self.requirements[requirement.name] = requirement
        self.asked |= dict.fromkeys(values["asked"])
        self.skipped |= values["skipped"]
        if values["data"]:
            data = DataRecord(**values["data"])
            _check_same("data", self.data or data, data)
            self.data = data
        before = {(model.defense, model.width): model for model in self.models}
        for model in [ModelRecord(**fields) for fields in values["models"]]:
            _check_same(model.name, before.get((model.defense, model.width), model), model)
            self.models.add(model)

    def results(self, command: str, options: dict[str, Any]) -> Results:
        """The document of what was gathered so far."""
        return Results(
            package=provenance.package_version(),
            command=command,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=provenance.versions(),
            options=options,
            data=self.data,
            models=tuple(provenance.in_order(list(self.models))),
            outcomes=tuple(outcome for _, outcome in sorted(self.outcomes.items())),
            verdicts=tuple(verdict for _, verdict in sorted(self.verdicts.items())),
            findings=tuple(sorted(self.findings)),
            notes=dict(sorted(self.notes.items())),
            skipped=dict(sorted(self.skipped.items())),
            failed=dict(sorted(self.failed.items())),
            examples=tuple(example for _, example in sorted(self.examples.items())),
            sequential=tuple(record for _, record in sorted(self.sequential.items())),
            requirements=tuple(record for _, record in sorted(self.requirements.items())),
        )


def _check_same(name: str, one: DataRecord | ModelRecord, other: DataRecord | ModelRecord) -> None:
    """Raise FileChangedError where two workers have records of another digest."""
    if one.digest != other.digest:
        rule = "every worker to test the same models and data"
        raise expected(rule, other=name, cure=START_AGAIN, error=FileChangedError)
