"""Square attack: random search over square windows, on scores alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import checks
from pytest_qnnrobust.attacks.base import FixedBudgetAttack
from pytest_qnnrobust.attacks.geometry import float32_bounds
from pytest_qnnrobust.attacks.losses import margin
from pytest_qnnrobust.attacks.projections import l1_ball_step, row_norm
from pytest_qnnrobust.attacks.square_windows import (
    SCHEDULED,
    Image,
    Size,
    channel_mass,
    image_shape,
    p_schedule,
    two_bumps,
    window_at,
    window_size,
)
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Float, Labels, Mask, Rows, Target
from pytest_qnnrobust.batching import bucket
from pytest_qnnrobust.metrics import flat

Double = NDArray[np.float64]

REDRAWS = 8
"""How often an Linf window that would change nothing is given new signs."""

AHEAD = 8
"""How many iterations of a sample are tried in one question at most."""

EAGER = 50
"""Iterations before the first one that is tried ahead: they accept too often for that."""

FULL = 64
"""Inputs that a question is filled up to; a smaller one costs a model hardly less."""


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

    Gray-box, up to 1 + max_iter queries. Where a question to the model has room, it holds the next
    few iterations of a sample as well, as if each before were refused; what the first accepted one
    makes obsolete is asked of the model but not counted.
    """

    knowledge = "gray"
    norms = (1.0, 2.0, np.inf)

    norm: float = np.inf
    eps: float = 0.015
    max_iter: int = 1000
    p_init: float = 0.05
    rescale: bool = True

    def _validate(self) -> None:
        super()._validate()
        checks.count(max_iter=self.max_iter)
        checks.fraction(p_init=self.p_init)
        checks.flag(rescale=self.rescale)

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        linf = np.isinf(self.norm)
        search = _Search(target, self.norm)
        rows = target.all_rows
        first = (_stripes if linf else _bumps)(search, rows, streams)
        _, fooled = search.attempt(rows, np.ones_like(rows), first)
        rows = rows[~fooled]
        move = _recolour if linf else _redistribute
        numbers = _Numbers(streams, (2 if linf else 5) + search.image[2] * (REDRAWS if linf else 1))
        sizes = self._sizes(search.image)
        done = np.zeros(len(target), np.int64)
        while len(rows):
            tries = self._tries(target, rows, done[rows])
            each, ahead = np.repeat(rows, tries), _count_up(tries)
            iteration = done[each] + ahead
            drawn = numbers.at(each, iteration)
            candidates = np.empty((len(each), *search.image), np.float32)
            for size in np.unique(sizes[iteration], axis=0):
                same = np.flatnonzero((sizes[iteration] == size).all(axis=1))
                candidates[same] = move(search, each[same], drawn[same], (size[0], size[1]))
            used, fooled = search.attempt(rows, tries, candidates)
            done[rows] += used
            rows = rows[~fooled & (done[rows] < self.max_iter)]
            target.progress(int(done[rows].min(initial=self.max_iter)), self.max_iter)

    def _sizes(self, image: Image) -> NDArray[np.int64]:
        """Height and width of the windows of every iteration, (max_iter, 2)."""
        least = 1 if np.isinf(self.norm) else 3
        whole = self.max_iter if self.rescale else SCHEDULED
        shares = (p_schedule(self.p_init, i, whole) for i in range(self.max_iter))
        return np.array([window_size(share, image, least) for share in shares], np.int64)

    def _tries(self, target: Target, rows: Rows, done: Rows) -> Rows:
        """How many iterations of each sample the next question holds."""
        left = self.max_iter - done
        if target.query_budget is not None:
            spent = target.queries[rows] + target.gradients[rows]
            left = np.clip(left, 1, np.maximum(target.query_budget - spent, 1))
        room = max(FULL, bucket(len(rows)))
        tries = room // len(rows) + (np.arange(len(rows)) < room % len(rows))
        return np.minimum(np.where(done < EAGER, 1, np.minimum(tries, AHEAD)), left)


