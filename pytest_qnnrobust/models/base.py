"""The interface of every attacked network, whatever file and runtime it comes from."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.compute.batches import CHUNK as CHUNK
from pytest_qnnrobust.errors import DataError, QnnRobustError, expected
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.models.losses import loss_named
from pytest_qnnrobust.types import Float, GradientSource, Labels, Runtime, Width

REDIRECTIONS: tuple[GradientSource, ...] = ("straight-through", "surrogate", "finite-difference")
"""Gradients that `Model.with_gradient` can give a model."""

FLOAT_LEVELS = 255
"""Steps of a float input, which has no LSB: one probe step is this part of its domain, as in an
8-bit image."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Decisions and scores of one pass.

    `labels` int64 (N,) are decided on the output tensor; `logits` is float32 (N, classes).
    """

    labels: Labels
    logits: Float


@dataclass(frozen=True, eq=False)
class Gradient:
    """Logits, loss and input gradient of one pass, all float32.

    `logits` (N, classes), `loss` (N,), `gradient` (N, *input_shape) of the loss.
    """

    logits: Float
    loss: Float
    gradient: Float


class Model(ABC):
    """A classifier under attack.

    All methods take real-valued float32 inputs (N, *input_shape) in model units, any N, and cut
    them into chunks of 256. `queries` counts samples evaluated, `gradients` samples
    differentiated (a Jacobian counts one per class).
    Every method raises DataError for inputs of another shape, and for integers.
    """

    width: Width
    runtime: Runtime
    differentiable: bool = True
    gradient_source: GradientSource = "autodiff"
    gradient_queries: int = 0
    """Queries that the gradients of one input cost where they are measured; else 0."""
    grid: InputGrid | None = None
    """Integers that the input tensor holds; None where it is float."""
    digest: str | None = None
    """Digest of the file and the arithmetic that compute the scores; None without a file."""

    def __init__(
        self,
        name: str,
        input_shape: tuple[int, ...],
        classes: int,
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.name = name
        self.input_shape = input_shape
        self.classes = classes
        self.bounds = bounds
        self.queries = 0
        self.gradients = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.width} {self.runtime}>"

    @abstractmethod
    def _evaluate(self, x: Float) -> tuple[Float, Float]:
        """The output tensor and the logits, dequantized, of at most `CHUNK` samples."""

    def _loss_gradient(
        self, x: Float, y: Labels, rival: Labels, loss: str
    ) -> tuple[Float, Float, Float]:
        """Logits, loss and input gradient of at most `CHUNK` samples."""
        raise self._not_differentiable()

    def _jacobian(self, x: Float, weights: Float) -> tuple[Float, Float]:
        """Logits, and gradients (n, m, *input_shape) of their sums under `weights`
        (n, m, classes), of at most `CHUNK` samples."""
        raise self._not_differentiable()

    @property
    def surrogate(self) -> Model:
        """The differentiable float twin: the dequantized network. A float model is its own."""
        return self

    def with_bounds(self, low: float, high: float) -> Model:
        """The same model with another input domain; the query counts start again.

        Raises QnnRobustError unless low < high.
        """
        if not low < high:
            raise expected("bounds with low < high", low=low, high=high)
        twin = copy.copy(self)
        twin.bounds = (float(low), float(high))
        twin.queries = twin.gradients = 0
        return twin

    def with_gradient(self, source: str, probe_steps: int = 1) -> Model:
        """The same scores with the gradients that `source` names.

        - "straight-through": the integer graph forward, the float twin backward (Bengio, Leonard
          and Courville 2013); an integer model's default;
        - "surrogate": the float twin in both directions; a float model is its own surrogate;
        - "finite-difference": central differences of the model's own scores, `probe_steps` input
          LSBs to either side, 2 * size + 1 queries a gradient.

        Raises QnnRobustError for another source, and for a probe below one LSB.
        """
        return _redirected(self, source, probe_steps)

    def predict(self, x: NDArray[Any]) -> Float:
        """The output tensor, dequantized: float32 (N, classes)."""
        outputs, _ = self._forward(x)
        return outputs

    def logits(self, x: NDArray[Any]) -> Float:
        """The input of the final SOFTMAX, or the output where there is none, dequantized:
        float32 (N, classes)."""
        _, logits = self._forward(x)
        return logits

    def classify(self, x: NDArray[Any]) -> Labels:
        """The device's decisions, int64 (N,): argmax of the output, the lowest index on a tie."""
        return self.evaluate(x).labels

    def evaluate(self, x: NDArray[Any]) -> Scores:
        """Decisions and logits from one pass, counted once."""
        outputs, logits = self._forward(x)
        return Scores(np.argmax(outputs, axis=1).astype(np.int64), logits)

    def loss_gradient(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        loss: str = "cross-entropy",
        rival: NDArray[Any] | None = None,
    ) -> Gradient:
        """Loss of the logits against labels `y` int64 (N,) and its gradient in the input.

        `loss` is one of `models.losses.LOSSES`; a targeted one takes the class that it wants for
        each sample from `rival` int64 (N,). Raises QnnRobustError for another loss, and where the
        model has no gradients.
        """
        y = np.asarray(y, np.int64)
        wanted = y if rival is None else np.asarray(rival, np.int64)
        return self._differentiate(self._check_input(x), y, wanted, loss)

    def jacobian(self, x: NDArray[Any], weights: NDArray[Any] | None = None) -> tuple[Float, Float]:
        """Logits (N, classes) and their Jacobian (N, classes, *input_shape), float32.

        With `weights` (N, m, classes) the second array holds the gradients (N, m, *input_shape) of
        m weighted sums of the logits, which cost m backward passes instead of one for each class.
        Raises QnnRobustError where the model has no gradients.
        """
        x = self._check_input(x)
        if weights is None:
            identity = np.eye(self.classes, dtype=np.float32)
            weights = np.broadcast_to(identity, (len(x), *identity.shape))
        sums = np.asarray(weights, np.float32)
        self.gradients += len(x) * sums.shape[1]
        parts = _map_chunks(lambda rows: self._jacobian(x[rows], sums[rows]), len(x))
        if not parts:
            empty = np.empty((0, sums.shape[1], *self.input_shape), np.float32)
            return self._no_scores(), empty
        return parts[0], parts[1]

    def _differentiate(self, x: Float, y: Labels, rival: Labels, loss: str) -> Gradient:
        self.gradients += len(x)
        parts = _map_chunks(
            lambda rows: self._loss_gradient(x[rows], y[rows], rival[rows], loss), len(x)
        )
        if not parts:
            return Gradient(self._no_scores(), np.empty(0, np.float32), x)
        return Gradient(*parts)

    def _forward(self, x: NDArray[Any]) -> tuple[Float, Float]:
        x = self._check_input(x)
        self.queries += len(x)
        parts = _map_chunks(lambda rows: self._evaluate(x[rows]), len(x))
        if not parts:
            return self._no_scores(), self._no_scores()
        return parts[0], parts[1]

    def _check_input(self, x: NDArray[Any]) -> Float:
        x = np.asarray(x)
        if x.shape[1:] != self.input_shape or x.ndim == 0:
            rule = f"inputs of shape (N, {', '.join(map(str, self.input_shape))})"
            raise expected(rule, shape=x.shape, error=DataError)
        if not np.issubdtype(x.dtype, np.floating):
            cure = "convert the data with load_data, or integers with predict_quantized"
            raise expected("real-valued inputs", dtype=str(x.dtype), cure=cure, error=DataError)
        return x.astype(np.float32, copy=False)

    def _no_scores(self) -> Float:
        return np.empty((0, self.classes), np.float32)

    def _not_differentiable(self) -> QnnRobustError:
        return QnnRobustError(f"{self.name} ({self.runtime}) has no gradients; use its surrogate")


