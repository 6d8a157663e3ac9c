"""Windows of the Square attack: how large, where, and the bumps that go into them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.types import Double

Image = tuple[int, int, int]
Size = tuple[int, int]
Window = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""An index into (n, height, width, channels): one window per row."""

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
"""Iterations of `SCHEDULED`, and what divides `p_init` after each: the share of changed pixels."""

SCHEDULED = 10000
"""Number of iterations that the authors' schedule is written for."""


def image_shape(shape: tuple[int, ...]) -> Image:
    """Height, width and channels of an input; a 1-D input is one row of pixels."""
    if len(shape) == 1:
        return 1, shape[0], 1
    if len(shape) == 2:
        return shape[0], shape[1], 1
    return int(np.prod(shape[:-2])), shape[-2], shape[-1]


def p_schedule(p_init: float, iteration: int, max_iter: int) -> float:
    """The share of pixels to change in this iteration of `max_iter` (authors' `p_selection`)."""
    scaled = int(iteration / max_iter * SCHEDULED)
    for after, divisor in SCHEDULE:
        if scaled > after:
            return p_init / divisor
    return p_init


def window_size(share: float, image: Image, least: int) -> Size:
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


def window_at(place: Double, size: Size, image: Image) -> Window:
    """The windows at places (n, 2), uniform numbers for top and left."""
    top, left = ((place[:, a] * (image[a] - size[a] + 1)).astype(np.int64) for a in (0, 1))
    return (
        np.arange(len(place))[:, None, None],
        (top[:, None] + np.arange(size[0]))[:, :, None],
        (left[:, None] + np.arange(size[1]))[:, None, :],
    )


def read(images: NDArray[Any], window: Window) -> NDArray[Any]:
    """`images[window]` of contiguous images (N, height, width, channels), copied line by line
    instead of pixel by pixel."""
    channels = images.shape[-1]
    lines = _lines(images, window)[_first_of_lines(window, channels)]
    return np.asarray(lines.reshape(*lines.shape[:2], -1, channels))


def write(images: NDArray[Any], window: Window, values: NDArray[Any]) -> None:
    """`images[window] = values`, for contiguous images and values of the windows' shape."""
    lines = values.reshape(*values.shape[:2], -1)
    _lines(images, window)[_first_of_lines(window, images.shape[-1])] = lines


def _lines(images: NDArray[Any], window: Window) -> NDArray[Any]:
    """View (N, height, places, n) of all stretches of lines that are as long as a window's."""
    n, height, width, channels = images.shape
    places, length = (width - window[2].shape[2]) * channels + 1, window[2].shape[2] * channels
    strides = (*images.strides[:2], images.itemsize, images.itemsize)
    shape = n, height, places, length
    return np.asarray(np.ndarray(shape, images.dtype, images.data, strides=strides))


def _first_of_lines(window: Window, channels: int) -> Window:
    rows, line, column = window
    return rows[:, :, 0], line[:, :, 0], column[:, :, 0] * channels


def two_bumps(height: int, width: int, upright: NDArray[np.bool_], norm: float = 2.0) -> Double:
    """A positive beside a negative bump, of length 1 in L1 or L2, (n, height, width).

    One above the other where `upright`, else side by side; along the only axis there is in a
    window of one row or column.
    """
    if height == 1 or width == 1:
        upright = np.full(len(upright), width == 1)
    vertical, sideways = _bump_pair(height, width, norm), _bump_pair(width, height, norm).T
    return np.where(upright[:, None, None], vertical, sideways)


def channel_mass(delta: NDArray[Any], norm: float) -> Double:
    """Sum of |element|**norm over each channel, (n, 1, 1, channels)."""
    n, height, width, channels = delta.shape
    power = np.abs(delta) if norm == 1 else delta * delta
    ones = np.ones((1, height * width), power.dtype)
    mass = ones @ power.reshape(n, height * width, channels)
    return np.asarray(mass.reshape(n, 1, 1, channels))


def drawn_windows(numbers: Double, size: Size, image: Image) -> tuple[Window, Window]:
    """The two windows of an iteration of L1 or L2, by the first of its uniform numbers."""
    return window_at(numbers[:, :2], size, image), window_at(numbers[:, 2:4], size, image)


def refilled(
    old: NDArray[Any], mass: Double, freed: Double, unused: Double, numbers: Double, norm: float
) -> NDArray[Any]:
    """New pairs of bumps for windows that hold `old` (n, height, width, channels).

    `numbers` are those of the iteration; they say how the bumps lie and the sign in each channel.
    The shape of `old` is added. The new mass is that of `old`, `mass`, plus `freed` and `unused`,
    all (n, 1, 1, channels). The result has the precision of `old`.
    """
    upright, signs = numbers[:, 4] < 0.5, np.where(numbers[:, 5:] < 0.5, -1.0, 1.0)
    _, height, width, channels = old.shape
    lines = _bump_lines(height, width, channels, norm, old.dtype)[upright.astype(np.intp)]
    lines *= _along_lines(signs[:, None, None, :].astype(old.dtype), width)
    lines += old.reshape(lines.shape) / _along_lines(1e-10 + mass ** (1 / norm), width)
    wanted = (unused + (mass + freed)) ** (1 / norm)
    new = lines.reshape(old.shape)
    factor = wanted / (1e-10 + channel_mass(new, norm) ** (1 / norm))
    lines *= _along_lines(factor.astype(old.dtype), width)
    return new


def _along_lines(values: NDArray[Any], width: int) -> NDArray[Any]:
    """Values (n, 1, 1, channels) for every element of a line, (n, 1, width * channels)."""
    return values.repeat(width, axis=2).reshape(len(values), 1, -1)


@lru_cache(maxsize=256)
def _bump_lines(
    height: int, width: int, channels: int, norm: float, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """`two_bumps` side by side and upright, the same in each channel: (2, height, w * channels)."""
    pairs = two_bumps(height, width, np.array([False, True]), norm)
    return pairs.astype(dtype).repeat(channels, axis=2)


@lru_cache(maxsize=256)
def _bump_pair(height: int, width: int, norm: float) -> Double:
    pair = np.zeros((height, width))
    half = height // 2
    pair[:half] = _bump(half, width, norm)
    pair[half:] = -_bump(height - half, width, norm)
    return _unit(pair, norm)


def _bump(height: int, width: int, norm: float) -> Double:
    """Concentric rectangles, the k-th adding 1/k^2 (L1: 1/k^4): the authors' pseudo-Gaussian."""
    if height == 0:
        return np.zeros((0, width))
    top, left = height // 2, width // 2
    rings = np.arange(max(top, left) + 1)
    row, column = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    inside = (np.abs(row - top) <= rings) & (np.abs(column - left) <= rings)
    return _unit((inside / (rings + 1.0) ** (4 if norm == 1 else 2)).sum(axis=2), norm)


def _unit(bump: Double, norm: float) -> Double:
    return np.asarray(bump / np.linalg.norm(bump.ravel(), norm))
