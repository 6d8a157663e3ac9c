"""The Square attack in L2 on a quantized input, on the elements of its two windows alone.

A candidate has the length of the budget by construction: what the first window receives is what
both held and what was unused. Outside the windows it is the best point, whole steps already, so
that only the first window has to be rounded, within what the rest leaves of the budget.
"""

from __future__ import annotations

import numpy as np

from pytest_qnnrobust.attacks.geometry.grids import BUDGET_TOLERANCE, steps_to_grid
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
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.types import Double, Float


class GridL2Search(Search):
    """A search that knows `spent`, the squared L2 length of each best point; all in input steps."""

    def __init__(self, target: Target, grid: InputGrid) -> None:
        super().__init__(target, 2.0)
        self.grid = grid
        self.radius = target.eps / grid.scale
        self.spent = np.zeros(len(target))

    def keep(self, rows: Rows, points: Float) -> None:
        super().keep(rows, points)
        self.spent[rows] = _squares(self.steps(points - self.clean[rows]))

    def steps(self, displaced: Float) -> Double:
        """The whole steps that this displacement between two points of the grid is."""
        return np.rint(displaced.astype(np.float64) / self.grid.scale)


def redistribute_steps(search: GridL2Search, rows: Rows, numbers: Double, size: Size) -> Float:
    """Move the L2 norm of two windows, and what is unused, into a new bump in the first of them."""
    first, second = drawn_windows(numbers, size, search.image)
    points: Float = search.best[rows]
    old = search.steps(search.emptied(rows, points, first))
    other = search.steps(search.emptied(rows, points, second))

    spent = search.spent[rows]
    unused = np.maximum(search.radius**2 - spent, 0.0) / search.image[2]
    unused = unused[:, None, None, None]
    mass, freed = channel_mass(old, 2.0), channel_mass(other, 2.0)
    new = refilled(old, mass, freed, unused, numbers, 2.0)

    rest = spent - _squares(old) - _squares(other)
    limit = np.sqrt(np.maximum((search.radius * (1 + BUDGET_TOLERANCE)) ** 2 - rest, 0.0))
    clean = read(points, first)
    bounds = search.target.bounds
    write(points, first, steps_to_grid(clean, new, 2.0, limit, bounds, search.grid))
    return points


def _squares(steps: Double) -> Double:
    rows = flat(steps)
    return np.asarray(np.einsum("ne,ne->n", rows, rows))
