"""The table of one-operator graphs: name -> Build, for every operator, width and option."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.tflite.one_operator import (
    SPREAD,
    Build,
    binary,
    concatenation,
    convolution,
    expand_dims,
    fully_connected,
    mean,
    pack,
    pad,
    pool,
    prelu,
    reshape,
    squeeze,
    strided_slice,
    transpose,
    unary,
)

Case = tuple[str, Build]
WIDTHS = ("int8", "int16")

SPATIAL: dict[str, dict[str, Any]] = {
    "same": {},
    "valid": {"padding": "VALID"},
    "stride 2 same": {"stride_h": 2, "stride_w": 2},
    "stride 2 by 3 same": {"stride_h": 2, "stride_w": 3},
    "stride 2 by 3 valid": {"stride_h": 2, "stride_w": 3, "padding": "VALID"},
    "relu": {"fused_activation_function": "RELU"},
    "relu6": {"fused_activation_function": "RELU6", "gain": 0.3},
    "relu n1 to 1": {"fused_activation_function": "RELU_N1_TO_1", "gain": 0.5},
    "dilated same": {"dilation_h_factor": 2, "dilation_w_factor": 2},
    "dilated valid": {"dilation_h_factor": 2, "dilation_w_factor": 1, "padding": "VALID"},
    "per tensor": {"per_channel": False},
    "no bias": {"bias": None},
    "saturating": {"gain": 60.0},
    "vanishing": {"gain": 1e-4},
}
FINE_SCALES = (
    (0.0001610798499314, 0.0002382837992627),
    (0.0001347732759314, 0.0002559396671131),
)
"""Ratios that are far from simple fractions, so that fractional parts spread evenly."""
SOFTMAX_OUTPUTS = {
    ("int8", "int8"): (1 / 256, -128),
    ("int8", "int16"): (1 / 65536, -32768),
    ("int16", "int16"): (1 / 32768, 0),
}


def convolution_cases() -> Iterator[Case]:
    for width in WIDTHS:
        for name, options in SPATIAL.items():
            yield (f"CONV_2D {width} {name}", convolution(width, **options))
            yield (
                f"DEPTHWISE_CONV_2D {width} {name}",
                convolution(
                    width,
                    operator="DEPTHWISE_CONV_2D",
                    filter_shape=(1, 3, 3, 4),
                    depth_multiplier=1,
                    **options,
                ),
            )
        yield (f"CONV_2D {width} grouped", convolution(width, filter_shape=(6, 3, 3, 2)))
        yield (f"CONV_2D {width} 1x1", convolution(width, filter_shape=(6, 1, 1, 4)))
        yield (
            f"CONV_2D {width} 10x4 on a spectrogram",
            convolution(
                width, image=(13, 10, 1), filter_shape=(4, 10, 4, 1), stride_h=2, stride_w=2
            ),
        )
        yield (
            f"DEPTHWISE_CONV_2D {width} multiplier 2",
            convolution(
                width, operator="DEPTHWISE_CONV_2D", filter_shape=(1, 3, 2, 8), depth_multiplier=2
            ),
        )
    yield ("CONV_2D int16 int32 bias", convolution("int16", bias="int32"))
    yield (
        "CONV_2D int16 no bias, 32-bit accumulators",
        convolution("int16", bias=None, quantized_bias_type="INT32"),
    )
    yield ("CONV_2D int8 zero points at the limits", convolution("int8", zero_points=(-128, 127)))
    yield ("CONV_2D int8 other zero points", convolution("int8", zero_points=(127, -128)))
    for operator, shape in {"CONV_2D": (5, 3, 3, 4), "DEPTHWISE_CONV_2D": (1, 3, 3, 4)}.items():
        yield (
            f"{operator} int8 int4 filter",
            convolution(
                "int8",
                operator=operator,
                filter_shape=shape,
                filter_dtype="int4",
                **{"depth_multiplier": 1} if operator != "CONV_2D" else {},
            ),
        )


def fully_connected_cases() -> Iterator[Case]:
    for width in WIDTHS:
        for name, options in {
            "per tensor": {},
            "per channel": {"per_channel": True},
            "no bias": {"bias": None},
            "per channel no bias": {"bias": None, "per_channel": True},
            "relu": {"fused_activation_function": "RELU"},
            "relu6": {"fused_activation_function": "RELU6"},
            "flattening": {"shape": (3, 11)},
            "keeps its axes": {"shape": (3, 4, 33), "keep_num_dims": True},
            "keeps an axis of one": {"shape": (1, 4, 33), "keep_num_dims": True},
            "saturating": {"gain": 50.0},
        }.items():
            yield (f"FULLY_CONNECTED {width} {name}", fully_connected(width, **options))
    yield ("FULLY_CONNECTED int8 int4 weights", fully_connected("int8", filter_dtype="int4"))
    yield ("FULLY_CONNECTED int16 int32 bias", fully_connected("int16", bias="int32"))
    yield (
        "FULLY_CONNECTED int16 int32 bias per channel",
        fully_connected("int16", bias="int32", per_channel=True),
    )
    yield (
        "FULLY_CONNECTED int16 no bias, 32-bit accumulators",
        fully_connected("int16", bias=None, quantized_bias_type="INT32"),
    )


def binary_cases() -> Iterator[Case]:
    for width in WIDTHS:
        for operator in ("ADD", "SUB", "MUL"):
            unit = 1.0 if operator != "MUL" else SPREAD[width] * 0.02
            for name, options in {
                "plain": {},
                "wide output": {"scales": (0.02, 0.5, 0.9)},
                "narrow output": {"scales": (0.02, 0.013, 0.011)},
                "unequal scales": {"scales": (1.7, 0.0011, 2.3)},
                "relu": {"fused_activation_function": "RELU"},
                "relu6": {"fused_activation_function": "RELU6"},
                "relu n1 to 1": {"fused_activation_function": "RELU_N1_TO_1"},
                "broadcast channels": {"right": (1, 1, 3)},
                "broadcast both": {"left": (5, 1, 3), "right": (1, 4, 1)},
                "lower rank": {"right": (3,)},
                "constant": {"constant": (1, 5, 4, 3)},
                "constant scalar": {"constant": ()},
                "constant channels": {"constant": (3,)},
            }.items():
                scales = options.get("scales", (0.031, 0.0177, 0.0391))
                yield (
                    f"{operator} {width} {name}",
                    binary(
                        operator, width, **{**options, "scales": (*scales[:2], scales[2] * unit)}
                    ),
                )


def pooling_cases() -> Iterator[Case]:
    for width in WIDTHS:
        for operator in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
            for name, (image, size, options) in {
                "2x2": ((6, 8, 3), (2, 2, 2, 2), {"padding": "VALID"}),
                "same 3x2": ((7, 5, 3), (3, 2, 2, 2), {}),
                "overlapping": ((7, 5, 2), (3, 3, 1, 1), {}),
                "global": ((6, 5, 4), (6, 5, 1, 1), {"padding": "VALID"}),
                "relu": ((6, 6, 2), (2, 2, 2, 2), {"fused_activation_function": "RELU"}),
                "relu6": ((6, 6, 2), (2, 2, 2, 2), {"fused_activation_function": "RELU6"}),
            }.items():
                yield (
                    f"{operator} {width} {name}",
                    pool(
                        operator,
                        width,
                        image,
                        filter_height=size[0],
                        filter_width=size[1],
                        stride_h=size[2],
                        stride_w=size[3],
                        **options,
                    ),
                )


def mean_cases() -> Iterator[Case]:
    for width in WIDTHS:
        yield (f"MEAN {width} spatial", mean(width, (7, 5, 4), (1, 2), False))
        yield (f"MEAN {width} spatial, axes kept", mean(width, (8, 8, 3), (1, 2), True))
        yield (f"MEAN {width} one axis", mean(width, (6, 5, 4), (2,), False))
        yield (f"MEAN {width} channels", mean(width, (6, 5, 7), (-1,), True))
        yield (f"MEAN {width} equal scales", mean(width, (6, 6, 4), (1, 2), False, (0.05, 0.05)))
        yield (f"MEAN {width} larger output scale", mean(width, (4, 9), (1,), False, (0.01, 0.3)))


def reduce_max_cases() -> Iterator[Case]:
    alike: dict[str, Any] = {
        "operator": "REDUCE_MAX",
        "scales": (0.05, 0.05),
        "zero_points": (-6, -6),
    }
    yield ("REDUCE_MAX int8 spatial", mean("int8", (7, 5, 4), (1, 2), False, **alike))
    yield ("REDUCE_MAX int8 one axis kept", mean("int8", (6, 5), (-2,), True, **alike))


def softmax_cases() -> Iterator[Case]:
    for (source, target), (scale, zero) in SOFTMAX_OUTPUTS.items():
        for input_scale in (0.004, 0.06, 0.17, 1.3, 40.0):
            for classes in (2, 10, 37):
                relative = input_scale if source == "int8" else input_scale / 200
                yield (
                    f"SOFTMAX {source} to {target} scale {input_scale} of {classes}",
                    unary(
                        "SOFTMAX",
                        source,
                        target,
                        (relative, scale),
                        (12 if source == "int8" else 0, zero),
                        shape=(40, classes),
                        beta=1.0,
                    ),
                )
        yield (
            f"SOFTMAX {source} to {target} beta 0.5",
            unary(
                "SOFTMAX",
                source,
                target,
                (0.05 if source == "int8" else 0.0003, scale),
                (12 if source == "int8" else 0, zero),
                shape=(40, 10),
                beta=0.5,
            ),
        )


def sigmoid_cases() -> Iterator[Case]:
    for scale in (0.001, 0.0234, 0.07, 0.11, 0.5, 3.0):
        for zero in (0, -128, 37):
            yield (
                f"LOGISTIC int8 scale {scale} zero {zero}",
                unary("LOGISTIC", "int8", "int8", (scale, 1 / 256), (zero, -128)),
            )
            yield (
                f"TANH int8 scale {scale} zero {zero}",
                unary("TANH", "int8", "int8", (scale, 1 / 128), (zero, 0)),
            )
    for scale in (
        2.0 ** (-12),
        2.0 ** (-11),
        2.0 ** (-13),
        2.0 ** (-12) * 1.0005,
        0.00031,
        0.0007,
        0.003,
        0.5,
        1e-06,
    ):
        for operator in ("LOGISTIC", "TANH"):
            yield (
                f"{operator} int16 scale {scale:.6g}",
                unary(operator, "int16", "int16", (scale, 2.0 ** (-15)), shape=(64, 128)),
            )


def activation_cases() -> Iterator[Case]:
    for width in WIDTHS:
        unit = 1.0 if width == "int8" else 0.004
        for number, (in_scale, out_scale) in enumerate(
            ((0.05, 0.05), (0.05, 0.023), (0.031, 0.117), (0.0777, 0.0241), (0.11, 0.0031))
        ):
            scales = (in_scale * unit, out_scale * unit)
            zeros = (-11, 7) if width == "int8" else (0, 0)
            yield (f"RELU {width} {number}", unary("RELU", width, width, scales, zeros))
            yield (f"RELU6 {width} {number}", unary("RELU6", width, width, scales, zeros))
            for alpha in (0.1, 0.3, 1.7, 0.0):
                yield (
                    f"LEAKY_RELU {width} {number} alpha {alpha}",
                    unary("LEAKY_RELU", width, width, scales, zeros, alpha=alpha),
                )
            yield (
                f"LEAKY_RELU {width} {number} negative alpha",
                unary("LEAKY_RELU", width, width, scales, zeros, alpha=-0.4),
            )
            if width == "int8":
                for zeros in ((-11, 7), (127, -128), (-128, 0)):
                    yield (
                        f"HARD_SWISH int8 {number} zeros {zeros}",
                        unary("HARD_SWISH", width, width, scales, zeros),
                    )
            for other in WIDTHS:
                zeros = (-11 if width == "int8" else 0, 7 if other == "int8" else 0)
                unit_other = 1.0 if other == "int8" else 0.004
                yield (
                    f"QUANTIZE {width} to {other} {number}",
                    unary(
                        "QUANTIZE", width, other, (in_scale * unit, out_scale * unit_other), zeros
                    ),
                )
            yield (
                f"QUANTIZE float32 to {width} {number}",
                unary(
                    "QUANTIZE",
                    "float32",
                    width,
                    (None, out_scale * unit),
                    zeros if width == "int8" else (0, 0),
                ),
            )
            yield (
                f"DEQUANTIZE {width} {number}",
                unary(
                    "DEQUANTIZE",
                    width,
                    "float32",
                    (in_scale * unit, None),
                    (-11 if width == "int8" else 0, 0),
                ),
            )


def prelu_cases() -> Iterator[Case]:
    for width in WIDTHS:
        yield (f"PRELU {width} per channel", prelu(width, (1, 1, 3), 0))
        yield (f"PRELU {width} of one slope", prelu(width, (1,), -20))
        yield (f"PRELU {width} per value", prelu(width, (5, 4, 3), 5))


def movement_cases() -> Iterator[Case]:
    for width in WIDTHS:
        yield (
            f"PAD {width} spatial",
            pad("PAD", width, (5, 4, 3), [(0, 0), (1, 2), (0, 3), (0, 0)], None),
        )
        yield (
            f"PAD {width} channels",
            pad("PAD", width, (5, 4, 3), [(0, 0), (0, 0), (0, 0), (1, 2)], None),
        )
        yield (f"PAD {width} rank 2", pad("PAD", width, (5,), [(0, 0), (2, 1)], None))
        yield (
            f"PADV2 {width}",
            pad("PADV2", width, (5, 4, 3), [(0, 0), (1, 1), (2, 1), (0, 0)], 77),
        )
        yield (
            f"CONCATENATION {width} channels",
            concatenation(width, [(4, 3, 2), (4, 3, 5), (4, 3, 1)], -1),
        )
        yield (f"CONCATENATION {width} rows", concatenation(width, [(4, 3), (2, 3), (1, 3)], 1))
        yield (f"TRANSPOSE {width} rank 4", transpose(width, (5, 4, 3), (0, 3, 1, 2)))
        yield (f"TRANSPOSE {width} rank 3", transpose(width, (5, 4), (0, 2, 1)))
        yield (
            f"STRIDED_SLICE {width} steps",
            strided_slice(width, (0, 1, 0, 0), (1, 6, 7, 3), (1, 2, 3, 1), (3, 3, 3)),
        )
        yield (
            f"STRIDED_SLICE {width} backwards",
            strided_slice(width, (0, -1, 5, 0), (1, -7, 1, 3), (1, -1, -2, 1), (6, 2, 3)),
        )
        yield (
            f"STRIDED_SLICE {width} masked",
            strided_slice(
                width,
                (9, 2, 9, 1),
                (9, 5, 9, 2),
                (1, 1, 1, 1),
                (3, 7),
                begin_mask=5,
                end_mask=5,
                shrink_axis_mask=8,
            ),
        )
        yield (f"PACK {width} in the middle", pack(width, 1))
        yield (f"PACK {width} last", pack(width, -1))
        yield (f"RESHAPE {width} flattening", reshape(width, (5, 4, 3), (60,)))
        yield (f"EXPAND_DIMS {width} second", expand_dims(width, (6, 3), 1))
        yield (f"EXPAND_DIMS {width} last", expand_dims(width, (6, 3), -1))
        yield (f"SQUEEZE {width}", squeeze(width, (1, 6, 1, 3), (1, 3)))
        yield (f"RESHAPE {width} into an image", reshape(width, (60,), (5, 4, 3)))


def precise_cases() -> Iterator[Case]:
    """Outputs fine enough to tell a multiplier derived in double from one derived in float."""
    for number in range(3):
        yield (
            f"FULLY_CONNECTED int16 fine {number}",
            fully_connected("int16", bias="int32", outputs=1024),
        )
    for number, scales in enumerate(FINE_SCALES):
        yield f"RELU int16 fine {number}", unary("RELU", "int16", "int16", scales, shape=(64, 128))
        yield (
            f"LEAKY_RELU int16 fine {number}",
            unary("LEAKY_RELU", "int16", "int16", scales, shape=(64, 128), alpha=0.3),
        )
        yield (
            f"SUB int16 fine {number}",
            binary("SUB", "int16", left=(64, 128), right=(64, 128), scales=(*scales, 0.00041731)),
        )


PRECISE: dict[str, Build] = dict(precise_cases())
CASES: dict[str, Build] = {
    name: build
    for cases in (
        convolution_cases,
        fully_connected_cases,
        binary_cases,
        pooling_cases,
        mean_cases,
        reduce_max_cases,
        softmax_cases,
        sigmoid_cases,
        activation_cases,
        prelu_cases,
        movement_cases,
        precise_cases,
    )
    for name, build in cases()
}
