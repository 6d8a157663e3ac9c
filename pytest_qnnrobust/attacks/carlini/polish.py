"""The last steps of a minimal-distortion attack: down to the nearest point of the boundary."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pytest_qnnrobust.attacks.carlini.descent import Nearest, margin_gradient
from pytest_qnnrobust.attacks.geometry.hyperplanes import row_dot, shortest_step
from pytest_qnnrobust.attacks.target import Mask, Rows, Target
from pytest_qnnrobust.metrics import flat
from pytest_qnnrobust.types import Bounds, Float

Plane = Callable[[Float, Float, Float, Bounds], Float]
"""Clean inputs, gradients (n, elements), gain needed (n,) and bounds -> steps (n, elements).

The smallest perturbation, in some norm and inside the bounds, along which the linear function with
that gradient rises by the gain; as far as the bounds let where that does not suffice.
"""

OVERSHOOT = 1e-3
"""Distance that a step aims beyond the linearized boundary, as a share of the gain it needs."""

WORTH = 1e-4
"""A candidate has to be nearer by this share to be asked about."""

SMALLEST_SHARE = 1 / 64
"""Shortest move, as a share of the whole way, before a sample is left alone."""

NEWTON_STEPS = 25
"""Most steps of the threshold's search; it is within `CLOSE` after a few."""

CLOSE = np.float32(1e-6)
"""Relative error of the gain at which the threshold's search ends."""

TINY = np.finfo(np.float32).tiny


def polish(
    target: Target, nearest: Nearest, plane: Plane, steps: int, confidence: float = 0.0
) -> None:
    """Bring the nearest points found so far down the boundary, in the norm of `plane`.

    Every round moves from the nearest point towards the smallest perturbation that reaches the
    boundary linearized there (the projection of DeepFool and of Croce and Hein, "Minimally
    distorted Adversarial Examples with a Fast Adaptive Boundary Attack", 2020, eq. 10), all the
    way at first and half as far where the boundary bends too much; where the candidate is not
    adversarial, the next one aims further by the margin that was missing. Only candidates that are
    nearer are asked about, and only adversarial ones kept. At most one gradient and one query a
    round.
    """
    walk = _Polish(target, nearest, plane, confidence)
    for _ in range(steps):
        if not len(walk.rows):
            return
        walk.round()


class _Polish:
    """State of every polished sample; the arrays are those of `rows`."""

    def __init__(self, target: Target, nearest: Nearest, plane: Plane, confidence: float) -> None:
        self._target = target
        self._nearest = nearest
        self._plane = plane
        self._confidence = confidence
        self.rows = nearest.fooled_rows
        n = len(self.rows)
        self._clean = flat(target.x)[self.rows]
        self._best = np.zeros_like(self._clean)
        self._gradient = np.zeros_like(self._clean)
        self._margin = np.zeros(n, np.float32)
        self._share = np.ones(n, np.float32)
        self._extra = np.zeros(n, np.float32)
        self._moved = np.ones(n, bool)

    def round(self) -> None:
        self._linearize()
        candidate, predicted = self._candidate()
        sealed = self._target.seal(self._shaped(candidate), self.rows)
        held = self._nearest.distance[self.rows]
        nearer = self._nearest.sizes(self.rows, sealed) < held * np.float32(1 - WORTH)
        self._share[~nearer] /= 2
        self._extra[~nearer] /= 2
        asked = np.flatnonzero(nearer)
        if len(asked):
            self._ask(asked, sealed[asked], predicted[asked])
        self._keep(self._share >= SMALLEST_SHARE)

    def _linearize(self) -> None:
        """Margin and gradient at the points that are new."""
        new = np.flatnonzero(self._moved)
        if not len(new):
            return
        points = self._target.proposals[self.rows[new]]
        self._margin[new], self._gradient[new] = margin_gradient(
            self._target, points, self.rows[new]
        )
        self._best[new] = flat(points) - self._clean[new]
        self._moved[new] = False
        self._keep(np.isfinite(self._margin))

    def _candidate(self) -> tuple[Float, Float]:
        """Points (n, elements), and the margins that the linearized model gives them."""
        gain = row_dot(self._gradient, self._best) - self._margin
        goal = self._confidence + OVERSHOOT * np.abs(gain) + self._extra
        rise = np.asarray(gain + goal, np.float32)
        step = self._plane(self._clean, self._gradient, rise, self._target.bounds)
        step -= self._best
        step *= self._share[:, None]
        step += self._best
        step += self._clean
        predicted = self._margin + self._share * (goal - self._margin)
        return step, np.asarray(predicted, np.float32)

    def _ask(self, asked: Rows, sealed: Float, predicted: Float) -> None:
        rows = self.rows[asked]
        held = self._nearest.distance[rows]
        _, margin = self._nearest.judge(rows, sealed)
        better = self._nearest.distance[rows] < held
        gained, lost = asked[better], asked[~better]
        self._moved[gained] = True
        self._share[gained] = np.minimum(2 * self._share[gained], 1)
        self._extra[gained] /= 2
        missing = np.nan_to_num(np.maximum(predicted - margin, 0))[~better]
        self._extra[lost] += missing / self._share[lost]
        self._share[lost] *= np.where(missing > 0, np.float32(1), np.float32(0.5))

    def _keep(self, going: Mask) -> None:
        if going.all():
            return
        for name in ("rows", "_clean", "_best", "_gradient", "_margin", "_share", "_extra"):
            setattr(self, name, getattr(self, name)[going])
        self._moved = self._moved[going]

    def _shaped(self, points: Float) -> Float:
        return points.reshape(-1, *self._target.input_shape)


