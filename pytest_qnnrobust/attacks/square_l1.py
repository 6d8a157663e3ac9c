"""The Square attack in L1, on the few elements that soft thresholding leaves displaced.

A point displaces some 5 to 10 % of the elements of an image, and a candidate differs from the best
point in these and in two windows. What is computed is computed for these alone. They stand in one
array, row after row, so that the sum over a row does not depend on the batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.geometry import float32_bounds, ragged_l1_to_grid
from pytest_qnnrobust.attacks.projections import ragged_l1_ball_step, row_starts
from pytest_qnnrobust.attacks.square_search import Search
from pytest_qnnrobust.attacks.square_windows import (
    Size,
    Window,
    channel_mass,
    drawn_windows,
    refilled,
)
from pytest_qnnrobust.attacks.target import Float, Rows, Target
from pytest_qnnrobust.metrics import flat

Double = NDArray[np.float64]


class L1Search(Search):
    """A search that knows `places`, the positions of the displaced elements of each best point."""

    def __init__(self, target: Target) -> None:
        super().__init__(target, 1.0)
        self.places: list[Rows] = [np.empty(0, np.int64)] * len(target)

    def keep(self, rows: Rows, points: Float) -> None:
        super().keep(rows, points)
        for row, moved in zip(rows.tolist(), flat(points != self.clean[rows]), strict=True):
            (self.places[row],) = moved.nonzero()

    def displaced(self, rows: Rows, delta: Float) -> Float:
        """The clean images plus `delta`, brought into the budget, the bounds and the grid."""
        clean = self.clean[rows].ravel()
        lengths = np.full(len(rows), delta[0].size)
        values = self.legal(clean, delta.ravel(), lengths)
        return self.tightened(rows, values.reshape(delta.shape), values - clean, lengths)

    def legal(self, clean: Float, step: Float, lengths: Rows) -> Float:
        """`displaced` for the elements (m,) that are, row after row; to float32 rounding."""
        target = self.target
        step = ragged_l1_ball_step(clean, step, lengths, self.eps, target.bounds)
        if target.grid is not None:
            bounds = target.bounds
            return ragged_l1_to_grid(clean, step, lengths, self.eps, bounds, target.grid)
        step += clean
        return np.clip(step, *float32_bounds(target.bounds), out=step)

    def tightened(self, rows: Rows, points: Float, step: Float, lengths: Rows) -> Float:
        """Project again the points that rounding to float32 may have put outside the L1 ball.

        `step` (m,) is where their elements are displaced, row after row.
        """
        if self.target.grid is not None:
            return points
        norm = np.add.reduceat(np.abs(step), row_starts(lengths))
        over = np.flatnonzero(norm > self.eps * (1 - 5e-7))
        if len(over):
            outside = points[over].reshape(-1, *self.target.input_shape)
            points[over] = self.target.project(outside, rows[over]).reshape(-1, *self.image)
        return points


def refill(search: L1Search, rows: Rows, numbers: Double, size: Size) -> Float:
    """Move the L1 norm of two windows, and what is unused, into a new bump in the first of them."""
    first, second = drawn_windows(numbers, size, search.image)
    points = search.best[rows]
    old = search.emptied(rows, points, first)
    freed = channel_mass(search.emptied(rows, points, second), 1.0)

    places, lengths, fresh = _listed(search, rows, first)
    elements = points[0].size
    at = places + np.repeat(np.arange(len(rows)) * elements, lengths)
    clean = search.clean.reshape(-1).take(places + np.repeat(rows * elements, lengths))
    step = points.reshape(-1).take(at) - clean
    spent = np.add.reduceat(np.abs(step), row_starts(lengths))[:, None, None, None]
    spent = spent + (channel_mass(old, 1.0) + freed).sum(axis=-1, keepdims=True)
    unused = np.maximum(search.eps - spent, 0.0) / search.image[2]
    new = refilled(old, freed, unused, numbers, 1.0)
    step[fresh] = (new * search.image[2]).reshape(fresh.shape)

    values = search.legal(clean, step, lengths)
    points.reshape(-1)[at] = values
    return search.tightened(rows, points, values - clean, lengths)


def _listed(search: L1Search, rows: Rows, window: Window) -> tuple[Rows, Rows, Rows]:
    """The elements that the best points displace, and after them those of the windows.

    Returns their positions (m,) in the image, row after row, the `lengths` of the rows, and where
    in the list the elements of the windows are, (n, height * width * channels). An element that is
    both stands there twice; its last value counts.
    """
    _, width, channels = search.image
    pixels = window[1] * width + window[2]
    drawn = (pixels[..., None] * channels + np.arange(channels)).reshape(len(rows), -1)
    known = [search.places[row] for row in rows.tolist()]
    count = np.array([len(places) for places in known], np.int64)
    places = np.concatenate([part for both in zip(known, drawn, strict=True) for part in both])
    lengths = count + drawn.shape[1]
    fresh = (row_starts(lengths) + count)[:, None] + np.arange(drawn.shape[1])
    return places, lengths, fresh
