"""FAB: the nearest misclassified point, by projections onto linearized boundaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.base import MinimalDistortionAttack
from pytest_qnnrobust.attacks.geometry.balls import cache_sized
from pytest_qnnrobust.attacks.geometry.hyperplanes import row_dot, row_norm, shortest_step
from pytest_qnnrobust.attacks.search import Best, rivals
from pytest_qnnrobust.attacks.settings import (
    conflict,
    flag,
    fraction,
    integer,
    optional,
    positive,
    satisfies,
    setting,
)
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Mask, Rows, Target
from pytest_qnnrobust.metrics import flat
from pytest_qnnrobust.types import Bounds, Double, Float, Labels

Planes = tuple[Float, Float]
"""f (n, m) and its gradients (n, m, elements): m linearized boundaries for each of n points."""

Linearize = Callable[[Float, Rows], Iterator[Planes]]
"""Points (n, *input_shape) and their samples -> their boundaries, part by part."""

DUAL = {1.0: np.inf, 2.0: 2.0, np.inf: 1.0}
RADIUS = {1.0: 5.0, 2.0: 1.0, np.inf: 0.3}
"""The authors' radius of random restarts for inputs of span 1."""

TINY = 1e-30
"""Keeps divisions by a length finite; float32 holds it."""

TIE = 0.01
"""Step of a point whose logits tie, as a share of its distance from the clean image."""

SEARCH_STEPS = 10
"""Bisections between the clean image and the nearest misclassified point of a run."""


