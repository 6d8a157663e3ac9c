"""TFLite's own interpreter on one file, in the process that `child.run` has started."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.compute.batches import CHUNK, bucket, pad
from pytest_qnnrobust.models.child import Answer

BUCKETS = (1, 16, 64, CHUNK)
"""Batch sizes that have an interpreter each: resizing one allocates all its tensors again."""


class Interpreters:
    """One interpreter for each batch size that was asked for.

    `builtin`: TFLite's kernels without the default delegate. `batched`: the file's batch axis is
    dynamic; else samples are computed one by one.
    """

    def __init__(self, data: bytes, builtin: bool, batched: bool) -> None:
        self._data = data
        self._builtin = builtin
        self._batched = batched
        self._interpreters: dict[int, Any] = {}

    def invoke(self, q: NDArray[Any]) -> NDArray[Any]:
        """Input values (n, *input_shape) -> output values (n, classes)."""
        n = len(q)
        # Resizing the batch fails or mis-computes where a RESHAPE has a baked-in batch of 1.
        size = bucket(n, BUCKETS) if self._batched else 1
        if size == 1 and n > 1:
            return np.concatenate([self.invoke(q[i : i + 1]) for i in range(n)])
        interpreter = self._interpreter(size, q.shape[1:])
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pad(q, size))
        interpreter.invoke()
        output: NDArray[Any] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        return output[:n]

    def _interpreter(self, size: int, input_shape: tuple[int, ...]) -> Any:
        # TensorFlow imports Keras unless an older one is asked for: a third of the start.
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        import tensorflow as tf

        if size in self._interpreters:
            return self._interpreters[size]
        resolvers = tf.lite.experimental.OpResolverType
        resolver = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES if self._builtin else resolvers.AUTO
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interpreter = tf.lite.Interpreter(
                model_content=self._data, experimental_op_resolver_type=resolver
            )
        index = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(index, [size, *input_shape])
        interpreter.allocate_tensors()
        self._interpreters[size] = interpreter
        return interpreter


def serve() -> Answer:
    """Answer questions: the first brings the file, every other one a batch."""
    interpreters: list[Interpreters] = []

    def answer(header: dict[str, Any], payload: bytes) -> tuple[Mapping[str, Any], Any]:
        if "load" in header:
            interpreters[:] = [Interpreters(payload, header["builtin"], header["batched"])]
            return {}, b""
        q = np.frombuffer(payload, header["dtype"]).reshape(header["shape"])
        output = np.ascontiguousarray(interpreters[0].invoke(q))
        return {"dtype": output.dtype.name, "shape": output.shape}, output

    return answer
