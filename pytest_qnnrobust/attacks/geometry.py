"""Norm balls, input bounds and input grids: projections that hold exactly in float32.

Arrays are (N, ...) with one sample per row; the arithmetic is float64 and treats each row alone,
so that a result does not depend on the batch it was computed in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.ragged import Ragged
from pytest_qnnrobust.metrics import flat, lp_norm
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.types import Bounds, Double, Float

FIRST = 512
"""Roundings of a row that are looked at before all of them are sorted."""

TOGETHER = 1 << 16
"""Elements that are worked on together."""

BUDGET_TOLERANCE = 1e-6
"""Relative slack of a budget on a quantized input: 8/255 has to hold 8 steps of float32(1/255)."""


def cache_sized(shape: tuple[int, ...]) -> list[slice]:
    """Slices of the rows of an array whose float64 temporaries fit the processor's cache."""
    rows = max(1, TOGETHER // max(1, int(np.prod(shape[1:]))))
    return [slice(row, row + rows) for row in range(0, shape[0], rows)]


def whole_steps(eps: float, grid: InputGrid) -> int:
    """How many input LSBs fit into `eps`."""
    return int(eps / grid.scale * (1 + BUDGET_TOLERANCE))


def project(x: NDArray[Any], clean: NDArray[Any], norm: float, eps: float, bounds: Bounds) -> Float:
    """Into the ball of radius `eps` around `clean` and into `bounds`; float32, never outside.

    L1 is the Euclidean projection onto the intersection of both. L2 and Linf project onto the ball
    and then clip, which cannot leave it again because `clean` lies inside the bounds.
    """
    parts = cache_sized(clean.shape)
    if len(parts) > 1:
        return np.concatenate([project(x[part], clean[part], norm, eps, bounds) for part in parts])
    if np.isinf(norm):
        return np.clip(np.asarray(x, np.float32), *linf_box(clean, eps, bounds))
    start = np.asarray(clean, np.float64)
    inside = (start + _displacement(x, start, norm, eps, bounds)).astype(np.float32)
    return _tighten(np.clip(inside, *float32_bounds(bounds)), start, norm, eps)


def _displacement(
    x: NDArray[Any], clean: Double, norm: float, eps: float, bounds: Bounds
) -> Double:
    """From `clean` to the projection of `x` onto the L1 ball inside the bounds, or the L2 ball."""
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


def project_to_grid(
    x: NDArray[Any],
    clean: NDArray[Any],
    norm: float,
    eps: float,
    bounds: Bounds,
    grid: InputGrid,
) -> Float:
    """Like `project`, onto the points of a quantized input; `clean` is on the grid already.

    Each element is rounded to the nearest step; where that leaves the ball, the elements that
    rounding moved away from `clean` go back, those closest to a tie first, until the rest fits.
    A few rows are projected together, so that what is made of them fits the cache.
    """
    parts = cache_sized(clean.shape)
    if len(parts) > 1:
        ball = (norm, eps, bounds, grid)
        return np.concatenate([project_to_grid(x[part], clean[part], *ball) for part in parts])
    here = np.asarray(clean, np.float64)
    if not np.isinf(norm):
        limit = np.full(len(here), eps / grid.scale * (1 + BUDGET_TOLERANCE))
        wanted = _displacement(x, here, norm, eps, bounds)
        wanted /= grid.scale
        return steps_to_grid(clean, wanted, norm, limit, bounds, grid)
    start, fall, rise = _integer_rooms(clean, bounds, grid)
    reach = whole_steps(eps, grid)
    inside = project(x, here, norm, eps, bounds).astype(np.float64)
    steps = np.clip(np.rint((inside - here) / grid.scale), -reach, reach)
    return grid.dequantize((start + np.clip(steps, fall, rise)).astype(grid.dtype))


def steps_to_grid(
    clean: NDArray[Any], wanted: Double, norm: float, limit: Double, bounds: Bounds, grid: InputGrid
) -> Float:
    """`project_to_grid` in L1 or L2 of `clean` + `wanted` (n, ...), which lies in the ball already.

    `wanted` and the radius `limit` (n,) of each row's ball are in input steps.
    """
    start, fall, rise = _integer_rooms(clean, bounds, grid)
    steps = _trim(np.clip(np.rint(wanted), fall, rise), wanted, norm, limit)
    return grid.dequantize((start + steps).astype(grid.dtype))


def ragged_l1_to_grid(
    clean: Float, step: NDArray[Any], shape: Ragged, eps: float, bounds: Bounds, grid: InputGrid
) -> Float:
    """`project_to_grid` in L1 of `clean` + `step`, which lies in the ball and the bounds already.

    Both are (m,): the elements of rows that lie like `shape`.
    """
    start, fall, rise = _integer_rooms(clean, bounds, grid)
    wanted = step.astype(np.float64) / grid.scale
    steps = np.clip(np.rint(wanted), fall, rise)
    size = np.abs(steps)
    excess = size - np.abs(wanted)
    limit = eps / grid.scale * (1 + BUDGET_TOLERANCE)
    needed = shape.repeated(np.ceil(shape.sums(size) - limit))
    outward = np.flatnonzero((excess > 0) & (needed > 0))
    row = shape.owners[outward]
    order = np.lexsort((-excess[outward], row))
    outward, row = outward[order], row[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    back = outward[rank < needed[outward]]
    steps[back] -= np.sign(steps[back])
    return grid.dequantize((start + steps).astype(grid.dtype))


def _integer_rooms(
    clean: NDArray[Any], bounds: Bounds, grid: InputGrid
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The integers of `clean`, and how far they may fall (<= 0) and rise (>= 0)."""
    start = grid.quantize(clean).astype(np.int32)
    least, most = integer_bounds(bounds, grid)
    return start, np.minimum(least - start, 0), np.maximum(most - start, 0)


def integer_bounds(bounds: Bounds, grid: InputGrid) -> tuple[int, int]:
    """The integers of the least and greatest grid point in `bounds`, to 0.01 of a step."""
    info = np.iinfo(grid.dtype)
    low, high = (bound / grid.scale + grid.zero_point for bound in bounds)
    return max(int(np.ceil(low - 0.01)), info.min), min(int(np.floor(high + 0.01)), info.max)


def float32_bounds(bounds: Bounds) -> tuple[np.float32, np.float32]:
    """The widest float32 interval inside `bounds`."""
    low, high = np.float32(bounds[0]), np.float32(bounds[1])
    if float(low) < bounds[0]:
        low = np.nextafter(low, np.float32(np.inf))
    if float(high) > bounds[1]:
        high = np.nextafter(high, np.float32(-np.inf))
    return low, high


def rooms(clean: Double, bounds: Bounds) -> tuple[Double, Double]:
    """How far each element may fall and rise before it meets the bounds, both >= 0."""
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
    kept = np.minimum(np.maximum(size - threshold[:, None], 0.0), room)
    return np.asarray((np.sign(rows) * kept).reshape(delta.shape))


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


def steepest(
    gradient: NDArray[Any], x: NDArray[Any], norm: float, eps: float, bounds: Bounds
) -> NDArray[Any]:
    """The step inside ball and bounds that raises a linear function with this gradient most.

    Exact in each norm: signs (Linf), the largest elements first up to their room (L1), the
    gradient's direction with the elements that meet the bounds held there (L2). Linf in the
    precision of `gradient`, the others in float64.
    """
    if np.isinf(norm):
        step = np.sign(gradient)
        step *= eps
        here = np.asarray(x, step.dtype)
        return np.asarray(np.clip(step, bounds[0] - here, bounds[1] - here))
    shape = np.shape(gradient)
    slope = np.asarray(gradient, np.float64).reshape(len(gradient), -1)
    fall, rise = rooms(np.asarray(x, np.float64).reshape(slope.shape), bounds)
    room = np.where(slope > 0, rise, fall)
    size = np.abs(slope)
    fill = _fill_largest if norm == 1 else _fill_direction
    length = fill(size, room, eps)
    return (np.sign(slope) * length).reshape(shape)


def _fill_largest(size: Double, room: Double, eps: float) -> Double:
    order = np.argsort(-size, axis=1, kind="stable")
    sorted_room = np.where(size > 0, room, 0.0)
    sorted_room = np.take_along_axis(sorted_room, order, axis=1)
    used = np.cumsum(sorted_room, axis=1) - sorted_room
    filled = np.clip(eps - used, 0.0, sorted_room)
    length = np.empty_like(filled)
    np.put_along_axis(length, order, filled, axis=1)
    return length


def _fill_direction(size: Double, room: Double, eps: float) -> Double:
    """min(t * size, room) with the largest t whose L2 norm stays within `eps`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        knee = np.where(size > 0, room / size, np.inf)
    order = np.argsort(knee, axis=1, kind="stable")
    knees, sizes, capped = (np.take_along_axis(a, order, axis=1) for a in (knee, size, room))
    moving = np.where(np.isfinite(knees), sizes * sizes, 0.0)
    held = np.cumsum(capped * capped * (moving > 0), axis=1)
    held = np.concatenate([np.zeros((len(size), 1)), held], axis=1)
    rest = moving.sum(axis=1, keepdims=True) - np.cumsum(moving, axis=1)
    rest = np.concatenate([moving.sum(axis=1, keepdims=True), np.maximum(rest, 0.0)], axis=1)
    # With the first j elements held, t = sqrt((eps^2 - held_j) / rest_j), valid below knee j + 1.
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.sqrt(np.maximum(eps * eps - held, 0.0) / rest)
    upper = np.concatenate([knees, np.full((len(size), 1), np.inf)], axis=1)
    t = np.where(np.isnan(t), np.inf, t)
    first = np.argmax(t <= upper, axis=1)[:, None]
    scale = np.take_along_axis(t, first, axis=1)
    with np.errstate(invalid="ignore"):
        length = np.minimum(scale * size, room)
    return np.where(size > 0, length, 0.0)


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


def _trim(steps: Double, wanted: Double, norm: float, limit: Double) -> Double:
    """Undo outward roundings, cheapest first, in the rows whose norm is above their `limit` (n,).

    Most rows need few: `FIRST` of them are looked at before all are sorted.
    """
    over = np.flatnonzero(lp_norm(steps, norm) > limit)
    for looked_at in (FIRST, None):
        if len(over):
            steps[over] = _undone(steps[over], wanted[over], norm, limit[over], looked_at)
            over = over[lp_norm(steps[over], norm) > limit[over]]
    return steps


def _undone(
    steps: Double, wanted: Double, norm: float, limit: Double, looked_at: int | None
) -> Double:
    """`steps` (n, ...) with the cheapest outward roundings undone, at most `looked_at` a row."""
    rows = flat(steps)
    size = np.abs(rows)
    excess = size - np.abs(flat(wanted))
    if looked_at is None or looked_at >= size.shape[1]:
        order = np.argsort(-excess, axis=1, kind="stable")
    else:
        first = np.argpartition(-excess, looked_at, axis=1)[:, :looked_at]
        ranked = np.argsort(-np.take_along_axis(excess, first, axis=1), axis=1, kind="stable")
        order = np.take_along_axis(first, ranked, axis=1)
    size = np.take_along_axis(size, order, axis=1)
    outward = np.take_along_axis(excess, order, axis=1) > 0
    gain = np.where(outward, size**norm - (size - 1) ** norm, 0.0)
    needed = (lp_norm(rows, norm) ** norm - limit**norm)[:, None]
    back = outward & (np.cumsum(gain, axis=1) - gain < needed)
    here = np.take_along_axis(rows, order, axis=1)
    np.put_along_axis(rows, order, here - np.sign(here) * back, axis=1)
    return rows.reshape(steps.shape)


def _column(values: Double, like: NDArray[Any]) -> Double:
    return values.reshape(-1, *[1] * (like.ndim - 1))
