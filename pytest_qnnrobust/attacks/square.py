"""Square attack: random search over square windows, on scores alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import checks
from pytest_qnnrobust.attacks.base import FixedBudgetAttack
from pytest_qnnrobust.attacks.geometry import float32_bounds
from pytest_qnnrobust.attacks.losses import margin
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Float, Labels, Rows, Target

Double = NDArray[np.float64]
Image = tuple[int, int, int]

SCHEDULE = (
    (8000, 512),
    (6000, 256),
    (4000, 128),
    (2000, 64),
    (1000, 32),
    (500, 16),
    (200, 8),
    (50, 4),
    (10, 2),
)
"""After this many of 10,000 iterations, the share of changed pixels is `p_init` over that."""

REDRAWS = 8
"""How often an Linf window that would change nothing is given new signs."""


@dataclass(frozen=True, kw_only=True, repr=False)
class SquareAttack(FixedBudgetAttack):
    """Andriushchenko et al., "Square Attack" (2020), algorithms 1 to 3, Linf and L2.

    Every iteration changes one window of a share `p` of the pixels and keeps the change if the
    margin of the logits falls; `p` starts at `p_init` and shrinks on the authors' schedule, scaled
    to `max_iter`. Any input shape (h, w), (h, w, c) or (n,); on strongly rectangular inputs a
    window becomes a rectangle of the same area. Stops a sample at its first success.
    Gray-box, up to 1 + max_iter queries.
    """

    knowledge = "gray"
    norms = (2.0, np.inf)

    norm: float = np.inf
    eps: float = 0.015
    max_iter: int = 1000
    p_init: float = 0.05

    def _validate(self) -> None:
        super()._validate()
        checks.count(max_iter=self.max_iter)
        checks.fraction(p_init=self.p_init)

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        search = _Search(target)
        linf = np.isinf(self.norm)
        rows = target.all_rows
        rows = search.attempt(rows, (_stripes if linf else _bumps)(search, rows, streams))
        for iteration in range(self.max_iter):
            if not len(rows):
                return
            share = p_schedule(self.p_init, iteration, self.max_iter)
            move = _recolour if linf else _redistribute
            rows = search.attempt(rows, move(search, rows, streams, share))
            target.progress(iteration + 1, self.max_iter)


class _Search:
    """The best point of every sample, as (B, height, width, channels), and its margin."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.image = image_shape(target.input_shape)
        self.eps = target.eps
        self.clean = target.x.reshape(-1, *self.image)
        self.best = self.clean.copy()
        self._loss = np.full(len(target), -np.inf)

    def attempt(self, rows: Rows, candidate: Float) -> Rows:
        """Keep the candidates that are misclassified or raise the loss; the samples left."""
        target = self.target
        flat = candidate.reshape(-1, *target.input_shape)
        scores = target.evaluate(flat, rows)
        fooled = scores.labels != target.y[rows]
        loss = margin(scores.logits, target.y[rows])
        better = fooled | (loss > self._loss[rows])
        kept = rows[better]
        self._loss[kept] = loss[better]
        self.best[kept] = candidate[better]
        target.propose(kept, flat[better])
        return np.asarray(rows[~fooled])

    def displaced(self, rows: Rows, delta: Double) -> Float:
        """The clean images plus `delta`, which is within the budget; inside bounds and grid."""
        moved = self.clean[rows] + delta.astype(np.float32)
        target = self.target
        if target.grid is None:
            return np.clip(moved, *float32_bounds(target.bounds), out=moved)
        sealed = target.seal(moved.reshape(-1, *target.input_shape), rows)
        return sealed.reshape(moved.shape)


def image_shape(shape: tuple[int, ...]) -> Image:
    """Height, width and channels of an input; a 1-D input is one row of pixels."""
    if len(shape) == 1:
        return 1, shape[0], 1
    if len(shape) == 2:
        return shape[0], shape[1], 1
    return int(np.prod(shape[:-2])), shape[-2], shape[-1]


def p_schedule(p_init: float, iteration: int, max_iter: int) -> float:
    """The share of pixels to change at this iteration (the authors' `p_selection`)."""
    scaled = int(iteration / max_iter * 10000)
    for after, divisor in SCHEDULE:
        if scaled > after:
            return p_init / divisor
    return p_init


def window_size(share: float, image: Image, least: int) -> tuple[int, int]:
    """Height and width of a window over `share` of the pixels: square where the image allows."""
    height, width, _ = image
    side = max(round(float(np.sqrt(share * height * width))), least)
    side += side % 2 == 0 and least > 1
    rows, columns = min(side, height), min(side, width)
    if rows < side:
        columns = min(width, round(side * side / rows))
    elif columns < side:
        rows = min(height, round(side * side / columns))
    return rows, columns