class Wrapper(Model):
    """A model that answers as `base` does, but for what a subclass overrides."""

    def __init__(self, base: Model) -> None:
        super().__init__(base.name, base.input_shape, base.classes, base.bounds)
        self.base = base
        self.width = base.width
        self.runtime = base.runtime
        self.grid = base.grid
        self.digest = base.digest
        self.differentiable = base.differentiable
        self.gradient_source = base.gradient_source
        self.gradient_queries = base.gradient_queries

    @property
    def surrogate(self) -> Model:
        return self.base.surrogate

    def _evaluate(self, x: Float) -> tuple[Float, Float]:
        return self.base._evaluate(x)


Part = TypeVar("Part", bound=tuple[NDArray[Any], ...])


def _map_chunks(compute: Callable[[slice], Part], n: int) -> list[NDArray[Any]]:
    """Apply `compute` to slices of at most `CHUNK` rows and join what it returns."""
    parts = [compute(rows) for rows in _chunks(n)]
    return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]


def _chunks(n: int) -> Iterator[slice]:
    for start in range(0, n, CHUNK):
        yield slice(start, min(start + CHUNK, n))


def _redirected(model: Model, source: str, probe_steps: int) -> Model:
    """The model that `Model.with_gradient` promises."""
    if source not in REDIRECTIONS:
        raise expected(f"gradient to be one of {', '.join(REDIRECTIONS)}", gradient=source)
    if isinstance(probe_steps, bool) or not isinstance(probe_steps, int) or probe_steps < 1:
        cure = "a probe below one input LSB sees no change and reads as robustness"
        raise expected("probe_steps to be an integer >= 1", cure=cure, probe_steps=probe_steps)
    # A second redirection replaces the first one instead of wrapping it.
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

    redirection: GradientSource

    def __init__(self, base: Model) -> None:
        super().__init__(base)
        self.differentiable = True
        self.gradient_source = self.redirection
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

    redirection: GradientSource = "surrogate"

    def _gradient(self, x: Float, y: Labels, rival: Labels, loss: str) -> Float:
        return self.surrogate._loss_gradient(x, y, rival, loss)[2]

    def _jacobian(self, x: Float, weights: Float) -> tuple[Float, Float]:
        return self._evaluate(x)[1], self.surrogate._jacobian(x, weights)[1]


