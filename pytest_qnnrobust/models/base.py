"""What every attacked network offers, whatever file and runtime it comes from."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import DataError, QnnRobustError, expected
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.models.losses import loss_named
from pytest_qnnrobust.types import Float, GradientSource, Labels, Runtime, Width

CHUNK = 256
"""Samples a model is given at once: larger batches are cut, so memory does not grow with N."""


@dataclass(frozen=True, eq=False)
class Scores:
    """`labels` int64 (N,), decided on the output tensor; `logits` float32 (N, classes)."""

    labels: Labels
    logits: Float


@dataclass(frozen=True, eq=False)
class Gradient:
    """`logits` (N, classes), `loss` (N,) and its input `gradient` (N, *input_shape), float32."""

    logits: Float
    loss: Float
    gradient: Float


class Model(ABC):
    """A classifier under attack.

    All methods take real-valued float32 inputs (N, *input_shape) in model units, any N, and cut
    them into chunks of 256. `queries` counts samples evaluated, `gradients` samples
    differentiated (a Jacobian counts one per class).
    """

    width: Width
    runtime: Runtime
    differentiable: bool = True
    gradient_source: GradientSource = "autodiff"
    gradient_queries: int = 0
    """Questions that the gradients of one input cost, where they are measured; else 0."""
    grid: InputGrid | None = None
    digest: str | None = None
    """Of the file and the arithmetic that compute the scores; None where no file stands behind."""

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
        """The differentiable float twin; a float model is its own."""
        return self

    def with_bounds(self, low: float, high: float) -> Model:
        """The same model with another input domain; the query counts start again."""
        if not low < high:
            raise expected("bounds with low < high", low=low, high=high)
        twin = copy.copy(self)
        twin.bounds = (float(low), float(high))
        twin.queries = twin.gradients = 0
        return twin

    def with_gradient(self, source: str, probe_steps: int = 1) -> Model:
        """The same model, whose gradients white-box attacks get from `source`.

        "straight-through": the integer graph's own forward pass, the float twin's backward pass
        (an integer model's default); "surrogate": both passes of the float twin;
        "finite-difference": central differences of the model's own scores, `probe_steps` input
        LSBs to either side, 2 * size queries each. A float model is its own surrogate.
        Raises QnnRobustError for another source, or a probe below one LSB.
        """
        return _with_gradient(self, source, probe_steps)

    def predict(self, x: NDArray[Any]) -> Float:
        """The output tensor, dequantized: float32 (N, classes)."""
        outputs, _ = self._forward(x)
        return outputs

    def logits(self, x: NDArray[Any]) -> Float:
        """The input of the final SOFTMAX, dequantized (the output where there is none)."""
        _, logits = self._forward(x)
        return logits

    def classify(self, x: NDArray[Any]) -> Labels:
        """What the device decides: argmax of the output tensor, the lowest index on a tie."""
        return self.evaluate(x).labels

    def evaluate(self, x: NDArray[Any]) -> Scores:
        """Decision and logits from one pass, counted once."""
        outputs, logits = self._forward(x)
        return Scores(np.argmax(outputs, axis=1).astype(np.int64), logits)

    def loss_gradient(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        loss: str = "cross-entropy",
        rival: NDArray[Any] | None = None,
    ) -> Gradient:
        """Loss of the logits against labels `y` and its gradient with respect to the input.

        A targeted loss takes the class it wants for each sample from `rival` int64 (N,).
        """
        y = np.asarray(y, np.int64)
        wanted = y if rival is None else np.asarray(rival, np.int64)
        return self._differentiate(self._check_input(x), y, wanted, loss)

    def jacobian(self, x: NDArray[Any], weights: NDArray[Any] | None = None) -> tuple[Float, Float]:
        """Logits (N, classes) and their Jacobian (N, classes, *input_shape).

        With `weights` (N, m, classes): the gradients (N, m, *input_shape) of m weighted sums of
        the logits, which cost m backward passes instead of one for each class.
        """
        x = self._check_input(x)
        if weights is None:
            each = np.eye(self.classes, dtype=np.float32)
            weights = np.broadcast_to(each, (len(x), *each.shape))
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
    """The scores and decisions of `base`; what differs, a subclass says."""

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


SOURCES: tuple[GradientSource, ...] = ("straight-through", "surrogate", "finite-difference")

FLOAT_LEVELS = 255
"""A float input has no LSB: a probe step of one counts as this part of its domain."""


def _with_gradient(model: Model, source: str, probe_steps: int) -> Model:
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
