"""SPSA: gradient descent on gradients estimated from simultaneous random perturbations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks.base import FixedBudgetAttack
from pytest_qnnrobust.attacks.geometry import balls
from pytest_qnnrobust.attacks.score_losses import margin
from pytest_qnnrobust.attacks.search import Best, StepwiseAdam
from pytest_qnnrobust.attacks.settings import flag, integer, positive, setting
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Mask, Rows, Target
from pytest_qnnrobust.types import Double, Float, Labels

ELEMENTS = 1 << 24
"""Input elements that are probed at a time: bounds the memory of a round."""


LENGTHS = "delta and learning_rate are in model input units"
"""Cure in the errors of these settings."""


@dataclass(frozen=True, kw_only=True, repr=False)
class SPSA(FixedBudgetAttack):
    """Uesato et al., "Adversarial Risk and the Dangers of Evaluating Against Weak Attacks" (2018).

    Algorithm 1, Linf: each iteration measures the margin of the logits at x +- `delta` * r for
    `samples` random sign vectors r, averages (f(x + delta r) - f(x - delta r)) / (2 delta) * r
    into a gradient, takes one step of ADAM with `learning_rate` and projects into the ball.
    Starts at the clean image. Probes may leave the ball but not the bounds. On a quantized input
    `delta` is at least one input LSB, since a smaller one measures nothing.
    `early_stop` ends a sample at its first misclassified point; without it the misclassified
    point of largest margin is kept.
    Gray-box, up to max_iter * (2 * samples + 1) queries.
    """

    knowledge = "gray"
    norms = (np.inf,)
    batch = 16

    norm: float = np.inf
    eps: float = 0.015
    max_iter: int = setting(100, integer())
    samples: int = setting(128, integer())
    delta: float = setting(0.01, positive(LENGTHS))
    learning_rate: float = setting(0.01, positive(LENGTHS))
    early_stop: bool = setting(True, flag())

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        point = x.astype(np.float64)
        adam, best = StepwiseAdam(x.shape), Best(len(target))
        rows = target.all_rows
        for iteration in range(1, self.max_iter + 1):
            slope = self._slope(target, target.seal(point[rows], rows), rows, streams)
            moved = point[rows] + adam.step(rows, slope, self.learning_rate)
            point[rows] = target.project(moved, rows)
            fooled = _visit(target, best, target.seal(point[rows], rows), rows)
            rows = rows[~fooled] if self.early_stop else rows
            target.progress(iteration, self.max_iter)
            if not len(rows):
                return

    def _slope(self, target: Target, x: Float, rows: Rows, streams: Streams) -> Double:
        """The estimated gradient of the margin at `x`; zero where it could not be measured."""
        delta = self.delta
        if target.grid is not None:
            delta = max(delta, target.grid.scale)
        slope = np.zeros(x.shape)
        for part in self._parts(x):
            base = x[part][:, None]
            signs = streams.signs(rows[part], self.samples, *target.input_shape)
            step = signs * np.float32(delta)
            probes = np.concatenate([base - step, base + step], axis=1)
            bounds = balls.float32_bounds(target.bounds)
            inputs = probes.reshape(-1, *target.input_shape)
            np.clip(inputs, *bounds, out=inputs)
            owners = np.repeat(rows[part], 2 * self.samples)
            logits = target.evaluate(inputs, owners).logits
            loss = margin(logits, target.y[owners]).reshape(-1, 2, self.samples)
            rise = np.nan_to_num((loss[:, 1] - loss[:, 0]) / (2 * delta * self.samples))
            estimate = rise.astype(np.float32)[:, None] @ signs.reshape(*rise.shape, -1)
            slope[part] = estimate.reshape(x[part].shape)
        return slope

    def _parts(self, x: Float) -> Iterator[slice]:
        size = max(1, ELEMENTS // (2 * self.samples * int(np.prod(x.shape[1:]))))
        for start in range(0, len(x), size):
            yield slice(start, start + size)


def _visit(target: Target, best: Best, x: Float, rows: Rows) -> Mask:
    """Propose the points that are better than all before; true where misclassified."""
    scores = target.evaluate(x, rows)
    fooled = scores.labels != target.y[rows]
    loss = margin(scores.logits, target.y[rows])
    better = best.update(rows, -loss, preferred=fooled)
    target.propose(rows[better], x[better])
    return np.asarray(fooled)
