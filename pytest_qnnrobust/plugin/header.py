"""Header of a run: the lines that say which models are tested, on what, and at which budgets."""

from __future__ import annotations

import textwrap
from pathlib import Path

from pytest_qnnrobust.run.budgets import Budget
from pytest_qnnrobust.run.session import Session
from pytest_qnnrobust.run.subjects import NO_DATA

WIDTH = 80


def lines(session: Session, collected: str = "") -> list[str]:
    """Models, defended models, data, profile, budgets, level of a sequential run, refused cache.

    `collected` says which tests run beside the gate's, and why.
    """
    more = [text for text in (session.cache_refusal, collected) if text]
    said = [*_models(session), *_attacked(session), *more]
    return [line for text in said for line in _wrapped(f"qnnrobust: {text}")]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )


def _models(session: Session) -> list[str]:
    options, lines = session.options, []
    for width, subject in session.subjects.given.items():
        model = subject.model
        arithmetic = f", {options.scale_arithmetic} scales" if model.runtime == "tflm" else ""
        lines.append(f"{width} {subject.origin} ({model.runtime}{arithmetic})")
    for defense in session.subjects.defenses.values():
        files = ", ".join(f"{width} {model.name}" for width, model in defense.models.items())
        lines.append(f"defended {defense.name}: {files}")
    return lines


def _attacked(session: Session) -> list[str]:
    options, data = session.options, session.subjects.data
    if data is None:
        return [NO_DATA]
    attacked = min(session.attacks.samples, len(data))
    lines = [
        f"{len(data)} samples of {Path(data.name).name}, {data.domain}",
        f"profile {options.profile}, {attacked} samples attacked, seed {options.seed}",
    ]
    if budgets := session.attacks.budgets:
        lines.append("Linf " + ", ".join(_budget(session, budget) for budget in budgets))
    if options.eps and not session.attacks.budget_labels:
        lines.append("--qnn-eps REACHES NO ATTACK of this run: none has an Linf budget")
    if options.shard is not None:
        lines.append(
            "part {} of {}: what it measures is for `qnnrobust merge`".format(*options.shard)
        )
    if options.sequential and (claims := session.stopping.claims):
        level = f"{options.alpha / claims:.2g}"
        lines.append(f"sequential, level {options.alpha:g} over {claims} claims: each has {level}")
    return lines


def _budget(session: Session, budget: Budget) -> str:
    """An Linf budget in input units, and in steps of each quantized input."""
    grids = {
        width: subject.model.grid
        for width, subject in session.subjects.given.items()
        if subject.model.grid is not None
    }
    length = f"{budget.eps:.4g}"
    steps = [f"{budget.eps / grid.scale:.4g} {width} steps" for width, grid in grids.items()]
    about = [*([length] if budget.label not in ("", length) else []), *steps]
    name = budget.label or length
    return f"{name} ({', '.join(about)})" if about else name
