"""Prepared kernels -> steps of the core, where the core computes the same on every input.

A kernel has no step where one of its bounds is not proved: then its NumPy definition runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytest_qnnrobust.tflite.graph import Tensor
from pytest_qnnrobust.tflite.kernels import Kernel
from pytest_qnnrobust.tflite.kernels.add import Add
from pytest_qnnrobust.tflite.kernels.conv_2d import Conv2D, DepthwiseConv2D
from pytest_qnnrobust.tflite.kernels.data_movement import (
    Concatenation,
    Pack,
    Pad,
    StridedSlice,
    Transpose,
)
from pytest_qnnrobust.tflite.kernels.elementwise import Unary
from pytest_qnnrobust.tflite.kernels.fully_connected import FullyConnected
from pytest_qnnrobust.tflite.kernels.mean import Mean, ReduceMax
from pytest_qnnrobust.tflite.kernels.mul import Mul
from pytest_qnnrobust.tflite.kernels.pooling import AveragePool2D, MaxPool2D
from pytest_qnnrobust.tflite.kernels.reshape import Reshape
from pytest_qnnrobust.tflite.kernels.softmax import Softmax
from pytest_qnnrobust.tflite.native import elementwise, movement, reductions, sums
from pytest_qnnrobust.tflite.native.step import Context, NativeStep
from pytest_qnnrobust.types import INTEGER_WIDTHS


def native_step(kernel: Kernel, context: Context) -> NativeStep | None:
    """The step of a kernel, None where the core has none."""
    used = [context.tensors[index] for index in (*kernel.inputs, kernel.output)]
    if not all(_is_held_exactly(tensor) for tensor in used):
        return None
    make = next((make for kind, make in MAKERS.items() if isinstance(kernel, kind)), None)
    return make(kernel, context) if make else None


def _is_held_exactly(tensor: Tensor) -> bool:
    """Whether every value without its zero point is an int16."""
    if tensor.dtype not in INTEGER_WIDTHS or tensor.quantization is None:
        return False
    return tensor.dtype == "int8" or tensor.zero_point == 0


Maker = Callable[..., NativeStep | None]
MAKERS: Mapping[type, Maker] = {
    Conv2D: sums.convolution,
    DepthwiseConv2D: sums.depthwise,
    FullyConnected: sums.fully_connected,
    Add: elementwise.add,
    Mul: elementwise.mul,
    Unary: elementwise.table,
    Softmax: reductions.softmax,
    AveragePool2D: reductions.pool,
    MaxPool2D: reductions.pool,
    Mean: reductions.mean,
    ReduceMax: reductions.reduce_max,
    Reshape: movement.move,
    Pad: movement.move,
    Concatenation: movement.move,
    Pack: movement.move,
    Transpose: movement.move,
    StridedSlice: movement.move,
}
