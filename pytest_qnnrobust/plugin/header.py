"""Header of a run: the lines that say which models are tested, on what, and at which budgets."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.results.wrapping import TIE, wrap
from pytest_qnnrobust.run.budgets import Budget
from pytest_qnnrobust.run.session import Session
from pytest_qnnrobust.run.subjects import NO_DATA
from pytest_qnnrobust.tflite import native

PLAIN = re.compile(
    r"(?:uint8 images|floats as they are), inputs in (\S+): what .* (?:covers|states)"
)
"""The domain of data where the model says it: all but the interval itself is told with -v alone."""


def lines(session: Session, collected: str = "", verbose: bool = False) -> list[str]:
    """Models, defended models, data, budgets, level of a sequential run; a missing core or cache.

    `collected` says which tests run beside the gate's, and why; `verbose` adds where the input
    domain is from, where that is the model.
    """
    more = [text for text in (_engine(session), session.cache_refusal, collected) if text]
    said = [*_models(session), *_attacked(session, verbose), *more]
    return [line for text in said for line in wrap(f"qnnrobust: {text}")]


def _models(session: Session) -> list[str]:
    """The plain models in one text, those of a kind together, and each defence in one."""
    kinds: dict[str, list[str]] = {}
    for width, subject in session.subjects.given.items():
        kinds.setdefault(_kind(session, subject.model), []).append(f"{width}{TIE}{subject.origin}")
    plain = ", ".join(f"{', '.join(files)} ({kind})" for kind, files in kinds.items())
    lines = [plain] if plain else []
    for defense in session.subjects.defenses.values():
        files = ", ".join(f"{width}{TIE}{model.name}" for width, model in defense.models.items())
        lines.append(f"defended {defense.name}: {files}")
    return lines


def _kind(session: Session, model: Model) -> str:
    """Who computes the model, and how."""
    if model.runtime != "tflm":
        return model.runtime
    return f"{model.runtime}, {session.options.scale_arithmetic} scales"


def _engine(session: Session) -> str:
    """What is slow where integer models have to do without the native core, and why; else ""."""
    integer = any(subject.model.runtime == "tflm" for subject in session.subjects.given.values())
    why = native.missing() if integer else ""
    return f"WITHOUT THE NATIVE CORE, the same integers 10 to 50 times slower: {why}" if why else ""


def _attacked(session: Session, verbose: bool) -> list[str]:
    options, data = session.options, session.subjects.data
    if data is None:
        return [NO_DATA]
    attacked = min(session.attacks.samples, len(data))
    domain = data.domain if verbose else _briefly(data.domain)
    lines = [
        f"{attacked} of {len(data)} samples of {Path(data.name).name} ({domain}), "
        f"profile {options.profile}, seed {options.seed}"
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


def _briefly(domain: str) -> str:
    """The interval alone, such as `0..1`, where nothing else is worth a line."""
    plain = PLAIN.fullmatch(domain)
    return plain[1] if plain else domain


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
