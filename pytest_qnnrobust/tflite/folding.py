"""Constants that a graph computes from constants, computed once when it is read.

So a float16 file unpacks its weights (DEQUANTIZE), and a fake-quantized one rounds them (QUANTIZE
and DEQUANTIZE, or FAKE_QUANT). Paths in the functions: R/ = tensorflow/lite/kernels/internal/
reference, in https://github.com/tensorflow/tflite-micro.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import ModelFileError
from pytest_qnnrobust.tflite import fixed_point
from pytest_qnnrobust.tflite.graph import Graph, Operator, Tensor

MAX_FOLDED = 1 << 29
"""Bytes of all constants that are computed (512 MiB): each operator may unpack the same one again.
"""

Fold = Callable[[Operator, list[Tensor], Tensor], "NDArray[Any] | None"]
"""`fold(operator, constants, output)` -> the values of the output; None where it folds none."""


def fold_constants(graph: Graph) -> Graph:
    """The same tensors, those that `FOLDS` computes from constants alone being constants as well.

    The operators that computed them are left out. Raises ModelFileError, one line, where one
    contradicts the shape or type that the file states.
    """
    tensors = list(graph.tensors)
    operators = []
    size = 0
    for operator in graph.operators:
        constants = _constants(operator, tensors, graph)
        # Before anything is computed, so that no file fills memory.
        size += 4 * math.prod(constants[0].shape) if constants else 0
        if size > MAX_FOLDED:
            raise ModelFileError(f"expected at most {MAX_FOLDED} bytes of unpacked constants")
        folded = _folded(operator, constants, tensors[operator.outputs[0]]) if constants else None
        if folded is None:
            operators.append(operator)
        else:
            tensors[folded.index] = folded
    if len(operators) == len(graph.operators):
        return graph
    return replace(graph, tensors=tuple(tensors), operators=tuple(operators))


def _constants(operator: Operator, tensors: list[Tensor], graph: Graph) -> list[Tensor]:
    """What an operator reads that can be computed now; empty for one that runs with the network."""
    read = [tensors[index] for index in operator.inputs if index >= 0]
    foldable = operator.name in FOLDS and len(operator.outputs) == 1
    if not foldable or operator.outputs[0] in graph.outputs:
        return []
    return read if all(tensor.is_constant for tensor in read) else []


def _folded(operator: Operator, constants: list[Tensor], output: Tensor) -> Tensor | None:
    """The operator's output as a constant, checked against what the file states of it."""
    where = f"operator {operator.index} ({operator.name})"
    try:
        data = FOLDS[operator.name](operator, constants, output)
    except (ValueError, IndexError) as error:
        raise ModelFileError(f"{where} does not fit its operands: {error}") from None
    if data is None:
        return None
    # The converter leaves the shape of what it does not compute itself empty.
    same = not output.shape or (
        len(data.shape) == len(output.shape)
        and all(stated in (n, -1) for n, stated in zip(data.shape, output.shape, strict=True))
    )
    if not same or data.dtype != output.dtype:
        raise ModelFileError(
            f"{where} computes {data.dtype} of shape {data.shape}, where the file states "
            f"{output.dtype} of shape {output.shape}"
        )
    data.setflags(write=False)
    return replace(output, shape=data.shape, data=data)


def real_values(tensor: Tensor) -> NDArray[np.float32]:
    """Dequantize a constant along its quantized dimension; anything else as it is."""
    data = np.asarray(tensor.data)
    if tensor.quantization is None or data.dtype.kind == "f":
        return data.astype(np.float32)
    scale, zero_point = _along_the_axis(tensor, data.ndim)
    return np.asarray((data - zero_point) * scale.astype(np.float64), np.float32)


def _along_the_axis(tensor: Tensor, rank: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scale and zero point, to be broadcast along the tensor's quantized dimension."""
    quantization = tensor.quantization
    if quantization is None:
        raise ValueError(f"tensor {tensor.index} ({tensor.name}) has no scale")
    shape = [1] * rank
    if quantization.per_axis:
        shape[quantization.quantized_dimension] = -1
    return quantization.scale.reshape(shape), quantization.zero_point.reshape(shape)


def _dequantize(operator: Operator, constants: list[Tensor], output: Tensor) -> NDArray[Any]:
    """R/dequantize.h, of float16 as well."""
    (values,) = constants
    if values.dtype not in ("float16", "float32") and values.quantization is None:
        raise ValueError(f"tensor {values.index} ({values.name}) has no scale")
    return real_values(values)


def _quantize(operator: Operator, constants: list[Tensor], output: Tensor) -> NDArray[Any] | None:
    """R/quantize.h; integers that become other integers stay to be refused by name."""
    (values,) = constants
    if values.dtype != "float32" or output.dtype not in ("int8", "uint8", "int16"):
        return None
    scale, zero_point = _along_the_axis(output, len(values.shape))
    if not scale.all():
        raise ValueError(f"tensor {output.index} ({output.name}) has a scale of 0")
    return fixed_point.quantize(np.asarray(values.data), scale, zero_point, output.dtype)


def _fake_quant(operator: Operator, constants: list[Tensor], output: Tensor) -> NDArray[Any]:
    """TFLite's fake_quant.h, with the nudged range of quantization_util.cc: all in float32."""
    one = np.float32
    bits = operator.options["num_bits"]
    low, high = one(operator.options["min"]), one(operator.options["max"])
    if not (2 <= bits <= 16 and low < high and np.isfinite(high - low)):
        raise ValueError(f"a range of {low}..{high} in {bits} bits")
    if operator.options["narrow_range"]:
        raise ValueError("TFLite runs no narrow_range")
    most = one((1 << bits) - 1)
    scale = (high - low) / most
    zero_point = one(np.clip(fixed_point.round_half_away(-low / scale), 0, most))
    start, end = -zero_point * scale, (most - zero_point) * scale
    steps = (np.clip(np.asarray(constants[0].data), start, end) - start) * (one(1) / scale)
    return np.asarray(fixed_point.round_half_away(steps).astype(one) * scale + start, one)


def _cast(operator: Operator, constants: list[Tensor], output: Tensor) -> NDArray[Any] | None:
    values = np.asarray(constants[0].data)
    return values.astype(np.float32) if output.dtype == "float32" else None


def _reshape(operator: Operator, constants: list[Tensor], output: Tensor) -> NDArray[Any] | None:
    return np.asarray(constants[0].data).reshape(output.shape) if output.shape else None


def _transpose(operator: Operator, constants: list[Tensor], output: Tensor) -> NDArray[Any]:
    values, order = constants
    return np.ascontiguousarray(np.asarray(values.data).transpose(np.asarray(order.data)))


FOLDS: Mapping[str, Fold] = {
    "CAST": _cast,
    "DEQUANTIZE": _dequantize,
    "EXPAND_DIMS": _reshape,
    "FAKE_QUANT": _fake_quant,
    "QUANTIZE": _quantize,
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "TRANSPOSE": _transpose,
}
"""Operators that are computed when a graph is read, where all that they read is constant."""
