"""TFLM's reference kernels, int8 and int16x8: one small module per operator family.

Paths in the modules: M/ = tensorflow/lite/micro/kernels, K/ = tensorflow/lite/kernels/internal,
R/ = K/reference, RI/ = R/integer_ops, in https://github.com/tensorflow/tflite-micro.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pytest_qnnrobust.errors import UnsupportedOperatorError, expected
from pytest_qnnrobust.tflite.graph import Graph, Operator
from pytest_qnnrobust.tflite.kernels.activations import (
    prepare_hard_swish,
    prepare_leaky_relu,
    prepare_prelu,
    prepare_relu,
    prepare_relu6,
)
from pytest_qnnrobust.tflite.kernels.add import prepare_add, prepare_sub
from pytest_qnnrobust.tflite.kernels.base import Kernel, Prepare, Settings
from pytest_qnnrobust.tflite.kernels.conv_2d import prepare_conv_2d, prepare_depthwise_conv_2d
from pytest_qnnrobust.tflite.kernels.data_movement import (
    prepare_concatenation,
    prepare_pack,
    prepare_pad,
    prepare_strided_slice,
    prepare_transpose,
)
from pytest_qnnrobust.tflite.kernels.fully_connected import prepare_fully_connected
from pytest_qnnrobust.tflite.kernels.logistic import prepare_sigmoid
from pytest_qnnrobust.tflite.kernels.mean import prepare_mean, prepare_reduce_max
from pytest_qnnrobust.tflite.kernels.mul import prepare_mul
from pytest_qnnrobust.tflite.kernels.pooling import prepare_average_pool_2d, prepare_max_pool_2d
from pytest_qnnrobust.tflite.kernels.quantize import prepare_dequantize, prepare_quantize
from pytest_qnnrobust.tflite.kernels.reshape import prepare_reshape, prepare_shape
from pytest_qnnrobust.tflite.kernels.softmax import prepare_softmax

__all__ = ["KERNELS", "Kernel", "Prepare", "Settings", "prepare"]

KERNELS: Mapping[str, Prepare] = MappingProxyType(
    {
        "ADD": prepare_add,
        "AVERAGE_POOL_2D": prepare_average_pool_2d,
        "CONCATENATION": prepare_concatenation,
        "CONV_2D": prepare_conv_2d,
        "DEPTHWISE_CONV_2D": prepare_depthwise_conv_2d,
        "DEQUANTIZE": prepare_dequantize,
        "EXPAND_DIMS": prepare_reshape,
        "FULLY_CONNECTED": prepare_fully_connected,
        "HARD_SWISH": prepare_hard_swish,
        "LEAKY_RELU": prepare_leaky_relu,
        "LOGISTIC": prepare_sigmoid,
        "MAX_POOL_2D": prepare_max_pool_2d,
        "MEAN": prepare_mean,
        "MUL": prepare_mul,
        "PACK": prepare_pack,
        "PAD": prepare_pad,
        "PADV2": prepare_pad,
        "PRELU": prepare_prelu,
        "QUANTIZE": prepare_quantize,
        "REDUCE_MAX": prepare_reduce_max,
        "RELU": prepare_relu,
        "RELU6": prepare_relu6,
        "RESHAPE": prepare_reshape,
        "SHAPE": prepare_shape,
        "SOFTMAX": prepare_softmax,
        "SQUEEZE": prepare_reshape,
        "STRIDED_SLICE": prepare_strided_slice,
        "SUB": prepare_sub,
        "TANH": prepare_sigmoid,
        "TRANSPOSE": prepare_transpose,
    }
)
"""Operator name -> the function that validates it and captures its constants."""


def prepare(operator: Operator, graph: Graph, settings: Settings | None = None) -> Kernel:
    """The kernel of one operator.

    Raises UnsupportedOperatorError where no kernel implements the operator, its width or its
    options, naming the operator, the tensor and what is supported.
    """
    build = KERNELS.get(operator.name)
    if build is None:
        raise expected(
            f"an operator among {', '.join(KERNELS)}",
            error=UnsupportedOperatorError,
            operator=f"{operator.index} {operator.name}",
        )
    return build(operator, graph, settings or Settings())
