"""Classifiers whose robustness is known exactly: linear in the input, in NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import score_losses
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.types import Float, Labels


class LinearModel(Model):
    """logits = weights @ x + bias; on a `grid` the input is snapped first, as a device would.

    Integer weights and a grid make `evaluate` exact, whatever the batch.
    """

    runtime = "tflm"

    def __init__(
        self,
        weights: NDArray[Any],
        bias: NDArray[Any],
        input_shape: tuple[int, ...],
        bounds: tuple[float, float] = (0.0, 1.0),
        grid: InputGrid | None = None,
    ) -> None:
        super().__init__("linear", input_shape, len(bias), bounds)
        self.weights = np.asarray(weights, np.float64)
        self.bias = np.asarray(bias, np.float64)
        self.grid = grid
        self.width = "float32" if grid is None else ("int8" if grid.dtype == "int8" else "int16")

    def _evaluate(self, x: Float) -> tuple[Float, Float]:
        logits = self._logits(x)
        return logits, logits

    def _loss_gradient(
        self, x: Float, y: Labels, rival: Labels, loss: str
    ) -> tuple[Float, Float, Float]:
        logits = self._logits(x)
        value = score_losses.value(loss, logits, y, rival)
        slopes = loss_slopes(loss, logits.astype(np.float64), y, rival)
        gradient = (slopes[:, :, None] * self.weights).sum(axis=1).reshape(x.shape)
        return logits, value.astype(np.float32), gradient.astype(np.float32)

    def _jacobian(self, x: Float, weights: Float) -> tuple[Float, Float]:
        sums = (weights.astype(np.float64)[..., None] * self.weights).sum(axis=2)
        shape = (len(x), weights.shape[1], *self.input_shape)
        return self._logits(x), sums.reshape(shape).astype(np.float32)

    def _logits(self, x: Float) -> Float:
        flat = x.reshape(len(x), -1)
        if self.grid is None:
            flat = flat.astype(np.float64)
        else:
            flat = self.grid.quantize(flat).astype(np.float64) - self.grid.zero_point
        return ((flat[:, None, :] * self.weights).sum(axis=2) + self.bias).astype(np.float32)

    def distance(self, x: Float, norm: float) -> NDArray[np.float64]:
        """The closed-form distance to the nearest boundary, away from the bounds of the input."""
        assert self.grid is None
        logits = x.reshape(len(x), -1).astype(np.float64) @ self.weights.T + self.bias
        label = logits.argmax(axis=1)
        gap = logits[np.arange(len(x)), label][:, None] - logits
        slope = self.weights[label][:, None] - self.weights
        dual = {1.0: np.inf, 2.0: 2, np.inf: 1}[norm]
        length = np.linalg.norm(slope, ord=dual, axis=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = gap / length
        ratio[np.arange(len(x)), label] = np.inf
        return ratio.min(axis=1)


def loss_slopes(
    loss: str, logits: NDArray[np.float64], y: Labels, rival: Labels
) -> NDArray[np.float64]:
    """The derivative of a loss by the logits, (n, classes), worked out by hand."""
    rows = np.arange(len(logits))
    own, wanted, best, third, fourth = (np.zeros_like(logits) for _ in range(5))
    order = np.argsort(-logits, axis=1, kind="stable")
    first = np.zeros_like(logits)
    for array, column in ((first, 0), (third, 2), (fourth, 3)):
        if column < logits.shape[1]:
            array[rows, order[:, column]] = 1.0
    own[rows, y] = 1.0
    wanted[rows, rival] = 1.0
    others = np.where(own > 0, -np.inf, logits)
    best[rows, others.argmax(axis=1)] = 1.0
    if loss in ("cross-entropy", "targeted-cross-entropy"):
        share = np.exp(logits - logits.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        chosen = own if loss == "cross-entropy" else wanted
        at_chosen = np.where(chosen > 0, share, 0.0).sum(axis=1, keepdims=True)
        slope = np.where(chosen > 0, -(share.sum(axis=1, keepdims=True) - at_chosen), share)
        return slope if loss == "cross-entropy" else -slope
    targeted = loss in ("difference", "targeted-dlr")
    top = wanted - own if targeted else best - own
    if loss in ("margin", "difference") or logits.shape[1] < (4 if targeted else 3):
        return top
    bottom = first - third if loss == "dlr" else first - (third + fourth) / 2
    value = (top * logits).sum(axis=1, keepdims=True)
    spread = (bottom * logits).sum(axis=1, keepdims=True) + 1e-12
    return top / spread - bottom * value / spread**2


def problem(
    shape: tuple[int, ...] = (8, 8, 3),
    classes: int = 2,
    bounds: tuple[float, float] = (0.0, 1.0),
    samples: int = 12,
    seed: int = 0,
) -> tuple[LinearModel, Float, Labels]:
    """A float linear model, images near the middle of the domain, and its own labels."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    low, high = bounds
    weights = rng.normal(size=(classes, size)) / (high - low)
    bias = -weights.sum(axis=1) * (low + high) / 2
    model = LinearModel(weights, bias, shape, bounds)
    x = (low + (high - low) * rng.uniform(0.45, 0.55, (samples, *shape))).astype(np.float32)
    y = model.classify(x)
    model.queries = 0
    return model, x, y


def grid_for(dtype: str, bounds: tuple[float, float]) -> InputGrid:
    """The grid that spreads all integers over the bounds."""
    info = np.iinfo(dtype)
    scale = float(np.float32((bounds[1] - bounds[0]) / (info.max - info.min)))
    return InputGrid(scale, info.min - round(bounds[0] / scale), dtype)


def quantized_problem(
    dtype: str = "int8",
    shape: tuple[int, ...] = (8, 8, 3),
    classes: int = 3,
    bounds: tuple[float, float] = (0.0, 1.0),
    samples: int = 10,
    seed: int = 0,
) -> tuple[LinearModel, Float, Labels]:
    """A linear model in integers, exact in any batch, and inputs that are not on its grid."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    low, high = bounds
    grid = grid_for(dtype, bounds)
    weights = rng.integers(-8, 9, (classes, size))
    x = (low + (high - low) * rng.uniform(0.3, 0.7, (samples, *shape))).astype(np.float32)
    middle = grid.quantize(np.full(size, (low + high) / 2)).astype(np.int64) - grid.zero_point
    model = LinearModel(weights, -(weights @ middle), shape, grid.range, grid)
    y = model.classify(x)
    model.queries = 0
    return model, x, y
