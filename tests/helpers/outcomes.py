"""Planted outcomes and documents of results, for what judges, compares and reports them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.claims.verdicts import Rule, Verdict
from pytest_qnnrobust.evaluation import Outcome
from pytest_qnnrobust.gate import baseline
from pytest_qnnrobust.options.values import Limits
from pytest_qnnrobust.results.document import (
    CompareRecord,
    DataRecord,
    Example,
    ModelRecord,
    RequirementRecord,
    Results,
    SequentialRecord,
)
from pytest_qnnrobust.statistics.paired import Interval

IMAGE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
VERDICT = Verdict("T1 x", "holds", "a against b", 0.1, Interval(0, 0.2, 0.9), 0.01, math.nan, 9)
WATCHED = SequentialRecord(
    "a-x", "threshold", "accuracy >= 0.4", "holds", 61, 75, 200, 0.05, 4, 0.002
)


def outcome(width: str, right: NDArray[np.bool_], l2: NDArray[Any] | None = None) -> Outcome:
    """A direct cell of attack "x", in which the samples of this mask are still right."""
    n = len(right)
    zeros, none = np.zeros(n, int), np.zeros(n)
    return Outcome(
        id=f"{width}-x-direct", target=width, width=width, runtime="tflm", attack="x",
        settings="X()", mode="direct", defense="", source=None, gradient=None, seed=0, seconds=0.0,
        index=np.arange(n),
        label=zeros, clean_label=zeros, adv_label=1 - right.astype(int), queries=zeros,
        gradients=zeros, l0=none, l1=none, l2=none if l2 is None else l2, linf=none,
        exhausted=zeros.astype(bool),
    )  # fmt: skip


def share(n: int, accuracy: float, seed: int) -> NDArray[np.bool_]:
    """A mask of n samples, each right with this probability."""
    return np.random.default_rng(seed).random(n) < accuracy


def results(**changes: Any) -> Results:
    """Results of two cells on twenty samples."""
    right = share(20, 0.5, 0)
    cells = [replace(outcome(w, right, np.linspace(0, 1, 20)), id=f"{w}-x") for w in ("a", "b")]
    made = Results(
        package="0.1.0",
        command="pytest --qnn-demo",
        created="2026-11-21T12:00:00+00:00",
        versions={"python": "3.11"},
        options={"seed": 0, "eps": None},
        data=DataRecord("digits", "d" * 64, 20, 597, 0.0, 1.0, "0..1"),
        models=(ModelRecord("digits_int8", "int8", "tflm", None, "digits_int8.tflite"),),
        outcomes=tuple(replace(cell, width="int8") for cell in cells),
        verdicts=(VERDICT,),
        findings=("T1 x",),
        notes={"n": "1"},
        skipped={"t::a": "no data"},
        failed={"t::b": "below"},
        comparison=(CompareRecord("a-x accuracy", "worse", "now less", "suppressed"),),
        examples=(Example("a-x", 3, 1, 2, IMAGE, 255 - IMAGE),),
        sequential=(WATCHED,),
        state="passed",
        headline=("int8: 50.0 % clean", "PASSED: 1 of 1 requirements held"),
        requirements=(RequirementRecord("a-x", "held", "50.0 %, required 40 %"),),
    )
    return replace(made, **changes)


def recorded(**cells: Any) -> Results:
    """Results with these masks or (mask, l2) by cell id, `_` for `-`."""
    made = []
    for name, value in cells.items():
        right, l2 = value if isinstance(value, tuple) else (value, None)
        attack = "boundary" if l2 is not None else "pgd"
        made.append(replace(outcome("int8", right, l2), id=name.replace("_", "-"), attack=attack))
    return results(outcomes=tuple(made))


def statuses(before: Results, now: Results, limits: Limits | None = None) -> dict[str, str]:
    """The status of each compared number, by its name."""
    compared = baseline.compare(before, now, limits or Limits(), Rule())
    return {record.name: record.status for record in compared}