class _Search:
    """The best point of every sample, as (B, height, width, channels), and its margin."""

    def __init__(self, target: Target, norm: float) -> None:
        self.target = target
        self.norm = norm
        self.image = image_shape(target.input_shape)
        self.eps = target.eps
        self.clean = target.x.reshape(-1, *self.image)
        self.best = self.clean.copy()
        self._loss = np.full(len(target), -np.inf)

    def attempt(self, rows: Rows, tries: Rows, candidates: Float) -> tuple[Rows, Mask]:
        """Keep, of each sample's candidates, the first that is misclassified or raises the loss.

        `candidates` holds `tries` (n,) in a row for each of `rows`. Returns how many of them count,
        up to the one that is kept, and whether that one is misclassified. The others are given back
        to the query count.
        """
        target = self.target
        each = np.repeat(rows, tries)
        inputs = candidates.reshape(-1, *target.input_shape)
        scores = target.evaluate(inputs, each)
        fooled = scores.labels != target.y[each]
        loss = margin(scores.logits, target.y[each])
        better = np.flatnonzero(fooled | (loss > self._loss[each]))
        owner, first = np.unique(np.repeat(np.arange(len(rows)), tries)[better], return_index=True)
        first = better[first]
        used = tries.copy()
        used[owner] = _count_up(tries)[first] + 1
        target.queries[rows] -= tries - used
        kept = rows[owner]
        self._loss[kept] = loss[first]
        self.best[kept] = candidates[first]
        target.propose(kept, inputs[first])
        success = np.zeros(len(rows), bool)
        success[owner] = fooled[first]
        return used, success

    def displaced(self, rows: Rows, delta: Float) -> Float:
        """The clean images plus `delta`, brought into the budget, the bounds and the grid."""
        target = self.target
        clean = self.clean[rows]
        if self.norm == 1:
            moved = l1_ball_step(flat(clean), flat(delta), self.eps, target.bounds)
            delta = moved.reshape(delta.shape)
        delta += clean
        if target.grid is not None:
            sealed = target.seal(delta.reshape(-1, *target.input_shape), rows)
            return sealed.reshape(delta.shape)
        np.clip(delta, *float32_bounds(target.bounds), out=delta)
        return self._tightened(rows, delta, clean) if self.norm == 1 else delta

    def _tightened(self, rows: Rows, moved: Float, clean: Float) -> Float:
        """Project again what rounding to float32 may have put outside the L1 ball."""
        over = np.flatnonzero(row_norm(flat(moved - clean), 1) > self.eps * (1 - 5e-7))
        if len(over):
            outside = moved[over].reshape(-1, *self.target.input_shape)
            moved[over] = self.target.project(outside, rows[over]).reshape(-1, *self.image)
        return moved


class _Numbers:
    """A fixed amount of uniform numbers for every iteration of a sample.

    Some iterations are looked at twice, first ahead of their turn, so that the numbers of the
    last two periods of `AHEAD` iterations are kept.
    """

    def __init__(self, streams: Streams, each: int) -> None:
        self._streams = streams
        self._table = np.empty((len(streams), 2, AHEAD, each))
        self._drawn = np.zeros(len(streams), np.int64)

    def at(self, rows: Rows, iteration: Rows) -> Double:
        """The numbers (n, each) of these iterations; iterations are reached in order."""
        period, step = np.divmod(iteration, AHEAD)
        while len(behind := np.unique(rows[period >= self._drawn[rows]])):
            drawn = self._streams.uniform(behind, *self._table.shape[2:])
            self._table[behind, self._drawn[behind] % 2] = drawn
            self._drawn[behind] += 1
        return np.asarray(self._table[rows, period % 2, step])