@dataclass(frozen=True, kw_only=True, repr=False)
class FAB(MinimalDistortionAttack):
    """Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack"
    (2020), algorithm 1, for L1, L2 and Linf.

    Each of `max_iter` iterations projects both the current point and the clean image onto the
    nearest linearized boundary inside the bounds, overshoots both by `eta` and takes
    their mean, weighted towards the clean image by at most `alpha_max`; from a misclassified point
    it goes back to `beta` of the way. Where quantized logits tie, the boundary counts as a little
    beyond. A bisection ends each run. Further `restarts` start at half the radius `eps` (input
    units; None: 5, 1 or 0.3 of the span in L1, L2 or Linf), or half the distance found so far.
    `targeted` crosses the boundaries to the `targets` classes of highest clean logit one after the
    other, a run and its restarts for each, and keeps the nearest point. With `early_stop` a sample
    takes no further run once it has a point within `eps`.

    White-box. A run takes per iteration one query and one gradient for each class but one
    (`targeted`: one gradient), and 10 queries more; `targeted` one query more in all.
    """

    knowledge = "white"
    norms = (1.0, 2.0, np.inf)

    norm: float = np.inf
    max_iter: int = setting(100, integer())
    restarts: int = setting(1, integer())
    alpha_max: float = setting(0.1, fraction())
    eta: float = setting(1.05, positive(), satisfies("a number >= 1", lambda eta: eta >= 1))
    beta: float = setting(0.9, fraction())
    targeted: bool = setting(False, flag())
    targets: int = setting(9, integer())
    eps: float | None = setting(None, optional(positive("eps is in model input units")))
    early_stop: bool = setting(False, flag())

    def _validate(self) -> None:
        if self.early_stop and self.eps is None:
            raise conflict("eps with early_stop", eps=self.eps)

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        radius = RADIUS[self.norm] * target.span if self.eps is None else self.eps
        nearest = _Nearest(target, self.norm, radius if self.early_stop else 0.0)
        classes = min(self.targets, target.classes - 1) if self.targeted else 1
        total = classes * self.restarts * self.max_iter
        done = 0
        for linearize in self._linearized(target):
            for restart in range(self.restarts):
                rows = nearest.pending(target.all_rows)
                before = nearest.distance.copy()
                start = self._start(nearest, rows, streams, radius) if restart else x[rows]
                for step in self._walk(nearest, linearize, rows, start):
                    target.progress(done + step, total)
                done += self.max_iter
                nearest.bisect(np.flatnonzero(nearest.distance < before))

    def _linearized(self, target: Target) -> Iterator[Linearize]:
        """One way to linearize boundaries for each class to reach; untargeted: for all at once."""
        if not self.targeted:
            yield _all_boundaries(target)
            return
        logits = target.evaluate(target.x).logits.copy()
        logits[target.all_rows, target.y] = np.inf
        ranked = np.argsort(-logits, axis=1, kind="stable").astype(np.int64)
        for rank in range(1, min(self.targets, target.classes - 1) + 1):
            yield _boundary_to(target, ranked[:, rank])

    def _start(self, nearest: _Nearest, rows: Rows, streams: Streams, radius: float) -> Float:
        """Random points at half of `radius`, or of the distance found so far."""
        target = nearest.target
        if np.isinf(self.norm):
            noise = (2 * streams.uniform(rows, *target.input_shape) - 1).astype(np.float32)
        else:
            noise = streams.normal(rows, *target.input_shape)
        noise = flat(noise)
        length = np.minimum(nearest.distance[rows], radius) / 2
        noise *= _column(length / np.maximum(row_norm(noise, self.norm), TINY))
        return target.project((nearest.clean[rows] + noise).reshape(-1, *target.input_shape), rows)

    def _walk(
        self, nearest: _Nearest, linearize: Linearize, rows: Rows, point: Float
    ) -> Iterator[int]:
        """One run of samples `rows` from points (n, *input_shape); yields the steps done.

        Leaves out what cannot go on: no budget, no gradient, or near enough already.
        """
        target = nearest.target
        for step in range(self.max_iter):
            if not len(rows):
                return
            gap, slope, usable = self._closest(linearize(point, rows))
            if not usable.all():
                rows, point, gap, slope = rows[usable], point[usable], gap[usable], slope[usable]
            clean = nearest.clean[rows]
            self._untie(gap, slope, flat(point) - clean)
            moved = self._step(flat(point), clean, slope, gap, target.bounds)
            point = target.project(moved.reshape(-1, *target.input_shape), rows)
            fooled = nearest.visit(rows, point)
            back = self.beta * flat(point[fooled]) + (1 - self.beta) * clean[fooled]
            point[fooled] = back.reshape(-1, *target.input_shape)
            left = nearest.distance[rows] > nearest.enough
            if not left.all():
                rows, point = rows[left], point[left]
            yield step + 1

    def _closest(self, parts: Iterator[Planes]) -> tuple[Float, Float, Mask]:
        """Gap (n,) of each point to its nearest boundary, its slope, and whether there is one."""
        distance, gap, slope = self._closest_of(*next(parts))
        for planes in parts:
            other = self._closest_of(*planes)
            nearer = other[0] < distance
            for held, new in zip((distance, gap, slope), other, strict=True):
                held[nearer] = new[nearer]
        return gap, slope, np.isfinite(distance)

    def _closest_of(self, f: Float, slopes: Float) -> tuple[Float, Float, Float]:
        """Distance (n,) to the nearest of m boundaries, gap (n,) and slope (n, elements)."""
        n, m, size = slopes.shape
        strength = np.empty((n, m), np.float32)
        for rows in cache_sized((n, size)):
            part = slopes[rows].reshape(-1, size)
            strength[rows] = row_norm(part, DUAL[self.norm]).reshape(-1, m)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.nan_to_num(np.abs(f) / strength, nan=np.inf, posinf=np.inf)
        closest = np.argmin(distance, axis=1)
        each = np.arange(n)
        slope = slopes[:, 0] if m == 1 else slopes[each, closest]
        return distance[each, closest], -f[each, closest], slope

    def _untie(self, gap: Float, slope: Float, delta: Float) -> None:
        """Give points that lie on a boundary by quantized logits a little way to go beyond it."""
        tied = np.flatnonzero(gap == 0)
        if len(tied):
            strength = row_norm(slope[tied], DUAL[self.norm])
            gap[tied] = TIE * strength * row_norm(delta[tied], self.norm)

    def _step(self, point: Float, clean: Float, slope: Float, gap: Float, bounds: Bounds) -> Float:
        """Both projections, overshot and mixed (eq. 7 to 9), all (n, elements); not yet clipped."""
        moved = np.empty_like(point)
        for rows in cache_sized(point.shape):
            here, origin, across, wanted = point[rows], clean[rows], slope[rows], gap[rows]
            ahead = shortest_step(here, across, wanted, bounds, self.norm)
            wanted = wanted - row_dot(across, origin - here)
            aside = shortest_step(origin, across, wanted, bounds, self.norm)
            near, far = row_norm(ahead, self.norm), row_norm(aside, self.norm)
            share = np.minimum(near / np.maximum(near + far, TINY), self.alpha_max)
            ahead *= self.eta
            ahead += here
            aside *= self.eta
            aside += origin
            aside -= ahead
            aside *= _column(share)
            np.add(ahead, aside, out=moved[rows])
        return moved


