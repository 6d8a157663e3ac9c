"""Norm balls and input bounds: projections that hold exactly in float32.

Arrays are (N, ...) with one sample per row; the arithmetic is float64 and treats each row alone,
so that a result does not depend on the batch it was computed in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.geometry.ragged import Ragged
from pytest_qnnrobust.metrics import flat, lp_norm
from pytest_qnnrobust.types import Array, Bounds, Double, Float

TOGETHER = 1 << 16
"""Elements that are worked on together: their float64 temporaries fit the cache."""


def cache_sized(shape: tuple[int, ...]) -> list[slice]:
    """Slices of the rows of an array whose float64 temporaries fit the processor's cache."""
    rows = max(1, TOGETHER // max(1, int(np.prod(shape[1:]))))
    return [slice(row, row + rows) for row in range(0, shape[0], rows)]


def project(x: NDArray[Any], clean: NDArray[Any], norm: float, eps: float, bounds: Bounds) -> Float:
    """Project `x` into the ball of radius `eps` around `clean` and into `bounds`; float32.

    The result is never outside, not even by rounding.

    L1 is the Euclidean projection onto the intersection of both. L2 and Linf project onto the ball
    and then clip, which cannot leave it again because `clean` lies inside the bounds.
    """
    parts = cache_sized(clean.shape)
    if len(parts) > 1:
        return np.concatenate([project(x[part], clean[part], norm, eps, bounds) for part in parts])
    if np.isinf(norm):
        return np.clip(np.asarray(x, np.float32), *linf_box(clean, eps, bounds))
    start = np.asarray(clean, np.float64)
    inside = (start + displacement(x, start, norm, eps, bounds)).astype(np.float32)
    return _tighten(np.clip(inside, *float32_bounds(bounds)), start, norm, eps)


def displacement(x: NDArray[Any], clean: Double, norm: float, eps: float, bounds: Bounds) -> Double:
    """The step from `clean` to the projection of `x` onto the L1 ball in the bounds, or L2 ball."""
    delta = np.asarray(x, np.float64) - clean
    if norm == 1:
        return l1_projection(delta, *rooms(clean, bounds), eps)
    return l2_projection(delta, eps)


def linf_box(clean: NDArray[Any], eps: float, bounds: Bounds) -> tuple[Float, Float]:
    """The smallest and largest float32 values within `eps` of `clean` and inside the bounds."""
    least, most = np.empty(clean.shape, np.float32), np.empty(clean.shape, np.float32)
    low, high = float32_bounds(bounds)
    for part in cache_sized(clean.shape):
        start = np.asarray(clean[part], np.float64)
        bottom, top = least[part], most[part]
        limit = start - eps
        bottom[:] = limit
        _move_by_one(bottom, (bottom < limit).astype(np.int32))
        np.maximum(bottom, low, out=bottom)
        np.add(start, eps, out=limit)
        top[:] = limit
        _move_by_one(top, -(top > limit).astype(np.int32))
        np.minimum(top, high, out=top)
    return least, most


def _move_by_one(values: Float, up: NDArray[np.int32]) -> None:
    """Replace finite values by the float32 number above (up = 1), below (-1), or keep them (0).

    np.nextafter with a mask, at a tenth of the time: the bits of a float32, read as an integer,
    count the numbers away from zero. A zero has to have the sign of the way it goes.
    """
    bits = values.view(np.int32)
    up *= (bits >> 31) | 1
    bits += up


def float32_bounds(bounds: Bounds) -> tuple[np.float32, np.float32]:
    """The widest float32 interval inside `bounds`."""
    low, high = np.float32(bounds[0]), np.float32(bounds[1])
    if float(low) < bounds[0]:
        low = np.nextafter(low, np.float32(np.inf))
    if float(high) > bounds[1]:
        high = np.nextafter(high, np.float32(-np.inf))
    return low, high


def rooms(clean: Double, bounds: Bounds) -> tuple[Double, Double]:
    """Distances that each element may fall and rise before it meets the bounds, both >= 0."""
    return np.maximum(clean - bounds[0], 0.0), np.maximum(bounds[1] - clean, 0.0)


def l2_projection(delta: Double, eps: float) -> Double:
    """Scale each row that is longer than `eps`."""
    length = lp_norm(delta, 2)
    factor = eps / np.maximum(length, eps)
    return delta * _column(factor, delta)


def l1_projection(delta: Double, fall: Double | float, rise: Double | float, eps: float) -> Double:
    """The nearest point with L1 norm <= `eps` inside the box [-fall, rise] around zero.

    The solution is min(max(|d| - t, 0), room); its norm is piecewise linear in t with one knee at
    |d| - room and one at |d| for each element, so that sorting the knees gives t exactly
    (Duchi et al. 2008 without the box; Croce and Hein, "Mind the box", 2021, with it).
    """
    rows = flat(delta)
    size = np.abs(rows)
    room = np.where(delta > 0, rise, fall).reshape(rows.shape)
    capped = np.minimum(size, room)
    outside = np.flatnonzero(capped.sum(axis=1) > eps)
    threshold = np.zeros(len(rows))
    if len(outside):
        threshold[outside] = _l1_threshold(size[outside], room[outside], eps)
    lowered = np.minimum(np.maximum(size - threshold[:, None], 0.0), room)
    return np.asarray((np.sign(rows) * lowered).reshape(delta.shape))


def _l1_threshold(size: Double, room: Double, eps: float) -> Double:
    knees = np.concatenate([np.maximum(size - room, 0.0), size], axis=1)
    slopes = np.concatenate([np.full(size.shape, -1.0), np.full(size.shape, 1.0)], axis=1)
    order = np.argsort(knees, axis=1, kind="stable")
    knees = np.take_along_axis(knees, order, axis=1)
    slope = np.cumsum(np.take_along_axis(slopes, order, axis=1), axis=1)
    falls = slope[:, :-1] * np.diff(knees, axis=1)
    start = np.minimum(size, room).sum(axis=1, keepdims=True)
    norm = np.concatenate([start, start + np.cumsum(falls, axis=1)], axis=1)
    # The last knee whose norm is still above eps: norm(t) = norm + slope * (t - knee) from there.
    last = np.maximum((norm > eps).sum(axis=1) - 1, 0)[:, None]
    at, height, incline = (np.take_along_axis(a, last, axis=1)[:, 0] for a in (knees, norm, slope))
    return np.asarray(at + (eps - height) / np.minimum(incline, -1.0))


def _tighten(x: Float, clean: Double, norm: float, eps: float) -> Float:
    """Take back what rounding to float32 put outside the ball."""
    shrink = 2.0**-23
    while True:
        over = np.flatnonzero(lp_norm(x - clean, norm) > eps)
        if not len(over):
            return x
        part = clean[over]
        delta = x[over] - part
        factor = eps / lp_norm(delta, norm) * max(1.0 - shrink, 0.0)
        x[over] = part + delta * _column(factor, delta)
        shrink *= 2


def _column(values: Double, like: NDArray[Any]) -> Double:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def l1_ball_step(x: Array, step: Array, eps: float, bounds: Bounds) -> Array:
    """The step nearest to `step` in L2 of L1 norm <= eps and with x + step inside the bounds.

    Soft thresholding of every row within its room; the norm is that of the ball to 3e-6, from
    below. Croce & Hein, "Mind the box" (2021), proposition 2.2.
    """
    moved = np.empty_like(step)
    for rows in cache_sized(step.shape):
        shape = Ragged(np.full(len(step[rows]), step.shape[1]))
        nearest = ragged_l1_ball_step(x[rows].ravel(), step[rows].ravel(), shape, eps, bounds)
        moved[rows] = nearest.reshape(moved[rows].shape)
    return moved


def ragged_l1_ball_step(x: Array, step: Array, shape: Ragged, eps: float, bounds: Bounds) -> Array:
    """`l1_ball_step` for the elements (m,) of rows that lie like `shape`."""
    direction = np.sign(step)
    size, room = np.abs(step), room_towards(x, direction, bounds)
    moved = _lowered(size, room, shape, _threshold(size, room, shape, eps))
    moved *= direction
    return moved


def _threshold(size: Array, room: Array, shape: Ragged, eps: float) -> Array:
    """The t >= 0 of each row, (n,), with which the sum of clip(size - t, 0, room) is <= eps.

    Where t > 0, the sum is eps less 1e-6 to 3e-6 of it. The sum falls by one for each element that
    is left, at most, which is a lower end for t and leaves few elements. From there Newton's
    method, kept between the ends of a bisection: the sum is neither convex nor concave in t, and
    where Newton creeps or cycles every other step halves.
    """
    total = size.dtype.type(eps * (1 - 2e-6))
    norm = shape.sums(np.minimum(size, room))
    unfinished = norm > eps
    least = (norm - total) / np.maximum(shape.counts(size > 0), 1).astype(size.dtype)
    level = low = np.where(unfinished, least * size.dtype.type(1 - 1e-5), 0)
    high = shape.largest(size)
    above, shape = shape.chosen(size > shape.repeated(low))
    size, room = size[above], room[above]
    for step in range(100):
        moved = _lowered(size, room, shape, level)
        excess = shape.sums(moved) - total
        unfinished &= np.abs(excess) > 1e-6 * total
        if not unfinished.any():
            return level
        over = excess > 0
        low, high = np.where(over, level, low), np.where(over, high, level)
        moving = shape.counts((moved > 0) & (moved < room))
        newton = level + excess / np.maximum(moving, 1).astype(size.dtype)
        inside = (newton > low) & (newton < high) & (step < 10 or step % 2 == 0)
        level = np.where(unfinished, np.where(inside, newton, (low + high) / 2), level)
    return np.where(unfinished, high, level)


def _lowered(size: Array, room: Array, shape: Ragged, level: Array) -> Array:
    """clip(size - level, 0, room), with the level of each row, (m,)."""
    moved = size - shape.repeated(level)
    return np.asarray(np.minimum(np.maximum(moved, 0, out=moved), room, out=moved))


def room_towards(x: Array, direction: Array, bounds: Bounds) -> Array:
    """Distance that each element may move in its direction before it meets a bound."""
    middle, half = (bounds[0] + bounds[1]) / 2, (bounds[1] - bounds[0]) / 2
    room = middle - x
    room *= direction
    room += half
    return np.maximum(room, 0, out=room)
