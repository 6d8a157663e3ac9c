"""`.tflite` files on TFLite's own interpreter: what a phone returns, not a microcontroller."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.batching import bucket, pad
from pytest_qnnrobust.models import Float, GradientSource, InputGrid, Labels, Model, Width
from pytest_qnnrobust.tflite.fixed_point import dequantize
from pytest_qnnrobust.tflite.graph import Graph
from pytest_qnnrobust.tflite.plan import final_softmax

LiteRtRuntime = Literal["litert", "litert-builtin"]
BUCKETS = (1, 16, 64, 256)
SMALLEST_PROBABILITY = 2.0**-20


class LiteRtModel(Model):
    """A file as desktop and mobile TFLite run it: `litert` with its default delegate (XNNPACK),
    `litert-builtin` with TFLite's optimized kernels and no delegate.

    Scores are the output tensor alone: `logits` is its logarithm where it ends in SOFTMAX.
    Gradients are those of the file's float twin.
    """

    gradient_source: GradientSource = "surrogate"

    def __init__(self, name: str, data: bytes, graph: Graph, runtime: LiteRtRuntime) -> None:
        self.runtime = runtime
        self._data = data
        self._graph = graph
        self._batched = graph.input.shape[0] == -1
        self._interpreters: dict[int, Any] = {}
        self.width = _width(graph)
        bounds = (0.0, 1.0)
        if graph.input.quantization is not None:
            self.grid = InputGrid(graph.input.scale, graph.input.zero_point, graph.input.dtype)
            bounds = self.grid.range
        super().__init__(name, graph.input.shape[1:], graph.output.shape[1], bounds)

    def predict_quantized(self, q: NDArray[Any]) -> NDArray[Any]:
        """Input values (N, *input_shape) in the file's dtype -> output values (N, classes)."""
        self.queries += len(q)
        return np.concatenate([self._invoke(q[i : i + 256]) for i in range(0, len(q), 256)])

    def _evaluate(self, x: Float) -> tuple[Float, Float]:
        raw = self._invoke(x if self.grid is None else self.grid.quantize(x))
        output = self._graph.output
        real = (
            raw if output.quantization is None else dequantize(raw, output.scale, output.zero_point)
        )
        if final_softmax(self._graph, output):
            return real, np.log(np.maximum(real, SMALLEST_PROBABILITY))
        return real, real

    def _invoke(self, q: NDArray[Any]) -> NDArray[Any]:
        n = len(q)
        size = bucket(n, BUCKETS) if self._batched else 1
        if size == 1 and n > 1:
            return np.concatenate([self._invoke(q[i : i + 1]) for i in range(n)])
        interpreter = self._interpreter(size)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pad(q, size))
        interpreter.invoke()
        output: NDArray[Any] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        return output[:n]

    def _interpreter(self, size: int) -> Any:
        import tensorflow as tf

        if size in self._interpreters:
            return self._interpreters[size]
        resolvers = tf.lite.experimental.OpResolverType
        builtin = self.runtime == "litert-builtin"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interpreter = tf.lite.Interpreter(
                model_content=self._data,
                experimental_op_resolver_type=(
                    resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES if builtin else resolvers.AUTO
                ),
            )
        interpreter.resize_tensor_input(
            interpreter.get_input_details()[0]["index"], [size, *self.input_shape]
        )
        interpreter.allocate_tensors()
        self._interpreters[size] = interpreter
        return interpreter

    @cached_property
    def surrogate(self) -> Model:
        from pytest_qnnrobust.tflite_models import float_twin

        return float_twin(self.name, self._graph).with_bounds(*self.bounds)

    def _loss_gradient(
        self, x: Float, y: Labels, rival: Labels, loss: str
    ) -> tuple[Float, Float, Float]:
        return self.surrogate._loss_gradient(x, y, rival, loss)

    def _jacobian(self, x: Float, weights: Float) -> tuple[Float, Float]:
        return self.surrogate._jacobian(x, weights)


def _width(graph: Graph) -> Width:
    dtypes = {tensor.dtype for tensor in graph.tensors if not tensor.is_constant}
    if "int16" in dtypes:
        return "int16"
    return "int8" if "int8" in dtypes else "float32"
