"""The structures of the core's C interface (native/core.h), field by field."""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_int64, c_void_p
from enum import IntEnum

INTERFACE = 2
"""What the library has to answer: another one was built from other structures."""


class Kind(IntEnum):
    """The kernels of the core."""

    CONV_2D = 0
    DEPTHWISE_CONV_2D = 1
    ADD = 2
    MUL = 3
    AVERAGE_POOL_2D = 4
    MAX_POOL_2D = 5
    MEAN = 6
    REDUCE_MAX = 7
    SOFTMAX = 8
    TABLE = 9
    MOVE = 10


class Tensor(ctypes.Structure):
    _fields_ = (
        ("values", c_int64),
        ("place", c_int64),
        ("zero_point", c_int32),
        ("bytes", c_int32),
    )


class Requantization(ctypes.Structure):
    _fields_ = (
        ("multiplier", c_void_p),
        ("left", c_void_p),
        ("right", c_void_p),
        ("wide", c_int32),
        ("minimum", c_int32),
        ("maximum", c_int32),
        ("reserved", c_int32),
    )


class Operand(ctypes.Structure):
    _fields_ = (
        ("raise_", c_int32),
        ("multiplier", c_int32),
        ("left", c_int32),
        ("right", c_int32),
    )


class Window(ctypes.Structure):
    _fields_ = (
        ("height", c_int32),
        ("width", c_int32),
        ("channels", c_int32),
        ("size_h", c_int32),
        ("size_w", c_int32),
        ("stride_h", c_int32),
        ("stride_w", c_int32),
        ("dilation_h", c_int32),
        ("dilation_w", c_int32),
        ("top", c_int32),
        ("bottom", c_int32),
        ("left", c_int32),
        ("right", c_int32),
        ("output_h", c_int32),
        ("output_w", c_int32),
        ("output_channels", c_int32),
    )


class Step(ctypes.Structure):
    _fields_ = (
        ("kind", c_int32),
        ("input", c_int32),
        ("other", c_int32),
        ("output", c_int32),
        ("groups", c_int32),
        ("sign", c_int32),
        ("window", Window),
        ("requantization", Requantization),
        ("first", Operand),
        ("second", Operand),
        ("weights", c_void_p),
        ("bias", c_void_p),
        ("constant", c_void_p),
        ("table", c_void_p),
        ("exponentials", c_void_p),
        ("source", c_void_p),
        ("table_start", c_int64),
        ("outer", c_int64),
        ("length", c_int64),
        ("inner", c_int64),
        ("shift", c_int32),
        ("reserved", c_int32),
    )


class Run(ctypes.Structure):
    _fields_ = (
        ("tensors", c_void_p),
        ("steps", c_void_p),
        ("given", c_void_p),
        ("wanted", c_void_p),
        ("tensor_count", c_int32),
        ("step_count", c_int32),
        ("arena", c_int64),
        ("scratch", c_int64),
        ("batch", c_int64),
    )
