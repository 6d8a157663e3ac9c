"""Model files: what is loaded and what is digested are the same bytes, at every read of a run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_qnnrobust.errors import FileChangedError, ModelFileError, QnnRobustError, expected
from pytest_qnnrobust.tflite.flatbuffer import MAX_FILE_BYTES

MAX_KERAS_BYTES = 1 << 29
"""Largest `.keras` or `.h5` file, and uncompressed size that one may claim (512 MiB)."""

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
LARGEST = {".tflite": MAX_FILE_BYTES, **dict.fromkeys(KERAS_SUFFIXES, MAX_KERAS_BYTES)}
"""Bytes that a model file may have, by the end of its name."""

START_AGAIN = "start again, and replace files before or after a run"
"""The cure for a file that changed."""

SHOWN = 12
"""Digits of a digest that a message shows."""


@dataclass(frozen=True)
class ModelFile:
    """The bytes of a model file, read once, and where they were read."""

    path: Path
    content: bytes = field(repr=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self.content).hexdigest()


CONVERTERS = {
    ".onnx": "onnx2tf converts an ONNX file to .tflite",
    ".pt": "ai-edge-torch converts a PyTorch model to .tflite",
    ".pth": "ai-edge-torch converts a PyTorch model to .tflite",
    ".pb": "tf.lite.TFLiteConverter.from_saved_model converts a SavedModel to .tflite",
}
"""What makes a `.tflite` of a file with this suffix."""


def read_model_file(path: Any, digest: str | None = None) -> ModelFile:
    """Read a model file whole; with the `digest` of an earlier read it has to be the same file.

    Raises ModelFileError, one line, for a file that is missing, cannot be read, is too large or
    has another suffix than `LARGEST`; FileChangedError where it is not the earlier one.
    """
    path = Path(path)
    if digest is None:
        return ModelFile(path, _content(path))
    try:
        file = ModelFile(path, _content(path))
    except ModelFileError:
        raise _changed(path, digest, "no file that can be read") from None
    if file.digest != digest:
        raise _changed(path, digest, file.digest[:SHOWN])
    return file


def _content(path: Path) -> bytes:
    if path.is_dir() and (path / "saved_model.pb").is_file():
        rule = "a model file that ends in .tflite, .keras or .h5"
        cure = "a SavedModel: tf.lite.TFLiteConverter.from_saved_model converts it to .tflite"
        raise expected(rule, path=str(path), cure=cure, error=ModelFileError)
    if not path.is_file():
        cure = "no such file"
        raise expected("a model file", path=str(path), cure=cure, error=ModelFileError)
    most = LARGEST.get(path.suffix.lower())
    if most is None:
        rule = "a model file that ends in .tflite, .keras or .h5"
        converter = CONVERTERS.get(path.suffix.lower())
        raise expected(rule, path=str(path), cure=converter, error=ModelFileError)
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        rule = "a model file that can be read"
        raise expected(rule, path=str(path), reason=error.strerror, error=ModelFileError) from None
    if len(content) > most:
        rule = f"a model file of at most {most >> 20} MiB"
        raise expected(rule, path=str(path), bytes=path.stat().st_size, error=ModelFileError)
    return content


def _changed(path: Path, digest: str, now: str) -> QnnRobustError:
    return expected(
        "a model file that stays as it is while the tests run",
        path=str(path),
        was=digest[:SHOWN],
        now=now,
        cure=START_AGAIN,
        error=FileChangedError,
    )
