"""Shortest steps from points of a box onto hyperplanes, in L1, L2 and Linf.

Arrays are (n, elements), one point per row, in float32 or float64, and the result has that
precision. Every row is treated alone, so that a result does not depend on the batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.geometry.balls import room_towards
from pytest_qnnrobust.types import Array, Bounds

FIRST = 128
"""Number of largest slopes that the L1 step looks at before it sorts them all."""


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
    room = room_towards(x, direction, bounds)
    if norm == 1:
        length = _largest_first(size, room, wanted)
    else:
        length = _at_one_level(size, room, wanted, proportional=norm == 2)
    length *= direction
    return length


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
