"""Header of a run: the lines that say which models are tested, and on what."""

from __future__ import annotations

from pathlib import Path

from pytest_qnnrobust.run.session import Session
from pytest_qnnrobust.run.subjects import NO_DATA


def lines(session: Session) -> list[str]:
    """Models, defended models, data, profile, the level of a sequential run, a refused cache."""
    cache = [session.cache_refusal] if session.cache_refusal else []
    return [f"qnnrobust: {line}" for line in (*_models(session), *_attacked(session), *cache)]


def _budget(session: Session, eps: float) -> str:
    """An Linf budget in input units, and in steps of each quantized input."""
    grids = {
        width: subject.model.grid
        for width, subject in session.subjects.given.items()
        if subject.model.grid is not None
    }
    steps = [f" = {eps / grid.scale:.4g} {width} steps" for width, grid in grids.items()]
    return f"{eps:.4g}" + "".join(steps)


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
    eps = session.attacks.eps
    budget = f"eps {_budget(session, eps)}, " if eps else ""
    attacked = min(session.attacks.samples, len(data))
    lines = [
        f"{len(data)} samples of {Path(data.name).name}, {data.domain}",
        f"profile {options.profile}, {attacked} samples attacked, {budget}seed {options.seed}",
    ]
    if options.shard is not None:
        lines.append(
            "part {} of {}: what it measures is for `qnnrobust merge`".format(*options.shard)
        )
    if options.sequential and (claims := session.stopping.claims):
        level = f"{options.alpha / claims:.2g}"
        lines.append(f"sequential, level {options.alpha:g} over {claims} claims: each has {level}")
    return lines
