"""A run as plain data: one JSON document with a schema, from which everything else is made."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust import disk
from pytest_qnnrobust.claims.verdicts import Verdict
from pytest_qnnrobust.errors import DataError, expected
from pytest_qnnrobust.evaluation.cells import Outcome

Read = TypeVar("Read", "Outcome", "Example")

SCHEMA_VERSION = 1
SCHEMA = Path(__file__).parent / "schemas" / f"results-{SCHEMA_VERSION}.json"
MAX_BYTES = 256 * 1024 * 1024
OPTIONAL = ("sequential", "state", "headline", "requirements")
"""Members that a document leaves out where they are empty."""


@dataclass(frozen=True)
class ModelRecord:
    """A model that was tested; `digest` is that of its file and arithmetic, None without a file."""

    name: str
    width: str
    runtime: str
    digest: str | None
    origin: str
    defense: str = ""


@dataclass(frozen=True)
class DataRecord:
    """The labelled data: `samples` were attacked, of `available`; `digest` is of those attacked."""

    name: str
    digest: str
    samples: int
    available: int
    low: float
    high: float
    domain: str

    def __str__(self) -> str:
        """The data in words, such as `100 of 597 samples of digits: 0..1`."""
        return f"{self.samples} of {self.available} samples of {self.name}: {self.domain}"


@dataclass(frozen=True)
class CompareRecord:
    """The status of a cell beside the baseline; `accepted` says why it does not fail the run, or
    is "". `name` is the cell's id and what was compared, or what tells it from others of this id.
    """

    name: str
    status: str
    text: str
    accepted: str = ""

    @property
    def cell(self) -> str:
        """The id of the cell."""
        return self.name.partition(" ")[0]


@dataclass(frozen=True)
class RequirementRecord:
    """What a run was required to show: `value` is open where it decided neither way.

    `accepted` says why it does not fail the run although it is violated, or is "".
    """

    name: str
    value: Literal["held", "violated", "open"]
    text: str
    accepted: str = ""

    @classmethod
    def of_verdict(cls, name: str, verdict: Verdict, text: str) -> RequirementRecord:
        """The record of a requirement that this verdict decides; `text` has its numbers."""
        if verdict.value == "inconclusive":
            return cls(name, "open", text)
        return cls(name, "held" if verdict.value == "holds" else "violated", text)


@dataclass(frozen=True)
class SequentialRecord:
    """A claim that --qnn-sequential watched while its cell was attacked.

    `about` is the threshold or the baseline. `decided`: after how many samples it was, None while
    it is not; `attacked`: how many there were when the cell stopped, of `planned`. `alpha` is the
    level of the run, which its `claims` share alike; `p_value` is valid at any time.
    """

    cell: str
    about: Literal["threshold", "baseline"]
    claim: str
    value: Literal["holds", "violated", "undecided"]
    decided: int | None
    attacked: int
    planned: int
    alpha: float
    claims: int
    p_value: float

    @property
    def level(self) -> float:
        """Level of this claim, which is Bonferroni's share of `alpha`."""
        return self.alpha / self.claims

    @property
    def name(self) -> str:
        return f"{self.cell} {self.about}"

    def __str__(self) -> str:
        """The record in words, such as `stopped after 75 of 200: accuracy >= 0.35 holds
        (anytime-valid, level 0.05 over 4 claims, decided after 61)`.
        """
        early = self.attacked < self.planned
        state = f"stopped after {self.attacked}" if early else f"attacked all {self.planned}"
        when = "" if self.decided is None else f", decided after {self.decided}"
        many = f" over {self.claims} claims" if self.claims > 1 else ""
        return (
            f"{state}{f' of {self.planned}' if early else ''}: {self.claim} {self.value} "
            f"(anytime-valid, level {self.alpha:g}{many}{when})"
        )


@dataclass(frozen=True, eq=False)
class Example:
    """An image that an attack fooled a model with, in 256 levels, to be looked at.

    `clean` and `adversarial` are uint8 (h, w) or (h, w, 3); `index` is that of the sample.
    """

    cell: str
    index: int
    label: int
    adv_label: int
    clean: NDArray[np.uint8]
    adversarial: NDArray[np.uint8]

    def to_json(self) -> dict[str, Any]:
        values = {member.name: getattr(self, member.name) for member in fields(self)}
        values["clean"], values["adversarial"] = _image(self.clean), _image(self.adversarial)
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Example:
        """Read what `to_json` wrote. Raises ValueError for images that are not whole."""
        images = {name: _pixels(values[name]) for name in ("clean", "adversarial")}
        if images["clean"].shape != images["adversarial"].shape:
            raise ValueError("two images of different shapes")
        return cls(**{**values, **images})


