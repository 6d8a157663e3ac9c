"""Compiled logits, loss gradients and Jacobians of any TensorFlow function of a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.compute.batches import BUCKETS, pad, side_by_side
from pytest_qnnrobust.models.losses import Loss, loss_named
from pytest_qnnrobust.types import Float

SHARE = 32
"""Samples below which a second thread does not pay."""


class Differentiable:
    """A differentiable classifier given by one TensorFlow function.

    `function` maps a float32 tensor (n, *input_shape) to logits (n, classes) and treats every
    sample alone. Each method takes any n >= 1 and computes it in batches of sizes among `buckets`
    (`compute.batches.pieces`), so that a new n costs neither a trace nor a new set of oneDNN
    primitives or XLA kernels.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        input_shape: tuple[int, ...],
        classes: int,
        buckets: tuple[int, ...] = BUCKETS,
    ) -> None:
        self.function = function
        self.input_shape = input_shape
        self.classes = classes
        self.buckets = tuple(sorted(buckets))
        self._gradients: dict[str, Callable[..., Any]] = {}
        self._jacobians: dict[int, Callable[..., Any]] = {}

    def logits(self, x: Float) -> Float:
        """Logits float32 (n, classes)."""
        return self._run(self._compiled_logits, x)[0]

    def loss_gradient(
        self, x: Float, y: NDArray[np.int64], rival: NDArray[np.int64], loss: str
    ) -> tuple[Float, Float, Float]:
        """Logits (n, classes), loss (n,) for labels `y` and classes `rival`, and its gradient."""
        if loss not in self._gradients:
            self._gradients[loss] = self._compile_gradient(loss_named(loss))
        logits, value, gradient = self._run(self._gradients[loss], x, y, rival)
        return logits, value, gradient

    def jacobian(self, x: Float, weights: Float) -> tuple[Float, Float]:
        """Logits, and the gradients (n, m, *input_shape) of m weighted sums of them.

        `weights` is (n, m, classes). Takes one forward pass and m backward ones.
        """
        m = weights.shape[1]
        if m not in self._jacobians:
            self._jacobians[m] = self._compile_jacobian(m)
        logits, jacobian = self._run(self._jacobians[m], x, weights)
        return logits, jacobian

    def _run(self, compiled: Callable[..., Any], *arrays: NDArray[Any]) -> list[Float]:
        def part(rows: slice, size: int) -> list[Float]:
            results = compiled(*(pad(array[rows], size) for array in arrays))
            return [result.numpy()[: len(arrays[0][rows])] for result in results]

        return side_by_side(part, len(arrays[0]), self.buckets, least=SHARE)

    @cached_property
    def _compiled_logits(self) -> Callable[..., Any]:
        return self._compile(lambda x: (self.function(x),))

    def _compile_jacobian(self, m: int) -> Callable[..., Any]:
        import tensorflow as tf

        def jacobian(x: Any, weights: Any) -> tuple[Any, Any]:
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
                tape.watch(x)
                logits = self.function(x)
            rows = tf.unstack(weights, num=m, axis=1)
            gradients = [tape.gradient(logits, x, output_gradients=row) for row in rows]
            return logits, tf.stack(gradients, axis=1)

        return self._compile(jacobian, tf.TensorSpec((None, m, self.classes), tf.float32))

    def _compile_gradient(self, loss: Loss) -> Callable[..., Any]:
        import tensorflow as tf

        def loss_gradient(x: Any, y: Any, rival: Any) -> tuple[Any, Any, Any]:
            # Only the input is watched: gradients of the weights would cost time for nothing.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                logits = self.function(x)
                value = loss(logits, y, rival)
            return logits, value, tape.gradient(value, x)

        labels = tf.TensorSpec((None,), tf.int64)
        return self._compile(loss_gradient, labels, labels)

    def _compile(self, function: Callable[..., Any], *more: Any) -> Callable[..., Any]:
        import tensorflow as tf

        signature = (tf.TensorSpec((None, *self.input_shape), tf.float32), *more)
        compiled: Callable[..., Any] = tf.function(
            function, input_signature=signature, autograph=False
        )
        return compiled
