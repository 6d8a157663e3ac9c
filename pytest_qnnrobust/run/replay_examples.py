"""A first gate that takes seconds: kept adversarial examples are given to a new model.

The examples were made for the recorded model. A model that loses accuracy on them is worse; one
that does not may still be worse against examples made for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust import options
from pytest_qnnrobust.claims.verdicts import Rule
from pytest_qnnrobust.compute.quiet import quiet
from pytest_qnnrobust.data.domain import TOLERANCE, UNIT, resolve_domain, span
from pytest_qnnrobust.defenses import Defended, FeatureSqueezing
from pytest_qnnrobust.errors import DataError, expected
from pytest_qnnrobust.gate import baseline
from pytest_qnnrobust.gate.gate import judge_comparisons, read_held_to
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.options.values import parse_squeezing
from pytest_qnnrobust.results import kept_examples
from pytest_qnnrobust.results.kept_examples import KeptExamples
from pytest_qnnrobust.run.cell_names import SQUEEZED
from pytest_qnnrobust.run.replay import Replayed
from pytest_qnnrobust.run.subjects import Subjects

LABEL = (
    "examples made for the recorded models, given to these: green is necessary and not "
    "sufficient, an attack on the model itself may find more"
)


@dataclass(frozen=True, eq=False)
class _Judged:
    """Whether each example of a cell was (`before`) and is (`now`) classified right, (N,)."""

    before: NDArray[np.bool_]
    now: NDArray[np.bool_]


def run(folder: Path, pattern: str, given: Mapping[str, Any], here: Path) -> Replayed:
    """Judge every cell in `folder` whose id contains or matches `pattern` and whose model is given.

    An example counts as right where the model classifies it as its label, whatever it made of the
    clean image. The cells are held to `--fail-if` by the paired tests of a baseline, at a level
    that Holm's method keeps for all of them. Raises QnnRobustError, one line, where examples and
    models do not fit, or no cell is judged.
    """
    chosen = options.from_command(given, here)
    suppressions = read_held_to(chosen).suppressions
    subjects = Subjects(chosen)
    judged: dict[str, _Judged] = {}
    names, absent = [], []
    for name, examples in kept_examples.read_folder(folder):
        names.append(name)
        if not fnmatchcase(name, f"*{pattern}*"):
            continue
        model = _model_of(examples, subjects, chosen)
        if model is None:
            absent.append(name)
        else:
            judged[name] = _judge(name, examples, model, subjects, chosen)
    if not judged:
        rule = f"cells for {', '.join(subjects.given) or 'a model'} in {folder}"
        raise expected(rule, cells=", ".join(absent or names), pattern=pattern, error=DataError)
    pairs = {name: (right.before, right.now) for name, right in judged.items()}
    rule_of_run = Rule(chosen.alpha, chosen.margin, chosen.drop)
    compared = baseline.compare_accuracies(pairs, chosen.fail_if, rule_of_run)
    gate = judge_comparisons(compared, suppressions, chosen)
    cells = [f"{cell.status}: {cell.name}. {cell.text}" for cell in gate.records]
    # The lines of the gate repeat, in capitals, what is said here of cells that fail.
    said = {line.casefold() for line in gate.lines}
    lines = [line for line in cells if line.casefold() not in said]
    left_out = [f"no model was given for {', '.join(absent)}"] if absent else []
    return Replayed((*lines, *left_out, *gate.lines, gate.counts, LABEL), not gate.problems)


def _model_of(examples: KeptExamples, subjects: Subjects, chosen: Options) -> Model | None:
    """The model that takes the place of the recorded target; None where none was given."""
    if examples.defense and examples.defense != SQUEEZED:
        defense = subjects.defenses.get(examples.defense)
        return defense.models.get(examples.width) if defense else None
    subject = subjects.given.get(examples.width)
    if subject is None or not examples.defense:
        return subject.model if subject else None
    asked = chosen.squeeze or parse_squeezing(examples.squeezing)
    return Defended(subject.model, FeatureSqueezing(asked.bit_depth, asked.window))


def _judge(
    name: str, examples: KeptExamples, model: Model, subjects: Subjects, chosen: Options
) -> _Judged:
    low, high = (float(bound) for bound in examples.bounds)
    _check_fit(name, examples, model)
    _check_domain(name, examples, model, chosen)
    if subjects.data is not None:
        fits = examples.index.max(initial=-1) < len(subjects.data)
        if not fits or subjects.data.at(examples.index).digest != examples.data_digest:
            rule = "the data that the examples were made from"
            raise expected(rule, cell=name, data=subjects.data.name, error=DataError)
    given = examples.x_adv if examples.mode == "direct" else np.clip(examples.x_adv, low, high)
    with quiet():
        labels = model.with_bounds(low, high).classify(given)
    same_model = model.digest is not None and model.digest == examples.target_digest
    if same_model and model.grid is not None and np.any(labels != examples.adv_label):
        wrong = int(np.sum(labels != examples.adv_label))
        rule = "of the recorded integer model what it answered when they were made"
        raise expected(rule, cell=name, other_answers=wrong, error=DataError)
    return _Judged(examples.right, np.asarray(labels == examples.label))


def _check_fit(name: str, examples: KeptExamples, model: Model) -> None:
    """Raise DataError where the model has other inputs or classes than the recorded one."""
    recorded = tuple(examples.input_shape.tolist()), examples.classes
    if recorded != (model.input_shape, model.classes):
        rule = f"the inputs and classes of {name}: {recorded}"
        raise expected(rule, model=model.name, found=(model.input_shape, model.classes),
                       error=DataError)  # fmt: skip


def _check_domain(name: str, examples: KeptExamples, model: Model, chosen: Options) -> None:
    """Raise DataError where the model, or --domain, states another input domain."""
    low, high = (float(bound) for bound in examples.bounds)
    stated = model.grid is not None or model.bounds != UNIT or chosen.domain is not None
    if not stated:
        return
    override = chosen.domain
    bounds = resolve_domain([model], examples.x_adv, examples.label, override).bounds
    slack = 0.0 if override else TOLERANCE * (high - low)
    if abs(bounds[0] - low) > slack or abs(bounds[1] - high) > slack:
        cure = f"the examples lie in {span((low, high))}; --qnn-domain overrides"
        rule = f"the input domain of {name}"
        raise expected(rule, model=model.name, domain=span(bounds), cure=cure, error=DataError)
