"""The results of parts of one run (--qnn-shard I/N) as those of the whole."""

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

Kept = TypeVar("Kept")


def merge(parts: Sequence[Results]) -> Results:
    """One document of all parts, whatever their order.

    Raises DataError where a part is missing or there twice, or where two parts are not of one run:
    other options, data, models or versions of this package, or two results for one cell.
    """
    _check_complete(parts)
    parts = sorted(parts, key=lambda one: tuple(one.options["shard"]))
    first = parts[0]
    for name in ("package", "data"):
        _check_same(name, [getattr(one, name) for one in parts])
    for name in sorted(first.options.keys() - OF_A_PART):
        _check_same(f"options {name}", [one.options.get(name) for one in parts])
    models = [model for one in parts for model in one.models]
    _check_models(models)
    return replace(
        first,
        command=_whole_command(first.command),
        created=max(one.created for one in parts),
        versions=dict(sorted(pair for one in parts for pair in one.versions.items())),
        options={**first.options, "shard": None},
        models=tuple(provenance.in_order(models)),
        outcomes=_outcomes(parts),
        sequential=_joined(parts, lambda one: {each.name: each for each in one.sequential}),
        verdicts=_joined(parts, lambda one: {verdict.name: verdict for verdict in one.verdicts}),
        findings=tuple(sorted({name for one in parts for name in one.findings})),
        notes=_united([one.notes for one in parts]),
        skipped=_united([one.skipped for one in parts]),
        failed=_united([one.failed for one in parts]),
        examples=_joined(
            parts, lambda one: {each.cell: each for each in one.examples}, lambda *_: True
        ),
    )


def _check_complete(parts: Sequence[Results]) -> None:
    found = sorted(tuple(one.options.get("shard") or ()) for one in parts)
    count = found[0][1] if found and found[0] else 0
    if not count or found != [(i, count) for i in range(1, count + 1)]:
        shown = ", ".join("/".join(map(str, one)) or "a whole run" for one in found)
        rule = f"every part of one --qnn-shard run once, {count or 'N'} in all"
        raise expected(rule, parts=shown, error=DataError)


def _check_same(name: str, values: Sequence[Any]) -> None:
    for value in values[1:]:
        if value != values[0]:
            both = {name: f"{values[0]} and {value}"}
            raise expected("parts of one run", error=DataError, **both)


def _check_models(models: Sequence[ModelRecord]) -> None:
    known: dict[tuple[str, str], ModelRecord] = {}
    for model in models:
        place = f"{model.defense} {model.width}".strip()
        one = known.setdefault((model.defense, model.width), model)
        _check_same(f"{place} model", [one.digest, model.digest])


def _joined(
    parts: Sequence[Results],
    by_name: Callable[[Results], Mapping[str, Kept]],
    same: Callable[[Kept, Kept], bool] = lambda one, other: str(one) == str(other),
) -> tuple[Kept, ...]:
    """What the parts have, by name; DataError where two parts have another thing by one name."""
    found: dict[str, Kept] = {}
    for one in parts:
        for name, value in by_name(one).items():
            if not same(found.setdefault(name, value), value):
                rule = "equal results from the parts that share a cell"
                raise expected(rule, cell=name.partition("|")[0], error=DataError)
    return tuple(value for _, value in sorted(found.items()))


def _outcomes(parts: Sequence[Results]) -> tuple[Outcome, ...]:
    """Every cell once: of two, one of which --qnn-sequential may have stopped, the longer."""
    longest_first = sorted(
        (cell for one in parts for cell in one.outcomes), key=lambda cell: -len(cell)
    )
    found: dict[str, Outcome] = {}
    for cell in longest_first:
        if not _begins(found.setdefault(cell.key, cell), cell):
            rule = "equal results from the parts that share a cell"
            raise expected(rule, cell=cell.id, error=DataError)
    return tuple(value for _, value in sorted(found.items()))


def _begins(whole: Outcome, part: Outcome) -> bool:
    """Whether `whole` begins with what `part` holds, the time that it took aside."""
    names = [each.name for each in fields(Outcome) if each.name != "seconds"]
    pairs = [(getattr(whole, name), getattr(part, name)) for name in names]
    return all(
        np.array_equal(one[: len(other)] if isinstance(one, np.ndarray) else one, other)
        for one, other in pairs
    )


def _united(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return dict(sorted(pair for one in parts for pair in one.items()))


def _whole_command(command: str) -> str:
    words = shlex.split(command)
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if not word.startswith("--qnn-shard") and before != "--qnn-shard"
    ]
    return shlex.join(kept)
