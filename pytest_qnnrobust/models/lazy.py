"""A model whose file is loaded at the first question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.types import Float, Labels


@dataclass(frozen=True)
class FileFacts:
    """Facts of a file that passed every check in an earlier run: all that a run needs at first."""

    input_shape: tuple[int, ...]
    classes: int
    bounds: tuple[float, float]


class LazyModel(Model):
    """A float model whose file was checked before: it is loaded at the first question.

    Models made of it by `with_bounds` share what was loaded.
    """

    width = "float32"
    runtime = "keras"

    def __init__(self, name: str, facts: FileFacts, load: Callable[[], Model]) -> None:
        super().__init__(name, facts.input_shape, facts.classes, facts.bounds)
        self._file = _File(load)

    def _evaluate(self, x: Float) -> tuple[Float, Float]:
        return self._file.model._evaluate(x)

    def _loss_gradient(
        self, x: Float, y: Labels, rival: Labels, loss: str
    ) -> tuple[Float, Float, Float]:
        return self._file.model._loss_gradient(x, y, rival, loss)

    def _jacobian(self, x: Float, weights: Float) -> tuple[Float, Float]:
        return self._file.model._jacobian(x, weights)


class _File:
    """Loads a model at the first question."""

    def __init__(self, load: Callable[[], Model]) -> None:
        self._load = load

    @cached_property
    def model(self) -> Model:
        return self._load()
