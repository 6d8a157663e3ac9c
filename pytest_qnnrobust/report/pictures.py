"""The images of the page: of many classes and cells, those of the model that ships first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pytest_qnnrobust.report.drawings import triplet
from pytest_qnnrobust.results.document import Example, Results
from pytest_qnnrobust.results.provenance import is_twin
from pytest_qnnrobust.types import WIDTHS

EXAMPLES = 24
"""Largest number of examples that the page shows."""
OF_A_CLASS = 2
"""Largest number of them whose true class is the same."""


@dataclass(frozen=True)
class Picture:
    """An example: the clean image, the perturbation and the adversarial one, as PNG in base64."""

    cell: str
    caption: str
    clean: str
    perturbation: str
    adversarial: str


def pictures(results: Results) -> list[Picture]:
    """The examples to show, at most `EXAMPLES`, of each class at most `OF_A_CLASS`."""
    shown: list[Example] = []
    counts: Counter[int] = Counter()
    for example in _in_order(results):
        if counts[example.label] < OF_A_CLASS and len(shown) < EXAMPLES:
            counts[example.label] += 1
            shown.append(example)
    return list(map(_picture, shown))


def _in_order(results: Results) -> list[Example]:
    """The examples by model, the one that ships first; those of the float twin are left out."""
    models = {outcome.id: (outcome.defense, outcome.width) for outcome in results.outcomes}
    known = [example for example in results.examples if example.cell in models]
    unknown = [example for example in results.examples if example.cell not in models]

    def place(example: Example) -> tuple[str, int, str]:
        defense, width = models[example.cell]
        return defense, -WIDTHS.index(width), example.cell

    own = [one for one in known if not is_twin(results.models, *models[one.cell])]
    return [*sorted(own, key=place), *unknown]


def _picture(example: Example) -> Picture:
    images, magnified = triplet(example.clean, example.adversarial)
    caption = f"{example.label} becomes {example.adv_label}; perturbation x{magnified}"
    return Picture(example.cell, caption, *images)
