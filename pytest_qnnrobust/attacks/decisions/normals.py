"""The normal of the decision boundary at a point, from the decisions around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Rows, Target
from pytest_qnnrobust.metrics import flat, lp_norm
from pytest_qnnrobust.types import Double, Float

SHARE = 256
"""Most probes of one sample in a question."""

CELLS = 2**21
"""Most numbers that the probes of one question hold (8 MB), if one probe of a sample fits."""

WINDOW = 3
"""Iterations over which a gain is averaged."""

Draw = Callable[[Rows, int], Float]
"""`draw(rows, count)`: directions (n, count, *input_shape) of unit variance per element."""


def probe_normals(
    target: Target, rows: Rows, points: Float, sigma: NDArray[Any], count: int, draw: Draw
) -> Float:
    """Sums (n, elements) that point from the label's side to the other, at boundary `points`.

    Monte-Carlo estimate with `count` probes a row, point + sigma * direction: the sum of each
    displacement, as the model saw it, over sigma, times its decision (1 misclassified, -1 not)
    minus the row's mean decision (Chen, Jordan, Wainwright 2020, equations 9 and 16; Rahmati et
    al. 2020, equation 13). Where all decisions agree there is no mean to subtract.
    `sigma` (n,) is the standard deviation of a displaced element in input units; see `visible`.
    """
    sums = np.empty((len(rows), int(np.prod(target.input_shape))), np.float32)
    share = max(1, min(count, SHARE, CELLS // sums.shape[1]))
    width = max(1, CELLS // (share * sums.shape[1]))
    for start in range(0, len(rows), width):
        part = slice(start, start + width)
        shares = [min(share, count - drawn) for drawn in range(0, count, share)]
        sums[part] = _probe(target, rows[part], points[part], sigma[part], shares, draw)
    return sums


def visible(target: Target, sigma: NDArray[Any]) -> Double:
    """Raise `sigma` (n,) to at least one step of a quantized input.

    A smaller probe would round back to the point it came from in almost every element, and the
    decisions would say nothing of the direction that was asked for.
    """
    least = 0.0 if target.grid is None else target.grid.scale
    return np.maximum(np.asarray(sigma, np.float64), least)


def unit(vectors: Float, norm: float) -> Float:
    """Rows (n, elements) of length 1, whatever their scale; rows of zeros stay zeros."""
    peak = np.maximum(np.abs(vectors).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    scaled = vectors / peak
    length = np.maximum(lp_norm(scaled, norm), 1.0).astype(np.float32)
    return np.asarray(scaled / length[:, None], np.float32)


def channel_noise(target: Target, streams: Streams, correlation: float) -> Draw:
    """Gaussian noise of unit variance, correlated across the channels of (h, w, c) inputs."""
    shape = target.input_shape
    common = correlation if len(shape) == 3 and shape[2] > 1 else 0.0

    def draw(rows: Rows, count: int) -> Float:
        noise = streams.normal(rows, count, *shape)
        if common:
            noise *= np.float32(np.sqrt(1 - common))
            shared = streams.normal(rows, count, *shape[:2], 1)
            shared *= np.float32(np.sqrt(common))
            noise += shared
        return noise

    return draw


class Gains:
    """Stopping rule of attacks without an end of their own: go on with what still comes nearer.

    A sample stops once its last `WINDOW` iterations each brought, on average, less than a share
    `tolerance` of its distance, measured in `norm` from the clean image to its proposal.
    """

    def __init__(self, target: Target, norm: float, tolerance: float) -> None:
        self._target = target
        self._norm = norm
        self._kept = (1 - min(tolerance, 1.0)) ** WINDOW if tolerance else np.inf
        self._past: list[Double] = []

    def still_worth(self, rows: Rows) -> Rows:
        """The samples of `rows` to go on with; to be called after every iteration."""
        now = np.zeros(len(self._target))
        now[rows] = lp_norm(self._target.proposals[rows] - self._target.x[rows], self._norm)
        self._past.append(now)
        if len(self._past) <= WINDOW:
            return rows
        return rows[now[rows] <= self._kept * self._past[-1 - WINDOW][rows]]


def _probe(
    target: Target,
    rows: Rows,
    points: Float,
    sigma: NDArray[Any],
    shares: list[int],
    draw: Draw,
) -> Float:
    n, size = len(rows), int(np.prod(target.input_shape))
    scale = sigma.astype(np.float32).reshape(n, 1, *[1] * len(target.input_shape))
    centre = points[:, None]
    decided = np.zeros((n, size), np.float32)
    drawn = np.zeros((n, size), np.float32)
    balance = np.zeros((n, 1), np.float32)
    for share in shares:
        probes = draw(rows, share)
        probes *= scale
        probes += centre
        owners = np.repeat(rows, share)
        sealed = target.seal(probes.reshape(-1, *target.input_shape), owners)
        fooled = target.evaluate(sealed, owners).labels != target.y[owners]
        weights = np.ones((n, 2, share), np.float32)
        weights[:, 0] = 2 * fooled.reshape(n, share).astype(np.float32) - 1
        moved = np.subtract(sealed.reshape(probes.shape), centre, out=probes)
        sums = weights @ moved.reshape(n, share, size)
        decided += sums[:, 0]
        drawn += sums[:, 1]
        balance += weights[:, :1].sum(axis=2) / np.float32(sum(shares))
    decided -= np.where(np.abs(balance) < 1, balance, np.float32(0)) * drawn
    return np.asarray(decided / flat(scale), np.float32)
