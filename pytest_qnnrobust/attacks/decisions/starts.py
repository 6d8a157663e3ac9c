"""Starts of decision-based attacks: a misclassified image, moved to the decision boundary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Rows, Target
from pytest_qnnrobust.metrics import lp_norm
from pytest_qnnrobust.types import Double, Float

START_BLOCK = 5
"""Random images that a sample tries at a time while it looks for a start."""

START_TOLERANCE = 0.01
"""Precision of a start's bisection, as a share of its distance from the clean image."""

PATCHES = 4
"""Patches along each axis of a coarse random pattern."""


def random_starts(target: Target, streams: Streams, init_size: int, norm: float) -> Rows:
    """Propose a misclassified image near the boundary for each sample; the samples that have one.

    A sample tries up to `init_size` uniform random images, five at a time, until one of five is
    misclassified. If none is, it tries as many random blends of such an image with the clean one,
    and then as many coarse random patterns (a class that owns all noise rarely owns those). Each
    misclassified one of the five is bisected towards the clean image, to within a hundredth of its
    distance, and the nearest in `norm` is proposed: an attack that starts near ends less often on
    a far stretch of the boundary.
    Up to 3 * init_size + 35 queries.
    """
    rows = target.all_rows
    has_start = np.zeros(len(target), bool)
    blocks = [START_BLOCK] * (init_size // START_BLOCK)
    blocks += [rest] if (rest := init_size % START_BLOCK) else []
    for draw in (_noise, _blend, _pattern):
        for block in blocks:
            tries = _seal(target, draw(target, rows, streams, block))
            labels = target.evaluate(_flat(tries), np.repeat(rows, block)).labels
            fooled = labels.reshape(-1, block) != target.y[rows][:, None]
            for tried in range(block):
                chosen = np.flatnonzero(fooled[:, tried])
                _propose_boundary(target, rows[chosen], tries[chosen, tried], norm)
            started = fooled.any(axis=1)
            has_start[rows[started]] = True
            rows = rows[~started]
            if not len(rows):
                return np.flatnonzero(has_start)
    return np.flatnonzero(has_start)


def _propose_boundary(target: Target, rows: Rows, points: Float, norm: float) -> None:
    propose_nearer(target, rows, points, norm)
    distance = lp_norm(points - target.x[rows], norm)
    to_boundary(target, rows, points, START_TOLERANCE * distance, norm)


def to_boundary(
    target: Target, rows: Rows, points: Float, tolerance: float | NDArray[Any], norm: float
) -> Float:
    """Bisect between misclassified `points` (n, *input_shape) of `rows` and their clean images.

    L1 and L2 go along the straight line; Linf clips the point to ever smaller cubes around the
    clean image (Chen, Jordan, Wainwright 2020, algorithm 1). Ends where the two sides are within
    `tolerance` (one number or one per row, in input units, measured in `norm`), see `bisect`.
    Each row at most once. log2(distance / tolerance) queries a row.
    """
    clean = target.x[rows]
    reach = lp_norm(points - clean, norm)

    def at(chosen: Rows, distance: Double) -> Float:
        share = np.divide(distance, reach[chosen]) if np.isfinite(norm) else distance
        factor = share.astype(np.float32).reshape(-1, *[1] * (points.ndim - 1))
        start = clean[chosen]
        if np.isinf(norm):
            return np.clip(points[chosen], start - factor, start + factor)
        moved = points[chosen] - start
        moved *= factor
        moved += start
        return moved

    sealed = target.seal(points, rows)
    return bisect(target, rows, at, np.zeros(len(rows)), reach, sealed, tolerance, norm)


def bisect(
    target: Target,
    rows: Rows,
    at: Callable[[Rows, Double], Float],
    low: Double,
    high: Double,
    nearest: Float,
    tolerance: float | NDArray[Any],
    norm: float,
) -> Float:
    """Bisect each row to its misclassified point of least parameter, to within `tolerance`.

    `at(chosen, parameter)` gives the points (k, *input_shape) of positions `chosen` in `rows`;
    `low` is classified as the label and `high`, whose sealed point is `nearest`, is not. Rounds
    stop at float32 resolution of `high`. Every point is judged as graded: in the bounds, on the
    grid of a quantized input. Proposes what comes nearer, in `norm`, than the sample's proposal.
    """
    low, high, nearest = low.copy(), high.copy(), nearest.copy()
    width = np.maximum(np.asarray(tolerance, np.float64), high * np.finfo(np.float32).eps)
    while len(active := np.flatnonzero(high - low > width)):
        middle = (low[active] + high[active]) / 2
        tries = target.seal(at(active, middle), rows[active])
        fooled = target.evaluate(tries, rows[active]).labels != target.y[rows[active]]
        low[active[~fooled]] = middle[~fooled]
        high[active[fooled]] = middle[fooled]
        nearest[active[fooled]] = tries[fooled]
        propose_nearer(target, rows[active[fooled]], tries[fooled], norm)
    return nearest


def step_out(
    target: Target, rows: Rows, points: Float, directions: Float, reach: Double, halvings: int
) -> Float:
    """The `points` moved along `directions` (n, elements), by `reach` (n,) of them at first.

    The length is halved until the point, as it would be graded, is misclassified, at most
    `halvings` lengths in all; a point that none of them suits stays where it is.
    """
    stepped = points.copy()
    seeking = np.arange(len(rows))
    for halving in range(halvings):
        length = (reach[seeking] * 0.5**halving).astype(np.float32)
        tries = (length[:, None] * directions[seeking]).reshape(-1, *target.input_shape)
        tries += points[seeking]
        tries = target.seal(tries, rows[seeking])
        fooled = target.evaluate(tries, rows[seeking]).labels != target.y[rows[seeking]]
        stepped[seeking[fooled]] = tries[fooled]
        seeking = seeking[~fooled]
        if not len(seeking):
            break
    return np.asarray(stepped)


def propose_nearer(target: Target, rows: Rows, x_adv: Float, norm: float) -> None:
    """Propose those of the misclassified, sealed `x_adv` that are nearer than the proposals."""
    clean = target.x[rows]
    held = lp_norm(target.proposals[rows] - clean, norm)
    nearer = lp_norm(x_adv - clean, norm) < np.where(held > 0, held, np.inf)
    target.propose(rows[nearer], x_adv[nearer])


def _noise(target: Target, rows: Rows, streams: Streams, block: int) -> Double:
    """Uniform random images (n, block, *input_shape)."""
    noise = streams.uniform(rows, block, *target.input_shape)
    return target.bounds[0] + target.span * noise


def _blend(target: Target, rows: Rows, streams: Streams, block: int) -> Double:
    """Uniform random images, each moved a random share of the way to the clean one."""
    noise = _noise(target, rows, streams, block)
    weight = streams.uniform(rows, block, *[1] * len(target.input_shape))
    return np.asarray(noise + weight * (target.x[rows][:, None] - noise))


def _pattern(target: Target, rows: Rows, streams: Streams, block: int) -> Double:
    """Uniform random patterns of at most 4 patches along each axis but that of the channels."""
    shape = target.input_shape
    spatial = shape[:2]
    patches = [min(size, PATCHES) for size in spatial]
    image = streams.uniform(rows, block, *patches, *shape[2:])
    for axis, (size, count) in enumerate(zip(spatial, patches, strict=True)):
        image = np.take(image, np.arange(size) * count // size, axis=axis + 2)
    return target.bounds[0] + target.span * image


def _seal(target: Target, tries: Double) -> Float:
    return target.seal(tries.reshape(-1, *target.input_shape)).reshape(tries.shape)


def _flat(tries: Float) -> Float:
    return tries.reshape(-1, *tries.shape[2:])
