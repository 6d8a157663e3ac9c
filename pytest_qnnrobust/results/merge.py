"""Merging of results: those of the parts of one run (--qnn-shard I/N) become those of the whole."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from pytest_qnnrobust.errors import DataError, expected
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.options import OPTIONS, names_that_matter_for
from pytest_qnnrobust.results import provenance
from pytest_qnnrobust.results.document import ModelRecord, Results

OF_A_PART = {
    *names_that_matter_for("here"),
    *(option.field for option in OPTIONS if option.path),
}
"""Options that may differ from machine to machine: files are compared by their contents."""

T = TypeVar("T")


def merge(parts: Sequence[Results]) -> Results:
    """Merge the parts of a run, in any order, into one document.

    Raises DataError where a part is missing or there twice, or where two parts are not of one run:
    other options, data, models or versions of this package, or two results for one cell.
    """
    _check_complete(parts)
    parts = sorted(parts, key=lambda part: tuple(part.options["shard"]))
    first = parts[0]
    for name in ("package", "data"):
        _check_same(name, [getattr(part, name) for part in parts])
    for name in sorted(first.options.keys() - OF_A_PART):
        _check_same(f"options {name}", [part.options.get(name) for part in parts])
    models = [model for part in parts for model in part.models]
    _check_models(models)
    return replace(
        first,
        command=_whole_command(first.command),
        created=max(part.created for part in parts),
        versions=_versions(parts),
        options={**first.options, "shard": None},
        models=tuple(provenance.in_order(models)),
        outcomes=_outcomes(parts),
        sequential=_joined(parts, lambda part: {record.name: record for record in part.sequential}),
        requirements=_joined(
            parts, lambda part: {record.name: record for record in part.requirements}
        ),
        state="",
        headline=(),
        verdicts=_joined(parts, lambda part: {verdict.name: verdict for verdict in part.verdicts}),
        findings=tuple(sorted({name for part in parts for name in part.findings})),
        notes=_united([part.notes for part in parts]),
        skipped=_united([part.skipped for part in parts]),
        failed=_united([part.failed for part in parts]),
        # An image only illustrates its cell: where two parts have one, either will do.
        examples=_joined(
            parts,
            lambda part: {example.cell: example for example in part.examples},
            lambda *_: True,
        ),
    )


def _check_complete(parts: Sequence[Results]) -> None:
    shards = sorted(tuple(part.options.get("shard") or ()) for part in parts)
    count = shards[0][1] if shards and shards[0] else 0
    if not count or shards != [(i, count) for i in range(1, count + 1)]:
        shown = ", ".join("/".join(map(str, shard)) or "a whole run" for shard in shards)
        rule = f"every part of one --qnn-shard run once, {count or 'N'} in all"
        raise expected(rule, parts=shown, error=DataError)


def _check_same(name: str, values: Sequence[Any]) -> None:
    for value in values[1:]:
        if value != values[0]:
            both = {name: f"{values[0]} and {value}"}
            raise expected("parts of one run", error=DataError, **both)


def _check_models(models: Sequence[ModelRecord]) -> None:
    firsts: dict[tuple[str, str], ModelRecord] = {}
    for model in models:
        place = f"{model.defense} {model.width}".strip()
        first = firsts.setdefault((model.defense, model.width), model)
        _check_same(f"{place} model", [first.digest, model.digest])


def _joined(
    parts: Sequence[Results],
    by_name: Callable[[Results], Mapping[str, T]],
    same: Callable[[T, T], bool] = lambda first, second: str(first) == str(second),
) -> tuple[T, ...]:
    """Join what the parts have by name; DataError where values of one name are not the `same`."""
    joined: dict[str, T] = {}
    for part in parts:
        for name, value in by_name(part).items():
            if not same(joined.setdefault(name, value), value):
                rule = "equal results from the parts that share a cell"
                raise expected(rule, cell=name.partition("|")[0], error=DataError)
    return tuple(value for _, value in sorted(joined.items()))


def _outcomes(parts: Sequence[Results]) -> tuple[Outcome, ...]:
    """The outcomes, one a cell: the longer of two, as --qnn-sequential may have stopped one."""
    longest_first = sorted(
        (outcome for part in parts for outcome in part.outcomes), key=lambda outcome: -len(outcome)
    )
    longest: dict[str, Outcome] = {}
    for outcome in longest_first:
        if not _begins(longest.setdefault(outcome.key, outcome), outcome):
            rule = "equal results from the parts that share a cell"
            raise expected(rule, cell=outcome.id, error=DataError)
    return tuple(outcome for _, outcome in sorted(longest.items()))


def _begins(whole: Outcome, part: Outcome) -> bool:
    """Whether `whole` begins with what `part` holds, the time that it took aside."""
    names = [field.name for field in fields(Outcome) if field.name != "seconds"]
    pairs = [(getattr(whole, name), getattr(part, name)) for name in names]
    return all(
        np.array_equal(value[: len(first)] if isinstance(value, np.ndarray) else value, first)
        for value, first in pairs
    )


def _versions(parts: Sequence[Results]) -> dict[str, str]:
    """The versions by name, such as `avx2 and portable` where those of two machines differ."""
    pairs = sorted({pair for part in parts for pair in part.versions.items()})
    return {
        name: " and ".join(version for other, version in pairs if other == name)
        for name, _ in pairs
    }


def _united(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return dict(sorted(pair for part in parts for pair in part.items()))


def _whole_command(command: str) -> str:
    """The command of a part without its --qnn-shard."""
    words = shlex.split(command)
    whole = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if not word.startswith("--qnn-shard") and before != "--qnn-shard"
    ]
    return shlex.join(whole)
