"""Input grids: projections onto the points of a quantized input, exact in whole steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.geometry.balls import cache_sized, displacement, project
from pytest_qnnrobust.attacks.geometry.ragged import Ragged
from pytest_qnnrobust.metrics import flat, lp_norm
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.types import Bounds, Double, Float

FIRST = 512
"""Roundings of a row that are looked at before all of them are sorted."""

BUDGET_TOLERANCE = 1e-6
"""Relative slack of a budget on a quantized input: 8/255 has to hold 8 steps of float32(1/255)."""

STEP_TOLERANCE = 1e-3
"""Part of a step that an Linf budget may lack of a whole number of them: 2/255 written 0.00784."""


def whole_steps(eps: float, grid: InputGrid) -> int:
    """Number of input LSBs that fit into `eps`, an Linf budget."""
    return int(eps / grid.scale + STEP_TOLERANCE)


def project_to_grid(
    x: NDArray[Any],
    clean: NDArray[Any],
    norm: float,
    eps: float,
    bounds: Bounds,
    grid: InputGrid,
) -> Float:
    """Project as `project` does, onto the points of a quantized input; `clean` is on the grid.

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
        wanted = displacement(x, here, norm, eps, bounds)
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
