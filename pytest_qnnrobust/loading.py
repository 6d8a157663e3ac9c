"""A path -> the Model that its file holds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pytest_qnnrobust.errors import ModelFileError, expected
from pytest_qnnrobust.models import Model
from pytest_qnnrobust.tflite.flatbuffer import MAX_FILE_BYTES, read_graph

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
RUNTIMES = ("tflm", "litert", "litert-builtin")


def load(path: Any, *, runtime: str, scale_arithmetic: str) -> Model:
    """See `pytest_qnnrobust.load_model`."""
    if runtime not in RUNTIMES:
        raise expected(f"runtime to be one of {', '.join(RUNTIMES)}", runtime=runtime)
    if scale_arithmetic not in ("double", "float"):
        raise expected("scale_arithmetic to be double or float", scale_arithmetic=scale_arithmetic)
    file = Path(path)
    if not file.is_file():
        raise expected("a model file", path=str(path), error=ModelFileError)
    model = _load_file(file, runtime, scale_arithmetic)
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    model.digest = f"{content}-{model.runtime}-{scale_arithmetic}"
    return model


def _load_file(file: Path, runtime: str, scale_arithmetic: str) -> Model:
    suffix = file.suffix.lower()
    if suffix in KERAS_SUFFIXES:
        from pytest_qnnrobust.keras_models import load_keras

        return load_keras(file)
    if suffix != ".tflite":
        raise expected(
            "a model file that ends in .tflite, .keras or .h5",
            path=str(file),
            error=ModelFileError,
        )
    return _load_tflite(file, runtime, scale_arithmetic)


def _load_tflite(file: Path, runtime: Any, scale_arithmetic: Any) -> Model:
    from pytest_qnnrobust.tflite_models import load_tflite

    size = file.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ModelFileError(f"expected a model of at most {MAX_FILE_BYTES} bytes, got {size}")
    data = file.read_bytes()
    graph = read_graph(data, str(file))
    try:
        return load_tflite(file.stem, data, graph, runtime, scale_arithmetic)
    except ModelFileError as error:
        raise type(error)(f"{file}: {error}") from None
