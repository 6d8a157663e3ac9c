"""Gains of the input quantizer and of each layer: how much of a perturbation they let through."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.metrics import lp_norm
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.models.integer import IntegerModel
from pytest_qnnrobust.tflite.fixed_point import dequantize

Double = NDArray[np.float64]


def quantizer_gain(
    grid: InputGrid,
    x: NDArray[Any],
    steps: float,
    bounds: tuple[float, float],
    seed: int = 0,
) -> Double:
    """Gain ||Q(x + noise) - Q(x)|| / ||noise|| of the input quantizer Q, per sample (N,).

    The noise is uniform in +-`steps` input steps, the norms are L2. `x` (N, ...) is put on the
    grid first, as a digital sensor delivers it, and x + noise is clipped to `bounds`. Sample i
    draws from (seed, i). "David and Goliath", analysis A3.
    """
    clean, noisy = _with_noise(grid, x, steps, bounds, seed)
    passed = lp_norm(grid.snap(noisy).astype(np.float64) - clean, 2.0)
    return _ratio(passed, lp_norm(noisy - clean, 2.0))


def layer_gains(model: Model, x: NDArray[Any], steps: float, seed: int = 0) -> dict[str, Double]:
    """The relative gain of every activation of an integer model, by tensor name, each (N,).

    That is (||a(x + noise) - a(x)|| / ||a(x)||) / (||noise|| / ||x||), in real values, for the
    noise of `quantizer_gain`: 1 where a layer hands a relative change on as it is, 0 where the
    integers do not change, more where quantization or the layer amplifies it.
    Raises QnnRobustError for a model without integer activations.
    """
    if not isinstance(model, IntegerModel):
        raise expected("an integer model run by TFLM's arithmetic", model=model.name)
    clean, noisy = _with_noise(model.grid, x, steps, model.bounds, seed)
    relative = _ratio(lp_norm(noisy - clean, 2.0), lp_norm(clean, 2.0))
    plan = model.interpreter.plan
    wanted = [plan.graph.tensors[index] for index in dict.fromkeys(s.output for s in plan.steps)]
    before, after = (
        model.interpreter.tensors(model.grid.quantize(inputs), [t.index for t in wanted])
        for inputs in (clean, noisy)
    )
    gains = {}
    for tensor, a, b in zip(wanted, before, after, strict=True):
        first, second = (dequantize(q, tensor.scale, tensor.zero_point) for q in (a, b))
        change = _ratio(lp_norm(second - first, 2.0), lp_norm(first, 2.0))
        gains[tensor.name] = _ratio(change, relative)
    return gains


def _with_noise(
    grid: InputGrid, x: NDArray[Any], steps: float, bounds: tuple[float, float], seed: int
) -> tuple[Double, Double]:
    """The samples on the grid, and the same with noise, clipped to the bounds."""
    if not steps > 0:
        raise expected("steps to be > 0", steps=steps)
    clean = grid.snap(x).astype(np.float64)
    noisy = np.empty_like(clean)
    for i, sample in enumerate(clean):
        noise = np.random.default_rng([seed, i]).uniform(-steps, steps, sample.shape)
        noisy[i] = np.clip(sample + noise * grid.scale, *bounds)
    return clean, noisy


def _ratio(numerator: Double, denominator: Double) -> Double:
    """Quotients, 0 where the denominator is 0: there was nothing to change."""
    safe = np.where(denominator > 0, denominator, 1.0)
    return np.asarray(np.where(denominator > 0, numerator / safe, 0.0))
