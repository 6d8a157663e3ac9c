"""A path -> the Model that its file holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_qnnrobust.errors import ModelFileError, expected
from pytest_qnnrobust.models import Model
from pytest_qnnrobust.tflite.flatbuffer import MAX_FILE_BYTES, read_graph
from pytest_qnnrobust.types import Float, Labels

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
RUNTIMES = ("tflm", "litert", "litert-builtin")
PART = 1 << 20
"""Bytes of a file that are read at a time for its digest."""


@dataclass(frozen=True)
class Accepted:
    """What a run has to know of a file that was loaded before, with nothing to complain of."""

    input_shape: tuple[int, ...]
    classes: int
    bounds: tuple[float, float]


class AcceptedModel(Model):
    """A float model whose file was `accepted` before: it is loaded, and checked, when it is asked.

    Models made of it by `with_bounds` share what was loaded.
    """

    width = "float32"
    runtime = "keras"

    def __init__(self, name: str, accepted: Accepted, load: Callable[[], Model]) -> None:
        super().__init__(name, accepted.input_shape, accepted.classes, accepted.bounds)
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


def content_digest(path: Path) -> str:
    """The SHA-256 of a file of any size; ModelFileError, one line, where there is none."""
    if not path.is_file():
        raise expected("a model file", path=str(path), error=ModelFileError)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(PART):
            digest.update(part)
    return digest.hexdigest()


def load(
    path: Any, *, runtime: str, scale_arithmetic: str, accepted: Accepted | None = None
) -> Model:
    """See `pytest_qnnrobust.load_model`.

    Of a file that is `accepted` only what costs little is loaded and checked at once: a Keras
    network is built at the first question, and no `.tflite` is rehearsed on TensorFlow.
    """
    if runtime not in RUNTIMES:
        raise expected(f"runtime to be one of {', '.join(RUNTIMES)}", runtime=runtime)
    if scale_arithmetic not in ("double", "float"):
        raise expected("scale_arithmetic to be double or float", scale_arithmetic=scale_arithmetic)
    file = Path(path)
    content = content_digest(file)
    model = _load_file(file, content, runtime, scale_arithmetic, accepted)
    model.digest = f"{content}-{model.runtime}-{scale_arithmetic}"
    return model


def _load_file(
    file: Path, content: str, runtime: str, scale_arithmetic: str, accepted: Accepted | None
) -> Model:
    suffix = file.suffix.lower()
    if suffix in KERAS_SUFFIXES:
        return _load_keras(file, content, accepted)
    if suffix != ".tflite":
        raise expected(
            "a model file that ends in .tflite, .keras or .h5",
            path=str(file),
            error=ModelFileError,
        )
    return _load_tflite(file, runtime, scale_arithmetic, rehearse=accepted is None)


def _load_keras(file: Path, content: str, accepted: Accepted | None) -> Model:
    def load_keras() -> Model:
        from pytest_qnnrobust import keras_models

        model = keras_models.load_keras(file)
        if content_digest(file) != content:
            rule = "a model file that stays as it is while the tests run"
            raise expected(rule, path=str(file), error=ModelFileError)
        return model

    return AcceptedModel(file.stem, accepted, load_keras) if accepted else load_keras()


def _load_tflite(file: Path, runtime: Any, scale_arithmetic: Any, rehearse: bool) -> Model:
    from pytest_qnnrobust.tflite_models import load_tflite

    size = file.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ModelFileError(f"expected a model of at most {MAX_FILE_BYTES} bytes, got {size}")
    data = file.read_bytes()
    graph = read_graph(data, str(file))
    try:
        return load_tflite(file.stem, data, graph, runtime, scale_arithmetic, rehearse)
    except ModelFileError as error:
        raise type(error)(f"{file}: {error}") from None
