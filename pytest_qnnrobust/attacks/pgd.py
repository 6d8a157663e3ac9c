"""Projected gradient descent, one loop for L1, L2 and Linf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import checks, geometry, losses
from pytest_qnnrobust.attacks.base import FixedBudgetAttack
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Float, Labels, Rows, Target
from pytest_qnnrobust.metrics import lp_norm

SPARSITY = 0.05
"""Share of the elements that one L1 step moves: those with the largest gradients."""


@dataclass(frozen=True, kw_only=True, repr=False)
class PGD(FixedBudgetAttack):
    """Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks" (2018).

    `max_iter` steps of length `step` (in `norm`, input units) up the loss, projected after each,
    `restarts` times: from the clean image, then from random points of the ball. A single start is
    random if `random_start`, else the clean image (the basic iterative method).
    A sample keeps, of all points visited, the misclassified one of highest loss, and takes no
    further restart once it has one; `early_stop` ends it at its first misclassified point, which
    is cheaper but transfers less. White-box, up to restarts * max_iter gradients and
    2 * restarts queries.
    """

    knowledge = "white"
    norms = (1.0, 2.0, np.inf)

    norm: float = np.inf
    eps: float = 0.0008
    step: float = 0.00008
    max_iter: int = 10
    restarts: int = 20
    random_start: bool = True
    loss: str = "cross-entropy"
    early_stop: bool = False

    def _validate(self) -> None:
        super()._validate()
        checks.positive(step=self.step, cure="step is in model input units")
        checks.count(max_iter=self.max_iter, restarts=self.restarts)
        checks.flag(random_start=self.random_start, early_stop=self.early_stop)
        checks.choice(losses.UNTARGETED, loss=self.loss)
        if self.restarts > 1 and not self.random_start:
            raise checks.conflict("restarts=1 without random_start", restarts=self.restarts)

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        best = np.full(len(target), -np.inf)
        rows = target.all_rows
        for restart in range(self.restarts):
            from_clean = not self.random_start or (restart == 0 and self.restarts > 1)
            start = x[rows] if from_clean else self._start(target, rows, streams)
            fooled = self._climb(target, rows, start, best)
            target.progress(restart + 1, self.restarts)
            rows = rows[~fooled]
            if not len(rows):
                return

    def _climb(
        self, target: Target, rows: Rows, start: Float, best: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """One restart of samples `rows`; true for those that end up misclassified.

        `best` holds, per sample of the batch, the loss of its proposal.
        """
        trace = _Trace(start, target.y[rows])
        point = start
        active = np.arange(len(rows))
        for _ in range(self.max_iter):
            found = target.loss_gradient(point[active], rows[active], self.loss)
            fooled = trace.visit(active, point[active], found.loss, found.logits)
            if self.early_stop:
                active, found_gradient = active[~fooled], found.gradient[~fooled]
            else:
                found_gradient = found.gradient
            if not len(active):
                break
            moved = point[active] + self._step(found_gradient, point[active], target)
            point[active] = target.project(moved, rows[active])
        if len(active):
            scores = target.evaluate(point[active], rows[active])
            loss = losses.value(self.loss, scores.logits, target.y[rows[active]])
            trace.visit(active, point[active], loss, scores.logits)
        return self._confirm(target, rows, trace, best)

    def _confirm(
        self, target: Target, rows: Rows, trace: _Trace, best: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Ask the target about what this restart found, as it will be graded."""
        fooled = np.zeros(len(rows), bool)
        better = trace.fooled | (trace.loss > best[rows])
        claimed = np.flatnonzero(trace.fooled)
        if len(claimed):
            sealed = target.seal(trace.point[claimed], rows[claimed])
            labels = target.evaluate(sealed, rows[claimed]).labels
            fooled[claimed] = labels != target.y[rows[claimed]]
        target.propose(rows[better], trace.point[better])
        best[rows[better]] = trace.loss[better]
        return fooled

    def _start(self, target: Target, rows: Rows, streams: Streams) -> Float:
        """A random point of the ball, uniform in it."""
        shape = target.input_shape
        if np.isinf(self.norm):
            noise = (2 * streams.uniform(rows, *shape) - 1) * target.eps
        else:
            noise = _in_ball(streams, rows, shape, self.norm) * target.eps
        return target.project(target.x[rows] + noise, rows)

    def _step(self, gradient: Float, point: Float, target: Target) -> NDArray[np.float64]:
        """A step of length `step` along the gradient; in L1 along its largest elements."""
        if np.isinf(self.norm):
            return np.sign(gradient, dtype=np.float64) * self.step
        if self.norm == 1:
            return _sparse_step(gradient, point, self.step, target.bounds)
        unit = _unit(gradient.astype(np.float64).reshape(len(gradient), -1), 2.0)
        return self.step * unit.reshape(gradient.shape)


class _Trace:
    """The best point that each sample visited: misclassified before not, then by loss."""

    def __init__(self, start: Float, y: Labels) -> None:
        self.point = start.copy()
        self.loss = np.full(len(start), -np.inf)
        self.fooled = np.zeros(len(start), bool)
        self._y = y

    def visit(
        self, rows: Rows, point: Float, loss: NDArray[np.floating], logits: Float
    ) -> NDArray[np.bool_]:
        answered = ~np.isnan(loss)
        fooled = answered & (np.argmax(logits, axis=1) != self._y[rows])
        better = answered & (
            (fooled & ~self.fooled[rows])
            | ((fooled == self.fooled[rows]) & (loss > self.loss[rows]))
        )
        kept = rows[better]
        self.point[kept] = point[better]
        self.loss[kept] = loss[better]
        self.fooled[kept] = fooled[better]
        return np.asarray(fooled)


def _in_ball(
    streams: Streams, rows: Rows, shape: tuple[int, ...], norm: float
) -> NDArray[np.float64]:
    """Uniform in the L1 or L2 unit ball: a direction of that ball's surface times u**(1/n)."""
    size = int(np.prod(shape))
    if norm == 1:
        flat = -np.log1p(-streams.uniform(rows, size)) * streams.signs(rows, size)
        length = np.abs(flat).sum(axis=1, keepdims=True)
    else:
        flat = streams.normal(rows, size).astype(np.float64)
        length = np.sqrt((flat * flat).sum(axis=1, keepdims=True))
    radius = streams.uniform(rows, 1) ** (1 / size)
    return np.asarray((flat * radius / length).reshape(len(rows), *shape))


def _sparse_step(
    gradient: Float, point: Float, step: float, bounds: geometry.Bounds
) -> NDArray[np.float64]:
    flat = gradient.astype(np.float64).reshape(len(gradient), -1)
    fall, rise = geometry.rooms(point.astype(np.float64).reshape(flat.shape), bounds)
    size = np.where(np.where(flat > 0, rise, fall) > 0, np.abs(flat), 0.0)
    moved = max(1, round(SPARSITY * flat.shape[1]))
    chosen = np.argsort(-size, axis=1, kind="stable")[:, :moved]
    length = np.zeros_like(flat)
    np.put_along_axis(length, chosen, np.take_along_axis(size, chosen, axis=1), axis=1)
    return step * _unit(np.sign(flat) * length, 1.0).reshape(gradient.shape)


def _unit(flat: NDArray[np.float64], norm: float) -> NDArray[np.float64]:
    """Rows of length 1, whatever their scale; rows of zeros stay zeros."""
    peak = np.abs(flat).max(axis=1, keepdims=True)
    scaled = flat / np.where(peak > 0, peak, 1.0)
    return np.asarray(scaled / np.maximum(lp_norm(scaled, norm), 1.0)[:, None])
