"""Other gradients for a model than its own: its float twin's, or finite differences."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.losses import loss_named
from pytest_qnnrobust.models import CHUNK, Model, Wrapper
from pytest_qnnrobust.types import Float, GradientSource, Labels

SOURCES: tuple[GradientSource, ...] = ("straight-through", "surrogate", "finite-difference")

FLOAT_LEVELS = 255
"""A float input has no LSB: a probe step of one counts as this part of its domain."""


def with_gradient(model: Model, source: str, probe_steps: int) -> Model:
    """See `Model.with_gradient`."""
    if source not in SOURCES:
        raise expected(f"gradient to be one of {', '.join(SOURCES)}", gradient=source)
    if isinstance(probe_steps, bool) or not isinstance(probe_steps, int) or probe_steps < 1:
        cure = "a probe below one input LSB sees no change and reads as robustness"
        raise expected("probe_steps to be an integer >= 1", cure=cure, probe_steps=probe_steps)
    base = model.base if isinstance(model, Redirected) else model
    if source == "finite-difference":
        return FiniteDifference(base, probe_steps)
    if source == "straight-through" and base.gradient_source == "surrogate":
        cure = "load the model with runtime='tflm'"
        rule = "the exact integer graph for straight-through gradients"
        raise expected(rule, cure=cure, runtime=base.runtime)
    if source == "surrogate" and base.surrogate is not base:
        return SurrogateGradient(base)
    return base


class Redirected(Wrapper):
    """The scores and decisions of `base`, with gradients from elsewhere."""

    source: GradientSource

    def __init__(self, base: Model) -> None:
        super().__init__(base)
        self.differentiable = True
        self.gradient_source = self.source
        self.gradient_queries = 0

    def _loss_gradient(
        self, x: Float, y: Labels, rival: Labels, loss: str
    ) -> tuple[Float, Float, Float]:
        _, logits = self._evaluate(x)
        value = _losses(loss, logits, y, rival).astype(np.float32)
        return logits, value, self._gradient(x, y, rival, loss)

    @abstractmethod
    def _gradient(self, x: Float, y: Labels, rival: Labels, loss: str) -> Float:
        """The input gradient of the loss, (n, *input_shape)."""


class SurrogateGradient(Redirected):
    """Gradients of the dequantized float twin at the same inputs, as transfer attacks use them."""

    source: GradientSource = "surrogate"

    def _gradient(self, x: Float, y: Labels, rival: Labels, loss: str) -> Float:
        return self.surrogate._loss_gradient(x, y, rival, loss)[2]

    def _jacobian(self, x: Float, weights: Float) -> tuple[Float, Float]:
        return self._evaluate(x)[1], self.surrogate._jacobian(x, weights)[1]


class FiniteDifference(Redirected):
    """Central differences over `probe_steps` input LSBs on either side, in float64.

    One gradient, or any number of them at one input, asks the model 2 * size + 1 questions, which
    are counted as queries. At the bounds the difference is one-sided.
    """

    source: GradientSource = "finite-difference"

    def __init__(self, base: Model, probe_steps: int) -> None:
        super().__init__(base)
        self.digest = f"{base.digest}-{probe_steps}" if base.digest else None
        low, high = base.bounds
        lsb = (high - low) / FLOAT_LEVELS if base.grid is None else base.grid.scale
        self._probe = probe_steps * lsb
        self.gradient_queries = 2 * int(np.prod(base.input_shape)) + 1

    def _gradient(self, x: Float, y: Labels, rival: Labels, loss: str) -> Float:
        def value(logits: Float, row: int) -> NDArray[np.float64]:
            labels = np.full(len(logits), y[row])
            return _losses(loss, logits, labels, np.full(len(logits), rival[row]))[:, None]

        return self._differences(x, 1, value)[:, 0]

    def _jacobian(self, x: Float, weights: Float) -> tuple[Float, Float]:
        def sums(logits: Float, row: int) -> NDArray[np.float64]:
            return np.asarray(logits.astype(np.float64) @ weights[row].T.astype(np.float64))

        return self._evaluate(x)[1], self._differences(x, weights.shape[1], sums)

    def _differences(self, x: Float, m: int, measure: Any) -> Float:
        """Gradients (n, m, *input_shape) of the m numbers that `measure(logits, row)` returns."""
        size = int(np.prod(self.input_shape))
        slopes = np.zeros((len(x), m, size))
        low, high = self.bounds
        for row, sample in enumerate(x.reshape(len(x), size)):
            for start in range(0, size, CHUNK // 2):
                moved = np.arange(start, min(start + CHUNK // 2, size))
                each = np.arange(len(moved))
                probes = np.repeat(sample[None, None], 2, axis=0).repeat(len(moved), axis=1)
                probes[0, each, moved] = np.minimum(sample[moved] + self._probe, high)
                probes[1, each, moved] = np.maximum(sample[moved] - self._probe, low)
                logits = self._evaluate(probes.reshape(-1, *self.input_shape))[1]
                self.queries += len(logits)
                above, below = np.split(measure(logits, row), 2)
                seen = probes if self.grid is None else self.grid.snap(probes)
                width = seen[0, each, moved].astype(np.float64) - seen[1, each, moved]
                rise = (above - below) / np.where(width > 0, width, np.inf)[:, None]
                slopes[row][:, moved] = rise.T
        return slopes.astype(np.float32).reshape(len(x), m, *self.input_shape)


def _losses(loss: str, logits: Float, y: Labels, rival: Labels) -> NDArray[np.float64]:
    import tensorflow as tf

    scores = tf.constant(logits, tf.float64)
    return np.asarray(loss_named(loss)(scores, tf.constant(y), tf.constant(rival)).numpy())
