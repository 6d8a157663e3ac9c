"""Load a model file, whatever its format, as a `Model`."""

from __future__ import annotations

from typing import Any, Literal

from pytest_qnnrobust.errors import ModelFileError, expected
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.files import KERAS_SUFFIXES, ModelFile, read_model_file
from pytest_qnnrobust.models.float_graph import FloatGraphModel
from pytest_qnnrobust.models.integer import IntegerModel
from pytest_qnnrobust.models.lazy import FileFacts, LazyModel
from pytest_qnnrobust.options.values import RUNTIMES, SCALE_ARITHMETIC
from pytest_qnnrobust.tflite.class_axis import with_one_class_axis
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.folding import fold_constants
from pytest_qnnrobust.tflite.graph import Graph
from pytest_qnnrobust.tflite.plan import INTEGER_WIDTHS, check_signature
from pytest_qnnrobust.types import Runtime


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
    file = read_model_file(path)
    model = load_checked(file, runtime=runtime, scale_arithmetic=scale_arithmetic)
    return model if bounds is None else model.with_bounds(*bounds)


def load_checked(
    file: ModelFile, *, runtime: str, scale_arithmetic: str, facts: FileFacts | None = None
) -> Model:
    """Load a model as `load_model` does, or faster with the `facts` of an earlier check.

    With `facts` only what costs little is loaded and checked at once: a Keras network is built at
    the first question, from the same bytes or not at all, and no `.tflite` has a dry run on
    TensorFlow.
    """
    if runtime not in RUNTIMES:
        raise expected(f"runtime to be one of {', '.join(RUNTIMES)}", runtime=runtime)
    if scale_arithmetic not in SCALE_ARITHMETIC:
        raise expected("scale_arithmetic to be double or float", scale_arithmetic=scale_arithmetic)
    model = _load_file(file, runtime, scale_arithmetic, facts)
    model.digest = f"{file.digest}-{model.runtime}-{scale_arithmetic}"
    return model


def _load_file(
    file: ModelFile, runtime: str, scale_arithmetic: str, facts: FileFacts | None
) -> Model:
    if file.path.suffix.lower() in KERAS_SUFFIXES:
        return _load_keras(file, facts)
    return _load_tflite(file, runtime, scale_arithmetic, dry_run=facts is None)


def _load_keras(file: ModelFile, facts: FileFacts | None) -> Model:
    if facts is None:
        return _keras_model(file)
    # The bytes are not kept: they are read again where they are needed, which may be never.
    path, digest = file.path, file.digest
    return LazyModel(path.stem, facts, lambda: _keras_model(read_model_file(path, digest)))


def _keras_model(file: ModelFile) -> Model:
    from pytest_qnnrobust.models import keras

    return keras.load_keras(file)


def _load_tflite(file: ModelFile, runtime: Any, scale_arithmetic: Any, dry_run: bool) -> Model:
    graph = read_graph(file.content, str(file.path))
    try:
        return load_tflite(file.path.stem, file.content, graph, runtime, scale_arithmetic, dry_run)
    except ModelFileError as error:
        raise type(error)(f"{file.path}: {error}") from None


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
    integer graph has its dry run on NumPy, always. Constants that a float graph computes are
    folded, be they packed in integers or in float16: it is a float model then.
    Raises ModelFileError where the graph is no classifier of one input and one output.
    """
    graph = with_one_class_axis(graph)
    check_signature(graph)
    folded = fold_constants(graph)
    if runtime in ("litert", "litert-builtin"):
        from pytest_qnnrobust.models.litert import LiteRtModel

        phone = LiteRtModel(name, data, folded, runtime)
        if dry_run:
            phone.dry_run()
        return phone
    if _computes_integers(folded):
        # As it is in the file: what TFLM does not fold is not to be folded for it.
        return IntegerModel(name, graph, scale_arithmetic)
    _check_float(folded)
    model = FloatGraphModel(name, folded, folded.input, folded.output, "litert")
    if dry_run:
        model.dry_run()
    return model


def _computes_integers(graph: Graph) -> bool:
    """Whether an operator, the input or the output has a tensor of int8 or int16."""
    used = {*graph.inputs, *graph.outputs}
    for operator in graph.operators:
        used.update((*operator.inputs, *operator.outputs))
    return any(graph.tensors[index].dtype in INTEGER_WIDTHS for index in used - {-1})


def _check_float(graph: Graph) -> None:
    """Raise ModelFileError where a graph without int8 and int16 is none of float32 throughout."""
    cure = "convert with full-integer quantization"
    for tensor in (graph.input, graph.output):
        if tensor.dtype != "float32":
            raise ModelFileError(
                f"expected float32, int8 or int16 in tensor {tensor.index} ({tensor.name}), "
                f"got dtype={tensor.dtype}; {cure}"
            )
    for operator in graph.operators:
        if operator.name == "QUANTIZE":
            raise ModelFileError(
                f"expected float32 activations, or integers throughout: operator {operator.index} "
                f"(QUANTIZE) rounds some to {graph.results(operator)[0].dtype}; {cure}"
            )
