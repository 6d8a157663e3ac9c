"""Estimators of ART whose answers come from a model, or from one sample of an attack's target."""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.target import OutOfBudgetError, Target
from pytest_qnnrobust.errors import AttackError, expected
from pytest_qnnrobust.metrics import flat, lp_norm
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.types import Bounds, Float, Labels


class Source(Protocol):
    """Interface of what answers ART; inputs are float32 (n, *input_shape)."""

    input_shape: tuple[int, ...]
    classes: int
    bounds: Bounds
    output: str

    def scores(self, x: Float) -> Float:
        """Scores (n, classes) that `predict` returns."""
        ...

    def logits(self, x: Float) -> Float: ...

    def loss_gradient(self, x: Float, labels: Labels) -> Float:
        """Input gradient (n, *input_shape) of the cross-entropy against `labels`."""
        ...

    def sums(self, x: Float, weights: Float) -> Float:
        """Gradients (n, m, *input_shape) of weighted sums (n, m, classes) of the logits."""
        ...


class ModelSource:
    """A model as it is, counting its own queries."""

    def __init__(self, model: Model, output: str) -> None:
        self.input_shape = model.input_shape
        self.classes = model.classes
        self.bounds = model.bounds
        self.output = output
        self._model = model

    def scores(self, x: Float) -> Float:
        if self.output == "tensor":
            return self._model.predict(x)
        logits = self.logits(x)
        return logits if self.output == "logits" else softmax(logits)

    def logits(self, x: Float) -> Float:
        return self._model.logits(x)

    def loss_gradient(self, x: Float, labels: Labels) -> Float:
        return self._model.loss_gradient(x, labels).gradient

    def sums(self, x: Float, weights: Float) -> Float:
        return self._model.jacobian(x, weights)[1]


class SampleSource:
    """One sample of a target, asked through ART; keeps the nearest misclassified image it saw."""

    def __init__(self, target: Target, output: str, norm: float) -> None:
        self.input_shape = target.input_shape
        self.classes = target.classes
        self.bounds = target.bounds
        self.output = output
        self._target = target
        self._norm = norm
        self._nearest = np.inf

    def scores(self, x: Float) -> Float:
        labels, logits = self._evaluate(x)
        scores = logits if self.output == "logits" else softmax(logits)
        return _deciding(scores, labels)

    def logits(self, x: Float) -> Float:
        return self._evaluate(x)[1]

    def loss_gradient(self, x: Float, labels: Labels) -> Float:
        rows = self._rows(x)
        if (labels == self._target.y[rows]).all():
            answer = self._target.loss_gradient(x, rows)
            gradient = answer.gradient
        else:
            answer = self._target.loss_gradient(x, rows, "targeted-cross-entropy", labels)
            gradient = -answer.gradient
        self._visit(x, answer.logits.argmax(axis=1), answer.logits)
        return gradient

    def sums(self, x: Float, weights: Float) -> Float:
        logits, gradients = self._target.jacobian(x, self._rows(x), weights)
        self._visit(x, logits.argmax(axis=1), logits)
        return gradients

    def runner_up(self) -> Labels:
        """The best class of the clean image beside its label, int64 (1,)."""
        logits = self.logits(self._target.x).copy()
        logits[0, self._target.y] = -np.inf
        return np.asarray(logits.argmax(axis=1), np.int64)

    def finish(self, answer: Float) -> None:
        """Propose what ART returned, unless it is not misclassified and an earlier input was."""
        if np.isfinite(self._nearest):
            labels = self._target.evaluate(self._target.seal(answer)).labels
            if (labels == self._target.y).all():
                return
        self._target.propose(self._target.all_rows, answer)

    def _evaluate(self, x: Float) -> tuple[Labels, Float]:
        scores = self._target.evaluate(x, self._rows(x))
        self._visit(x, scores.labels, scores.logits)
        return scores.labels, scores.logits

    def _visit(self, x: Float, labels: Labels, logits: Float) -> None:
        """Propose the nearest misclassified input so far; stop where the budget is used up."""
        wrong = (labels != self._target.y[0]) & ~np.isnan(logits).any(axis=1)
        if wrong.any():
            seen = x[wrong]
            distance = lp_norm(seen.astype(np.float64) - self._target.x, self._norm)
            allowed = self._target.project(seen, self._rows(seen))
            distance[(flat(allowed) != flat(seen)).any(axis=1)] = np.inf
            best = int(distance.argmin())
            if distance[best] < self._nearest:
                self._nearest = float(distance[best])
                self._target.propose(self._target.all_rows, seen[best : best + 1])
        if self._target.exhausted.any():
            raise OutOfBudgetError

    def _rows(self, x: Float) -> Labels:
        return np.zeros(len(x), np.int64)


def _deciding(scores: Float, labels: Labels) -> Float:
    """The same scores, with the device's decision on top where quantized scores tie."""
    differ = np.flatnonzero(scores.argmax(axis=1) != labels)
    if len(differ):
        scores = scores.copy()
        top = scores[differ].max(axis=1)
        scores[differ, labels[differ]] = np.nextafter(top, np.float32(np.inf))
    return scores


