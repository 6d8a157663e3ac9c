"""GeoDA: the flat-boundary normal from decisions, and the nearest point along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks.base import MinimalDistortionAttack
from pytest_qnnrobust.attacks.decisions.normals import Draw, Gains, probe_normals, unit, visible
from pytest_qnnrobust.attacks.decisions.starts import (
    bisect,
    propose_nearer,
    random_starts,
    step_out,
    to_boundary,
)
from pytest_qnnrobust.attacks.geometry import balls
from pytest_qnnrobust.attacks.settings import fraction, integer, not_negative, positive, setting
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Mask, Rows, Target
from pytest_qnnrobust.metrics import flat, lp_norm
from pytest_qnnrobust.types import Double, Float, Labels

SEARCH = 25
"""Queries an iteration sets aside for the search along the normal."""

FIRST = 50
"""Least probes of the first iteration."""

GROWTH = 1.5
"""Factor between the lengths tried along a normal that does not reach the other side yet."""

REACHES = 8
"""Lengths tried along a normal before the sample gives it up."""

RETREATS = 8
"""Halved steps tried from a boundary point whose normal was given up."""

TINY = 1e-30
"""Keeps the division by a length finite."""

PRECISION = 0.002
"""Bisections along a normal end within this share of the distance at the latest."""


@dataclass(frozen=True, kw_only=True, repr=False)
class GeoDA(MinimalDistortionAttack):
    """Rahmati, Moosavi-Dezfooli, Frossard, Dai, "GeoDA" (2020), algorithms 1 and 2; L1, L2, Linf.

    From a random start on the boundary, each iteration estimates the boundary's normal there by
    Gaussian probes of standard deviation `sigma` in the space of the `sub_dim` lowest DCT
    frequencies along each axis of each channel, and moves to where the ray from the clean image
    that is steepest for this normal in `norm` meets the other side: the normal itself (L2), its
    signs (Linf), its largest elements up to the bounds one after the other (L1, sparse GeoDA). The
    iterations share `max_iter` queries in proportion to lambda_param**(-2i/3) (equation 19).
    `sigma` and `bin_search_tol` (the L2 length at which bisections end) are shares of the input
    span; on a quantized input a probe is at least one step. A sample ends early once three
    iterations gain less than a share `tolerance` of its distance each; 0 spends all queries. Where
    a ray does not meet the other side (the label surrounds the point), the sample steps along the
    normal from where it is and goes straight back to the boundary, and forgets the normal.

    Names and settings are those of ART's GeometricDecisionBasedAttack, but for a tenfold `sigma`,
    with which fewer samples stay far away; unlike there, probes of all iterations count alike in
    the normal, and rays are clipped point by point instead of being bisected towards a far, clipped
    image. An axis shorter than `sub_dim` keeps all frequencies.
    Black-box, about max_iter queries (and up to 3 * init_size + 35 for the start).
    """

    knowledge = "black"
    norms = (1.0, 2.0, np.inf)
    batch = 64

    norm: float = 2.0
    max_iter: int = setting(4000, integer())
    sub_dim: int = setting(75, integer())
    bin_search_tol: float = setting(0.0001, positive())
    lambda_param: float = setting(0.6, fraction())
    sigma: float = setting(0.002, positive())
    init_size: int = setting(100, integer())
    tolerance: float = setting(0.0, not_negative())

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        rows = random_starts(target, streams, self.init_size, self.norm)
        size = flat(x).shape[1]
        length = self.bin_search_tol * target.span * size ** (1 / self.norm - 1 / 2)
        sigma = visible(target, np.full(len(x), self.sigma * target.span))
        draw = frequency_noise(target, streams, self.sub_dim)
        points = x.copy()
        points[rows] = to_boundary(target, rows, target.proposals[rows], length, self.norm)
        normals = np.zeros((len(x), size), np.float32)
        gains = Gains(target, self.norm, self.tolerance)
        schedule = query_schedule(self.max_iter, self.lambda_param)
        for step, probes in enumerate(schedule):
            if not len(rows):
                return
            normal = probe_normals(target, rows, points[rows], sigma[rows], probes, draw)
            if self.norm == 1:
                normal = _undo_clipping(target, points[rows], normal)
            normals[rows] += normal
            ray = Ray(target, rows, normals[rows], self.norm)
            points[rows], met = _cross(target, rows, ray, points[rows], length)
            normals[rows[~met]] = 0
            rows = gains.still_worth(rows)
            target.progress(step + 1, len(schedule))


class Ray:
    """The points that lead from the clean images furthest along `normals`, length by length."""

    def __init__(self, target: Target, rows: Rows, normals: Float, norm: float) -> None:
        self.norm = norm
        self._clean = target.x[rows]
        self._bounds = balls.float32_bounds(target.bounds)
        self.direction = unit(normals, 2.0) if norm == 2 else np.sign(normals)
        if norm == 1:
            self._used, self._room = _largest_first(target, self._clean, normals)

    def at(self, chosen: Rows, length: Double) -> Float:
        """The points at these lengths on the rays of positions `chosen`, inside the bounds.

        `length` is the distance from the clean image in the ray's norm; for L2 before clipping.
        """
        column = length.astype(np.float32)[:, None]
        if self.norm == 1:
            column = np.clip(column - self._used[chosen], 0, self._room[chosen])
        moved = column * self.direction[chosen]
        moved = moved.reshape(-1, *self._clean.shape[1:])
        moved += self._clean[chosen]
        return np.clip(moved, *self._bounds, out=moved)


def query_schedule(queries: int, lambda_param: float) -> list[int]:
    """Number of probes of each iteration, growing by the factor lambda**(-2/3).

    There are as many iterations, at least one, as leave `FIRST` probes to the first of them and
    `SEARCH` further queries to each.
    """
    shares = [1.0]
    while True:
        more = [*shares, shares[-1] * lambda_param ** (-2 / 3)]
        if (queries - SEARCH * len(more)) / sum(more) < FIRST:
            break
        shares = more
    probes = max(queries - SEARCH * len(shares), 1) / sum(shares)
    return [max(1, round(probes * share)) for share in shares]


def frequency_noise(target: Target, streams: Streams, frequencies: int) -> Draw:
    """Gaussian noise in the span of the lowest DCT-II frequencies along each axis of a channel.

    The basis is orthonormal and each element of the noise has unit variance on average; with every
    frequency kept, this is white noise, which is drawn as such.
    """
    shape = target.input_shape
    axes = range(min(len(shape), 2))
    lowest = [min(frequencies, shape[axis]) for axis in axes]
    full = [shape[axis] for axis in axes]

    def draw(rows: Rows, count: int) -> Float:
        if lowest == full:
            return streams.normal(rows, count, *shape)
        from scipy.fft import idctn

        coefficients = streams.normal(rows, count, *lowest, *shape[2:])
        coefficients *= np.float32(np.sqrt(np.prod(full) / np.prod(lowest)))
        places = [axis + 2 for axis in axes]
        return np.asarray(idctn(coefficients, s=full, axes=places, norm="ortho"), np.float32)

    return draw


def _cross(
    target: Target, rows: Rows, ray: Ray, points: Float, length: float
) -> tuple[Float, Mask]:
    """The points where the rays meet the other side, else those of `_retreat`; true where met."""
    high = lp_norm(points - target.x[rows], ray.norm)
    width = np.minimum(length, PRECISION * high)
    low = np.zeros(len(rows))
    nearest = points.copy()
    seeking = np.arange(len(rows))
    for _ in range(REACHES):
        tries = target.seal(ray.at(seeking, high[seeking]), rows[seeking])
        fooled = _fooled(target, rows[seeking], tries)
        nearest[seeking[fooled]] = tries[fooled]
        propose_nearer(target, rows[seeking[fooled]], tries[fooled], ray.norm)
        seeking = seeking[~fooled]
        if not len(seeking):
            break
        low[seeking] = high[seeking]
        high[seeking] *= GROWTH
    low[seeking] = high[seeking]
    crossing = bisect(target, rows, ray.at, low, high, nearest, width, ray.norm)
    met = np.ones(len(rows), bool)
    met[seeking] = False
    if len(seeking):
        crossing[seeking] = _retreat(
            target, rows[seeking], ray.direction[seeking], points[seeking], ray
        )
    return crossing, met


def _retreat(target: Target, rows: Rows, direction: Float, points: Float, ray: Ray) -> Float:
    """Move `points`, whose ray does not meet the other side, along it and back to the boundary.

    They go as far along the ray as they stay misclassified, and return straight towards the clean
    image: the step of HopSkipJump.
    """
    clean = target.x[rows]
    reach = lp_norm(points - clean, ray.norm) / np.maximum(lp_norm(direction, ray.norm), TINY)
    stepped = step_out(target, rows, points, direction, reach / 2, RETREATS)
    tolerance = PRECISION * lp_norm(stepped - clean, ray.norm)
    return to_boundary(target, rows, stepped, tolerance, ray.norm)


def _undo_clipping(target: Target, points: Float, sums: Float) -> Float:
    """Double the sums of elements at a bound, which moved in half of the probes only.

    L1 needs that: its points have the elements of the largest slope at a bound.
    """
    low, high = balls.float32_bounds(target.bounds)
    bound = flat((points <= low) | (points >= high))
    return np.where(bound, 2 * sums, sums)


def _fooled(target: Target, rows: Rows, tries: Float) -> Mask:
    return np.asarray(target.evaluate(tries, rows).labels != target.y[rows])


def _largest_first(target: Target, clean: Float, normals: Float) -> tuple[Float, Float]:
    """The L1 length used up before each element, filled by falling size, and its room."""
    fall, rise = balls.rooms(flat(clean).astype(np.float64), target.bounds)
    room = np.where(normals > 0, rise, fall)
    order = np.argsort(-np.abs(normals), axis=1, kind="stable")
    filled = np.take_along_axis(room, order, axis=1)
    used = np.empty_like(filled)
    np.put_along_axis(used, order, np.cumsum(filled, axis=1) - filled, axis=1)
    return used.astype(np.float32), room.astype(np.float32)
