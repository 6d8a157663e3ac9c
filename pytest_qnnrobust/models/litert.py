"""`.tflite` files on TFLite's own interpreter: what a phone returns, not a microcontroller.

TFLite checks less of a file than it relies on and can crash its process. So it gets a process of
its own (`child`, `litert_child`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import ModelFileError, expected
from pytest_qnnrobust.models.base import CHUNK, Model
from pytest_qnnrobust.models.child import TIMEOUT, Child, ChildError
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.tflite.fixed_point import dequantize
from pytest_qnnrobust.tflite.graph import Graph, Tensor
from pytest_qnnrobust.tflite.plan import check_scale, final_softmax
from pytest_qnnrobust.types import Float, GradientSource, Labels, Width

LiteRtRuntime = Literal["litert", "litert-builtin"]
SMALLEST_PROBABILITY = 2.0**-20
"""Floor below which a probability's logarithm is cut off: an integer output may be 0."""


class LiteRtModel(Model):
    """A file as desktop and mobile TFLite run it.

    `litert` has the default delegate (XNNPACK), `litert-builtin` TFLite's optimized kernels and no
    delegate. Scores are the output tensor alone: `logits` is its logarithm where it ends in
    SOFTMAX. Gradients are those of the file's float twin. Raises ModelFileError, one line, for a
    file that TFLite refuses, crashes on, or is not done with after `timeout` seconds a batch; after
    the first time every call raises it.
    """

    gradient_source: GradientSource = "surrogate"

    def __init__(
        self,
        name: str,
        data: bytes,
        graph: Graph,
        runtime: LiteRtRuntime,
        timeout: float = TIMEOUT,
    ) -> None:
        self.runtime = runtime
        self._graph = graph
        self._interpreter = _Interpreter(name, data, graph, runtime, timeout)
        self.width = _width(graph)
        bounds = (0.0, 1.0)
        for tensor in (graph.input, graph.output):
            _check_values(tensor)
        if graph.input.dtype != "float32":
            self.grid = InputGrid(graph.input.scale, graph.input.zero_point, graph.input.dtype)
            bounds = self.grid.range
        super().__init__(name, graph.input.shape[1:], graph.output.shape[1], bounds)

    def predict_quantized(self, q: NDArray[Any]) -> NDArray[Any]:
        """Input values (N, *input_shape) in the file's dtype -> output values (N, classes)."""
        self.queries += len(q)
        starts = range(0, len(q), CHUNK)
        return np.concatenate([self._invoke(q[start : start + CHUNK]) for start in starts])

    def _evaluate(self, x: Float) -> tuple[Float, Float]:
        raw = self._invoke(x if self.grid is None else self.grid.quantize(x))
        output = self._graph.output
        real = (
            raw if output.dtype == "float32" else dequantize(raw, output.scale, output.zero_point)
        )
        if final_softmax(self._graph, output):
            return real, np.log(np.maximum(real, SMALLEST_PROBABILITY))
        return real, real

    def dry_run(self) -> None:
        """Raise ModelFileError where TFLite cannot run the file."""
        self._invoke(np.zeros((1, *self.input_shape), self._graph.input.dtype))

    def _invoke(self, q: NDArray[Any]) -> NDArray[Any]:
        return self._interpreter.invoke(q)

    @cached_property
    def surrogate(self) -> Model:
        from pytest_qnnrobust.models.float_graph import float_twin

        twin = float_twin(self.name, self._graph)
        twin.digest = f"{self.digest}-surrogate" if self.digest else None
        return twin.with_bounds(*self.bounds)

    def _loss_gradient(
        self, x: Float, y: Labels, rival: Labels, loss: str
    ) -> tuple[Float, Float, Float]:
        return self.surrogate._loss_gradient(x, y, rival, loss)

    def _jacobian(self, x: Float, weights: Float) -> tuple[Float, Float]:
        return self.surrogate._jacobian(x, weights)


class _Interpreter:
    """A file in its child process, loaded again after an interruption but not after a crash."""

    def __init__(
        self, name: str, data: bytes, graph: Graph, runtime: LiteRtRuntime, timeout: float
    ) -> None:
        self.child = Child("pytest_qnnrobust.models.litert_child", timeout)
        self._file = f"{name}.tflite"
        self._data = data
        self._graph = graph
        self._builtin = runtime == "litert-builtin"
        self._loaded: int | None = None
        self._failure: str | None = None

    def invoke(self, q: NDArray[Any]) -> NDArray[Any]:
        """Input values (n, *input_shape) -> output values (n, classes), n at most `CHUNK`."""
        try:
            if self._failure is not None:
                raise ChildError(self._failure)
            # Another process has not seen the file: Ctrl-C ended the one that had.
            if self._loaded is None or self._loaded != self.child.pid:
                self._load()
            return self._answer(np.ascontiguousarray(q))
        except ChildError as error:
            self._failure = str(error)
            raise expected(
                "a model that TFLite's own interpreter can run",
                file=self._file,
                reason=self._failure,
                cure="runtime tflm computes integer models without it",
                error=ModelFileError,
            ) from None

    def _load(self) -> None:
        batched = self._graph.input.shape[0] == -1
        self.child.ask({"load": True, "builtin": self._builtin, "batched": batched}, self._data)
        self._loaded = self.child.pid

    def _answer(self, q: NDArray[Any]) -> NDArray[Any]:
        wanted = (len(q), self._graph.output.shape[1])
        header, content = self.child.ask({"dtype": q.dtype.name, "shape": q.shape}, q)
        dtype = np.dtype(self._graph.output.dtype)
        # A hostile file may have taken the child over: its answer is checked like a file.
        shape = tuple(header.get("shape", ()))
        # The file may have the classes along another axis, beside axes of one value.
        flat = (*shape[:1], *(size for size in shape[1:] if size != 1))
        if flat != wanted or header.get("dtype") != dtype.name:
            got = f"{header.get('dtype')} of shape {header.get('shape')}"
            raise ChildError(f"it returns {got} where the file states {dtype} of shape {wanted}")
        if len(content) != wanted[0] * wanted[1] * dtype.itemsize:
            raise ChildError("its answer is no whole array")
        return np.frombuffer(content, dtype).reshape(wanted)


def _check_values(tensor: Tensor) -> None:
    """Raise ModelFileError unless the tensor holds float32, or integers of one scale."""
    where = f"tensor {tensor.index} ({tensor.name})"
    if tensor.dtype == "float32":
        return
    if tensor.dtype not in ("int8", "uint8", "int16"):
        rule = "expected float32, or quantized int8, uint8 or int16"
        raise ModelFileError(f"{rule} in {where}, got dtype={tensor.dtype}")
    check_scale(tensor)


def _width(graph: Graph) -> Width:
    dtypes = {tensor.dtype for tensor in graph.tensors if not tensor.is_constant}
    if "int16" in dtypes:
        return "int16"
    return "int8" if "int8" in dtypes else "float32"
