"""State of a Square attack: the best point of every sample, and what may replace it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.geometry.balls import float32_bounds
from pytest_qnnrobust.attacks.score_losses import margin
from pytest_qnnrobust.attacks.square.windows import Window, image_shape, read, write
from pytest_qnnrobust.attacks.target import Mask, Rows, Target
from pytest_qnnrobust.types import Float


class Search:
    """The best point of every sample, as (B, height, width, channels), and its margin."""

    def __init__(self, target: Target, norm: float) -> None:
        self.target = target
        self.norm = norm
        self.image = image_shape(target.input_shape)
        self.eps = target.eps
        self.clean = target.x.reshape(-1, *self.image)
        self.best = self.clean.copy()
        self._loss = np.full(len(target), -np.inf)

    def attempt(self, rows: Rows, tries: Rows, candidates: Float) -> tuple[Rows, Mask]:
        """Keep, of each sample's candidates, the first that is misclassified or raises the loss.

        `candidates` holds `tries` (n,) in a row for each of `rows`. Returns how many of them count,
        up to the one that is kept, and whether that one is misclassified. The others are given back
        to the query count.
        """
        target = self.target
        each = np.repeat(rows, tries)
        inputs = candidates.reshape(-1, *target.input_shape)
        scores = target.evaluate(inputs, each)
        fooled = scores.labels != target.y[each]
        loss = margin(scores.logits, target.y[each])
        better = np.flatnonzero(fooled | (loss > self._loss[each]))
        owner = np.repeat(np.arange(len(rows)), tries)[better]
        leading = np.ones(len(owner), bool)
        leading[1:] = owner[1:] != owner[:-1]
        owner, first = owner[leading], better[leading]
        used = tries.copy()
        used[owner] = count_up(tries)[first] + 1
        target.queries[rows] -= tries - used
        improved = rows[owner]
        self._loss[improved] = loss[first]
        self.keep(improved, candidates[first])
        target.propose(improved, inputs[first])
        success = np.zeros(len(rows), bool)
        success[owner] = fooled[first]
        return used, success

    def keep(self, rows: Rows, points: Float) -> None:
        """Make these the best points of these samples."""
        self.best[rows] = points

    def emptied(self, rows: Rows, points: Float, window: Window) -> Float:
        """Empty windows of `points`; the displacements they held, (n, height, width, channels)."""
        clean = read(self.clean, (rows[:, None, None], *window[1:]))
        displaced = read(points, window) - clean
        write(points, window, clean)
        return np.asarray(displaced)

    def displaced(self, rows: Rows, delta: Float) -> Float:
        """The clean images plus `delta`, brought into the bounds, or into the budget on a grid."""
        target = self.target
        delta += self.clean[rows]
        if target.grid is not None:
            sealed = target.seal(delta.reshape(-1, *target.input_shape), rows)
            return sealed.reshape(delta.shape)
        return np.clip(delta, *float32_bounds(target.bounds), out=delta)


def count_up(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """[2, 1, 3] -> [0, 1, 0, 0, 1, 2]."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
