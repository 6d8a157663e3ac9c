"""Square attack: random search over square windows, on scores alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_qnnrobust.attacks.base import FixedBudgetAttack
from pytest_qnnrobust.attacks.settings import flag, fraction, integer, setting
from pytest_qnnrobust.attacks.square.l1 import L1Search, refill
from pytest_qnnrobust.attacks.square.l2 import GridL2Search, redistribute_steps
from pytest_qnnrobust.attacks.square.search import Search
from pytest_qnnrobust.attacks.square.windows import (
    SCHEDULED,
    Image,
    Size,
    channel_mass,
    drawn_windows,
    p_schedule,
    read,
    refilled,
    two_bumps,
    window_at,
    window_size,
    write,
)
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Rows, Target
from pytest_qnnrobust.types import Double, Float, Labels

Move = Callable[[Any, Rows, Double, Size], Float]

REDRAWS = 8
"""Number of times that an Linf window that would change nothing is given new signs."""

PERIOD = 16
"""Iterations of a sample whose random numbers are drawn together."""


@dataclass(frozen=True, kw_only=True, repr=False)
class SquareAttack(FixedBudgetAttack):
    """Andriushchenko et al., "Square Attack" (2020), algorithms 1 to 3, Linf and L2, and its L1
    form of Croce & Hein, "Mind the box" (2021), section 5.

    Every iteration changes one window of a share `p` of the pixels and keeps the change if the
    margin of the logits falls; `p` starts at `p_init` and shrinks on the authors' schedule for
    10,000 iterations, scaled to `max_iter` if `rescale` (AutoAttack leaves it as it is). In L1 a
    step may overdraw the budget: what counts is its Euclidean projection onto the ball inside the
    bounds, which makes it sparse. Any input shape (h, w), (h, w, c) or (n,); on strongly
    rectangular inputs a window becomes a rectangle of the same area. Stops a sample at its first
    success.

    Gray-box, up to 1 + max_iter queries.
    """

    knowledge = "gray"
    norms = (1.0, 2.0, np.inf)

    norm: float = np.inf
    eps: float = 0.015
    max_iter: int = setting(1000, integer())
    p_init: float = setting(0.05, fraction())
    rescale: bool = setting(True, flag())

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        linf = np.isinf(self.norm)
        search, move = _search(target, self.norm)
        rows = target.all_rows
        first = (_stripes if linf else _bumps)(search, rows, streams)
        rows = rows[~search.attempt(rows, first)]
        each = (2 if linf else 5) + search.image[2] * (REDRAWS if linf else 1)
        numbers = np.empty((len(target), PERIOD, each))
        for iteration in range(self.max_iter):
            if not len(rows):
                return
            if iteration % PERIOD == 0:
                numbers[rows] = streams.uniform(rows, PERIOD, each)
            drawn = numbers[rows, iteration % PERIOD]
            candidates = move(search, rows, drawn, self._size(iteration, search.image))
            rows = rows[~search.attempt(rows, candidates)]
            target.progress(iteration + 1, self.max_iter)

    def _size(self, iteration: int, image: Image) -> Size:
        """Height and width of the windows of an iteration."""
        least = 1 if np.isinf(self.norm) else 3
        whole = self.max_iter if self.rescale else SCHEDULED
        return window_size(p_schedule(self.p_init, iteration, whole), image, least)


def _search(target: Target, norm: float) -> tuple[Search, Move]:
    """The search of this norm and what makes its candidates."""
    if np.isinf(norm):
        return Search(target, norm), _recolour
    if norm == 1:
        return L1Search(target), refill
    if target.grid is not None:
        return GridL2Search(target, target.grid), redistribute_steps
    return Search(target, norm), _redistribute


def _stripes(search: Search, rows: Rows, streams: Streams) -> Float:
    """Vertical stripes of +-eps, a sign for each column and channel."""
    _, width, channels = search.image
    signs = streams.signs(rows, width * channels).reshape(-1, 1, width, channels)
    stripes = np.broadcast_to(search.eps * signs, (len(rows), *search.image))
    return search.displaced(rows, stripes.astype(np.float32))


def _recolour(search: Search, rows: Rows, numbers: Double, size: Size) -> Float:
    """Give one window +-eps, a sign for each channel; redraw signs that would change nothing."""
    candidate = search.best[rows]
    window = window_at(numbers[:, :2], size, search.image)
    before = read(candidate, window)
    wanted = (rows[:, None, None], *window[1:])
    low, high = (read(end.reshape(search.clean.shape), wanted) for end in search.target.box)
    upwards = numbers[:, 2:].reshape(len(rows), REDRAWS, 1, 1, -1) < 0.5
    pending = np.arange(len(rows))
    for draw in range(REDRAWS):
        colour = np.where(upwards[pending, draw], high[pending], low[pending])
        first, line, column = window
        write(candidate, (first[pending], line[pending], column[pending]), colour)
        moved = np.abs(colour - before[pending])
        pending = pending[(moved < 1e-7 * search.target.span).all(axis=(1, 2, 3))]
        if not len(pending):
            break
    return np.asarray(candidate)


def _bumps(search: Search, rows: Rows, streams: Streams) -> Float:
    """A grid of about 5 x 5 two-sided bumps, with a sign for each bump and channel."""
    height, width, channels = search.image
    side = (min(height, width) // 5,) * 2
    if side[0] == 0:
        side = max(height // 5, 1), max(width // 5, 1)
    down, along = height // side[0], width // side[1]
    top, left = height % side[0] // 2, width % side[1] // 2
    numbers = streams.uniform(rows, down * along, channels + 1)
    signs = np.where(numbers[:, :, :channels] >= 0.5, 1, -1).astype(np.float32)
    bumps = two_bumps(*side, numbers[:, :, channels].ravel() < 0.5, search.norm)
    grid = bumps.reshape(-1, down, along, *side, 1) * signs.reshape(-1, down, along, 1, 1, channels)
    delta = np.zeros((len(rows), *search.image), np.float32)
    inside = delta[:, top : top + down * side[0], left : left + along * side[1]]
    inside[:] = grid.swapaxes(2, 3).reshape(inside.shape)
    return search.displaced(rows, _of_length(delta, search))


def _redistribute(search: Search, rows: Rows, numbers: Double, size: Size) -> Float:
    """Move the L2 norm of two windows, and what is unused, into a new bump in the first of them."""
    first, second = drawn_windows(numbers, size, search.image)
    delta = search.best[rows] - search.clean[rows]
    spent = channel_mass(delta, 2.0).sum(axis=-1, keepdims=True)
    unused = np.maximum(search.eps**2 - spent, 0.0) / search.image[2]
    old = read(delta, first).astype(np.float64)
    mass = channel_mass(old, 2.0)
    delta[first] = 0.0
    freed = channel_mass(read(delta, second), 2.0)
    delta[second] = 0.0
    write(delta, first, refilled(old, mass, freed, unused, numbers, 2.0))
    return search.displaced(rows, _of_length(delta, search))


def _of_length(delta: Float, search: Search) -> Float:
    """Scale to L2 length eps; leave L1 as it is, whose projection makes use of the surplus."""
    if search.norm == 1:
        return delta
    length = np.sqrt(channel_mass(delta, 2.0).sum(axis=-1, keepdims=True))
    delta *= search.eps / np.maximum(length, 1e-12 * search.eps)
    return delta
