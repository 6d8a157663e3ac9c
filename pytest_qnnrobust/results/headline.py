"""The headline of a run: a sentence for each model, and the verdict with what to do next."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from pytest_qnnrobust.evaluation.worst_case import WorstCase, models, nearest, worst_cases
from pytest_qnnrobust.results.document import RequirementRecord, Results
from pytest_qnnrobust.results.provenance import is_twin
from pytest_qnnrobust.results.wrapping import WIDTH

NOT_COMPARED = ("VANISHED", "STALE", "NEW")
"""How the texts of cells begin that have nothing to be compared with."""

PASSED, FAILED, MEASURED = "passed", "failed", "measured"
"""The states of a run; measured: nothing that was required was decided."""


def lines(results: Results) -> list[str]:
    """The headline as the document has it, else what can be said of an older document."""
    return list(results.headline) or sentences(results)


def state_of(results: Results, passed: bool) -> str:
    """The state in the document, PASSED in an older one; FAILED where the run did not pass."""
    return (results.state or PASSED) if passed else FAILED


def title(results: Results, passed: bool) -> str:
    """The state as a title says it, such as `measured, nothing required`."""
    if (now := state_of(results, passed)) != MEASURED:
        return now
    if not results.outcomes:
        return "nothing measured"
    return f"measured, nothing {'decided' if _open(results) else 'required'}"


def told(results: Results, passed: bool) -> Results:
    """The document of a run that `passed` its tests or not, with its state and its headline."""
    results = replace(results, state=state(results.requirements, passed))
    return replace(results, headline=(*sentences(results), verdict(results)))


def state(requirements: Iterable[RequirementRecord], passed: bool) -> str:
    """The state of a run whose tests `passed` or not: it passes where a requirement held."""
    if not passed:
        return FAILED
    held = any(requirement.value == "held" for requirement in requirements)
    return PASSED if held else MEASURED


def cases(results: Results) -> dict[tuple[str, str], list[WorstCase]]:
    """The worst cases of each model by (defense, width), the model that ships first.

    The float twin that was derived from an integer file is no model of the user's.
    """
    return {
        model: worst_cases(results.outcomes, *model)
        for model in models(results.outcomes)
        if not is_twin(results.models, *model)
    }


def sentences(results: Results) -> list[str]:
    """A sentence for each model that was attacked directly, the one that ships first, such as
    `int8: 88.0 % clean -> 12.0 % at 2/255, 0.0 % at 8/255 (worst of 4 attacks); nearest example
    L2 0.12`. The last part is `L2 0.12` alone where that makes the sentence fit a line.
    """
    return list(by_model(results).values())


def by_model(results: Results) -> dict[tuple[str, str], str]:
    """The `sentences` by (defense, width)."""
    return {model: _sentence(results, *model, worst) for model, worst in cases(results).items()}


def verdict(results: Results) -> str:
    """The state in words: what it rests on and, where nothing was required, how to require it."""
    requirements = results.requirements
    held = sum(requirement.value == "held" for requirement in requirements)
    still_open = _open(results)
    if results.state == FAILED:
        return f"FAILED: {_first_problem(results)}"
    if results.state == PASSED:
        rest = f", {still_open} open on these samples" if still_open else ""
        return f"PASSED: {held} of {len(requirements)} requirements held{rest}"
    if not results.outcomes:
        return "NOTHING MEASURED: no attack ran; -v says why"
    if results.options.get("update"):
        return f"MEASURED, and recorded as the baseline {results.options.get('baseline')}"
    if results.options.get("shard"):
        return "MEASURED, nothing decided: a part of a run, for `qnnrobust merge`"
    if still_open:
        return (
            f"MEASURED, nothing decided: {_count(still_open, 'requirement')} open on "
            f"{results.data.samples if results.data else 0} samples; more of them decide "
            "(--qnn-samples)"
        )
    if requirements:
        return "MEASURED, nothing decided: what was required is suppressed or allowed to differ"
    return f"MEASURED, nothing required: {_how_to_require(results)}"


def _open(results: Results) -> int:
    """Number of the requirements that were not decided, less those that are accepted."""
    return sum(record.value == "open" and not record.accepted for record in results.requirements)


def _sentence(results: Results, defense: str, width: str, worst: list[WorstCase]) -> str:
    name = f"{defense} {width}".strip()
    cells = [o for o in results.outcomes if (o.defense, o.width) == (defense, width)]
    clean = worst[0].clean_correct.mean() if worst else cells[0].clean_accuracy
    text = f"{name}: {100 * clean:.1f} % clean"
    if worst:
        left = ", ".join(f"{100 * case.accuracy:.1f} % at {case.label}" for case in worst)
        text += f" -> {left} (worst of {_count(len(worst[-1].attacks), 'attack')})"
    distance = nearest(results.outcomes, defense, width)
    if math.isinf(distance):
        return f"{text}; no example found for half of the samples or more"
    if math.isnan(distance):
        return text
    brief, whole = (f"{text}; {name}L2 {distance:.2g}" for name in ("", "nearest example "))
    return brief if len(brief) <= WIDTH < len(whole) else whole


def _first_problem(results: Results) -> str:
    """The first of the reasons to fail, and how many others there are."""
    violated = [r for r in results.requirements if r.value == "violated" and not r.accepted]
    # What was lost comes before what could not be compared.
    violated.sort(key=lambda requirement: requirement.text.startswith(NOT_COMPARED))
    names = [f"{requirement.name}: {requirement.text}" for requirement in violated]
    told = {requirement.name for requirement in violated}
    names += [
        f"{test.rsplit('::', 1)[-1]}: {message}"
        for test, message in results.failed.items()
        if not any(name in test or message.startswith(f"{name}:") for name in told)
    ]
    if not names:
        return "see the tests"
    return f"{names[0]}{f' (and {len(names) - 1} more)' if names[1:] else ''}"


def _how_to_require(results: Results) -> str:
    worst = next((case for found in cases(results).values() for case in found[-1:]), None)
    record = "record it with --qnn-baseline=FILE --qnn-update"
    if worst is None:
        return record
    share = math.floor(20 * worst.accuracy) / 20
    return f"{record}, or ask for --qnn-min-accuracy={worst.id}:{share or 0.1:g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
