"""The space in which ZOO searches: noise at a lower resolution, scaled up to the input."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from pytest_qnnrobust.attacks.square.windows import Image
from pytest_qnnrobust.attacks.target import Rows
from pytest_qnnrobust.types import Double

CELLS = 8
"""Cells per axis over which importance is pooled."""


class Space:
    """Noise of at most `size` x `size` pixels for an image, or of the image itself (`size` None).

    Chen et al. (2017), section 3.3: the noise is scaled up linearly, each axis alone; an axis that
    is not longer than `size` is not reduced.
    """

    def __init__(self, image: Image, size: int | None) -> None:
        height, width, self.channels = image
        self.rows = height if size is None else min(size, height)
        self.columns = width if size is None else min(size, width)
        self.size = self.rows * self.columns * self.channels
        self.whole = (self.rows, self.columns) == (height, width)
        self.elements = height * width * self.channels
        self._image = image

    def expand(self, noise: Double) -> Double:
        """Noise (n, size) at the resolution of the image, (n, elements)."""
        if self.whole:
            return noise
        scaled = _scaled(self._shaped(noise), self._up, self._across)
        return scaled.reshape(len(noise), self.elements)

    def basis(self, coordinates: Rows) -> Double:
        """Image (n, elements) of one unit of noise at each of the coordinates (n,)."""
        row, rest = np.divmod(coordinates, self.columns * self.channels)
        column, channel = np.divmod(rest, self.channels)
        unit = np.eye(self.channels)[channel]
        shape = self._up.T[row][:, :, None, None] * self._across.T[column][:, None, :, None]
        return np.asarray((shape * unit[:, None, None, :]).reshape(len(coordinates), self.elements))

    def resized(self, noise: Double, larger: Space) -> Double:
        """The same noise in a larger space."""
        up, across = (
            interpolation(self.rows, larger.rows),
            interpolation(self.columns, larger.columns),
        )
        return _scaled(self._shaped(noise), up, across).reshape(len(noise), larger.size)

    def importance(self, noise: Double) -> Double:
        """Sampling weights (n, size): the largest noise in each cell of each channel (section 3.5).

        Cells without noise keep a hundredth of the largest weight; all are equal without any.
        """
        size = np.abs(self._shaped(noise))
        for axis, length in ((1, self.rows), (2, self.columns)):
            starts = np.arange(0, length, max(1, length // CELLS))
            repeats = np.diff(np.append(starts, length))
            size = np.maximum.reduceat(size, starts, axis=axis).repeat(repeats, axis=axis)
        weights = size.reshape(len(noise), self.size)
        peak = weights.max(axis=1, keepdims=True)
        return np.asarray(np.where(peak > 0, np.maximum(weights, peak / 100), 1.0))

    def _shaped(self, noise: Double) -> Double:
        return noise.reshape(len(noise), self.rows, self.columns, self.channels)

    @cached_property
    def _up(self) -> Double:
        return interpolation(self.rows, self._image[0])

    @cached_property
    def _across(self) -> Double:
        return interpolation(self.columns, self._image[1])


def interpolation(source: int, length: int) -> Double:
    """The matrix (length, source) of linear interpolation between pixel centres."""
    at = np.clip((np.arange(length) + 0.5) * source / length - 0.5, 0, source - 1)
    return np.asarray(np.maximum(1.0 - np.abs(at[:, None] - np.arange(source)), 0.0))


def _scaled(noise: Double, up: Double, across: Double) -> Double:
    wide = np.matmul(across, noise)
    return np.asarray((up[None, :, :, None, None] * wide[:, None]).sum(axis=2))
