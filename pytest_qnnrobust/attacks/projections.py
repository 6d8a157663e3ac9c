"""Shortest steps from points of a box onto hyperplanes, in L1, L2 and Linf.

Arrays are (n, elements), one point per row, in float32 or float64, and the result has that
precision. Every row is treated alone, so that a result does not depend on the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.geometry import cache_sized
from pytest_qnnrobust.attacks.ragged import Ragged
from pytest_qnnrobust.types import Bounds

Array = NDArray[Any]

FIRST = 128
"""How many of the largest slopes the L1 step looks at before it sorts them all."""


def shortest_step(x: Array, slope: Array, gap: Array, bounds: Bounds, norm: float) -> Array:
    """The step d of least `norm` with <slope, d> = gap and x + d inside the bounds, (n, elements).

    `x` lies inside the bounds, `gap` is (n,). Where the box does not reach the hyperplane, the
    step goes as near to it as the box lets. Croce & Hein, "Minimally distorted adversarial
    examples with a fast adaptive boundary attack" (2020), eq. 5, solved exactly: in L1 the largest
    slopes move first, in L2 and Linf Newton's method finds the multiplier on its concave,
    piecewise linear equation.
    """
    direction = np.sign(slope)
    direction *= np.sign(gap)[:, None]
    size, wanted = np.abs(slope), np.abs(gap)
    room = _room(x, direction, bounds)
    if norm == 1:
        length = _largest_first(size, room, wanted)
    else:
        length = _at_one_level(size, room, wanted, proportional=norm == 2)
    length *= direction
    return length


def l1_ball_step(x: Array, step: Array, eps: float, bounds: Bounds) -> Array:
    """The step nearest to `step` in L2 of L1 norm <= eps and with x + step inside the bounds.

    Soft thresholding of every row within its room; the norm is that of the ball to 3e-6, from
    below. Croce & Hein, "Mind the box" (2021), proposition 2.2.
    """
    moved = np.empty_like(step)
    for rows in cache_sized(step.shape):
        shape = Ragged(np.full(len(step[rows]), step.shape[1]))
        found = ragged_l1_ball_step(x[rows].ravel(), step[rows].ravel(), shape, eps, bounds)
        moved[rows] = found.reshape(moved[rows].shape)
    return moved


def ragged_l1_ball_step(x: Array, step: Array, shape: Ragged, eps: float, bounds: Bounds) -> Array:
    """`l1_ball_step` for the elements (m,) of rows that lie like `shape`."""
    direction = np.sign(step)
    size, room = np.abs(step), _room(x, direction, bounds)
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
    kept, shape = shape.chosen(size > shape.repeated(low))
    size, room = size[kept], room[kept]
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


def row_dot(a: Array, b: Array) -> Array:
    """Inner products of the rows, (n,); unlike einsum's, the same in any batch."""
    return np.asarray(np.matmul(a[:, None, :], b[:, :, None])[:, 0, 0])


def row_norm(a: Array, norm: float) -> Array:
    """L1, L2 or Linf norm of the rows, (n,), in the precision of `a`."""
    if norm == 2:
        return np.asarray(np.sqrt(row_dot(a, a)))
    if norm == 1:
        return np.asarray(np.abs(a).sum(axis=1))
    return np.asarray(np.maximum(a.max(axis=1), -a.min(axis=1)))


def _room(x: Array, direction: Array, bounds: Bounds) -> Array:
    """How far each element may move in its direction."""
    middle, half = (bounds[0] + bounds[1]) / 2, (bounds[1] - bounds[0]) / 2
    room = middle - x
    room *= direction
    room += half
    return np.maximum(room, 0, out=room)


def _at_one_level(size: Array, room: Array, wanted: Array, proportional: bool) -> Array:
    """min(t * size, room), or min(t, room), with the t for which <size, .> is `wanted`."""
    epsilon = np.finfo(size.dtype).eps
    length = np.zeros_like(room)
    level, short = np.zeros_like(wanted), wanted.copy()
    rows = np.flatnonzero(wanted > 0)
    while len(rows):
        sizes, rooms = (size, room) if len(rows) == len(size) else (size[rows], room[rows])
        free = sizes * (_reach(level[rows], sizes, proportional) < rooms)
        rate = row_dot(free, sizes) if proportional else free.sum(axis=1)
        rise = np.divide(short[rows], rate, out=np.zeros_like(rate), where=rate > 0)
        level[rows] += rise
        lengths = np.minimum(_reach(level[rows], sizes, proportional), rooms)
        length[rows] = lengths
        short[rows] = wanted[rows] - row_dot(sizes, lengths)
        unfinished = short[rows] > 100 * epsilon * wanted[rows]
        rows = rows[unfinished & (rise > 4 * epsilon * level[rows])]
    return length


def _reach(level: Array, size: Array, proportional: bool) -> Array:
    return np.asarray(level[:, None] * size if proportional else level[:, None])


def _largest_first(size: Array, room: Array, wanted: Array) -> Array:
    """`room` in the elements of the largest sizes, until <size, .> is `wanted`."""
    length = np.zeros_like(room)
    movable = size * (room > 0)
    count = size.shape[1]
    rows = np.arange(len(size))
    if count > FIRST:
        largest = np.argpartition(movable, count - FIRST, axis=1)[:, count - FIRST :]
        rows = rows[_fill(length, rows, largest, movable, room, wanted)]
    if len(rows):
        _fill(length, rows, np.arange(count)[None, :], movable, room, wanted)
    return length


def _fill(
    length: Array, rows: Array, among: Array, size: Array, room: Array, wanted: Array
) -> NDArray[np.bool_]:
    """Set `length` in the elements `among` of these rows; true where they were not enough."""
    sizes = size[rows[:, None], among].astype(np.float64)
    order = np.argsort(-sizes, axis=1, kind="stable")
    chosen = np.take_along_axis(np.broadcast_to(among, order.shape), order, axis=1)
    sizes = np.take_along_axis(sizes, order, axis=1)
    rooms = room[rows[:, None], chosen].astype(np.float64)
    gains = sizes * rooms
    total = np.cumsum(gains, axis=1)
    rest = np.maximum(wanted[rows, None] - (total - gains), 0)
    needed = np.divide(rest, sizes, out=np.zeros_like(rest), where=sizes > 0)
    length[rows[:, None], chosen] = np.minimum(needed, rooms)
    return np.asarray(total[:, -1] < wanted[rows])
