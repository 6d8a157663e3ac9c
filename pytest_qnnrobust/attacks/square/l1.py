"""The Square attack in L1, on the few elements that soft thresholding leaves displaced.

A point displaces some 5 to 10 % of the elements of an image, and a candidate differs from the best
point in these and in two windows. What is computed is computed for these alone. They stand in one
array (attacks.geometry.ragged), so that the sum over a row does not depend on the batch.
"""

from __future__ import annotations

import numpy as np

from pytest_qnnrobust.attacks.geometry.balls import float32_bounds, ragged_l1_ball_step
from pytest_qnnrobust.attacks.geometry.grids import ragged_l1_to_grid
from pytest_qnnrobust.attacks.geometry.ragged import Ragged
from pytest_qnnrobust.attacks.square.search import Search
from pytest_qnnrobust.attacks.square.windows import (
    Size,
    channel_mass,
    drawn_windows,
    read,
    refilled,
    write,
)
from pytest_qnnrobust.attacks.target import Rows, Target
from pytest_qnnrobust.metrics import flat
from pytest_qnnrobust.types import Double, Float


class L1Search(Search):
    """A search that knows `places`, the positions of the displaced elements of each best point.

    A point without any has the first element of the image there, since no row may be empty.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target, 1.0)
        self.places: list[Rows] = [np.zeros(1, np.int64)] * len(target)

    def keep(self, rows: Rows, points: Float) -> None:
        super().keep(rows, points)
        for row, moved in zip(rows.tolist(), flat(points != self.clean[rows]), strict=True):
            places = np.flatnonzero(moved)
            self.places[row] = places if len(places) else np.zeros(1, np.int64)

    def displaced(self, rows: Rows, delta: Float) -> Float:
        """The clean images plus `delta`, brought into the budget, the bounds and the grid."""
        clean = self.clean[rows].ravel()
        shape = Ragged(np.full(len(rows), delta[0].size))
        values = self.legal(clean, delta.ravel(), shape)
        return self.tightened(rows, values.reshape(delta.shape), values - clean, shape)

    def legal(self, clean: Float, step: Float, shape: Ragged) -> Float:
        """`displaced` for the elements (m,) of rows that lie like `shape`; to float32 rounding."""
        target = self.target
        step = ragged_l1_ball_step(clean, step, shape, self.eps, target.bounds)
        if target.grid is not None:
            return ragged_l1_to_grid(clean, step, shape, self.eps, target.bounds, target.grid)
        step += clean
        low, high = float32_bounds(target.bounds)
        return np.minimum(np.maximum(step, low, out=step), high, out=step)

    def tightened(self, rows: Rows, points: Float, step: Float, shape: Ragged) -> Float:
        """Project again the points that rounding to float32 may have put outside the L1 ball.

        `step` (m,) is where their elements are displaced.
        """
        if self.target.grid is not None:
            return points
        over = np.flatnonzero(shape.sums(np.abs(step)) > self.eps * (1 - 5e-7))
        if len(over):
            outside = points[over].reshape(-1, *self.target.input_shape)
            points[over] = self.target.project(outside, rows[over]).reshape(-1, *self.image)
        return points


def refill(search: L1Search, rows: Rows, numbers: Double, size: Size) -> Float:
    """Move the L1 norm of two windows, and what is unused, into a new bump in the first of them.

    A row is the elements that its best point displaces, and then those of the first window. An
    element that is both has no displacement in the former, and its value in the latter counts.
    """
    first, second = drawn_windows(numbers, size, search.image)
    points = search.best[rows]
    old = search.emptied(rows, points, first)
    freed = channel_mass(search.emptied(rows, points, second), 1.0)
    window = read(points, first)

    places = [search.places[row] for row in rows.tolist()]
    count = [len(place) for place in places]
    shape = Ragged([count, [old[0].size] * len(rows)])
    elements = points[0].size
    positions = np.concatenate(places)
    at = positions + np.repeat(np.arange(len(rows)) * elements, count)
    clean = search.clean.reshape(-1).take(positions + np.repeat(rows * elements, count))
    displaced = points.reshape(-1).take(at) - clean

    spent = Ragged(shape.lengths[0]).sums(np.abs(displaced))[:, None, None, None]
    mass = channel_mass(old, 1.0)
    spent = spent + (mass + freed).sum(axis=-1, keepdims=True)
    unused = np.maximum(search.eps - spent, 0.0) / search.image[2]
    new = refilled(old, mass, freed, unused, numbers, 1.0)
    new *= search.image[2]

    clean = np.concatenate([clean, window.ravel()])
    values = search.legal(clean, np.concatenate([displaced, new.ravel()]), shape)
    points.reshape(-1)[at] = values[: len(at)]
    write(points, first, values[len(at) :].reshape(window.shape))
    return search.tightened(rows, points, values - clean, shape)
