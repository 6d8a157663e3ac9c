"""Cells of the tables of "David and Goliath" (Costa and Pinto)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_qnnrobust.attacks.presets import BY_TRANSFER, DIRECTLY
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.types import WIDTHS

How = Literal["clean", "direct", "transfer"]

PLAIN = "none"
SQUEEZING = "feature-squeezing"
"""Defences, by the paper's names, that are no network of their own."""

DIRECT = ("zoo", "square-l2", "square-linf", "boundary", "geoda")
WHITE_BOX = ("deepfool", "jsma", "cw-l2", "cw-linf", "ead", "autoattack")
AGAINST_DEFENSES: dict[str, How] = {
    **dict.fromkeys(BY_TRANSFER, "transfer"),
    **dict.fromkeys(DIRECTLY, "direct"),
}


@dataclass(frozen=True)
class TableCell:
    """One published accuracy: of `width`, behind `defence`, under `attack`.

    `how`: "clean" without an attack; "direct" against the width itself; "transfer" against the
    float network of the same defence. Behind feature squeezing both mean examples made for the
    plain networks.
    """

    table: str
    defence: str
    how: How
    attack: str
    width: str


def _clean(table: str, defences: Iterable[str]) -> list[TableCell]:
    return [TableCell(table, name, "clean", "", width) for name in defences for width in WIDTHS]


def _attacked(table: str, defence: str, attacks: dict[str, How]) -> list[TableCell]:
    return [
        TableCell(table, defence, how, name, width)
        for name, how in attacks.items()
        for width in WIDTHS
    ]


TABLES: dict[str, Callable[[Sequence[str]], list[TableCell]]] = {
    "4": lambda _: _clean("4", [PLAIN]),
    "5": lambda _: _attacked("5", PLAIN, dict.fromkeys(DIRECT, "direct")),
    "6": lambda _: _attacked("6", PLAIN, dict.fromkeys((*WHITE_BOX, *DIRECT), "transfer")),
    "8": lambda trained: _clean("8", trained),
    "10": lambda _: _clean("10", [SQUEEZING]),
    "11": lambda _: _attacked("11", SQUEEZING, AGAINST_DEFENSES),
    "16-17": lambda trained: [
        cell for name in trained for cell in _attacked("16-17", name, AGAINST_DEFENSES)
    ],
}
"""Table number -> its cells, given the names of the train-based defences that there are."""

FIGURE_1, GRIDS = "figure-1", "grids"
PICTURES = (FIGURE_1, GRIDS)
"""Pictures, which are asked for like tables."""

SAME = {"9": "16-17", "16": "16-17", "17": "16-17"}
"""Tables that are measured as one: 9 is 16 and 17 with L2 alone."""

TITLES = {
    "4": "Accuracy without an attack",
    "5": "Direct attacks",
    "6": "Examples made for float32, transferred",
    "8": "Accuracy of the defended networks without an attack",
    "10": "Accuracy behind feature squeezing without an attack",
    "11": "Feature squeezing against examples made for the plain networks",
    "16-17": "Networks trained to resist attacks",
}


def cells_of(tables: Sequence[str], trained: Sequence[str], squeezing: bool) -> list[TableCell]:
    """The cells of these tables, less those of defences that are missing.

    `trained` names the train-based defences that there are; `squeezing` says whether there is
    feature squeezing.

    Raises QnnRobustError for a table that is none of `TABLES`, `SAME` or `PICTURES`.
    """
    cells: list[TableCell] = []
    for number in dict.fromkeys(SAME.get(table, table) for table in tables):
        if number in PICTURES:
            continue
        if number not in TABLES:
            rule = f"tables among {', '.join([*TABLES, *SAME, *PICTURES])}"
            raise expected(rule, table=number)
        if squeezing or number not in ("10", "11"):
            cells += TABLES[number](trained)
    return cells
