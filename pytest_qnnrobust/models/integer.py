"""Quantized `.tflite` files on the exact integers of TensorFlow Lite Micro."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, cast

from numpy.typing import NDArray

from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.differentiable import Differentiable
from pytest_qnnrobust.models.float_graph import FloatGraphModel
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.tflite.graph import Graph, Tensor
from pytest_qnnrobust.tflite.interpreter import Interpreter
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
        """Input integers (N, *input_shape) -> output integers (N, classes), bit for bit TFLM's.

        Both have the dtype `width`. Raises QnnRobustError for another dtype or shape.
        """
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
        # The copied twin, where it was made already, has the old bounds.
        model.__dict__.pop("surrogate", None)
        return model


def straight_through_logits(interpreter: Interpreter, twin: FloatTwin) -> Callable[[Any], Any]:
    """Real inputs on the grid -> the integer graph's logits, with the float twin's gradient."""
    plan = interpreter.plan
    # The final SOFTMAX is not part of the logits: it would be computed for nothing.
    behind_logits = plan.output.index if plan.logits is not plan.output else None
    wanted = tuple(step.output for step in plan.steps if step.output != behind_logits)
    dtypes = [plan.graph.tensors[index].dtype for index in wanted]
    shapes = [plan.shapes[index] for index in wanted]

    def logits(x: Any) -> Any:
        import tensorflow as tf

        # x lies on the grid already, so that rounding only removes float32's last bits.
        scaled = tf.cast(tf.stop_gradient(x), tf.float64) / plan.input.scale
        q = tf.cast(tf.round(scaled) + plan.input.zero_point, plan.input.dtype)
        # On the calling thread: the samples are shared among threads around this function. Not
        # stateful: TensorFlow may then leave it out where nobody reads it.
        exact = tf.numpy_function(
            lambda q: interpreter.tensors_on_this_thread(q, wanted), [q], dtypes, stateful=False
        )
        for activation, shape in zip(exact, shapes, strict=True):
            activation.set_shape((q.shape[0], *shape))
        return twin(x, dict(zip(wanted, exact, strict=True)))

    return logits


def _real(q: NDArray[Any], tensor: Tensor) -> Float:
    from pytest_qnnrobust.tflite.fixed_point import dequantize

    return dequantize(q, tensor.scale, tensor.zero_point)