class FiniteDifference(Redirected):
    """Central differences over `probe_steps` input LSBs on either side, in float64.

    One gradient, or any number of them at one input, takes 2 * size + 1 queries. At the bounds the
    difference is one-sided.
    """

    redirection: GradientSource = "finite-difference"

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
        # float32 losses of neighbouring inputs often cancel to an exact 0: a false zero gradient.
        slopes = np.zeros((len(x), m, size))
        low, high = self.bounds
        for row, sample in enumerate(x.reshape(len(x), size)):
            # Each element costs two probes, one to either side, and a chunk holds CHUNK of them.
            for start in range(0, size, CHUNK // 2):
                moved = np.arange(start, min(start + CHUNK // 2, size))
                rows = np.arange(len(moved))
                probes = np.repeat(sample[None, None], 2, axis=0).repeat(len(moved), axis=1)
                probes[0, rows, moved] = np.minimum(sample[moved] + self._probe, high)
                probes[1, rows, moved] = np.maximum(sample[moved] - self._probe, low)
                logits = self._evaluate(probes.reshape(-1, *self.input_shape))[1]
                self.queries += len(logits)
                above, below = np.split(measure(logits, row), 2)
                # The device sees grid points: the distance between those is what was probed.
                seen = probes if self.grid is None else self.grid.snap(probes)
                width = seen[0, rows, moved].astype(np.float64) - seen[1, rows, moved]
                rise = (above - below) / np.where(width > 0, width, np.inf)[:, None]
                slopes[row][:, moved] = rise.T
        return slopes.astype(np.float32).reshape(len(x), m, *self.input_shape)


def _losses(loss: str, logits: Float, y: Labels, rival: Labels) -> NDArray[np.float64]:
    import tensorflow as tf

    scores = tf.constant(logits, tf.float64)
    return np.asarray(loss_named(loss)(scores, tf.constant(y), tf.constant(rival)).numpy())
