"""Movement of Auto-PGD in each ball: steps, projections, and when a step gets shorter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.geometry.balls import float32_bounds, l1_ball_step, linf_box
from pytest_qnnrobust.attacks.geometry.hyperplanes import row_norm
from pytest_qnnrobust.attacks.target import Mask, Rows
from pytest_qnnrobust.metrics import flat
from pytest_qnnrobust.models.base import Gradient
from pytest_qnnrobust.types import Bounds, Float, Labels

MOMENTUM = 0.75
"""Weight of the gradient step; the rest goes to the last move."""

FIRST_CHECK, CHECKS_CLOSER, LAST_CHECKS = 0.22, 0.03, 0.06
"""Shares of the iterations: up to the first checkpoint, less after each, and at least."""

L1_CHECKS = 0.04
L1_SHARE = 0.2
L1_SPARSER = 1.5
L1_SLOWER = 1.5
L1_SLOWEST = 10.0
"""L1: iterations between checkpoints as a share of all; elements that a first step moves, as a
share; how much smaller that share is than the perturbation's; what divides the step, and most."""

L1_LEAST = 1e-6
"""Share of the input's span below which an element counts as unchanged: float32 rounding."""


@dataclass(frozen=True)
class ClimbSettings:
    """Settings that climbs side by side have in common.

    Each stays within `radius` of its clean image and inside `bounds` (input units) and makes
    `iterations` steps. `rho`: share of steps that have to raise the loss for the step to stay as
    long. `random_start`: the start tells nothing about how sparse an L1 perturbation may be.
    """

    radius: float
    bounds: Bounds
    iterations: int
    rho: float
    random_start: bool


class Climb(ABC):
    """Climbs side by side, with the same settings.

    Every array has one row for each climb: `rows` the sample of the batch, `rival` the class it
    aims at, `point`, `gradient`, `best`, `best_gradient` float32 (n, elements), `loss` and
    `best_loss` (n,), `step` (n, 1) in input units, `fooled` (n,) whether it has met a success.
    Nothing here mixes the climbs.
    """

    def __init__(
        self, settings: ClimbSettings, rows: Rows, rival: Labels, clean: Float, start: Float
    ) -> None:
        low, high = float32_bounds(settings.bounds)
        self.settings = settings
        self.radius = settings.radius
        self.bounds = float(low), float(high)
        self.rows = rows
        self.rival = rival
        self.clean = flat(clean)
        self.point = flat(start)
        self.gradient = np.zeros_like(self.point)
        self.loss = np.full(len(rows), np.inf, np.float32)
        self.best = self.point.copy()
        self.best_gradient = np.zeros_like(self.point)
        self.best_loss = np.full(len(rows), -np.inf, np.float32)
        self.step = np.full((len(rows), 1), settings.radius, np.float32)
        self.fooled = np.zeros(len(rows), bool)
        self.period = 1
        self.since_check = 0

    def keep(self, mask: Mask) -> None:
        """Go on with these climbs only."""
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(self, name, value[mask])

    def learn(self, answer: Gradient) -> None:
        """Take in what the model answered at `point`; an answer of NaN is no better."""
        self.gradient = flat(answer.gradient)
        self.loss = answer.loss
        better = np.flatnonzero(answer.loss > self.best_loss)
        self.best[better] = self.point[better]
        self.best_gradient[better] = self.gradient[better]
        self.best_loss[better] = answer.loss[better]

    def review(self) -> None:
        """Set the steps for the coming iterations, if this one ends at a checkpoint."""
        self.since_check += 1
        if self.since_check == self.period:
            self.since_check = 0
            self._check()

    @abstractmethod
    def advance(self, first: bool) -> None:
        """Make one step from `point` along `gradient`."""

    @abstractmethod
    def _check(self) -> None:
        """Set the steps at a checkpoint."""

    def _return_to_best(self, chosen: Mask) -> None:
        which = np.flatnonzero(chosen)
        self.point[which] = self.best[which]
        self.gradient[which] = self.best_gradient[which]


