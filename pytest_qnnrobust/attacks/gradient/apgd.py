"""Auto-PGD: projected gradient ascent that sets its own step length, untargeted and targeted."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks import score_losses
from pytest_qnnrobust.attacks.base import FixedBudgetAttack
from pytest_qnnrobust.attacks.geometry import balls
from pytest_qnnrobust.attacks.gradient.climbs import (
    Climb,
    ClimbSettings,
    L1Climb,
    L2Climb,
    LinfClimb,
)
from pytest_qnnrobust.attacks.settings import conflict, flag, fraction, integer, one_of, setting
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Mask, OutOfBudgetError, Rows, Target
from pytest_qnnrobust.metrics import lp_norm
from pytest_qnnrobust.models.base import Gradient
from pytest_qnnrobust.types import Double, Float, Labels

RACE = 256
"""Climbs that run side by side at most, once a sample has more than one."""

LARGER_EPS = ((3.0, 0.3), (2.0, 0.3))
"""Multi-eps APGD: multiples of eps to climb in before, and their shares of the iterations."""

BALLS: dict[float, type[Climb]] = {1.0: L1Climb, 2.0: L2Climb, np.inf: LinfClimb}


@dataclass(frozen=True, kw_only=True, repr=False)
class _AutoPGD(FixedBudgetAttack):
    """The climbs that APGD and APGDT share.

    Each sample first climbs once, with its first class to aim at; the samples that withstood then
    run all their other climbs side by side, and the first success ends them all, without
    `early_stop` all but its own. Which climbs there are, and where each begins, does not depend
    on that.
    """

    knowledge = "white"
    norms = (1.0, 2.0, np.inf)

    norm: float = np.inf
    eps: float = 0.0008
    max_iter: int = setting(100, integer())
    restarts: int = setting(1, integer())
    rho: float = setting(0.75, fraction())
    larger_eps: bool = setting(False, flag())
    early_stop: bool = setting(True, flag())

    def _validate(self) -> None:
        if self.larger_eps and self.norm != 1:
            raise conflict("larger_eps only with norm=1", norm=self.norm)

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        rivals = np.repeat(self._rivals(target), self.restarts, axis=1)
        race = _Race(self, target, streams)
        first, more = rivals[:, :1], rivals[:, 1:]
        race.run(target.all_rows, first, 0, 2 if more.shape[1] else 1)
        rows = np.flatnonzero(race.withstood)
        if not more.shape[1]:
            return
        size = max(RACE // more.shape[1], 1)
        groups = [rows[start : start + size] for start in range(0, len(rows), size)]
        for number, group in enumerate(groups):
            race.run(group, more[group], len(groups) + number, 2 * len(groups))

    @abstractmethod
    def ask(self, target: Target, x: Float, rows: Rows, rival: Labels) -> Gradient:
        """The loss that is climbed, at `x`; what it returns as `loss` has its order alone."""

    @abstractmethod
    def _rivals(self, target: Target) -> Labels:
        """The classes (B, m) that the climbs of each sample aim at, in turn."""


@dataclass(frozen=True, kw_only=True, repr=False)
class APGD(_AutoPGD):
    """Croce and Hein, "Reliable Evaluation of Adversarial Robustness" (2020), algorithm 1 (APGD).

    `max_iter` steps of gradient ascent with momentum 0.75 from a random point of the ball's
    surface; at checkpoints ever closer together the step is halved, and the climb goes back to its
    best point, unless more than `rho` of the steps since the last one raised the loss. L1 follows
    "Mind the box" (2021), algorithm 1: sparse steps, whose share of elements follows the
    perturbation's, projected onto ball and bounds together; with `larger_eps` it climbs in balls
    of 3, 2 and 1 times `eps`, for 30, 30 and 40 % of the iterations, each from the best point
    of the one before.
    `loss` is that of AutoAttack's apgd-ce ("cross-entropy") or apgd-dlr ("dlr").
    A sample ends at its first success; without `early_stop` it climbs on and ends at its last one,
    as in the authors' code: no more samples are fooled, but their examples transfer farther. One
    that withstood proposes its point of highest loss.
    White-box, up to restarts * (max_iter + 1) gradients (max_iter + 3 with `larger_eps`), and a
    query for each success.
    """

    loss: str = setting("cross-entropy", one_of(score_losses.UNTARGETED))

    def ask(self, target: Target, x: Float, rows: Rows, rival: Labels) -> Gradient:
        answer = target.loss_gradient(x, rows, self.loss)
        if self.loss != "cross-entropy":
            return answer
        return Gradient(answer.logits, _log_odds(answer.logits, target.y[rows]), answer.gradient)

    def _rivals(self, target: Target) -> Labels:
        return target.y[:, None]


@dataclass(frozen=True, kw_only=True, repr=False)
class APGDT(_AutoPGD):
    """Croce and Hein (2020), APGD with the targeted DLR loss, eq. 7: AutoAttack's apgd-t.

    Climbs as APGD does, once for each of the `targets` classes of highest clean logit besides the
    label, all of them where there are fewer; below four classes the loss is the difference of
    two logits. White-box, one query and up to targets * restarts * (max_iter + 1) gradients (+ 3
    with `larger_eps`), and a query for each success.
    """

    targets: int = setting(9, integer())

    def ask(self, target: Target, x: Float, rows: Rows, rival: Labels) -> Gradient:
        return target.loss_gradient(x, rows, "targeted-dlr", rival)

    def _rivals(self, target: Target) -> Labels:
        logits = target.evaluate(target.x).logits.copy()
        logits[target.all_rows, target.y] = -np.inf
        wanted = min(self.targets, target.classes - 1)
        return np.argsort(-logits, axis=1, kind="stable")[:, :wanted]


class _Race:
    """Climbs of one attack on one batch, and what they have found so far."""

    def __init__(self, attack: _AutoPGD, target: Target, streams: Streams) -> None:
        self.withstood: Mask = np.ones(len(target), bool)
        self._attack = attack
        self._target = target
        self._streams = streams
        self._proposed = np.full(len(target), -np.inf)
        """The loss of each sample's proposal."""

    def run(self, rows: Rows, rivals: Labels, heat: int, heats: int) -> None:
        """Climb from one random start for every entry of `rivals` (len(rows), m).

        This is number `heat` of `heats`, for those who watch the progress.
        """
        every = np.repeat(rows, rivals.shape[1])
        rival = rivals.reshape(-1)
        done = heat * self._attack.max_iter
        steps = heats * self._attack.max_iter
        # A budget that is used up here leaves the other samples theirs.
        with suppress(OutOfBudgetError):
            phases = _phases(self._attack)
            point = self._starts(rows, rivals.shape[1], phases[0][0] * self._target.eps)
            for number, (multiple, iterations) in enumerate(phases):
                climb = self._climb_from(point, every, rival, multiple, iterations, number == 0)
                self._climb(climb, iterations, multiple == 1, done, steps)
                every, rival, point = climb.rows, climb.rival, climb.best
                done += iterations

    def _climb_from(
        self,
        point: Float,
        rows: Rows,
        rival: Labels,
        multiple: float,
        iterations: int,
        first: bool,
    ) -> Climb:
        target, attack = self._target, self._attack
        radius = multiple * target.eps
        clean = target.x[rows]
        if not first:
            point = balls.project(
                point.reshape(clean.shape), clean, attack.norm, radius, target.bounds
            )
        settings = ClimbSettings(
            radius, target.bounds, iterations, attack.rho, not attack.larger_eps
        )
        return BALLS[attack.norm](settings, rows, rival, clean, point)

    def _climb(self, climb: Climb, iterations: int, inside: bool, done: int, steps: int) -> None:
        """Drive a climb to its end; `inside` when its ball is that of the budget."""
        try:
            self._learn(climb, inside)
            for iteration in range(iterations):
                if not len(climb.rows):
                    return
                climb.advance(iteration == 0)
                self._learn(climb, inside)
                climb.review()
                self._target.progress(done + iteration + 1, steps)
        finally:
            self._offer(climb, inside)

    def _learn(self, climb: Climb, inside: bool) -> None:
        shape = self._target.input_shape
        point = climb.point.reshape(-1, *shape)
        answer = self._attack.ask(self._target, point, climb.rows, climb.rival)
        climb.learn(answer)
        if inside:
            self._claim(climb, answer.logits)

    def _claim(self, climb: Climb, logits: Float) -> None:
        """Ask about the points that look misclassified, as they will be graded."""
        target = self._target
        claimed = np.flatnonzero(
            (np.argmax(logits, axis=1) != target.y[climb.rows]) & np.isfinite(logits).all(axis=1)
        )
        if not len(claimed):
            return
        rows = climb.rows[claimed]
        sealed = target.seal(climb.point[claimed].reshape(-1, *target.input_shape), rows)
        target.propose(rows, sealed)
        self._proposed[rows] = np.maximum(self._proposed[rows], climb.loss[claimed])
        with suppress(OutOfBudgetError):
            fooled = target.evaluate(sealed, rows).labels != target.y[rows]
            target.propose(rows[fooled], sealed[fooled])
            self.withstood[rows[fooled]] = False
            climb.fooled[claimed[fooled]] = True
            goes_on = climb.fooled & (not self._attack.early_stop)
            climb.keep(self.withstood[climb.rows] | goes_on)

    def _offer(self, climb: Climb, inside: bool) -> None:
        """Propose the best points; those of a larger ball only to samples that have none."""
        climb.keep(self.withstood[climb.rows])
        loss = climb.best_loss if inside else np.full(len(climb.rows), -np.inf)
        order = np.argsort(loss, kind="stable")
        order = order[loss[order] >= self._proposed[climb.rows[order]]]
        rows = climb.rows[order]
        self._target.propose(rows, climb.best[order].reshape(-1, *self._target.input_shape))
        self._proposed[rows] = loss[order]

    def _starts(self, rows: Rows, m: int, radius: float) -> Float:
        """`m` random points on the surface of each sample's ball, as (len(rows) * m, elements)."""
        target, norm = self._target, self._attack.norm
        noise = np.stack([self._noise(rows, radius) for _ in range(m)], axis=1)
        every = np.repeat(rows, m)
        clean = target.x[every]
        return balls.project(clean + noise.reshape(clean.shape), clean, norm, radius, target.bounds)

    def _noise(self, rows: Rows, radius: float) -> Double:
        shape = self._target.input_shape
        if np.isinf(self._attack.norm):
            noise = 2 * self._streams.uniform(rows, *shape) - 1
        else:
            noise = self._streams.normal(rows, *shape).astype(np.float64)
        if self._attack.norm == 1:
            return noise * self._target.span
        length = np.maximum(lp_norm(noise, self._attack.norm), np.finfo(np.float64).tiny)
        return np.asarray(noise * (radius / length).reshape(-1, *[1] * len(shape)))


def _phases(attack: _AutoPGD) -> list[tuple[float, int]]:
    """Multiples of eps, and the iterations at each."""
    if not attack.larger_eps:
        return [(1.0, attack.max_iter)]
    early = [(multiple, int(share * attack.max_iter)) for multiple, share in LARGER_EPS]
    rest = attack.max_iter - sum(iterations for _, iterations in early)
    return [*((m, iterations) for m, iterations in early if iterations), (1.0, rest)]


def _log_odds(logits: Float, y: Labels) -> Float:
    """log((1 - p) / p) for the label's probability p, (n,).

    Rises with the cross-entropy -log p, and still tells points apart where p is 1 in float32.
    """
    rows = np.arange(len(logits))
    others = logits.astype(np.float64)
    own = others[rows, y]
    others[rows, y] = -np.inf
    peak = others.max(axis=1)
    odds = peak + np.log(np.exp(others - peak[:, None]).sum(axis=1)) - own
    return np.asarray(odds, np.float32)
