"""One random stream per sample, drawn in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.types import Double, Float

Rows = NDArray[np.int64]

BLOCK = 512
"""Uniform numbers that a sample's stream hands out at a time."""

QUANTILES = 1 << 16
"""Number of values of a normal number, all equally likely: one for each 16 random bits."""


class Streams:
    """The random streams of a batch of samples.

    Sample i draws from `SeedSequence(seed, spawn_key=(index[i],))` and from nothing else, so that
    what it draws depends on its own requests only: not on the batch, its order or its size.
    `rows` names samples by their position in the batch, each at most once per call.
    """

    def __init__(self, seed: int, index: Sequence[int] | NDArray[Any]) -> None:
        self._seed = seed
        self._index = np.asarray(index, np.int64)
        self._block = np.empty((len(self), BLOCK))
        self._used = np.full(len(self), BLOCK)

    @cached_property
    def _generators(self) -> list[np.random.Generator]:
        """The generator of each sample; made with the first draw, as some attacks draw nothing."""
        return [_generator(self._seed, int(i)) for i in self._index]

    def part(self, rows: Rows) -> Streams:
        """The streams of samples `rows` only, numbered from 0, from where they stand.

        A sample's stream is used through the part or through the whole, one after the other.
        """
        part = Streams(self._seed, self._index[rows])
        part._generators = [self._generators[row] for row in rows]
        return part

    def __len__(self) -> int:
        return len(self._index)

    def uniform(self, rows: Rows, *shape: int) -> Double:
        """Uniform numbers in [0, 1): float64 (len(rows), *shape)."""
        count = int(np.prod(shape))
        if count > BLOCK:
            draws = np.empty((len(rows), count))
            for draw, row in zip(draws, rows, strict=True):
                self._generators[row].random(out=draw)
            return draws.reshape(len(rows), *shape)
        for row in rows[self._used[rows] + count > BLOCK]:
            self._generators[row].random(out=self._block[row])
            self._used[row] = 0
        columns = self._used[rows][:, None] + np.arange(count)
        self._used[rows] += count
        return self._block[rows[:, None], columns].reshape(len(rows), *shape)

    def signs(self, rows: Rows, *shape: int) -> Float:
        """-1.0 or 1.0, each with probability one half: float32 (len(rows), *shape)."""
        count = int(np.prod(shape))
        if count <= BLOCK:
            high = self.uniform(rows, *shape) >= 0.5
            return high.astype(np.float32) * 2 - 1
        bits = [np.unpackbits(self._words(row, -(-count // 64)).view(np.uint8)) for row in rows]
        draws = np.array([bit[:count] for bit in bits], np.float32)
        draws *= 2
        draws -= 1
        return draws.reshape(len(rows), *shape)

    def integers(self, rows: Rows, high: int) -> Rows:
        """One integer of [0, high) for each row."""
        return (self.uniform(rows, 1)[:, 0] * high).astype(np.int64)

    def normal(self, rows: Rows, *shape: int) -> Float:
        """Standard normal numbers, one of `QUANTILES` values each: float32 (len(rows), *shape).

        Looked up, because a directional probe needs thousands and their tails do not matter to it:
        within 4.4 standard deviations, at a sixth of the time of an exact generator.
        """
        count = int(np.prod(shape))
        draws = np.empty((len(rows), count), np.float32)
        for draw, row in zip(draws, rows, strict=True):
            words = self._words(row, -(-count // 4))
            _normal_quantiles().take(words.view(np.uint16)[:count], out=draw, mode="wrap")
        return draws.reshape(len(rows), *shape)

    def on_sphere(self, rows: Rows, norm: float, *shape: int) -> Double:
        """Uniform on the unit sphere of the L1 or L2 norm: float64 (len(rows), *shape)."""
        size = int(np.prod(shape))
        if norm == 1:
            points = -np.log1p(-self.uniform(rows, size))
            points *= self.signs(rows, size)
            length = np.abs(points).sum(axis=1, keepdims=True)
        else:
            points = self.normal(rows, size).astype(np.float64)
            length = np.sqrt((points * points).sum(axis=1, keepdims=True))
        points /= length
        return points.reshape(len(rows), *shape)

    def in_ball(self, rows: Rows, norm: float, *shape: int) -> Double:
        """Uniform in the unit ball of the L1, L2 or Linf norm: float64 (len(rows), *shape)."""
        if np.isinf(norm):
            points = self.uniform(rows, *shape)
            points *= 2
            points -= 1
            return points
        points = self.on_sphere(rows, norm, *shape)
        radius = self.uniform(rows, 1)[:, 0] ** (1 / int(np.prod(shape)))
        points *= radius.reshape(-1, *[1] * len(shape))
        return points

    def _words(self, row: int, count: int) -> NDArray[np.uint64]:
        return self._generators[row].integers(1 << 64, size=count, dtype=np.uint64)


@lru_cache(maxsize=1)
def _normal_quantiles() -> Float:
    """Midpoint quantiles of the normal distribution, scaled to unit variance, (QUANTILES,)."""
    from scipy.special import ndtri

    values = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
    return np.asarray(values / values.std(), np.float32)


def _generator(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(index,))))
