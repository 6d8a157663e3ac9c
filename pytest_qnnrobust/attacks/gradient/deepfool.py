"""DeepFool: step to the nearest of the linearized class boundaries, again and again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks.base import MinimalDistortionAttack
from pytest_qnnrobust.attacks.geometry import balls
from pytest_qnnrobust.attacks.search import Best, rivals
from pytest_qnnrobust.attacks.settings import integer, not_negative, setting
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Rows, Target
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
            step = nearest_boundary(target, point, rows)
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


def nearest_boundary(target: Target, point: Float, rows: Rows) -> Double:
    """The shortest L2 steps, (n, *input_shape), from points to a linearized class boundary.

    `rows` are the samples whose labels are left. Elements that lie on a bound do not step across
    it. A sample that was not answered has a step of zeros. One Jacobian, of which no more than a
    part is held at a time.
    """
    y = target.y[rows]
    # The label first: every boundary's slope is the difference from the label's.
    classes = np.concatenate([y[:, None], rivals(y, target.classes)], axis=1)
    one_hot = np.eye(target.classes, dtype=np.float32)
    step, best = np.zeros(point.shape), Best(len(point))
    own, done = np.zeros_like(point), 0
    for logits, slopes in target.slopes(
        point, rows, target.classes, lambda part: one_hot[classes[:, part]]
    ):
        if done == 0:
            own = slopes[:, 0]
        asked = classes[:, done : done + slopes.shape[1]]
        done += slopes.shape[1]
        gap = np.abs(_scores(logits, asked) - _scores(logits, y[:, None]))
        gap[asked == y[:, None]] = np.inf
        distance, direction = np.empty(len(point)), np.empty(point.shape)
        for part in balls.cache_sized(slopes.shape):
            distance[part], direction[part] = _nearest(
                gap[part], slopes[part], own[part], point[part], target.bounds
            )
        nearer = best.update(np.arange(len(point)), distance)
        step[nearer] = distance[nearer].reshape(-1, *[1] * (point.ndim - 1)) * direction[nearer]
    return step


def _nearest(
    gap: Double, slopes: Float, own: Float, point: Float, bounds: Bounds
) -> tuple[Double, Double]:
    """Distance (n,) of the nearest of p boundaries, and the unit vectors (n, *input_shape) to it.

    `gap` (n, p) is what the scores differ by, `slopes` (n, p, *input_shape) are those of the
    scores, `own` (n, *input_shape) that of the label's.
    """
    n, p = gap.shape
    across = slopes.reshape(n, p, -1).astype(np.float64) - own.reshape(n, 1, -1)
    place = point.reshape(n, 1, -1)
    across[((place >= bounds[1]) & (across > 0)) | ((place <= bounds[0]) & (across < 0))] = 0.0
    length = np.maximum(np.sqrt((across * across).sum(axis=2)), TINY)
    distance = gap / length
    each, nearest = np.arange(n), np.argmin(np.nan_to_num(distance, nan=np.inf), axis=1)
    direction = across[each, nearest] / length[each, nearest][:, None]
    return distance[each, nearest], direction.reshape(point.shape)


def _scores(logits: Float, classes: Labels) -> Double:
    """The logits of `classes`, (n, p), float64."""
    return np.take_along_axis(logits.astype(np.float64), classes, axis=1)