def lp_plane(norm: float) -> Plane:
    """Plane of L1, L2 or Linf."""

    def plane(clean: Float, gradient: Float, gain: Float, bounds: Bounds) -> Float:
        step: Float = shortest_step(clean, gradient, np.maximum(gain, 0), bounds, norm)
        return step

    return plane


def elastic_plane(beta: float) -> Plane:
    """Plane of beta * L1 + L2^2: the gradient's soft threshold at beta / 2."""

    def plane(clean: Float, gradient: Float, gain: Float, bounds: Bounds) -> Float:
        slope = np.abs(gradient)
        step = _soft_threshold(slope, _room(clean, gradient, bounds), gain, np.float32(beta / 2))
        return np.copysign(step, gradient, out=step)

    return plane


def l0_plane(clean: Float, gradient: Float, gain: Float, bounds: Bounds) -> Float:
    """Plane of L0: elements move all the way to a bound, those that gain most first."""
    room = _room(clean, gradient, bounds)
    gains = np.abs(gradient) * room
    order = np.argsort(-gains, axis=1, kind="stable")
    gains = np.take_along_axis(gains, order, axis=1)
    chosen = np.cumsum(gains, axis=1) - gains < gain[:, None]
    mask = np.empty_like(chosen)
    np.put_along_axis(mask, order, chosen, axis=1)
    room *= mask
    return np.copysign(room, gradient, out=room)


def _room(clean: Float, gradient: Float, bounds: Bounds) -> Float:
    low, high = np.float32(bounds[0]), np.float32(bounds[1])
    room = np.where(gradient > 0, high - clean, clean - low)
    return np.asarray(np.maximum(room, 0, out=room))


def _soft_threshold(slope: Float, room: Float, gain: Float, beta: np.float32) -> Float:
    """min(max(slope * t - beta, 0), room) with the t (n,) that gains what is needed.

    The gain is piecewise linear and increasing in t: Newton's method inside a bracket. Rows stop
    one by one, so that none depends on the others.
    """
    low = beta / np.maximum(slope.max(axis=1, initial=0), TINY)
    high = np.full(len(slope), np.inf, np.float32)
    t = (np.maximum(gain, 0) + beta * slope.sum(axis=1)) / np.maximum(row_dot(slope, slope), TINY)
    steps: Float = room.copy()
    rows = np.flatnonzero(gain < row_dot(slope, room))
    for _ in range(NEWTON_STEPS):
        part, space = slope[rows], room[rows]
        length = part * t[rows, None]
        length -= beta
        free = (length > 0) & (length < space)
        np.clip(length, 0, space, out=length)
        steps[rows] = length
        missing = gain[rows] - row_dot(part, length)
        part *= free
        incline = row_dot(part, part)
        going = np.abs(missing) > CLOSE * np.abs(gain[rows])
        rows, missing, incline = rows[going], missing[going], incline[going]
        if not len(rows):
            break
        here = t[rows]
        low[rows] = np.where(missing > 0, here, low[rows])
        high[rows] = np.where(missing > 0, high[rows], here)
        with np.errstate(over="ignore"):
            ahead = here + missing / np.maximum(incline, TINY)
        inside = (ahead > low[rows]) & (ahead < high[rows])
        middle = np.where(np.isinf(high[rows]), 2 * here + TINY, (low[rows] + high[rows]) / 2)
        t[rows] = np.where(inside, ahead, middle)
    return np.asarray(steps)
