"""The images that a run keeps to be looked at: one a cell, of many classes, in any order."""

from __future__ import annotations

import itertools

import numpy as np

from pytest_qnnrobust import attacks
from pytest_qnnrobust.attacks import AttackResult
from pytest_qnnrobust.evaluation.cells import Cell
from pytest_qnnrobust.results import example_images
from pytest_qnnrobust.run.gathered import Gathered
from tests.helpers.threshold import ThresholdModel

N = 40
LABELS = np.arange(N) % 10
CELLS = [
    Cell(ThresholdModel(0.5), attacks.create(name, eps=0.1), budget=f"{rung}/255")
    for name in ("noise", "pgd", "fgsm", "square-linf")
    for rung in (2, 4, 8)
]


def crafted(n: int, fooled: np.ndarray) -> AttackResult:
    """A result on n samples, of which these were fooled, 2x2 images."""
    numbers = dict.fromkeys(("l0", "l1", "l2", "linf"), np.zeros(n))
    success = np.isin(np.arange(n), fooled)
    label = LABELS[:n]
    return AttackResult(
        x_adv=np.ones((n, 2, 2), np.float32), success=success, clean_label=label,
        adv_label=np.where(success, label + 1, label), exhausted=np.zeros(n, bool), seconds=0.0,
        model_seconds=0.0, **dict.fromkeys(("queries", "gradients"), np.zeros(n, int)), **numbers,
    )  # fmt: skip


def kept(cell: Cell, n: int, fooled: np.ndarray):
    x = np.zeros((N, 2, 2), np.float32)
    return example_images.of_cell(cell, crafted(n, fooled), x, LABELS)


def test_the_cells_of_a_run_show_many_classes():
    shown = [kept(cell, N, np.arange(N)).label for cell in CELLS]
    assert len(set(shown)) >= 6


def test_only_what_was_fooled_is_shown():
    for cell in CELLS:
        example = kept(cell, N, np.array([13, 27]))
        assert example.index in (13, 27)
        assert (example.label, example.adv_label) == (example.index % 10, example.index % 10 + 1)
    assert kept(CELLS[0], N, np.array([], int)) is None


def test_the_order_of_work_does_not_choose_the_image():
    cell = CELLS[0]
    parts = [kept(cell, n, np.arange(n)) for n in (3, 8, N)]
    chosen = set()
    for order in itertools.permutations(parts):
        gathered = Gathered()
        for example in order:
            gathered.keep_example(example)
        chosen.add(gathered.examples[cell.id].index)
    assert chosen == {parts[-1].index}