class MomentumClimb(Climb):
    """Croce and Hein, "Reliable Evaluation of Adversarial Robustness" (2020), algorithm 1."""

    def __init__(
        self, settings: ClimbSettings, rows: Rows, rival: Labels, clean: Float, start: Float
    ) -> None:
        super().__init__(settings, rows, rival, clean, start)
        self.period = max(int(FIRST_CHECK * settings.iterations), 1)
        self.closer = max(int(CHECKS_CLOSER * settings.iterations), 1)
        self.least = max(int(LAST_CHECKS * settings.iterations), 1)
        self.step *= 2
        self.previous = self.point
        self.rises = np.zeros(len(rows), np.int64)
        self.halved = np.ones(len(rows), bool)
        self.checked_loss = np.full(len(rows), -np.inf, np.float32)

    def learn(self, answer: Gradient) -> None:
        self.rises += answer.loss > self.loss
        super().learn(answer)

    def advance(self, first: bool) -> None:
        pull = np.float32(1.0 if first else MOMENTUM)
        moved = self._direction()
        moved *= self.step
        moved += self.point
        self._project(moved)
        if not first:
            moved *= pull
            moved += (2 - 2 * pull) * self.point
            moved -= (1 - pull) * self.previous
            self._project(moved)
        self.previous, self.point = self.point, moved

    def _check(self) -> None:
        """Halve steps that did not raise the loss often enough, or not at all since the last."""
        idle = ~self.halved & (self.best_loss <= self.checked_loss)
        self.halved = (self.rises <= self.settings.rho * self.period) | idle
        self.checked_loss = self.best_loss.copy()
        self.rises[:] = 0
        self.step[self.halved] /= 2
        self._return_to_best(self.halved)
        self.period = max(self.period - self.closer, self.least)

    @abstractmethod
    def _direction(self) -> Float:
        """A new array: the gradient at length 1 in the norm of the ball."""

    @abstractmethod
    def _project(self, x: Float) -> None:
        """Project into ball and bounds, in place."""


class LinfClimb(MomentumClimb):
    """Steps along the gradient's signs."""

    def __init__(
        self, settings: ClimbSettings, rows: Rows, rival: Labels, clean: Float, start: Float
    ) -> None:
        super().__init__(settings, rows, rival, clean, start)
        self.low, self.high = linf_box(self.clean, settings.radius, settings.bounds)

    def _direction(self) -> Float:
        return np.asarray(np.sign(self.gradient))

    def _project(self, x: Float) -> None:
        np.clip(x, self.low, self.high, out=x)


class L2Climb(MomentumClimb):
    """Steps along the gradient."""

    def _direction(self) -> Float:
        peak = np.abs(self.gradient).max(axis=1, keepdims=True)
        unit: Float = self.gradient / np.where(peak > 0, peak, np.float32(1))
        unit /= np.maximum(_length(unit), np.float32(1))
        return unit

    def _project(self, x: Float) -> None:
        x -= self.clean
        radius = np.float32(self.radius)
        x *= radius / np.maximum(_length(x), radius)
        x += self.clean
        np.clip(x, *self.bounds, out=x)


class L1Climb(Climb):
    """Croce and Hein, "Mind the box: l1-APGD for sparse adversarial attacks" (2021), algorithm 1.

    Each step moves the elements of largest gradient alike. At checkpoints their number follows
    that of the elements which the best point changes; where that fell, the step is long again and
    the climb returns to its best point, elsewhere the step gets shorter.
    """

    def __init__(
        self, settings: ClimbSettings, rows: Rows, rival: Labels, clean: Float, start: Float
    ) -> None:
        super().__init__(settings, rows, rival, clean, start)
        self.period = max(int(L1_CHECKS * settings.iterations), 1)
        elements = self.point.shape[1]
        self.support = self._changed(self.point)
        self.step_support = self._sparser()
        if settings.random_start:
            self.support[:] = elements
            self.step_support[:] = max(int(L1_SHARE * elements), 1)

    def advance(self, first: bool) -> None:
        size = np.abs(self.gradient)
        kth = (size.shape[1] - self.step_support).tolist()
        least = [np.partition(row, k)[k] for row, k in zip(size, kth, strict=True)]
        moved = np.sign(self.gradient)
        moved *= size >= np.array(least, np.float32)[:, None]
        count = np.count_nonzero(moved, axis=1)[:, None]
        moved *= self.step / np.maximum(count, 1).astype(np.float32)
        moved += self.point
        moved -= self.clean
        moved = l1_ball_step(self.clean, moved, self.radius, self.bounds)
        moved += self.clean
        self.point = np.clip(moved, *self.bounds, out=moved)

    def _check(self) -> None:
        before = np.maximum(self.support, 1)
        self.support = self._changed(self.best)
        sparser = self.support / before < 0.95
        self.step_support = self._sparser()
        self.step[sparser] = self.radius
        shorter = self.step[~sparser] / np.float32(L1_SLOWER)
        self.step[~sparser] = np.maximum(shorter, np.float32(self.radius / L1_SLOWEST))
        self._return_to_best(sparser)

    def _changed(self, x: Float) -> NDArray[np.int64]:
        """L0 norms of the perturbations, but for what rounding leaves of an element."""
        changed = np.abs(x - self.clean) > L1_LEAST * (self.bounds[1] - self.bounds[0])
        return np.asarray(changed.sum(axis=1))

    def _sparser(self) -> NDArray[np.int64]:
        return np.maximum(self.support / L1_SPARSER, 1).astype(np.int64)


def _length(x: Float) -> Float:
    """L2 norms, (n, 1)."""
    return np.asarray(row_norm(x, 2))[:, None]
