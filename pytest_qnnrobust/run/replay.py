"""Replay: one cell, run again by its id and held to what a report recorded of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust import options
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.evaluation.cells import Cell, Outcome, split_budget
from pytest_qnnrobust.gate import baseline
from pytest_qnnrobust.gate.thresholds import is_below, strictest
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.results import provenance
from pytest_qnnrobust.results.document import Results
from pytest_qnnrobust.run import outputs
from pytest_qnnrobust.run.cell_names import SQUEEZED, CellName
from pytest_qnnrobust.run.session import Session
from pytest_qnnrobust.run.subjects import model_records

WHAT_IS_RUN = options.names_that_matter_for("outcome")
"""The options, beside the models, that an outcome follows from."""

RECORDED = options.names_that_matter_for("models", "outcome", "threshold", "cache")
"""The options that are taken from a report; those of the command line win."""

SHOWN = 8
"""Largest number of differing samples that are listed."""

NOT_COMPARED = "NOT COMPARED with the recorded outcome"


@dataclass(frozen=True)
class Replayed:
    """The result of a replay: the lines to print, and whether nothing was violated.

    `unwritten` is the error of an output that the disk refused, "" where there is none.
    """

    lines: tuple[str, ...]
    passed: bool
    unwritten: str = ""


def run(
    cell_id: str, given: Mapping[str, Any], folder: Path, recorded: Results | None = None
) -> Replayed:
    """Run the cell with the options `given`, else those `recorded`, else the defaults.

    Raises QnnRobustError, one line and before the attack, where there is no such cell.
    """
    name = CellName.parse(cell_id)
    before = _recorded_outcome(recorded, cell_id) if recorded else None
    taken = _recorded_options(recorded, cell_id, given) if recorded else {}
    options_of_run = options.from_command(given, folder, taken)
    thresholds = options_of_run.min_accuracy
    if thresholds and not any(threshold.pattern in cell_id for threshold in thresholds):
        patterns = ", ".join(threshold.pattern for threshold in thresholds)
        raise expected(f"--qnn-min-accuracy to name {cell_id}", cell=patterns)
    examples = outputs.kept_examples(options_of_run)
    tried = [examples] if examples else []
    attack = split_budget(name.attack)[0]
    session = Session(replace(options_of_run, attacks=(attack,)), tried)
    session.load()
    if session.subjects.data is None:
        raise expected("data to attack", data=None, cure="give --qnn-data SOURCE")
    cell = session.cell_named(cell_id)
    outcome = session.evaluate(cell)
    session.tidy_cache()
    lines, passed = [_line(outcome, options_of_run.alpha)], True
    if session.cache is not None and session.cache.hits:
        lines.append("read from the cache, as far as it was there; --no-cache computes it again")
    if session.cache_refusal:
        lines.append(session.cache_refusal.replace("--qnn-", "--"))
    threshold = strictest(thresholds, outcome.id)
    if threshold and is_below(outcome, thresholds, session.gathered.sequential.values()):
        required = f"required {threshold.accuracy:g}"
        lines.append(f"BELOW --min-accuracy: {outcome.accuracy:.4f}, {required}")
        passed = False
    if recorded is not None and before is not None:
        text, same = _compare(session, cell, recorded, before, outcome)
        values = [given.get(option) for option in WHAT_IS_RUN]
        asked = any(value is not None and value is not False for value in values)
        lines.append(text)
        # Whoever asks for other settings than those recorded expects nothing to be compared.
        passed = passed and (same or (asked and text.startswith(NOT_COMPARED)))
    return Replayed(tuple(lines), passed, "; ".join(session.gathered.unwritten.values()))


def _recorded_outcome(recorded: Results, cell_id: str) -> Outcome:
    if cell_id not in recorded.cells:
        cells = ", ".join(sorted(recorded.cells)) or "none"
        raise expected("a cell that was recorded", cell=cell_id, cure=f"recorded are {cells}")
    return recorded.cells[cell_id]


def _recorded_options(recorded: Results, cell_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded options that concern the cell, less those that `given` ones replace."""
    all_options = options.from_json(recorded.options)
    taken = {name: value for name, value in all_options.items() if name in RECORDED}
    thresholds = taken.pop("min_accuracy", ())
    taken["min_accuracy"] = tuple(
        threshold for threshold in thresholds if threshold.pattern in cell_id
    )
    if "model" in taken:
        path = taken.pop("model")
        width = next((m.width for m in recorded.models if m.origin == path.name), "model")
        if given.get("model") is None:
            taken[width] = path
    if given.get("cache_dir") is not None:
        taken.pop("no_cache", None)
    if recorded.data is not None:
        taken.setdefault("domain", (recorded.data.low, recorded.data.high))
    return taken


