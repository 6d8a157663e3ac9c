"""The first table of the page: what each model is worth under the worst of its attacks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_qnnrobust.evaluation.worst_case import WorstCase, models, nearest, worst_cases
from pytest_qnnrobust.report.matrix import Shown, share_shown
from pytest_qnnrobust.results import headline
from pytest_qnnrobust.results.document import Results
from pytest_qnnrobust.results.provenance import is_twin

Key = tuple[str, str]
"""(defense, width) of a model."""


@dataclass(frozen=True)
class Line:
    """One model; `robust` has a cell for each budget of the table, None where it has none."""

    name: str
    origin: str
    clean: Shown | None
    robust: tuple[Shown | None, ...]
    nearest: str


@dataclass(frozen=True)
class Overview:
    """The models by budget; a budget is (label, length), such as `8/255`, `Linf 0.0314 = 8 steps`.

    `sentences` has what the headline says of each model.
    """

    budgets: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]
    sentences: tuple[str, ...]


def overview(results: Results) -> Overview:
    """The user's models, the one that ships first."""
    said = headline.by_model(results)
    return _overview(results, list(said), list(said.values()))


def twins(results: Results) -> Overview:
    """The float twin of an integer file, and the defences around it; no lines without one."""
    known = [model for model in models(results.outcomes) if is_twin(results.models, *model)]
    return _overview(results, known, [])


def _overview(results: Results, known: Sequence[Key], said: Sequence[str]) -> Overview:
    cases = {model: worst_cases(results.outcomes, *model) for model in known}
    budgets: dict[str, WorstCase] = {}
    for case in (case for worst in cases.values() for case in worst):
        budgets.setdefault(case.label, case)
        if (case.step or 0) > (budgets[case.label].step or 0):
            budgets[case.label] = case
    ordered = sorted(budgets.values(), key=lambda case: case.eps)
    labels = [case.label for case in ordered]
    return Overview(
        tuple((case.label, _length(case)) for case in ordered),
        tuple(_line(results, model, cases[model], labels) for model in known),
        tuple(said),
    )


def _line(results: Results, model: Key, worst: Sequence[WorstCase], labels: Sequence[str]) -> Line:
    records = {(record.defense, record.width): record.origin for record in results.models}
    by_label = {case.label: case for case in worst}
    robust = [_robust(by_label[label]) if label in by_label else None for label in labels]
    return Line(
        " ".join(filter(None, model)),
        records.get(model, ""),
        _clean(results, model),
        tuple(robust),
        _distance(nearest(results.outcomes, *model)),
    )


def _clean(results: Results, model: Key) -> Shown | None:
    """The accuracy without an attack on the samples that all direct cells of the model have."""
    cells = [o for o in results.outcomes if (o.defense, o.width) == model and o.mode == "direct"]
    right = min((cell.clean_correct for cell in cells if len(cell)), key=len, default=None)
    return None if right is None else share_shown(right, f"n = {len(right)}")


def _robust(case: WorstCase) -> Shown:
    """The robust accuracy; without a colour, as not every model meets as many attacks."""
    hint = f"{case.id}: worst of {', '.join(case.attacks)}; n = {len(case)}"
    shown, many = share_shown(case.robust, hint), len(case.attacks)
    return replace(shown, detail=f"{shown.detail}, {many} attack{'s' * (many != 1)}")


def _distance(median: float) -> str:
    if math.isnan(median):
        return "-"
    return "none for half" if math.isinf(median) else f"{median:.2g}"


def _length(case: WorstCase) -> str:
    """The budget in input units and, of a quantized input, in steps of the coarsest one."""
    steps = f" = {case.eps / case.step:.4g} {case.width} steps" if case.step else ""
    return f"Linf {case.eps:.3g}{steps}"
