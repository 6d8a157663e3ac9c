"""Keras networks -> `.tflite` files by TensorFlow's converter, quantized after training."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import DataError, ModelFileError, expected
from pytest_qnnrobust.models.files import ModelFile
from pytest_qnnrobust.models.keras_files import load_network
from pytest_qnnrobust.types import INTEGER_WIDTHS

WIDTHS = (*INTEGER_WIDTHS, "float32")


def convert(
    source: Any,
    width: Literal["int8", "int16", "float32"],
    calibration: NDArray[np.float32] | None = None,
    *,
    batch: int | None = 1,
) -> bytes:
    """Convert a Keras network to the bytes of a `.tflite` file, by TensorFlow's own converter.

    `source` is a `.keras` or `.h5` file, or a Keras model with one input. `width` is the format of
    activations: `int8` and `int16` (then with 8-bit weights) are integers from input to output,
    with ranges taken from `calibration`, float32 (N, *input_shape) in the network's input units.
    Dense layers keep one scale per tensor, as CMSIS-NN's int16 kernel needs. `batch` is the static
    batch size in the file, None for a dynamic one. The same source and calibration give the same
    bytes.

    Raises QnnRobustError for another width or without calibration data, DataError for data that
    do not fit, ModelFileError where the file is no Keras model or the converter finds an operator
    without an integer kernel.
    """
    if width not in WIDTHS:
        raise expected(f"width to be one of {', '.join(WIDTHS)}", width=width)
    network = load_network(source) if isinstance(source, str | Path | ModelFile) else source
    input_shape = tuple(network.inputs[0].shape[1:])
    if width != "float32":
        calibration = _check_calibration(calibration, input_shape)
    converter = _converter(network, (batch, *input_shape))
    if calibration is not None and width != "float32":
        _quantize(converter, width, calibration)
    try:
        with _silence():
            content: bytes = converter.convert()
    except Exception as error:
        raise _failure(width, error) from None
    return content


def _converter(network: Any, shape: tuple[int | None, ...]) -> Any:
    import tensorflow as tf

    spec = tf.TensorSpec(shape, tf.float32, name="input")
    function = tf.function(
        lambda x: network(x, training=False), input_signature=[spec], autograph=False
    )
    # The converter wants an object that owns every tf.Variable, which Keras 3 keeps in `value`.
    owner = tf.Module()
    owner.weights = [v if isinstance(v, tf.Variable) else v.value for v in network.variables]
    owner.function = function
    return tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], owner
    )


def _quantize(converter: Any, width: str, calibration: NDArray[np.float32]) -> None:
    import tensorflow as tf

    operators = {
        "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
        "int16": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
    }
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in calibration)
    converter.target_spec.supported_ops = [operators[width]]
    converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(width)
    # CMSIS-NN's int16 FULLY_CONNECTED takes one scale; TensorFlow 2.21 writes one per channel.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True


def _check_calibration(
    calibration: NDArray[Any] | None, input_shape: tuple[int, ...]
) -> NDArray[np.float32]:
    if calibration is None:
        cure = "give 100 or more samples of the training data"
        raise expected("calibration data to quantize with", calibration=None, cure=cure)
    calibration = np.asarray(calibration)
    if calibration.shape[1:] != input_shape or calibration.ndim == 0:
        rule = f"calibration data of shape (N, {', '.join(map(str, input_shape))})"
        raise expected(rule, shape=calibration.shape, error=DataError)
    if len(calibration) == 0:
        raise expected("at least one calibration sample", samples=0, error=DataError)
    if not np.issubdtype(calibration.dtype, np.floating):
        cure = "scale the data into the network's input domain"
        raise expected(
            "float calibration data", dtype=str(calibration.dtype), cure=cure, error=DataError
        )
    if not np.isfinite(calibration).all():
        bad = int(np.count_nonzero(~np.isfinite(calibration)))
        raise expected("finite calibration data", not_finite=bad, error=DataError)
    return calibration.astype(np.float32)


def _failure(width: str, error: Exception) -> ModelFileError:
    """Shorten the converter's report to the line that names the error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = next((line for line in lines if "error:" in line), lines[0] if lines else "")
    return ModelFileError(f"TensorFlow cannot convert this network to {width}: {telling[:200]}")


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what the converter's C++ and Python layers print from the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in saved:
                os.dup2(sink.fileno(), number)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in saved.items():
                os.dup2(copy, number)
                os.close(copy)
