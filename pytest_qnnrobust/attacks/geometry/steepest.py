"""The step inside ball and bounds that raises a linear function most."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.geometry.balls import rooms
from pytest_qnnrobust.types import Bounds, Double


def steepest(
    gradient: NDArray[Any], x: NDArray[Any], norm: float, eps: float, bounds: Bounds
) -> NDArray[Any]:
    """The step inside ball and bounds that raises a linear function with this gradient most.

    Exact in each norm: signs (Linf), the largest elements first up to their room (L1), the
    gradient's direction with the elements that meet the bounds held there (L2). Linf in the
    precision of `gradient`, the others in float64.
    """
    if np.isinf(norm):
        step = np.sign(gradient)
        step *= eps
        here = np.asarray(x, step.dtype)
        return np.asarray(np.clip(step, bounds[0] - here, bounds[1] - here))
    shape = np.shape(gradient)
    slope = np.asarray(gradient, np.float64).reshape(len(gradient), -1)
    fall, rise = rooms(np.asarray(x, np.float64).reshape(slope.shape), bounds)
    room = np.where(slope > 0, rise, fall)
    size = np.abs(slope)
    fill = _fill_largest if norm == 1 else _fill_direction
    length = fill(size, room, eps)
    return (np.sign(slope) * length).reshape(shape)


def _fill_largest(size: Double, room: Double, eps: float) -> Double:
    order = np.argsort(-size, axis=1, kind="stable")
    sorted_room = np.where(size > 0, room, 0.0)
    sorted_room = np.take_along_axis(sorted_room, order, axis=1)
    used = np.cumsum(sorted_room, axis=1) - sorted_room
    filled = np.clip(eps - used, 0.0, sorted_room)
    length = np.empty_like(filled)
    np.put_along_axis(length, order, filled, axis=1)
    return length


def _fill_direction(size: Double, room: Double, eps: float) -> Double:
    """min(t * size, room) with the largest t whose L2 norm stays within `eps`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        knee = np.where(size > 0, room / size, np.inf)
    order = np.argsort(knee, axis=1, kind="stable")
    knees, sizes, capped = (np.take_along_axis(a, order, axis=1) for a in (knee, size, room))
    moving = np.where(np.isfinite(knees), sizes * sizes, 0.0)
    held = np.cumsum(capped * capped * (moving > 0), axis=1)
    held = np.concatenate([np.zeros((len(size), 1)), held], axis=1)
    rest = moving.sum(axis=1, keepdims=True) - np.cumsum(moving, axis=1)
    rest = np.concatenate([moving.sum(axis=1, keepdims=True), np.maximum(rest, 0.0)], axis=1)
    # With the first j elements held, t = sqrt((eps^2 - held_j) / rest_j), valid below knee j + 1.
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.sqrt(np.maximum(eps * eps - held, 0.0) / rest)
    upper = np.concatenate([knees, np.full((len(size), 1), np.inf)], axis=1)
    t = np.where(np.isnan(t), np.inf, t)
    first = np.argmax(t <= upper, axis=1)[:, None]
    scale = np.take_along_axis(t, first, axis=1)
    with np.errstate(invalid="ignore"):
        length = np.minimum(scale * size, room)
    return np.where(size > 0, length, 0.0)