class _Probe:
    """Model of ten classes that all score 0: ART checks the settings of an attack on it."""

    def __init__(self, output: str) -> None:
        self.input_shape: tuple[int, ...] = (32, 32, 3)
        self.classes = 10
        self.bounds = (0.0, 1.0)
        self.output = output

    def scores(self, x: Float) -> Float:
        return self.logits(x) if self.output == "logits" else softmax(self.logits(x))

    def logits(self, x: Float) -> Float:
        return np.zeros((len(x), self.classes), np.float32)

    def loss_gradient(self, x: Float, labels: Labels) -> Float:
        return np.zeros_like(x)

    def sums(self, x: Float, weights: Float) -> Float:
        return np.zeros((len(x), weights.shape[1], *x.shape[1:]), np.float32)


def probe(output: str, differentiable: bool) -> Any:
    """An estimator to construct attacks on, without a model."""
    return estimator(_Probe(output), differentiable)


def estimator(source: Source, differentiable: bool) -> Any:
    """ART's view of `source`."""
    return classes()[differentiable](source)


def softmax(logits: Float) -> Float:
    """Probabilities (n, classes), float32."""
    share = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(share / share.sum(axis=1, keepdims=True), np.float32)


def load(module: str) -> Any:
    """A module of ART; AttackError where it is not installed, or broken."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(module)
    except ModuleNotFoundError as error:
        cure = "pip install adversarial-robustness-toolbox"
        rule = "the Adversarial Robustness Toolbox to be installed"
        raise expected(rule, missing=error.name, cure=cure, error=AttackError) from error
    except Exception as error:  # What a release of ART meets in a NumPy that it was not made for.
        raise AttackError(
            "the Adversarial Robustness Toolbox cannot be imported: "
            f"{type(error).__name__}: {error}; install releases of it and of NumPy that fit"
        ) from error


@cache
def classes() -> dict[bool, Any]:
    """The two kinds of estimator: True with gradients, False without."""
    base = load("art.estimators.classification").BlackBoxClassifierNeuralNetwork
    class_gradients = load("art.estimators.classification.classifier").ClassGradientsMixin
    loss_gradients = load("art.estimators.estimator").LossGradientsMixin

    class QnnClassifier(base):  # type: ignore[misc, valid-type]
        """Scores and losses of a Source."""

        def __init__(self, source: Source) -> None:
            super().__init__(
                predict_fn=source.scores,
                input_shape=source.input_shape,
                nb_classes=source.classes,
                channels_first=False,
                clip_values=source.bounds,
                preprocessing=None,
            )
            self.source = source

        def predict(self, x: NDArray[Any], batch_size: int = 256, **kwargs: Any) -> Float:
            parts = [
                self.source.scores(_float32(x[start : start + batch_size]))
                for start in range(0, len(x), batch_size)
            ]
            return np.concatenate(parts) if parts else np.empty((0, self.nb_classes), np.float32)

        def compute_loss(
            self, x: NDArray[Any], y: NDArray[Any], reduction: str = "none", **kwargs: Any
        ) -> NDArray[Any]:
            """Cross-entropy against `y`, indices (n,) or distributions (n, classes)."""
            logits = self.source.logits(_float32(x)).astype(np.float64)
            top = logits.max(axis=1, keepdims=True)
            total = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
            loss = ((total - logits) * _distribution(y, self.nb_classes)).sum(axis=1)
            reduced = {"none": lambda: loss, "mean": loss.mean, "sum": loss.sum}
            return np.asarray(reduced[reduction](), np.float32)

        loss = compute_loss

    class DifferentiableQnnClassifier(class_gradients, loss_gradients, QnnClassifier):  # type: ignore[misc, valid-type]
        """The same with gradients of the logits, or of the probabilities where it returns them."""

        def loss_gradient(self, x: NDArray[Any], y: NDArray[Any], **kwargs: Any) -> Float:
            x = _float32(x)
            wanted = _distribution(y, self.nb_classes)
            if ((wanted == 0) | (wanted == 1)).all() and (wanted.sum(axis=1) == 1).all():
                return self.source.loss_gradient(x, wanted.argmax(axis=1).astype(np.int64))
            share = softmax(self.source.logits(x))
            slopes = share * wanted.sum(axis=1, keepdims=True) - wanted
            return self.source.sums(x, _float32(slopes)[:, None])[:, 0]

        def class_gradient(self, x: NDArray[Any], label: Any = None, **kwargs: Any) -> Float:
            x = _float32(x)
            weights = self._weights(x)
            if label is not None:
                chosen = np.broadcast_to(np.asarray(label, np.int64), (len(x),))
                weights = np.take_along_axis(weights, chosen[:, None, None], axis=1)
            return self.source.sums(x, weights)

        def _weights(self, x: Float) -> Float:
            """The derivatives of the scores by the logits, (n, classes, classes)."""
            each = np.eye(self.nb_classes, dtype=np.float32)
            if self.source.output == "logits":
                return np.broadcast_to(each, (len(x), *each.shape))
            share = softmax(self.source.logits(x))
            return share[:, :, None] * (each - share[:, None, :])

    return {False: QnnClassifier, True: DifferentiableQnnClassifier}


def _float32(x: NDArray[Any]) -> Float:
    return np.asarray(x, np.float32)


def _distribution(y: NDArray[Any], classes: int) -> Float:
    """Labels (n,) or (n, 1) as one-hot rows; rows (n, classes) as they are."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == classes:
        return _float32(y)
    return np.eye(classes, dtype=np.float32)[y.astype(np.int64).reshape(-1)]
