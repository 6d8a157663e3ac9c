"""`.tflite` files as models: integer graphs as the device computes them, and float graphs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.differentiable import Differentiable
from pytest_qnnrobust.errors import ModelFileError, QnnRobustError
from pytest_qnnrobust.models import InputGrid, Model
from pytest_qnnrobust.tflite.graph import Graph, Tensor
from pytest_qnnrobust.tflite.interpreter import Interpreter
from pytest_qnnrobust.tflite.plan import INTEGER_WIDTHS, check_signature, final_softmax
from pytest_qnnrobust.tflite.surrogate import FloatTwin
from pytest_qnnrobust.types import Float, GradientSource, Labels, Runtime, Width


class IntegerModel(Model):
    """A quantized `.tflite` on the exact integers of TensorFlow Lite Micro.

    `loss_gradient` and `jacobian` are straight-through: their forward pass is the integer graph.
    """

    runtime: Runtime = "tflm"
    gradient_source: GradientSource = "straight-through"
    grid: InputGrid

    def __init__(
        self, name: str, graph: Graph, scale_arithmetic: Literal["double", "float"] = "double"
    ) -> None:
        self.interpreter = Interpreter(graph, scale_arithmetic)
        plan = self.interpreter.plan
        self.width = cast(Width, plan.input.dtype)
        self.grid = InputGrid(plan.input.scale, plan.input.zero_point, plan.input.dtype)
        super().__init__(name, self.interpreter.input_shape, plan.output.shape[1], self.grid.range)

    def predict_quantized(self, q: NDArray[Any]) -> NDArray[Any]:
        """Input integers (N, *input_shape) -> output integers (N, classes), bit for bit TFLM's."""
        self.queries += len(q)
        return self.interpreter.invoke(q)

    def _evaluate(self, x: Float) -> tuple[Float, Float]:
        plan = self.interpreter.plan
        wanted = [plan.output.index, plan.logits.index]
        output, logits = self.interpreter.tensors(self.grid.quantize(x), wanted)
        return _real(output, plan.output), _real(logits, plan.logits)

    def _loss_gradient(
        self, x: Float, y: Labels, rival: Labels, loss: str
    ) -> tuple[Float, Float, Float]:
        return self._straight_through.loss_gradient(self.grid.snap(x), y, rival, loss)

    def _jacobian(self, x: Float, weights: Float) -> tuple[Float, Float]:
        return self._straight_through.jacobian(self.grid.snap(x), weights)

    @cached_property
    def _straight_through(self) -> Differentiable:
        plan = self.interpreter.plan
        twin = FloatTwin(plan.graph, plan.input, plan.logits)
        return Differentiable(
            straight_through_logits(self.interpreter, twin), self.input_shape, self.classes
        )

    @cached_property
    def surrogate(self) -> Model:
        """The dequantized float twin, on the same input domain."""
        plan = self.interpreter.plan
        twin = FloatGraphModel(
            f"{self.name}-surrogate", plan.graph, plan.input, plan.output, "surrogate"
        )
        twin.digest = f"{self.digest}-surrogate" if self.digest else None
        return twin.with_bounds(*self.bounds)

    def with_bounds(self, low: float, high: float) -> Model:
        model = super().with_bounds(low, high)
        model.__dict__.pop("surrogate", None)
        return model


class FloatGraphModel(Model):
    """A graph computed in float32 from `start` to `end`, differentiable: a float `.tflite`, or the
    dequantized twin of an integer one."""

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

    def rehearse(self) -> None:
        """Raise ModelFileError where an operator's options or operands contradict each other."""
        import tensorflow as tf

        specification = tf.TensorSpec((None, *self.input_shape), tf.float32)
        try:
            logits = tf.function(self._network.function).get_concrete_function(specification)
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


def straight_through_logits(interpreter: Interpreter, twin: FloatTwin) -> Callable[[Any], Any]:
    """Real inputs on the grid -> the integer graph's logits, with the float twin's gradient."""
    plan = interpreter.plan
    behind_logits = plan.output.index if plan.logits is not plan.output else None
    wanted = tuple(step.output for step in plan.steps if step.output != behind_logits)

    def logits(x: Any) -> Any:
        import tensorflow as tf

        scaled = tf.cast(tf.stop_gradient(x), tf.float64) / plan.input.scale
        q = tf.cast(tf.round(scaled) + plan.input.zero_point, plan.input.dtype)
        exact = interpreter.compiled.trace(q, wanted)
        return twin(x, dict(zip(wanted, exact, strict=True)))

    return logits


def float_twin(name: str, graph: Graph) -> FloatGraphModel:
    """The float twin of a whole graph, integer or float."""
    return FloatGraphModel(f"{name}-surrogate", graph, graph.input, graph.output, "surrogate")


def load_tflite(
    name: str,
    data: bytes,
    graph: Graph,
    runtime: Runtime,
    scale_arithmetic: Literal["double", "float"],
    rehearse: bool = True,
) -> Model:
    """The model of a graph that was read from `data`.

    Without `rehearse` it is left to the first question whether TensorFlow can run it, where it has
    to. An integer graph is rehearsed on NumPy, always.
    Raises ModelFileError where the graph is no classifier of one input and one output.
    """
    check_signature(graph)
    if runtime in ("litert", "litert-builtin"):
        from pytest_qnnrobust.litert_models import LiteRtModel

        phone = LiteRtModel(name, data, graph, runtime)
        if rehearse:
            phone.rehearse()
        return phone
    if any(tensor.dtype in INTEGER_WIDTHS for tensor in graph.tensors):
        return IntegerModel(name, graph, scale_arithmetic)
    model = FloatGraphModel(name, graph, graph.input, graph.output, "litert")
    if rehearse:
        model.rehearse()
    return model


def _real(q: NDArray[Any], tensor: Tensor) -> Float:
    from pytest_qnnrobust.tflite.fixed_point import dequantize

    return dequantize(q, tensor.scale, tensor.zero_point)


def _softmax(logits: Float) -> Float:
    weights: Float = np.exp(logits - logits.max(axis=1, keepdims=True))
    total: Float = weights.sum(axis=1, keepdims=True)
    return weights / total
