"""Planted documents of whole runs of one int8 file: passed, failed, and measured only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pytest_qnnrobust.evaluation import Outcome
from pytest_qnnrobust.results import headline
from pytest_qnnrobust.results.document import (
    CompareRecord,
    Example,
    ModelRecord,
    RequirementRecord,
    Results,
)
from tests.helpers.outcomes import outcome, results, share

N = 40
STEP = 1 / 255
FILE, TWIN = "keyword_spotting_release_candidate_int8.tflite", "derived: dequantized twin of it"
CHANGED = (
    "now 20.0 % against recorded 45.0 %, difference -25.0 points [-38.1, -12.2] (paired, "
    "p = 0.002, n = 40), allowed -3 points"
)
HELD = (
    RequirementRecord(
        "test_robust_accuracy[int8-worst-2/255]", "held", "55.0 % of 40; required 40 %"
    ),
    RequirementRecord("test_baseline[int8-pgd-8/255-direct]", "held", "the same on each of 40"),
)
VIOLATED = (
    RequirementRecord("test_baseline[int8-pgd-8/255-direct]", "violated", f"worse: x. {CHANGED}"),
    RequirementRecord(
        "test_robust_accuracy[int8-worst-2/255]", "violated", "20.0 % of 40; required 40 %"
    ),
    RequirementRecord("test_quantization[int8-8/255]", "open", "about 400 would settle it"),
)


def cell(width: str, attack: str, eps: float | None, accuracy: float, **changes: Any) -> Outcome:
    """A cell on `N` samples of ten classes; without `eps`, of an attack without a budget."""
    right = share(N, accuracy, len(attack))
    label = np.arange(N) % 10
    length = np.full(N, eps) if eps else np.linspace(0.01, 0.2, N)
    name = f"{attack}-{round(255 * eps)}/255" if eps else attack
    made = replace(
        outcome(width, right, 4 * length), id=f"{width}-{name}-direct", attack=attack, linf=length,
        norm="linf" if eps else "", eps=eps, step=STEP if width == "int8" else None, label=label,
        clean_label=label, adv_label=np.where(right, label, (label + 1) % 10),
    )  # fmt: skip
    return replace(made, **changes)


def run(state: str, **changes: Any) -> Results:
    """A run of this state: its float twin was derived, so that attacks had gradients."""
    small, large = 2 * STEP, 8 * STEP
    cells = [
        made
        for width in ("float32", "int8")
        for made in (
            cell(width, "noise", large, 0.98),
            cell(width, "pgd", small, 0.55),
            cell(width, "pgd", large, 0.2),
            cell(width, "square-linf", large, 0.4),
            cell(width, "boundary", None, 0.0),
        )
    ]
    given = cell("int8", "pgd", large, 0.6, mode="surrogate", id="int8-pgd-8/255-surrogate")
    made = results(
        models=(
            ModelRecord("it", "int8", "tflm", "d" * 64, FILE),
            ModelRecord("twin", "float32", "surrogate", None, TWIN),
        ),
        outcomes=(*cells, given),
        examples=tuple(_example(one.id, i % 3) for i, one in enumerate(cells)),
        failed={}, sequential=(), comparison=None, state=state,
    )  # fmt: skip
    if state == headline.PASSED:
        kept = CompareRecord("int8-pgd-8/255-direct accuracy", "kept", "the same on each of 40")
        made = replace(made, requirements=HELD, comparison=(kept,))
    if state == headline.FAILED:
        worse = CompareRecord("int8-pgd-8/255-direct accuracy", "worse", CHANGED)
        failed = {f"robustness_tests/test_gate.py::{one.name}": one.text for one in VIOLATED[:2]}
        made = replace(made, requirements=VIOLATED, comparison=(worse,), failed=failed)
    lines = (*headline.sentences(made), headline.verdict(made))
    return replace(made, headline=lines, **changes)


def _example(cell_id: str, label: int) -> Example:
    clean = np.full((8, 8), 40 * label + 60, np.uint8)
    moved = clean + np.arange(64, dtype=np.uint8).reshape(8, 8) % 3
    return Example(cell_id, label, label, label + 1, clean, moved)
