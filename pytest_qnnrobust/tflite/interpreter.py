"""Exact batched inference of an integer graph: NumPy kernels, or compiled from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.compute.batches import CHUNK
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.tflite.compiled import CompiledPlan
from pytest_qnnrobust.tflite.graph import Graph
from pytest_qnnrobust.tflite.kernels import Settings
from pytest_qnnrobust.tflite.plan import plan_integer_graph


class Interpreter:
    """The integers that TensorFlow Lite Micro computes for a quantized classifier.

    `engine="compiled"` (default) runs the steps as one TensorFlow function; `"reference"` runs
    the NumPy kernels one by one. Both return the same integers.

    Raises ModelFileError or UnsupportedOperatorError at construction, never later.
    """

    def __init__(
        self,
        graph: Graph,
        scale_arithmetic: Literal["double", "float"] = "double",
        engine: Literal["compiled", "reference"] = "compiled",
    ) -> None:
        if engine not in ("compiled", "reference"):
            raise expected("engine to be 'compiled' or 'reference'", engine=engine)
        self.engine = engine
        self.plan = plan_integer_graph(graph, Settings(scale_arithmetic))

    @cached_property
    def compiled(self) -> CompiledPlan:
        return CompiledPlan(self.plan)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.plan.input.shape[1:]

    def invoke(self, q: NDArray[Any]) -> NDArray[Any]:
        """Input integers (N, *input_shape) -> output integers (N, classes)."""
        return self.tensors(q, [self.plan.output.index])[0]

    def tensors(self, q: NDArray[Any], wanted: Sequence[int]) -> list[NDArray[Any]]:
        """Input integers -> the activations of the tensor indices `wanted`, each (N, ...)."""
        q = self._check_input(q)
        run = self.compiled.run if self.engine == "compiled" else self._reference
        starts = range(0, max(len(q), 1), CHUNK)
        parts = [run(q[start : start + CHUNK], wanted) for start in starts]
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
