"""State of a Square attack: the best point of every sample, and what may replace it."""

from __future__ import annotations

import numpy as np

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

    def attempt(self, rows: Rows, candidates: Float) -> Mask:
        """Keep the candidates that are misclassified or raise the loss; true for the former."""
        target = self.target
        inputs = candidates.reshape(-1, *target.input_shape)
        scores = target.evaluate(inputs, rows)
        fooled = np.asarray(scores.labels != target.y[rows])
        loss = margin(scores.logits, target.y[rows])
        better = np.flatnonzero(fooled | (loss > self._loss[rows]))
        improved = rows[better]
        self._loss[improved] = loss[better]
        self.keep(improved, candidates[better])
        target.propose(improved, inputs[better])
        return fooled

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