@dataclass(frozen=True, eq=False)
class Results:
    """The results of a run, as they stand in its document.

    `created` is ISO 8601 in UTC, `command` the shell command that repeats the run. `findings` names
    the verdicts that refuse no model; `skipped` and `failed` hold the reason or message of each
    such test by its node id; `comparison` is None where there was no baseline. `sequential` is in
    the document only where claims were watched.

    `state` is passed, failed, or measured: nothing that was required of the run was decided; "" in
    documents that are older than it. `requirements` are what it was required to show, `headline`
    is the run in sentences (results.headline).
    """

    package: str
    command: str
    created: str
    versions: Mapping[str, str]
    options: Mapping[str, Any]
    data: DataRecord | None
    models: tuple[ModelRecord, ...]
    outcomes: tuple[Outcome, ...]
    verdicts: tuple[Verdict, ...] = ()
    findings: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    comparison: tuple[CompareRecord, ...] | None = None
    examples: tuple[Example, ...] = ()
    sequential: tuple[SequentialRecord, ...] = ()
    state: str = ""
    headline: tuple[str, ...] = ()
    requirements: tuple[RequirementRecord, ...] = ()

    @property
    def cells(self) -> dict[str, Outcome]:
        """The outcomes by cell id."""
        return {outcome.id: outcome for outcome in self.outcomes}

    def to_text(self) -> str:
        """The document as JSON: the same bytes for the same results."""
        values = {member.name: getattr(self, member.name) for member in fields(self)}
        values |= {
            "schema_version": SCHEMA_VERSION,
            "data": asdict(self.data) if self.data else None,
            "models": [asdict(model) for model in self.models],
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "comparison": _listed(self.comparison),
            "examples": [example.to_json() for example in self.examples],
            "sequential": [asdict(record) for record in self.sequential],
            "requirements": [asdict(record) for record in self.requirements],
        }
        for name in OPTIONAL:
            if not values[name]:
                del values[name]
        return json.dumps(_finite(values), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_text(cls, text: str, where: str = "results") -> Results:
        """Read what `to_text` wrote.

        Raises DataError, one line that names `where`, for anything else.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise expected(f"JSON in {where}", reason=str(error), error=DataError) from None
        _validate(values, where)
        del values["schema_version"]
        data, comparison = values.pop("data"), values.pop("comparison")
        return cls(
            data=DataRecord(**data) if data else None,
            models=tuple(ModelRecord(**model) for model in values.pop("models")),
            outcomes=_each(Outcome, "id", "whole values", values.pop("outcomes"), where),
            verdicts=tuple(map(_verdict, values.pop("verdicts"))),
            findings=tuple(values.pop("findings")),
            headline=tuple(values.pop("headline", ())),
            examples=_each(Example, "cell", "whole images", values.pop("examples"), where),
            sequential=tuple(SequentialRecord(**record) for record in values.pop("sequential", ())),
            requirements=tuple(
                RequirementRecord(**record) for record in values.pop("requirements", ())
            ),
            comparison=None
            if comparison is None
            else tuple(CompareRecord(**record) for record in comparison),
            **values,
        )


def _listed(records: tuple[CompareRecord, ...] | None) -> list[dict[str, str]] | None:
    return None if records is None else [asdict(record) for record in records]


def read(path: Path) -> Results:
    """Read the results in a file. Raises DataError, one line, for a file that holds none."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            rule = f"results of at most {MAX_BYTES} bytes"
            raise expected(rule, path=str(path), bytes=size, error=DataError)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise expected(
            "a file of results", path=str(path), reason=str(error)[:200], error=DataError
        ) from None
    return Results.from_text(text, str(path))


def write(path: Path, results: Results) -> None:
    """Write the document, whole or not at all. Raises OSError where the disk refuses."""
    disk.write_text(path, results.to_text())


def _finite(value: Any) -> Any:
    """The same values with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _verdict(values: Mapping[str, Any]) -> Verdict:
    """The verdict in a document; there null stands for NaN."""
    numbers = ("effect", "p_value", "detectable", "needed")
    read = {k: math.nan if k in numbers and v is None else v for k, v in values.items()}
    read["interval"] = {k: math.nan if v is None else v for k, v in values["interval"].items()}
    return Verdict.from_json(read)


def _image(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    content = np.ascontiguousarray(pixels, np.uint8).tobytes()
    return {"shape": list(pixels.shape), "base64": base64.b64encode(content).decode()}


def _pixels(packed: Mapping[str, Any]) -> NDArray[np.uint8]:
    content = base64.b64decode(packed["base64"], validate=True)
    return np.array(np.frombuffer(content, np.uint8).reshape(packed["shape"]))


def _each(
    kind: type[Read], named: str, rule: str, records: list[dict[str, Any]], where: str
) -> tuple[Read, ...]:
    """The records as objects of `kind`; a DataError has the `rule` and what the record names."""

    def read(values: dict[str, Any]) -> Read:
        try:
            return kind.from_json(values)
        except (DataError, ValueError) as error:
            cell = values.get(named)
            raise expected(f"{rule} in {where}", cell=cell, reason=error, error=DataError) from None

    return tuple(map(read, records))


def _validate(values: Any, where: str) -> None:
    if isinstance(values, dict) and values.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        cure = "run again with this version, or read it with the version that wrote it"
        raise expected(
            f"schema_version {SCHEMA_VERSION} in {where}",
            schema_version=values["schema_version"],
            cure=cure,
            error=DataError,
        )
    problem = next(iter(_validator().iter_errors(values)), None)
    if problem is not None:
        place = "/".join(map(str, problem.absolute_path)) or "the whole"
        message = problem.message[:200]
        raise expected(f"results in {where}", at=place, reason=message, error=DataError)


@lru_cache(maxsize=1)
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
