"""Shares of zeros in input gradients, and angles between the gradients of two widths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.metrics import flat
from pytest_qnnrobust.models.base import CHUNK, Model
from pytest_qnnrobust.types import Float, Labels

Double = NDArray[np.float64]

PUBLISHED_STEP = 1e-5
"""Step that "David and Goliath" adds to inputs (floats or integers) for its zero densities."""


def zero_density(gradient: NDArray[Any]) -> Double:
    """The share of elements of each gradient (N, ...) that are exactly zero, (N,).

    "David and Goliath", analysis A2, of gradients that were measured: at one width by differences
    over whole input LSBs (`model.with_gradient("finite-difference", k)`), on a float model exactly.
    """
    return np.asarray((flat(np.asarray(gradient)) == 0).mean(axis=1), np.float64)


def cosine_similarity(first: NDArray[Any], second: NDArray[Any]) -> Double:
    """The cosine of the angle between the gradients (N, ...) of each sample, (N,).

    "David and Goliath", analysis A4. NaN where one of the two is zero everywhere: such a gradient
    has no direction, and calling it orthogonal would be an opinion. Raises QnnRobustError for
    gradients of two shapes.
    """
    a, b = (flat(np.asarray(gradient, np.float64)) for gradient in (first, second))
    if a.shape != b.shape:
        raise expected("two gradients of one shape", first=a.shape, second=b.shape)
    lengths = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    products = (a * b).sum(axis=1)
    cosine = np.divide(products, lengths, out=np.full(len(a), np.nan), where=lengths > 0)
    return np.asarray(cosine)


def published_gradient(
    model: Model, x: NDArray[Any], y: Labels, step: float = PUBLISHED_STEP
) -> Float:
    """Input gradient (N, *input_shape), measured as the literature measured its zero densities.

    Central differences of the cross-entropy over +-`step`, all in float32, whose losses near 1
    are 1e-7 apart. On a quantized model `step` is added to the integers and the sum cut off to an
    integer again: q + 1e-5 is q + 1 for a negative q and q for another. What comes out zero says
    more about the number formats than about the network; `finite-difference` gradients over whole
    LSBs are the measurement. Costs 2 * elements queries a sample.
    """
    slopes = np.zeros((len(x), int(np.prod(model.input_shape))), np.float32)
    values = np.asarray(x, np.float32) if model.grid is None else model.grid.quantize(x)
    for row, sample in enumerate(flat(values)):
        for start in range(0, len(sample), CHUNK // 2):
            places = np.arange(start, min(start + CHUNK // 2, len(sample)))
            rises = [_loss_moved(model, sample, places, way * step, int(y[row])) for way in (1, -1)]
            slopes[row, places] = (rises[0] - rises[1]) / np.float32(2 * step)
    return slopes.reshape(len(x), *model.input_shape)


def _loss_moved(model: Model, sample: NDArray[Any], places: Any, step: float, label: int) -> Float:
    """The float32 cross-entropy with each of `places` moved alone, (len(places),)."""
    moved = np.repeat(sample[None], len(places), axis=0)
    rows = np.arange(len(places))
    moved[rows, places] = (moved[rows, places] + step).astype(moved.dtype)
    shaped = moved.reshape(-1, *model.input_shape)
    real = shaped if model.grid is None else model.grid.dequantize(shaped)
    probability = model.predict(real)[:, label].astype(np.float32)
    return np.asarray(-np.log(np.maximum(probability, np.float32(1e-7))), np.float32)
