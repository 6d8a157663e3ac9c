"""Graphs computed in float32: float `.tflite` files, and the float twins of integer ones."""

from __future__ import annotations

import numpy as np

from pytest_qnnrobust.errors import ModelFileError, QnnRobustError
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.differentiable import Differentiable
from pytest_qnnrobust.tflite.graph import Graph, Tensor
from pytest_qnnrobust.tflite.plan import final_softmax
from pytest_qnnrobust.tflite.surrogate import FloatTwin
from pytest_qnnrobust.types import Float, Labels, Runtime, Width


class FloatGraphModel(Model):
    """A differentiable graph in float32, from the tensor `start` to the tensor `end`.

    It is a float `.tflite` or the dequantized twin of an integer one.
    """

    width: Width = "float32"

    def __init__(
        self,
        name: str,
        graph: Graph,
        start: Tensor,
        end: Tensor,
        runtime: Runtime,
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.runtime = runtime
        shape, classes = start.shape[1:], end.shape[1]
        softmax = final_softmax(graph, end)
        logits = graph.tensors[softmax.inputs[0]] if softmax else end
        self._beta = float(softmax.options["beta"]) if softmax else None
        self._network = Differentiable(FloatTwin(graph, start, logits), shape, classes)
        super().__init__(name, shape, classes, bounds)

    def dry_run(self) -> None:
        """Raise ModelFileError where an operator's options or operands contradict each other."""
        import tensorflow as tf

        specification = tf.TensorSpec((None, *self.input_shape), tf.float32)
        try:
            # Autograph would wrap an error in one of its own, and has nothing to do here.
            traced = tf.function(self._network.function, autograph=False)
            logits = traced.get_concrete_function(specification)
        except QnnRobustError:
            raise
        except Exception as error:
            lines = str(error).splitlines() or [type(error).__name__]
            raise ModelFileError(f"the graph contradicts itself: {lines[-1].strip()}") from None
        if tuple(logits.output_shapes[1:]) != (self.classes,):
            raise ModelFileError(
                f"expected logits of shape (batch, {self.classes}), got {logits.output_shapes}"
            )

    def _evaluate(self, x: Float) -> tuple[Float, Float]:
        logits = self._network.logits(x)
        return logits if self._beta is None else _softmax(self._beta * logits), logits

    def _loss_gradient(
        self, x: Float, y: Labels, rival: Labels, loss: str
    ) -> tuple[Float, Float, Float]:
        return self._network.loss_gradient(x, y, rival, loss)

    def _jacobian(self, x: Float, weights: Float) -> tuple[Float, Float]:
        return self._network.jacobian(x, weights)


def float_twin(name: str, graph: Graph) -> FloatGraphModel:
    """The float twin of a whole graph, integer or float."""
    return FloatGraphModel(f"{name}-surrogate", graph, graph.input, graph.output, "surrogate")


def _softmax(logits: Float) -> Float:
    weights: Float = np.exp(logits - logits.max(axis=1, keepdims=True))
    total: Float = weights.sum(axis=1, keepdims=True)
    return weights / total