def _count_up(counts: Rows) -> Rows:
    """[2, 1, 3] -> [0, 1, 0, 0, 1, 2]."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _stripes(search: _Search, rows: Rows, streams: Streams) -> Float:
    """Vertical stripes of +-eps, a sign for each column and channel."""
    _, width, channels = search.image
    signs = streams.signs(rows, width * channels).reshape(-1, 1, width, channels)
    stripes = np.broadcast_to(search.eps * signs, (len(rows), *search.image))
    return search.displaced(rows, stripes.astype(np.float32))


def _recolour(search: _Search, rows: Rows, numbers: Double, size: Size) -> Float:
    """Give one window +-eps, a sign for each channel; redraw signs that would change nothing."""
    candidate = search.best[rows]
    window = window_at(numbers[:, :2], size, search.image)
    before = candidate[window]
    wanted = (rows[:, None, None], *window[1:])
    low, high = (end.reshape(search.clean.shape)[wanted] for end in search.target.box)
    upwards = numbers[:, 2:].reshape(len(rows), REDRAWS, 1, 1, -1) < 0.5
    pending = np.arange(len(rows))
    for draw in range(REDRAWS):
        colour = np.where(upwards[pending, draw], high[pending], low[pending])
        candidate[tuple(axis[pending] for axis in window)] = colour
        moved = np.abs(colour - before[pending])
        pending = pending[(moved < 1e-7 * search.target.span).all(axis=(1, 2, 3))]
        if not len(pending):
            break
    return np.asarray(candidate)


def _bumps(search: _Search, rows: Rows, streams: Streams) -> Float:
    """A grid of about 5 x 5 two-sided bumps, with a sign for each bump and channel."""
    height, width, channels = search.image
    side = (min(height, width) // 5,) * 2
    if side[0] == 0:
        side = max(height // 5, 1), max(width // 5, 1)
    top, left = height % side[0] // 2, width % side[1] // 2
    delta = np.zeros((len(rows), *search.image), np.float32)
    for row in range(top, height - side[0] + 1, side[0]):
        for column in range(left, width - side[1] + 1, side[1]):
            signs = streams.signs(rows, channels)[:, None, None, :]
            upright = streams.uniform(rows, 1)[:, 0] < 0.5
            bump = two_bumps(*side, upright, search.norm)[..., None] * signs
            delta[:, row : row + side[0], column : column + side[1]] = bump
    return search.displaced(rows, _of_length(delta, search))


def _redistribute(search: _Search, rows: Rows, numbers: Double, size: Size) -> Float:
    """Move the norm of two windows, and what is unused, into a new bump in the first of them."""
    norm, channels = search.norm, search.image[2]
    first, second = (window_at(numbers[:, a : a + 2], size, search.image) for a in (0, 2))
    upright, signs = numbers[:, 4] < 0.5, np.where(numbers[:, 5:] < 0.5, -1.0, 1.0)

    delta = search.best[rows] - search.clean[rows]
    spent = channel_mass(delta, norm).sum(axis=-1, keepdims=True)
    unused = np.maximum(search.eps**norm - spent, 0.0)
    old = delta[first].astype(np.float64)
    freed = channel_mass(old, norm)
    delta[first] = 0.0
    old /= 1e-10 + freed ** (1 / norm)
    freed = freed + channel_mass(delta[second], norm)
    delta[second] = 0.0
    new = two_bumps(*size, upright, norm)[..., None] * signs[:, None, None, :] + old
    new *= (unused / channels + freed) ** (1 / norm) / (
        1e-10 + channel_mass(new, norm) ** (1 / norm)
    )
    delta[first] = new * channels if norm == 1 else new
    return search.displaced(rows, _of_length(delta, search))


def _of_length(delta: Float, search: _Search) -> Float:
    """Of L2 length eps; in L1 as it is, as the projection makes use of the surplus."""
    if search.norm == 1:
        return delta
    length = np.sqrt(channel_mass(delta, 2.0).sum(axis=-1, keepdims=True))
    delta *= search.eps / np.maximum(length, 1e-12 * search.eps)
    return delta
