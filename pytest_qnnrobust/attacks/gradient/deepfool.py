"""DeepFool: step to the nearest of the linearized class boundaries, again and again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks.base import MinimalDistortionAttack
from pytest_qnnrobust.attacks.geometry import balls
from pytest_qnnrobust.attacks.settings import integer, not_negative, setting
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Target
from pytest_qnnrobust.metrics import lp_norm
from pytest_qnnrobust.types import Bounds, Double, Float, Labels

TINY = 1e-12
"""Keeps the division by a gradient's length finite."""

STALLED = 1e-3
"""Share of the perturbation below which a step came to nothing."""

LEAST_OVERSHOOT = 0.002
"""First overshoot of the doubling if the setting is 0."""


@dataclass(frozen=True, kw_only=True, repr=False)
class DeepFool(MinimalDistortionAttack):
    """Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool" (2016), algorithm 2, for L2.

    Works on logits. At each of at most `max_iter` points, the perturbation grows by the shortest
    step across a linearized boundary, |f_k| / |w_k| along w_k over all other classes k; it is
    applied 1 + `overshoot` times, and the first misclassified point is the result. Steps are taken
    among the elements that the bounds let move, where the original clips and may never arrive;
    where they come to nothing (quantized logits tie, an input step swallows them) the sample's
    overshoot doubles.
    White-box, one Jacobian (a gradient per class) and one query per iteration.
    """

    knowledge = "white"
    norms = (2.0,)

    max_iter: int = setting(100, integer())
    overshoot: float = setting(0.008, not_negative())

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        rows = target.all_rows
        total = np.zeros(x.shape)
        overshoot = np.full((len(x), *[1] * (x.ndim - 1)), self.overshoot)
        point = x
        for iteration in range(self.max_iter):
            logits, jacobian = target.jacobian(point, rows)
            step = nearest_boundary(logits, jacobian, y[rows], point, target.bounds)
            stalled = rows[lp_norm(step, 2) <= STALLED * lp_norm(total[rows], 2)]
            overshoot[stalled] = np.maximum(2 * overshoot[stalled], LEAST_OVERSHOOT)
            moved = x[rows] + total[rows] + step
            total[rows] = np.clip(moved, *target.bounds) - x[rows]
            point = target.project(x[rows] + (1 + overshoot[rows]) * total[rows], rows)
            fooled = target.evaluate(point, rows).labels != y[rows]
            target.propose(rows[fooled], point[fooled])
            rows, point = rows[~fooled], point[~fooled]
            target.progress(iteration + 1, self.max_iter)
            if not len(rows):
                return


def nearest_boundary(
    logits: Float, jacobian: Float, y: Labels, point: Float, bounds: Bounds
) -> Double:
    """The shortest L2 step, (n, *input_shape), to a linearized boundary of class `y`.

    Elements of `point` that lie on a bound do not step across it.
    """
    step = np.empty(point.shape)
    for part in balls.cache_sized(jacobian.shape):
        step[part] = _nearest_boundary(logits[part], jacobian[part], y[part], point[part], bounds)
    return step


def _nearest_boundary(
    logits: Float, jacobian: Float, y: Labels, point: Float, bounds: Bounds
) -> Double:
    n, classes = logits.shape
    each = np.arange(n)
    scores = logits.astype(np.float64)
    slopes = jacobian.reshape(n, classes, -1).astype(np.float64)
    gap = np.abs(scores - scores[each, y][:, None])
    slopes = slopes - slopes[each, y][:, None]
    flat = point.reshape(n, 1, -1)
    slopes[((flat >= bounds[1]) & (slopes > 0)) | ((flat <= bounds[0]) & (slopes < 0))] = 0.0
    length = np.sqrt((slopes * slopes).sum(axis=2))
    distance = gap / np.maximum(length, TINY)
    distance[each, y] = np.inf
    nearest = np.argmin(np.nan_to_num(distance, nan=np.inf), axis=1)
    direction = slopes[each, nearest] / np.maximum(length[each, nearest], TINY)[:, None]
    step = distance[each, nearest][:, None] * direction
    return np.asarray(step.reshape(n, *jacobian.shape[2:]))
