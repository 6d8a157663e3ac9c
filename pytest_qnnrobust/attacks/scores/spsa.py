"""SPSA: gradient descent on gradients estimated from simultaneous random perturbations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import validation
from pytest_qnnrobust.attacks.base import FixedBudgetAttack
from pytest_qnnrobust.attacks.geometry import balls
from pytest_qnnrobust.attacks.score_losses import margin
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Rows, Target
from pytest_qnnrobust.types import Float, Labels

Double = NDArray[np.float64]

BETA1, BETA2, TINY = 0.9, 0.999, 1e-8
"""ADAM's constants."""

ELEMENTS = 1 << 24
"""Input elements that are probed at a time: bounds the memory of a round."""


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
    max_iter: int = 100
    samples: int = 128
    delta: float = 0.01
    learning_rate: float = 0.01
    early_stop: bool = True

    def _validate(self) -> None:
        super()._validate()
        validation.count(max_iter=self.max_iter, samples=self.samples)
        cure = "delta and learning_rate are in model input units"
        validation.positive(delta=self.delta, learning_rate=self.learning_rate, cure=cure)
        validation.flag(early_stop=self.early_stop)

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        point = x.astype(np.float64)
        mean, square = np.zeros(x.shape), np.zeros(x.shape)
        search = _Best(target)
        rows = target.all_rows
        for iteration in range(1, self.max_iter + 1):
            slope = self._slope(target, target.seal(point[rows], rows), rows, streams)
            mean[rows] = BETA1 * mean[rows] + (1 - BETA1) * slope
            square[rows] = BETA2 * square[rows] + (1 - BETA2) * slope * slope
            first = mean[rows] / (1 - BETA1**iteration)
            second = np.sqrt(square[rows] / (1 - BETA2**iteration))
            moved = point[rows] + self.learning_rate * first / (second + TINY)
            point[rows] = target.project(moved, rows)
            fooled = search.visit(target.seal(point[rows], rows), rows)
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


class _Best:
    """The best point of every sample: misclassified before not, then by margin."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._loss = np.full(len(target), -np.inf)
        self._fooled = np.zeros(len(target), bool)

    def visit(self, x: Float, rows: Rows) -> NDArray[np.bool_]:
        """Propose the points that are better than all before; true where misclassified."""
        scores = self._target.evaluate(x, rows)
        fooled = scores.labels != self._target.y[rows]
        loss = margin(scores.logits, self._target.y[rows])
        first, same = fooled & ~self._fooled[rows], fooled == self._fooled[rows]
        better = first | (same & (loss > self._loss[rows]))
        kept = rows[better]
        self._loss[kept], self._fooled[kept] = loss[better], fooled[better]
        self._target.propose(kept, x[better])
        return np.asarray(fooled)