class _Nearest:
    """The nearest misclassified point of every sample so far, and how far it is."""

    def __init__(self, target: Target, norm: float, enough: float) -> None:
        self.target = target
        self.norm = norm
        self.enough = enough
        self.clean = flat(target.x)
        self._best = Best(len(target))

    @property
    def distance(self) -> Double:
        """The distance of each sample's point, (B,); infinite where there is none."""
        return self._best.cost

    def pending(self, rows: Rows) -> Rows:
        """The samples of `rows` without a point that is near enough."""
        return rows[self.distance[rows] > self.enough]

    def visit(self, rows: Rows, point: Float) -> Mask:
        """Ask about points (n, *input_shape) as they will be graded; true where misclassified."""
        target = self.target
        if target.grid is not None:
            point = target.seal(point, rows)
        fooled = target.evaluate(point, rows).labels != target.y[rows]
        rows, point = rows[fooled], point[fooled]
        distance = row_norm(flat(point) - self.clean[rows], self.norm)
        nearer = self._best.update(rows, distance)
        target.propose(rows[nearer], point[nearer])
        return np.asarray(fooled)

    def bisect(self, rows: Rows) -> None:
        """Look for nearer points on the way from the clean images to the nearest ones found."""
        rows = self.pending(rows)
        if not len(rows):
            return
        way = flat(self.target.proposals[rows]) - self.clean[rows]
        low, high = np.zeros(len(rows), np.float32), np.ones(len(rows), np.float32)
        for _ in range(SEARCH_STEPS):
            middle = (low + high) / 2
            point = self.clean[rows] + _column(middle) * way
            fooled = self.visit(rows, point.reshape(-1, *self.target.input_shape))
            high, low = np.where(fooled, middle, high), np.where(fooled, low, middle)


def _all_boundaries(target: Target) -> Linearize:
    """The boundaries to all other classes."""
    unit = np.eye(target.classes, dtype=np.float32)

    def linearize(point: Float, rows: Rows) -> Iterator[Planes]:
        y = target.y[rows]
        others = rivals(y, target.classes)

        def differences(part: slice) -> Float:
            """Weights of z_k - z_label for classes k of a part, (n, m, K)."""
            return unit[others[:, part]] - unit[y][:, None]

        done = 0
        for logits, slopes in target.slopes(point, rows, others.shape[1], differences):
            n, m = slopes.shape[:2]
            weights = differences(slice(done, done + m))
            yield (weights * logits[:, None]).sum(axis=2), slopes.reshape(n, m, -1)
            done += m

    return linearize


def _boundary_to(target: Target, rival: Labels) -> Linearize:
    """The boundary to one class for each sample of the batch."""

    def linearize(point: Float, rows: Rows) -> Iterator[Planes]:
        answer = target.loss_gradient(point, rows, loss="difference", rival=rival[rows])
        yield answer.loss[:, None], flat(answer.gradient)[:, None]

    return linearize


def _column(values: NDArray[Any]) -> Float:
    return values.astype(np.float32, copy=False)[:, None]
