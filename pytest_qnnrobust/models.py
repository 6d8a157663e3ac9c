"""What every attacked network offers, whatever file and runtime it comes from."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import DataError, QnnRobustError, expected
from pytest_qnnrobust.tflite import fixed_point
from pytest_qnnrobust.types import Float, GradientSource, Labels, Runtime, Width

CHUNK = 256
"""Samples a model is given at once: larger batches are cut, so memory does not grow with N."""


@dataclass(frozen=True)
class InputGrid:
    """The affine grid on which a quantized model sees its input.

    `quantize` is the float-to-integer QUANTIZE of TFLM (`reference/quantize.h`): float32 division,
    round half away from zero, saturation.
    """

    scale: float
    zero_point: int
    dtype: str

    @property
    def range(self) -> tuple[float, float]:
        """The real values of the smallest and the largest integer."""
        info = np.iinfo(self.dtype)
        ends = self.dequantize(np.array([info.min, info.max]))
        return float(ends[0]), float(ends[1])

    def quantize(self, x: NDArray[Any]) -> NDArray[Any]:
        return fixed_point.quantize(x, self.scale, self.zero_point, self.dtype)

    def dequantize(self, q: NDArray[Any]) -> Float:
        if isinstance(q, np.ndarray) and q.dtype == self.dtype:
            return _real_values(self).take(q.view(_unsigned(self.dtype)))
        return fixed_point.dequantize(q, self.scale, self.zero_point)

    def snap(self, x: NDArray[Any]) -> Float:
        """The nearest points of the grid: what the device really evaluates."""
        return self.dequantize(self.quantize(x))


@lru_cache(maxsize=16)
def _real_values(grid: InputGrid) -> Float:
    """The real value of every integer of the grid, by its two's complement bits."""
    info = np.iinfo(grid.dtype)
    bits = np.arange(int(info.max) - int(info.min) + 1).astype(_unsigned(grid.dtype))
    return fixed_point.dequantize(bits.view(grid.dtype), grid.scale, grid.zero_point)


def _unsigned(dtype: str) -> str:
    return f"u{np.dtype(dtype).itemsize}"


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
        from pytest_qnnrobust.gradient_sources import with_gradient

        return with_gradient(self, source, probe_steps)

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


def load_model(
    path: Any,
    *,
    runtime: Literal["tflm", "litert", "litert-builtin"] = "tflm",
    scale_arithmetic: Literal["double", "float"] = "double",
    bounds: tuple[float, float] | None = None,
) -> Model:
    """Load a `.tflite`, `.keras` or `.h5` classifier.

    `runtime="tflm"` (default) computes what the microcontroller returns, bit for bit;
    `runtime="litert"` computes what TFLite's own interpreter returns on a phone, with its default
    delegate; `"litert-builtin"` is the same without delegates, as most published figures were.
    `scale_arithmetic` is how the firmware derives multipliers from scales: current TFLM in double
    precision, older versions in float. `bounds` replaces the input domain that the file implies.

    Raises ModelFileError for a file that is missing or is no such model, and
    UnsupportedOperatorError for a graph beyond the kernels that are implemented.
    """
    from pytest_qnnrobust import loading

    model = loading.load(path, runtime=runtime, scale_arithmetic=scale_arithmetic)
    return model if bounds is None else model.with_bounds(*bounds)


Part = TypeVar("Part", bound=tuple[NDArray[Any], ...])


def _map_chunks(compute: Callable[[slice], Part], n: int) -> list[NDArray[Any]]:
    """Apply `compute` to slices of at most `CHUNK` rows and join what it returns."""
    parts = [compute(rows) for rows in _chunks(n)]
    return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]


def _chunks(n: int) -> Iterator[slice]:
    for start in range(0, n, CHUNK):
        yield slice(start, min(start + CHUNK, n))
