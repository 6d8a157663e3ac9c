"""Matrix of a run, its cells as tables of attack by width, for the page and for the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.registry import minimizes_distance
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.options import INCONCLUSIVE
from pytest_qnnrobust.results.document import Results
from pytest_qnnrobust.results.provenance import is_twin
from pytest_qnnrobust.statistics import paired
from pytest_qnnrobust.types import WIDTHS

LEGEND = (
    "Share of all attacked samples that is right before and under the attack, with its 95 % "
    "Clopper-Pearson interval. direct: the attack asked the network itself."
)
TRANSFER = (
    " transfer: it asked the float32 network, or the one without the defence, and its examples "
    "were given to this one."
)
SURROGATE = " surrogate: it asked the float twin of the integer network, whose examples were given."
DISTANCES = (
    " An attack without a budget goes on until it has an example: its direct cells show how far it "
    "had to go, the median distance in input units over the samples that it fooled."
)
NO_ATTACK = "no attack"

FINDINGS = (
    "Paired tests on the same samples. A finding describes quantized models; where it does not "
    "hold, no model is at fault."
)


@dataclass(frozen=True)
class Shown:
    """One cell: its number, what stands below it, and what a pointer shows.

    `heat` is the accuracy that colours it, None where a colour would say nothing of an attack.
    """

    text: str
    detail: str
    hint: str
    heat: float | None = None


@dataclass(frozen=True)
class Row:
    """One attack; `budget` is in input units and, on a quantized input, in its steps.

    It is `none` for an attack that looks for the nearest example, "" where it is not known.
    """

    name: str
    budget: str
    cells: tuple[Shown | None, ...]


@dataclass(frozen=True)
class Block:
    """The cells of one defence and mode; `twin`: those of the float twin of an integer file."""

    title: str
    widths: tuple[str, ...]
    rows: tuple[Row, ...]
    twin: bool


def blocks(results: Results) -> list[Block]:
    """The blocks of a run, plain cells first, direct before transfer; those of a twin are last.

    Widths that no cell of a block has are left out; the first row is without an attack.
    """
    kinds: dict[tuple[bool, str, str], list[Outcome]] = {}
    for outcome in results.outcomes:
        twin = is_twin(results.models, outcome.defense, outcome.width)
        kinds.setdefault((twin, outcome.defense, outcome.mode), []).append(outcome)
    ordered = sorted(kinds, key=lambda kind: (*kind[:2], kind[2] != "direct", kind[2]))
    return [_block(*kind, kinds[kind]) for kind in ordered]


def legend(results: Results) -> str:
    """The explanation of the numbers in the blocks."""
    modes = {outcome.mode for outcome in results.outcomes}
    distances = any(map(_shows_distance, results.outcomes))
    others = TRANSFER * ("transfer" in modes) + SURROGATE * ("surrogate" in modes)
    return LEGEND + others + DISTANCES * distances


def share_shown(right: NDArray[np.bool_], hint: str, heat: bool = False) -> Shown:
    """The share of the samples (n,) that are right, over its 95 % interval."""
    interval = paired.proportion_interval(int(right.sum()), len(right))
    share = float(np.mean(right)) if len(right) else 0.0
    ends = f"{100 * interval.low:.0f}-{100 * interval.high:.0f}"
    return Shown(f"{100 * share:.1f} %", ends, hint, share if heat else None)


def failures(results: Results) -> list[str]:
    """Reasons why a run failed: the failed tests, and cells of the baseline without a test."""
    failed = [f"{test}: {message}" for test, message in results.failed.items()]
    compared = [
        f"{cell.status}: {cell.name}. {cell.text}"
        for cell in results.comparison or ()
        if cell.status not in ("kept", "inconclusive") and not cell.accepted
        if not any(f"[{cell.cell}]" in test for test in results.failed)
    ]
    return [*compared, *failed]


def not_run(results: Results) -> dict[str, list[str]]:
    """Reasons to skip and the node ids of the tests they skipped, in the order of the tests.

    A claim that the samples leave open was run: it stands among the verdicts.
    """
    groups: dict[str, list[str]] = {}
    for test, reason in sorted(results.skipped.items()):
        if not reason.startswith(INCONCLUSIVE):
            groups.setdefault(reason, []).append(test)
    return groups


def _block(twin: bool, defense: str, mode: str, outcomes: Sequence[Outcome]) -> Block:
    widths = [width for width in reversed(WIDTHS) if any(o.width == width for o in outcomes)]
    attacks: dict[str, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=_place):
        attacks.setdefault(_attack(outcome), []).append(outcome)
    rows = [
        Row(name, _budget(cells), tuple(_shown(cells, width) for width in widths))
        for name, cells in attacks.items()
    ]
    clean = Row(NO_ATTACK, "", tuple(_clean(outcomes, width) for width in widths))
    parts = ("the float twin" * twin, f"defence {defense}" if defense else "", mode)
    return Block(", ".join(filter(None, parts)), tuple(widths), (clean, *rows), twin)


def _place(outcome: Outcome) -> tuple[bool, str, float]:
    """Attacks with a budget first, each from the smallest to the largest."""
    return minimizes_distance(outcome.attack), outcome.attack, outcome.eps or 0.0


def _attack(outcome: Outcome) -> str:
    """The attack as its id names it, with one of several budgets: `pgd-8/255`."""
    return outcome.id.removeprefix(f"{outcome.model}-").removesuffix(f"-{outcome.mode}")


def _budget(cells: Sequence[Outcome]) -> str:
    """The budget of one attack on all widths, in steps of the coarsest input."""
    if minimizes_distance(cells[0].attack):
        return "none"
    quantized = [cell for cell in cells if cell.step is not None]
    return max(quantized, key=lambda cell: cell.step or 0.0, default=cells[0]).budget


def _shows_distance(outcome: Outcome) -> bool:
    """Whether the accuracy is 0 by construction, as the attack goes on until it has an example."""
    return outcome.mode == "direct" and minimizes_distance(outcome.attack)


def _clean(outcomes: Sequence[Outcome], width: str) -> Shown | None:
    """The accuracy without an attack, on the samples of the longest cell."""
    longest = max((o for o in outcomes if o.width == width), key=len)
    return share_shown(longest.clean_correct, f"n = {len(longest)}")


def _shown(outcomes: Sequence[Outcome], width: str) -> Shown | None:
    outcome = next((o for o in outcomes if o.width == width), None)
    if outcome is None:
        return None
    hint = (
        f"{outcome.id}, {outcome.budget or 'no budget'}, n = {len(outcome)}, "
        f"mean L2 {outcome.mean_distance('l2'):.3g}, "
        f"mean Linf {outcome.mean_distance('linf'):.3g}, {outcome.settings}"
    )
    if _shows_distance(outcome):
        return _distance(outcome, hint)
    return share_shown(outcome.robust, hint, heat=True)


def _distance(outcome: Outcome, hint: str) -> Shown:
    """How far the attack had to go, and for how many samples it got there."""
    fooled = outcome.fooled
    many = f"{fooled.sum()} of {outcome.clean_correct.sum()} fooled"
    if not fooled.any():
        return Shown("none found", many, hint)
    l2, linf = (np.median(distance[fooled]) for distance in (outcome.l2, outcome.linf))
    return Shown(f"L2 {l2:.3g}", f"Linf {linf:.3g}, {many}", hint)
