"""Scores and gradients of a model that are kept in a cache: what was asked before costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.evaluation.cache import ResultCache
from pytest_qnnrobust.evaluation.cache_keys import answer_key
from pytest_qnnrobust.models.base import Gradient, Model, Wrapper
from pytest_qnnrobust.types import Float, Labels


class CachedModel(Wrapper):
    """A model that answers as `base` does; what `cache` holds is read there and counts no query.

    For the few questions that tests ask themselves: attacks ask too many to keep them, and have
    their results kept instead. `base` needs a digest.
    """

    def __init__(self, base: Model, cache: ResultCache) -> None:
        super().__init__(base)
        self.cache = cache

    def with_bounds(self, low: float, high: float) -> Model:
        return CachedModel(self.base.with_bounds(low, high), self.cache)

    def with_gradient(self, source: str, probe_steps: int = 1) -> Model:
        return cached(self.base.with_gradient(source, probe_steps), self.cache)

    def _forward(self, x: NDArray[Any]) -> tuple[Float, Float]:
        x = self._check_input(x)
        shape = (len(x), self.classes)

        def ask() -> dict[str, Float]:
            self.queries += len(x)
            outputs, logits = self.base._forward(x)
            return {"outputs": outputs, "logits": logits}

        scores = self._answer("scores", {"outputs": shape, "logits": shape}, ask, x)
        return scores["outputs"], scores["logits"]

    def _differentiate(self, x: Float, y: Labels, rival: Labels, loss: str) -> Gradient:
        n = len(x)
        shapes = {"logits": (n, self.classes), "loss": (n,), "gradient": x.shape}

        def ask() -> dict[str, Float]:
            self.gradients += n
            return vars(self.base._differentiate(x, y, rival, loss))

        return Gradient(**self._answer(f"gradient of {loss}", shapes, ask, x, y, rival))

    def _loss_gradient(
        self, x: Float, y: Labels, rival: Labels, loss: str
    ) -> tuple[Float, Float, Float]:
        return self.base._loss_gradient(x, y, rival, loss)

    def _jacobian(self, x: Float, weights: Float) -> tuple[Float, Float]:
        return self.base._jacobian(x, weights)

    def _answer(
        self,
        question: str,
        shapes: dict[str, tuple[int, ...]],
        ask: Callable[[], dict[str, Float]],
        *inputs: NDArray[Any],
    ) -> dict[str, Float]:
        """The float32 arrays of these `shapes` that answer a question: the cache's, else `ask`."""
        key = answer_key(question, self.base, *inputs)
        answer = self.cache.load_floats(key, shapes)
        if answer is None:
            answer = {name: np.asarray(array, np.float32) for name, array in ask().items()}
            self.cache.store_floats(key, answer)
        return answer


def cached(model: Model, cache: ResultCache | None) -> Model:
    """`model` with its answers cached, where there is a cache and the model came from a file."""
    return CachedModel(model, cache) if cache is not None and model.digest else model
