"""Load a model file, whatever its format, as a `Model`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pytest_qnnrobust.errors import ModelFileError, expected
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.float_graph import FloatGraphModel
from pytest_qnnrobust.models.integer import IntegerModel
from pytest_qnnrobust.models.lazy import FileFacts, LazyModel
from pytest_qnnrobust.options.values import RUNTIMES, SCALE_ARITHMETIC
from pytest_qnnrobust.tflite.flatbuffer import MAX_FILE_BYTES, read_graph
from pytest_qnnrobust.tflite.graph import Graph
from pytest_qnnrobust.tflite.plan import INTEGER_WIDTHS, check_signature
from pytest_qnnrobust.types import Runtime

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
PART = 1 << 20
"""Bytes of a file that are read at a time for its digest."""


def load_model(
    path: Any,
    *,
    runtime: Literal["tflm", "litert", "litert-builtin"] = "tflm",
    scale_arithmetic: Literal["double", "float"] = "double",
    bounds: tuple[float, float] | None = None,
) -> Model:
    """Load a `.tflite`, `.keras` or `.h5` classifier with one input and one output.

    `runtime` chooses the arithmetic of a `.tflite`: "tflm" (default) gives the microcontroller's
    results, bit for bit; "litert" those of TFLite's own interpreter on a phone, with its default
    delegate (XNNPACK); "litert-builtin" the same without delegates, as most published figures were
    made. `scale_arithmetic` is the precision in which the firmware derives multipliers from
    scales: "double" in current TFLM, "float" in older versions. `bounds` (low, high) replaces the
    input domain that the file implies, in model units.

    Raises ModelFileError for a file that is missing or is no such model, UnsupportedOperatorError
    for a graph beyond the kernels that are implemented, and QnnRobustError for another runtime,
    arithmetic or bounds.
    """
    model = load_checked(path, runtime=runtime, scale_arithmetic=scale_arithmetic)
    return model if bounds is None else model.with_bounds(*bounds)


def load_checked(
    path: Any, *, runtime: str, scale_arithmetic: str, facts: FileFacts | None = None
) -> Model:
    """Load a model as `load_model` does, or faster with the `facts` of an earlier check.

    With `facts` only what costs little is loaded and checked at once: a Keras network is built at
    the first question, and no `.tflite` has a dry run on TensorFlow.
    """
    if runtime not in RUNTIMES:
        raise expected(f"runtime to be one of {', '.join(RUNTIMES)}", runtime=runtime)
    if scale_arithmetic not in SCALE_ARITHMETIC:
        raise expected("scale_arithmetic to be double or float", scale_arithmetic=scale_arithmetic)
    file = Path(path)
    content = content_digest(file)
    model = _load_file(file, content, runtime, scale_arithmetic, facts)
    model.digest = f"{content}-{model.runtime}-{scale_arithmetic}"
    return model


def content_digest(path: Path) -> str:
    """SHA-256 of a file of any size. Raises ModelFileError, one line, where there is none."""
    if not path.is_file():
        raise expected("a model file", path=str(path), error=ModelFileError)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(PART):
            digest.update(part)
    return digest.hexdigest()


def _load_file(
    file: Path, content: str, runtime: str, scale_arithmetic: str, facts: FileFacts | None
) -> Model:
    suffix = file.suffix.lower()
    if suffix in KERAS_SUFFIXES:
        return _load_keras(file, content, facts)
    if suffix != ".tflite":
        raise expected(
            "a model file that ends in .tflite, .keras or .h5",
            path=str(file),
            error=ModelFileError,
        )
    return _load_tflite(file, runtime, scale_arithmetic, dry_run=facts is None)


def _load_keras(file: Path, content: str, facts: FileFacts | None) -> Model:
    def load_unchanged() -> Model:
        from pytest_qnnrobust.models import keras

        model = keras.load_keras(file)
        # Perhaps loaded long after its digest was taken, from a file that was replaced since.
        if content_digest(file) != content:
            rule = "a model file that stays as it is while the tests run"
            raise expected(rule, path=str(file), error=ModelFileError)
        return model

    return LazyModel(file.stem, facts, load_unchanged) if facts else load_unchanged()


def _load_tflite(file: Path, runtime: Any, scale_arithmetic: Any, dry_run: bool) -> Model:
    # Asked before the file is read: one that is too large must not fill the memory first.
    size = file.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ModelFileError(f"expected a model of at most {MAX_FILE_BYTES} bytes, got {size}")
    data = file.read_bytes()
    graph = read_graph(data, str(file))
    try:
        return load_tflite(file.stem, data, graph, runtime, scale_arithmetic, dry_run)
    except ModelFileError as error:
        raise type(error)(f"{file}: {error}") from None


def load_tflite(
    name: str,
    data: bytes,
    graph: Graph,
    runtime: Runtime,
    scale_arithmetic: Literal["double", "float"],
    dry_run: bool = True,
) -> Model:
    """Make the model of a graph that was read from `data`.

    Without `dry_run`, a graph that TensorFlow has to run is tried at the first question only. An
    integer graph has its dry run on NumPy, always.
    Raises ModelFileError where the graph is no classifier of one input and one output.
    """
    check_signature(graph)
    if runtime in ("litert", "litert-builtin"):
        from pytest_qnnrobust.models.litert import LiteRtModel

        phone = LiteRtModel(name, data, graph, runtime)
        if dry_run:
            phone.dry_run()
        return phone
    if any(tensor.dtype in INTEGER_WIDTHS for tensor in graph.tensors):
        return IntegerModel(name, graph, scale_arithmetic)
    model = FloatGraphModel(name, graph, graph.input, graph.output, "litert")
    if dry_run:
        model.dry_run()
    return model
