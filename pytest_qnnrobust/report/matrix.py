"""Matrix of a run, its cells as tables of attack by width, for the page and for the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.options import INCONCLUSIVE
from pytest_qnnrobust.results.document import Results
from pytest_qnnrobust.types import WIDTHS

LIGHT, DARK = (247, 250, 252), (23, 78, 128)
"""Colours of accuracy 0 and 1; one hue, so that the order shows without colour, too."""

LEGEND = (
    "Share of all attacked samples that is right before and under the attack, with its 95 % "
    "Clopper-Pearson interval. direct: the attack asked the network itself. transfer: it asked the "
    "float32 network, or the one without the defence, and its examples were given to this one."
)
SURROGATE = " surrogate: it asked the float twin of the integer network."

FINDINGS = (
    "Paired tests on the same samples. A finding describes quantized models; where it does not "
    "hold, no model is at fault."
)


@dataclass(frozen=True)
class Shown:
    """One cell: accuracy, interval, what a pointer shows, and its colours."""

    text: str
    interval: str
    hint: str
    colour: str
    ink: str


@dataclass(frozen=True)
class Row:
    name: str
    cells: tuple[Shown | None, ...]


@dataclass(frozen=True)
class Block:
    """The cells of one defence and mode."""

    title: str
    widths: tuple[str, ...]
    rows: tuple[Row, ...]


def blocks(results: Results) -> list[Block]:
    """The blocks of a run, plain cells first, direct before transfer.

    Widths that no cell of a block has are left out.
    """
    kinds = dict.fromkeys((outcome.defense, outcome.mode) for outcome in results.outcomes)
    ordered = sorted(kinds, key=lambda kind: (kind[0], kind[1] != "direct", kind[1]))
    return [_block(kind, [o for o in results.outcomes if (o.defense, o.mode) == kind])
            for kind in ordered]  # fmt: skip


def legend(results: Results) -> str:
    """The explanation of the numbers in the blocks."""
    surrogate = any(outcome.mode == "surrogate" for outcome in results.outcomes)
    return LEGEND + SURROGATE * surrogate


def failures(results: Results) -> list[str]:
    """Reasons why a run failed: cells that are worse or not comparable, then the failed tests."""
    compared = [
        f"{cell.status}: {cell.name}. {cell.text}"
        for cell in results.comparison or ()
        if cell.status not in ("kept", "inconclusive") and not cell.accepted
    ]
    return [*compared, *(f"{test}: {message}" for test, message in results.failed.items())]


def not_run(results: Results) -> dict[str, list[str]]:
    """Reasons to skip and the node ids of the tests they skipped, in the order of the tests.

    A claim that the samples leave open was run: it stands among the verdicts.
    """
    groups: dict[str, list[str]] = {}
    for test, reason in sorted(results.skipped.items()):
        if not reason.startswith(INCONCLUSIVE):
            groups.setdefault(reason, []).append(test)
    return groups


def _block(kind: tuple[str, str], outcomes: Sequence[Outcome]) -> Block:
    defense, mode = kind
    widths = tuple(width for width in WIDTHS if any(o.width == width for o in outcomes))
    rows = [
        Row(name, tuple(_shown(outcomes, name, width) for width in widths))
        for name in sorted({o.attack for o in outcomes})
    ]
    return Block(f"defence {defense}, {mode}" if defense else mode, widths, tuple(rows))


def _shown(outcomes: Sequence[Outcome], attack: str, width: str) -> Shown | None:
    outcome = next((o for o in outcomes if (o.attack, o.width) == (attack, width)), None)
    if outcome is None:
        return None
    interval = outcome.interval()
    share = outcome.accuracy if len(outcome) else 0.0
    mixed = [round(a + (b - a) * share) for a, b in zip(LIGHT, DARK, strict=True)]
    hint = (
        f"{outcome.id}, n = {len(outcome)}, L2 {outcome.mean_distance('l2'):.3g}, "
        f"Linf {outcome.mean_distance('linf'):.3g}, {outcome.settings}"
    )
    return Shown(
        text=f"{100 * share:.1f} %",
        interval=f"{100 * interval.low:.0f}-{100 * interval.high:.0f}",
        hint=hint,
        colour="#{:02x}{:02x}{:02x}".format(*mixed),
        ink="#ffffff" if share > 0.45 else "#1c2733",
    )