def _line(outcome: Outcome, alpha: float) -> str:
    """The cell in words: accuracy, interval, distances, queries, seconds."""
    interval = outcome.interval(1 - alpha)
    l2, linf = (outcome.mean_distance(norm) for norm in ("l2", "linf"))
    distances = "" if math.isnan(l2) else f", mean L2 {l2:.3g} and Linf {linf:.3g}"
    queries = float((outcome.queries + outcome.gradients).mean())
    return (
        f"{outcome.id}: {100 * outcome.accuracy:.1f} % right under attack "
        f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}] of {len(outcome)} samples, "
        f"{int(outcome.fooled.sum())} fooled{distances}, {queries:.0f} queries and gradients "
        f"a sample, {outcome.seconds:.1f} s"
    )


def _compare(
    session: Session, cell: Cell, recorded: Results, before: Outcome, now: Outcome
) -> tuple[str, bool]:
    """Compare an outcome with the recorded one: how they differ, in words, and whether they may.

    Samples are compared as far as both runs attacked them: what an attack does to one does not
    depend on how many there are, unless it is universal.
    """
    if reason := _incomparable(session, cell, recorded, before, now):
        return f"{NOT_COMPARED}: {reason}", False
    n = min(len(before), len(now))
    changed = {name: mask for name, mask in _changes(before, now, n).items() if mask.any()}
    rows = np.flatnonzero(np.logical_or.reduce([np.zeros(n, bool), *changed.values()]))
    listed = ", ".join(map(str, now.index[rows[:SHOWN]])) + (", ..." if len(rows) > SHOWN else "")
    count = f"{len(rows)} of {n} samples differ"
    what = f"{count} (number {listed}) in {', '.join(changed)}" if len(rows) else count
    accuracy = f"recorded {100 * float(before.robust[:n].mean()):.1f} % on these {n}"
    if others := _other_models(session, cell, recorded, before):
        return f"another {others} than recorded: {what}; {accuracy}", True
    if not len(rows):
        return f"reproduced: each of {n} samples as recorded on {recorded.created}", True
    if session.options.time_budget is not None:
        return f"not reproduced under a time budget, which no run repeats: {what}", True
    return f"NOT REPRODUCED: {what}; {accuracy}{_other_versions(recorded)}", False


def _incomparable(
    session: Session, cell: Cell, recorded: Results, before: Outcome, now: Outcome
) -> str:
    """Reason why two outcomes cannot be compared sample by sample; "" where they can."""
    if recorded.data is None:
        return "no data were recorded"
    n = recorded.data.samples
    both = min(n, session.attacks.samples)
    if session.clean_data.first(n).digest != recorded.data.digest:
        return f"other data than {n} samples of {recorded.data.name} in {recorded.data.domain}"
    if cell.attack.universal and len(before) != len(now):
        return f"other samples: {both}, recorded with {n}"
    same = replace(now, index=before.index)
    return baseline.incomparable(before, same)


def _changes(before: Outcome, now: Outcome, n: int) -> dict[str, NDArray[np.bool_]]:
    """Masks of the first `n` samples, (n,), by the array of an outcome that changed on them."""
    arrays = [
        field.name for field in fields(now) if isinstance(getattr(now, field.name), np.ndarray)
    ]
    pairs = {name: (getattr(before, name)[:n], getattr(now, name)[:n]) for name in arrays}
    return {name: np.asarray(old != new) for name, (old, new) in pairs.items()}


def _other_models(session: Session, cell: Cell, recorded: Results, before: Outcome) -> str:
    """The roles of the cell's models that are not, or not known to be, those recorded."""
    digests = {(record.defense, record.width): record.digest for record in recorded.models}
    here = {
        (record.defense, record.width): record.digest for record in model_records(session.subjects)
    }
    defense = "" if cell.defense == SQUEEZED else cell.defense
    models: dict[str, Model | None] = {"model": cell.target, "source": cell.source}
    others = []
    for role, model in models.items():
        if model is not None:
            key = (defense, model.width)
            key = key if key in here else ("", model.width)
            if digests.get(key) is None or digests.get(key) != here.get(key):
                others.append(role)
    if not others and before.target != cell.target.name and cell.defense == SQUEEZED:
        others.append("squeezing")
    return " and ".join(others)


def _other_versions(recorded: Results) -> str:
    """The recorded versions that differ from those here, which a difference may come from."""
    here = {**provenance.versions(), "pytest-qnnrobust": provenance.package_version()}
    then = {**recorded.versions, "pytest-qnnrobust": recorded.package}
    other = [
        f"{name} {then[name]}, here {version}"
        for name, version in here.items()
        if then.get(name, version) != version
    ]
    return f"; recorded with {'; '.join(other)}" if other else ""
