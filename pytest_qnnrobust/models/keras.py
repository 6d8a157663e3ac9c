"""Float classifiers from Keras files."""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from pytest_qnnrobust.errors import ModelFileError, expected
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.differentiable import Differentiable
from pytest_qnnrobust.models.files import ModelFile, read_model_file
from pytest_qnnrobust.models.keras_files import load_network
from pytest_qnnrobust.tflite.plan import MAX_ACTIVATION
from pytest_qnnrobust.types import Float, Labels

Final = Literal["softmax", "sigmoid", "distribution", "linear"]
FINALS: tuple[Final, ...] = ("softmax", "sigmoid")
TINY = float(np.finfo(np.float32).tiny)
"""Smallest normal float32: a probability of 0 has a finite logarithm."""
SCOPE_NAME = r"[A-Za-z0-9_.\\/>-]*"
"""Names that `tf.function` can make a scope of; a Keras layer takes any name without a slash."""
ROOT_NAME = f"[A-Za-z0-9.]{SCOPE_NAME}"
"""The same for the outermost scope, the network's own."""


def load_keras(source: str | Path | ModelFile) -> KerasModel:
    """Load a `.keras` or `.h5` classifier. Raises ModelFileError, one line, for anything else."""
    file = source if isinstance(source, ModelFile) else read_model_file(source)
    return KerasModel(file.path.stem, load_network(file))


class KerasModel(Model):
    """A Keras classifier with one input (None, *input_shape) and one output (None, classes).

    `network` computes logits: a final softmax or sigmoid is taken off and applied again to get the
    output, because gradients through a saturated softmax vanish. Where a network returns
    probabilities but ends in no such layer, their logarithm serves as logits. `bounds` is (0, 1)
    unless a leading Rescaling layer implies another domain.
    """

    width = "float32"
    runtime = "keras"

    def __init__(self, name: str, network: Any) -> None:
        input_shape, classes = _signature(name, network)
        super().__init__(name, input_shape, classes, implied_bounds(network) or (0.0, 1.0))
        _check_name(name, network, ROOT_NAME)
        _check_layers(name, network)
        self.network, self.final = _take_off_activation(network)
        if self.final == "linear" and self._returns_probabilities():
            self.final = "distribution"
        self._differentiable = Differentiable(self._logits, input_shape, classes)

    def _evaluate(self, x: Float) -> tuple[Float, Float]:
        logits = self._differentiable.logits(x)
        return _activate(logits, self.final), logits

    def _loss_gradient(
        self, x: Float, y: Labels, rival: Labels, loss: str
    ) -> tuple[Float, Float, Float]:
        return self._differentiable.loss_gradient(x, y, rival, loss)

    def _jacobian(self, x: Float, weights: Float) -> tuple[Float, Float]:
        return self._differentiable.jacobian(x, weights)

    def _logits(self, x: Any) -> Any:
        import tensorflow as tf

        scores = tf.cast(self.network(x, training=False), tf.float32)
        return tf.math.log(tf.maximum(scores, TINY)) if self.final == "distribution" else scores

    def _returns_probabilities(self) -> bool:
        # Shares that sum to 1 on eight random inputs are no accident.
        x = np.random.default_rng(0).uniform(*self.bounds, (8, *self.input_shape))
        scores = self.network(x.astype(np.float32), training=False).numpy()
        return bool(scores.min() >= 0 and np.allclose(scores.sum(axis=1), 1, atol=1e-4))


def implied_bounds(network: Any) -> tuple[float, float] | None:
    """The input domain that a leading Rescaling layer implies, None without one.

    A scale that brings 255 to about 1 or 2 (`1/255`, `1/127.5`) means pixels, 0..255.
    """
    # Input and augmentation layers may come first.
    for layer in network.layers[:3]:
        if type(layer).__name__ == "Rescaling":
            reach = 255 * np.max(np.abs(layer.scale))
            return (0.0, 255.0) if 0.5 <= reach <= 4 else (0.0, 1.0)
    return None


def _check_layers(name: str, network: Any) -> None:
    """Refuse a name that makes no graph, and outputs that would fill memory, as padding can."""
    for layer in network.layers:
        if hasattr(layer, "layers"):
            _check_layers(name, layer)
        _check_name(name, layer, SCOPE_NAME)
        shape = getattr(getattr(layer, "output", None), "shape", None) or ()
        if math.prod(size or 1 for size in shape) > MAX_ACTIVATION:
            raise expected(
                f"at most {MAX_ACTIVATION} values per sample in a layer's output",
                model=name,
                layer=layer.name,
                shape=tuple(shape),
                error=ModelFileError,
            )


def _check_name(name: str, layer: Any, pattern: str) -> None:
    if not re.fullmatch(pattern, layer.name):
        raise expected(
            "names of the network and its layers that TensorFlow accepts",
            model=name,
            layer=layer.name,
            cure=f"rename it to match {pattern} and save the model again",
            error=ModelFileError,
        )


class _Signature(NamedTuple):
    input_shape: tuple[int, ...]
    classes: int


def _signature(name: str, network: Any) -> _Signature:
    inputs, outputs = getattr(network, "inputs", None), getattr(network, "outputs", None)
    if not inputs or not outputs or len(inputs) != 1 or len(outputs) != 1:
        raise expected(
            "a model with one input and one output",
            model=name,
            inputs=len(inputs or ()),
            outputs=len(outputs or ()),
            error=ModelFileError,
        )
    input_shape, output_shape = tuple(inputs[0].shape[1:]), tuple(outputs[0].shape[1:])
    if not input_shape or None in input_shape:
        raise expected(
            "a fixed input shape",
            model=name,
            shape=input_shape,
            cure="give the Input layer its sizes",
            error=ModelFileError,
        )
    if len(output_shape) != 1 or output_shape[0] is None or output_shape[0] < 2:
        raise expected(
            "a classifier with one output per class, two or more",
            model=name,
            output_shape=output_shape,
            cure="end the model in Dense(classes, activation='softmax')",
            error=ModelFileError,
        )
    return _Signature(tuple(int(n) for n in input_shape), int(output_shape[0]))


def _take_off_activation(network: Any) -> tuple[Any, Final]:
    """The network up to its final softmax or sigmoid, and which of them ended it."""
    last, nested = _last_operation(network)
    for final in FINALS:
        if type(last).__name__.lower() == final and not nested:
            library = importlib.import_module(type(network).__module__.split(".")[0])
            return library.Model(network.inputs, last.input), final
        if getattr(getattr(last, "activation", None), "__name__", "") == final:
            # Replaced in the layer itself, which may lie in a nested model.
            last.activation = _identity
            return network, final
    return network, "linear"


def _last_operation(network: Any, nested: bool = False) -> tuple[Any, bool]:
    """The layer or operation that makes the output, and whether it is in a nested model."""
    if type(network).__name__ == "Sequential":
        last = network.layers[-1]
    else:
        last = network.outputs[0]._keras_history[0]
    return _last_operation(last, True) if hasattr(last, "layers") else (last, nested)


def _identity(x: Any) -> Any:
    return x


def _activate(logits: Float, final: Final) -> Float:
    from scipy.special import expit, softmax

    if final == "linear":
        return logits
    output: Float = expit(logits) if final == "sigmoid" else softmax(logits, axis=1)
    return output