def _stripes(search: _Search, rows: Rows, streams: Streams) -> Float:
    """Vertical stripes of +-eps, a sign for each column and channel."""
    _, width, channels = search.image
    signs = streams.signs(rows, width * channels).reshape(-1, 1, width, channels)
    return search.displaced(rows, search.eps * signs)


def _recolour(search: _Search, rows: Rows, streams: Streams, share: float) -> Float:
    """Give one window +-eps, a sign for each channel; redraw signs that would change nothing."""
    window = _windows(streams, rows, window_size(share, search.image, 1), search.image)
    candidate = search.best[rows]
    before = candidate[window]
    low, high = (end.reshape(search.clean.shape)[rows][window] for end in search.target.box)
    pending = np.arange(len(rows))
    for _ in range(REDRAWS):
        upwards = streams.uniform(rows[pending], 1, 1, search.image[2]) < 0.5
        colour = np.where(upwards, high[pending], low[pending])
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
    delta = np.zeros((len(rows), *search.image))
    for row in range(top, height - side[0] + 1, side[0]):
        for column in range(left, width - side[1] + 1, side[1]):
            signs = streams.signs(rows, channels)[:, None, None, :]
            upright = streams.uniform(rows, 1)[:, 0] < 0.5
            bump = two_bumps(*side, upright)[..., None] * signs
            delta[:, row : row + side[0], column : column + side[1]] = bump
    return search.displaced(rows, _of_length(delta, search.eps))


def _redistribute(search: _Search, rows: Rows, streams: Streams, share: float) -> Float:
    """Move the norm of two windows, and what is unused, into a new bump in the first of them."""
    channels = search.image[2]
    size = window_size(share, search.image, 3)
    first = _windows(streams, rows, size, search.image)
    second = _windows(streams, rows, size, search.image)
    upright = streams.uniform(rows, 1)[:, 0] < 0.5
    signs = streams.signs(rows, channels)[:, None, None, :]

    delta = (search.best[rows] - search.clean[rows]).astype(np.float64)
    before = _channel_squares(delta)
    unused = np.maximum(search.eps**2 - before.sum(axis=-1, keepdims=True), 0.0)
    old = delta[first]
    new = two_bumps(*size, upright)[..., None] * signs
    new += old / (1e-10 + np.sqrt(_channel_squares(old)))
    delta[first] = 0.0
    delta[second] = 0.0
    freed = np.maximum(before - _channel_squares(delta), 0.0)
    new *= np.sqrt(unused / channels + freed) / (1e-10 + np.sqrt(_channel_squares(new)))
    delta[first] = new
    return search.displaced(rows, _of_length(delta, search.eps))


def _windows(
    streams: Streams, rows: Rows, size: tuple[int, int], image: Image
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """One random window per row, as an index into (n, height, width, channels)."""
    top = streams.integers(rows, image[0] - size[0] + 1)
    left = streams.integers(rows, image[1] - size[1] + 1)
    return (
        np.arange(len(rows))[:, None, None],
        (top[:, None] + np.arange(size[0]))[:, :, None],
        (left[:, None] + np.arange(size[1]))[:, None, :],
    )


def two_bumps(height: int, width: int, upright: NDArray[np.bool_]) -> Double:
    """A positive beside a negative bump, unit L2 norm, (n, height, width).

    One above the other where `upright`, else side by side; along the only axis there is in a
    window of one row or column.
    """
    if height == 1 or width == 1:
        upright = np.full(len(upright), width == 1)
    vertical, sideways = _bump_pair(height, width), _bump_pair(width, height).T
    return np.where(upright[:, None, None], vertical, sideways)


@lru_cache(maxsize=256)
def _bump_pair(height: int, width: int) -> Double:
    pair = np.zeros((height, width))
    half = height // 2
    pair[:half] = _bump(half, width)
    pair[half:] = -_bump(height - half, width)
    return np.asarray(pair / np.sqrt((pair * pair).sum()))


def _bump(height: int, width: int) -> Double:
    """Concentric rectangles, the k-th adding 1/k^2: the authors' pseudo-Gaussian."""
    if height == 0:
        return np.zeros((0, width))
    top, left = height // 2, width // 2
    rings = np.arange(max(top, left) + 1)
    row, column = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    inside = (np.abs(row - top) <= rings) & (np.abs(column - left) <= rings)
    bump = (inside / (rings + 1.0) ** 2).sum(axis=2)
    return np.asarray(bump / np.sqrt((bump * bump).sum()))


def _channel_squares(delta: Double) -> Double:
    """Squared L2 norm of each channel, (n, 1, 1, channels)."""
    return np.asarray((delta * delta).sum(axis=(1, 2), keepdims=True))


def _of_length(delta: Double, eps: float) -> Double:
    length = np.sqrt(_channel_squares(delta).sum(axis=-1, keepdims=True))
    return np.asarray(delta * (eps / np.maximum(length, 1e-12 * eps)))
