"""Exact batched inference of an integer graph: on the native core, or in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.compute.batches import CHUNK
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.tflite import native
from pytest_qnnrobust.tflite.graph import Graph
from pytest_qnnrobust.tflite.kernels import Settings
from pytest_qnnrobust.tflite.plan import plan_integer_graph

MAX_VALUES = 1 << 26
"""Values of an activation of the samples computed at once: 512 MiB in NumPy's float64."""

Engine = Literal["native", "reference"]
Run = Callable[[NDArray[Any], Sequence[int]], list[NDArray[Any]]]


class Interpreter:
    """The integers that TensorFlow Lite Micro computes for a quantized classifier.

    `engine="native"` runs the steps on the compiled core, `"reference"` runs the NumPy kernels,
    which define them, one by one. Both return the same integers; by default it is the core where
    there is one.

    Raises ModelFileError or UnsupportedOperatorError at construction, never later, and
    QnnRobustError for another engine, or the native one where there is no core.
    """

    def __init__(
        self,
        graph: Graph,
        scale_arithmetic: Literal["double", "float"] = "double",
        engine: Engine | None = None,
    ) -> None:
        if engine not in (None, *get_args(Engine)):
            raise expected(f"engine to be one of {', '.join(get_args(Engine))}", engine=engine)
        self._library = native.library() if engine != "reference" else None
        if engine == "native" and self._library is None:
            raise expected("the native core", engine=engine, cure=native.missing())
        self.plan = plan_integer_graph(graph, Settings(scale_arithmetic))

    @property
    def engine(self) -> Engine:
        return "native" if self._library else "reference"

    @cached_property
    def _program(self) -> native.Program | None:
        """The plan on the native core, where there is one."""
        return native.Program(self.plan, self._library) if self._library else None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.plan.input.shape[1:]

    def invoke(self, q: NDArray[Any]) -> NDArray[Any]:
        """Input integers (N, *input_shape) -> output integers (N, classes)."""
        return self.tensors(q, [self.plan.output.index])[0]

    def tensors(self, q: NDArray[Any], wanted: Sequence[int]) -> list[NDArray[Any]]:
        """Input integers -> the activations of the tensor indices `wanted`, each (N, ...).

        Threads share the samples where the core computes them.
        """
        return self._in_chunks(self._program.run if self._program else self._reference, q, wanted)

    def tensors_on_this_thread(self, q: NDArray[Any], wanted: Sequence[int]) -> list[NDArray[Any]]:
        """What `tensors` returns, for a caller that shares the samples among threads itself."""
        run = self._program.compute if self._program else self._reference
        return self._in_chunks(run, q, wanted)

    def _in_chunks(self, run: Run, q: NDArray[Any], wanted: Sequence[int]) -> list[NDArray[Any]]:
        q = self._check_input(q)
        size = max(min(CHUNK, MAX_VALUES // self.plan.largest), 1)
        starts = range(0, max(len(q), 1), size)
        parts = [run(q[start : start + size], wanted) for start in starts]
        return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]

    def _reference(self, q: NDArray[Any], wanted: Sequence[int]) -> list[NDArray[Any]]:
        values = {self.plan.input.index: q}
        for place, step in enumerate(self.plan.steps):
            values[step.output] = step.kernel.run(*(values[index] for index in step.inputs))
            # Dropped after their last reader: a deep graph would hold every activation.
            for index in set(step.inputs):
                if self.plan.last_use.get(index) == place and index not in wanted:
                    del values[index]
        return [values[index] for index in wanted]

    def _check_input(self, q: NDArray[Any]) -> NDArray[Any]:
        q = np.asarray(q)
        tensor = self.plan.input
        if q.dtype != tensor.dtype or q.shape[1:] != self.input_shape or q.ndim == 0:
            raise expected(
                f"{tensor.dtype} integers of shape (N, {', '.join(map(str, self.input_shape))})",
                dtype=str(q.dtype),
                shape=q.shape,
            )
        return q
