"""Images that an attack fooled a model with, for the page to show: one a cell, of many classes."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import AttackResult
from pytest_qnnrobust.evaluation.cells import Cell
from pytest_qnnrobust.results.document import Example


def of_cell(
    cell: Cell, crafted: AttackResult, x: NDArray[Any], y: NDArray[np.int64]
) -> Example | None:
    """One of the samples `x` (N, ...), `y` (N,) that the cell's attack fooled the model with.

    It is the first by `precedence`. None where there is none, or where the inputs are no images.
    """
    n = len(crafted)
    fooled = np.flatnonzero(crafted.success & (crafted.clean_label == y[:n]))
    if not len(fooled):
        return None
    i = min(map(int, fooled), key=lambda i: precedence(cell.id, int(y[i]), i))
    pixels = in_256_levels(np.stack([x[i], crafted.x_adv[i]]), cell.target.bounds)
    if pixels is None:
        return None
    return Example(cell.id, i, int(y[i]), int(crafted.adv_label[i]), *pixels)


def preferred(first: Example, second: Example) -> Example:
    """The one of two examples of a cell to show, whichever was kept before."""
    return min(first, second, key=lambda one: precedence(one.cell, one.label, one.index))


def precedence(cell: str, label: int, index: int) -> tuple[int, int]:
    """The place of a sample among those that could be shown for a cell; the lowest is shown.

    Each cell has an order of the classes of its own, by their digests: the cells of a run show many
    classes, and the same ones in every process, whatever its workers did first.
    """
    digest = hashlib.sha256(f"{cell}|{label}".encode()).digest()
    return int.from_bytes(digest[:8], "big"), index


def in_256_levels(x: NDArray[Any], bounds: tuple[float, float]) -> NDArray[np.uint8] | None:
    """Inputs (N, ...) as images, uint8 (N, h, w) or (N, h, w, 3); None for what is no image."""
    shape = x.shape[1:]
    if len(shape) == 3 and shape[-1] == 1:
        return in_256_levels(x[..., 0], bounds)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[-1] != 3):
        return None
    share = (np.asarray(x, np.float64) - bounds[0]) / (bounds[1] - bounds[0])
    return np.asarray(np.rint(255 * np.clip(share, 0, 1)), np.uint8)
