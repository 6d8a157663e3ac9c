"""Projected gradient descent, one loop for L1, L2 and Linf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import score_losses
from pytest_qnnrobust.attacks.base import FixedBudgetAttack
from pytest_qnnrobust.attacks.geometry import balls
from pytest_qnnrobust.attacks.search import Best
from pytest_qnnrobust.attacks.settings import conflict, flag, integer, one_of, positive, setting
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Mask, Rows, Target
from pytest_qnnrobust.errors import AttackError, expected
from pytest_qnnrobust.metrics import flat, lp_norm
from pytest_qnnrobust.types import Bounds, Double, Float, Labels

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
    is cheaper but transfers less.

    White-box, up to restarts * max_iter gradients and 2 * restarts queries.
    """

    knowledge = "white"
    norms = (1.0, 2.0, np.inf)

    norm: float = np.inf
    eps: float = 0.0008
    step: float = setting(0.00008, positive("step is in model input units"))
    max_iter: int = setting(10, integer())
    restarts: int = setting(20, integer())
    random_start: bool = setting(True, flag())
    loss: str = setting("cross-entropy", one_of(score_losses.UNTARGETED))
    early_stop: bool = setting(False, flag())

    def _validate(self) -> None:
        if self.restarts > 1 and not self.random_start:
            raise conflict("restarts=1 without random_start", restarts=self.restarts)

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        best = np.full(len(target), -np.inf)
        rows = target.all_rows
        for restart in range(self.restarts):
            from_clean = not self.random_start or (restart == 0 and self.restarts > 1)
            start = x[rows] if from_clean else self._start(target, rows, streams)
            trace = self._climb(target, rows, start)
            fooled = self._confirm(target, rows, trace, best)
            target.progress(restart + 1, self.restarts)
            rows = rows[~fooled]
            if not len(rows):
                return

    def _climb(self, target: Target, rows: Rows, start: Float) -> _Trace:
        """One restart of samples `rows`, from their points `start`, which it overwrites."""
        trace = _Trace(start, target.y[rows])
        point = start
        active = np.arange(len(rows))
        for _ in range(self.max_iter):
            answer = target.loss_gradient(point[active], rows[active], self.loss)
            fooled = trace.visit(active, point[active], answer.loss, answer.logits)
            gradient = answer.gradient
            if self.early_stop and fooled.any():
                active, gradient = active[~fooled], gradient[~fooled]
            if not len(active):
                return trace
            moved = self._step(gradient, point[active], target)
            moved += point[active]
            point[active] = target.project(moved, rows[active])
        scores = target.evaluate(point[active], rows[active])
        loss = score_losses.value(self.loss, scores.logits, target.y[rows[active]])
        trace.visit(active, point[active], loss, scores.logits)
        return trace

    def _confirm(self, target: Target, rows: Rows, trace: _Trace, best: Double) -> Mask:
        """Propose the best points of this restart; true where the target misclassifies them."""
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
        noise = streams.in_ball(rows, self.norm, *target.input_shape)
        noise *= target.eps
        noise += target.x[rows]
        return target.project(noise, rows)

    def _step(self, gradient: Float, point: Float, target: Target) -> Float:
        """A step of length `step` along the gradient; in L1 along its largest elements."""
        if np.isinf(self.norm):
            step = np.sign(gradient)
        elif self.norm == 1:
            step = _sparse(gradient, point, target.bounds)
        else:
            step = _unit(flat(gradient), 2.0).reshape(gradient.shape)
        step *= np.float32(self.step)
        return step


@dataclass(frozen=True, kw_only=True, repr=False)
class BIM(PGD):
    """Kurakin, Goodfellow, Bengio, "Adversarial Examples in the Physical World" (2017).

    The basic iterative method, equation 2: PGD's `max_iter` steps from the clean image, once.
    White-box, max_iter gradients and at most two queries.
    """

    restarts: int = 1
    random_start: bool = False

    def _validate(self) -> None:
        super()._validate()
        if self.random_start:
            cure = "PGD is the attack that starts at random"
            raise expected(
                "random_start=False", random_start=self.random_start, cure=cure, error=AttackError
            )


class _Trace:
    """The best point that each sample visited: misclassified before not, then by loss."""

    def __init__(self, start: Float, y: Labels) -> None:
        self.point = start.copy()
        self._best = Best(len(start))
        self._y = y

    @property
    def loss(self) -> Double:
        """The loss of each sample's best point, (n,); -inf before there is one."""
        return -self._best.cost

    @property
    def fooled(self) -> Mask:
        """True for the samples whose best point is misclassified, (n,)."""
        return self._best.preferred

    def visit(self, rows: Rows, point: Float, loss: NDArray[np.floating], logits: Float) -> Mask:
        """Take in points (n, *input_shape) of samples `rows`; true where misclassified."""
        answered = ~np.isnan(loss)
        fooled = answered & (np.argmax(logits, axis=1) != self._y[rows])
        better = self._best.update(rows, -loss, preferred=fooled)
        self.point[rows[better]] = point[better]
        return np.asarray(fooled)


def _sparse(gradient: Float, point: Float, bounds: Bounds) -> Float:
    """The L1 unit vector along the largest elements of the gradient that have room to move."""
    slope = flat(gradient)
    fall, rise = balls.rooms(flat(point), bounds)
    size = np.where(np.where(slope > 0, rise, fall) > 0, np.abs(slope), np.float32(0))
    moved = max(1, round(SPARSITY * slope.shape[1]))
    chosen = np.argpartition(-size, moved - 1, axis=1)[:, :moved]
    length = np.zeros_like(slope)
    steps = np.take_along_axis(size, chosen, axis=1) * np.sign(
        np.take_along_axis(slope, chosen, axis=1)
    )
    np.put_along_axis(length, chosen, steps, axis=1)
    return _unit(length, 1.0).reshape(gradient.shape)


def _unit(vectors: Float, norm: float) -> Float:
    """Rows of length 1, whatever their scale; rows of zeros stay zeros."""
    peak = np.abs(vectors).max(axis=1, keepdims=True)
    scaled = vectors / np.where(peak > 0, peak, np.float32(1))
    scaled /= np.maximum(lp_norm(scaled, norm), 1.0)[:, None].astype(np.float32)
    return np.asarray(scaled)
