"""What no kernel here computes is refused at load, in one line that names operator and tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_qnnrobust.errors import QnnRobustError, UnsupportedOperatorError
from pytest_qnnrobust.tflite.builder import GraphBuilder
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.kernels import KERNELS, Settings, prepare
from tests.tflite.one_operator import (
    Build,
    binary,
    concatenation,
    convolution,
    fully_connected,
    mean,
    pack,
    pad,
    reshape,
    strided_slice,
    transpose,
    unary,
)


def plain(operator: str, *tensors: tuple[Any, ...], options: dict[str, Any] | None = None) -> Build:
    """Tensors as arguments of `GraphBuilder.tensor`; the last one is the output."""

    def build(builder: GraphBuilder, rng: np.random.Generator) -> tuple[list[int], int]:
        *inputs, output = (builder.tensor(*tensor) for tensor in tensors)
        builder.operator(operator, inputs, [output], **options or {})
        return [i for i in inputs if not builder.graph.tensors[i].buffer], output

    return build


STRIDE_2_POOL = {"filter_height": 2, "filter_width": 2, "stride_h": 2, "stride_w": 2}
ONES = np.ones((2, 1, 1, 3), np.int8)
IMAGE = ((1, 4, 4, 3), "int8", 0.1)
MAPS = ((1, 4, 4, 2), "int8", 0.1)


def quantized_along_inputs(
    builder: GraphBuilder, rng: np.random.Generator
) -> tuple[list[int], int]:
    x, y = builder.tensor(*IMAGE), builder.tensor(*MAPS)
    weights = builder.tensor(ONES.shape, "int8", [0.1, 0.2, 0.3], data=ONES, quantized_dimension=3)
    builder.operator("CONV_2D", [x, weights], [y])
    return [x], y


REFUSED: dict[str, tuple[Build, str]] = {
    "unknown operator": (plain("EXP", IMAGE, IMAGE), "an operator among ADD, AVERAGE_POOL_2D"),
    "float convolution": (
        plain("CONV_2D", ((1, 4, 4, 3), "float32"), (ONES.shape, "float32", None, 0, ONES), MAPS),
        "input of int8 or int16.*dtype='float32'",
    ),
    "mixed widths": (
        plain(
            "CONV_2D",
            IMAGE,
            (ONES.shape, "int8", 0.1, 0, ONES),
            ((1, 4, 4, 2), "int16", 0.1),
            options={"stride_h": 1, "stride_w": 1},
        ),
        "one dtype.*'int8', 'int16'",
    ),
    "int16 zero point": (
        plain("RELU", ((1, 4), "int16", 0.1, 3), ((1, 4), "int16", 0.1)),
        "zero point 0.*tensor='t0', zero_point=3",
    ),
    "filter zero point": (
        plain(
            "CONV_2D",
            IMAGE,
            (ONES.shape, "int8", 0.1, 4, ONES),
            MAPS,
            options={"stride_h": 1, "stride_w": 1},
        ),
        "filter with zero point 0",
    ),
    "filter that is no constant": (
        plain("CONV_2D", IMAGE, (ONES.shape, "int8", 0.1), MAPS),
        "filter to be a constant",
    ),
    "filter quantized along another axis": (
        quantized_along_inputs,
        "one scale, or one per output channel",
    ),
    "int4 filter with int16": (
        convolution("int16", filter_dtype="int4"),
        "filter of int8, got.*dtype='int4'",
    ),
    "int32 bias of an int16 depthwise convolution": (
        convolution(
            "int16",
            operator="DEPTHWISE_CONV_2D",
            filter_shape=(1, 3, 3, 4),
            depth_multiplier=1,
            bias="int32",
        ),
        "bias of int64",
    ),
    "fused TANH": (convolution("int8", fused_activation_function="TANH"), "activation='TANH'"),
    "dilation 0": (convolution("int8", dilation_h_factor=0), "dilation of at least 1"),
    "dense layer that merges an axis with the batch": (
        fully_connected("int8", shape=(3, 33)),
        "33 values per sample",
    ),
    "sum too fine for its output": (binary("ADD", "int8", scales=(900.0, 900.0, 0.001)), "s_out"),
    "mean over the batch": (mean("int8", (4, 4), (0, 1), True), "other than the batch axis"),
    "pool that rescales": (
        plain(
            "MAX_POOL_2D",
            IMAGE,
            ((1, 2, 2, 3), "int8", 0.2),
            options=STRIDE_2_POOL,
        ),
        "output quantized as its input",
    ),
    "softmax of another output scale": (
        unary("SOFTMAX", "int8", "int8", (0.1, 1 / 128), (0, -128), shape=(4, 4), beta=1.0),
        "output of scale 0.00390625",
    ),
    "softmax int16 to int8": (
        unary("SOFTMAX", "int16", "int8", (0.1, 1 / 256), (0, -128), shape=(4, 4), beta=1.0),
        "int8 to int8 or int16, or int16 to int16",
    ),
    "logistic of another output zero point": (
        unary("LOGISTIC", "int8", "int8", (0.1, 1 / 256)),
        "zero point -128",
    ),
    "hard swish int16": (unary("HARD_SWISH", "int16", "int16", (0.1, 0.1)), "input of int8, got"),
    "transposed batch": (transpose("int8", (4,), (1, 0)), "keeps the batch axis first"),
    "concatenated batch": (concatenation("int8", [(4, 3), (4, 3)], 0), "other than the batch axis"),
    "packed batch": (pack("int8", 0), "other than the batch axis"),
    "padded batch": (pad("PAD", "int8", (4,), [(1, 0), (0, 0)], None), "every axis but the batch"),
    "sliced batch": (
        strided_slice(
            "int8", (0, 0, 0, 0), (1, 6, 7, 3), (1, 1, 1, 1), (6, 7, 3), shrink_axis_mask=1
        ),
        "batch axis whole",
    ),
    "new axis": (
        strided_slice("int8", (0, 0, 0, 0), (1, 6, 7, 3), (1, 1, 1, 1), (6, 7, 3), new_axis_mask=2),
        "new_axis_mask of 0",
    ),
    "reshape into the batch": (
        plain("RESHAPE", ((1, 6, 4), "int8", 0.1), ((6, 4), "int8", 0.1)),
        "batch axis first",
    ),
    "reshape to another size": (
        plain("RESHAPE", ((1, 6, 4), "int8", 0.1), ((1, 5, 5), "int8", 0.1)),
        "batch axis first",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_operators_are_refused_in_one_line(name: str) -> None:
    build, message = REFUSED[name]
    builder = GraphBuilder()
    inputs, output = build(builder, np.random.default_rng(0))
    graph = read_graph(builder.build(inputs, [output]))
    operator = graph.operators[0]
    with pytest.raises(UnsupportedOperatorError, match=message) as caught:
        prepare(operator, graph)
    text = str(caught.value)
    assert f"operator='0 {operator.name}'" in text
    assert "\n" not in text


def test_an_unknown_operator_lists_all_supported_ones() -> None:
    builder = GraphBuilder()
    inputs, output = plain("EXP", IMAGE, IMAGE)(builder, np.random.default_rng(0))
    graph = read_graph(builder.build(inputs, [output]))
    with pytest.raises(UnsupportedOperatorError) as caught:
        prepare(graph.operators[0], graph)
    assert all(name in str(caught.value) for name in KERNELS)


def test_a_window_larger_than_a_valid_image_is_refused() -> None:
    builder = GraphBuilder()
    build = plain(
        "MAX_POOL_2D",
        IMAGE,
        ((1, 1, 1, 3), "int8", 0.1),
        options={**STRIDE_2_POOL, "filter_height": 5, "padding": "VALID"},
    )
    inputs, output = build(builder, np.random.default_rng(0))
    graph = read_graph(builder.build(inputs, [output]))
    with pytest.raises(UnsupportedOperatorError, match="no larger than the image"):
        prepare(graph.operators[0], graph)


def test_settings_refuse_another_scale_arithmetic() -> None:
    with pytest.raises(QnnRobustError, match="scale_arithmetic='single'"):
        Settings("single")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "target", "expected"),
    [((5, 4, 3), (60,), (60,)), ((60,), (5, 4, 3), (5, 4, 3)), ((5, 4), (4, 5), (4, 5))],
)
def test_reshape_keeps_the_batch_axis(
    shape: tuple[int, ...], target: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    builder = GraphBuilder()
    inputs, output = reshape("int8", shape, target)(builder, np.random.default_rng(0))
    graph = read_graph(builder.build(inputs, [output]))
    kernel = prepare(graph.operators[0], graph)
    assert kernel.run(np.zeros((7, *shape), np.int8)).shape == (7, *expected)


@pytest.mark.parametrize("unknown", [(1, 1), (-1, -1)])
def test_reshape_finds_a_flattened_size_that_the_file_leaves_open(unknown: tuple[int, int]) -> None:
    builder = GraphBuilder()
    x = builder.tensor((1, 5, 4), "int8", 0.1, signature=(-1, 5, 4))
    y = builder.tensor((1, 1), "int8", 0.1, signature=unknown)
    builder.operator("RESHAPE", [x], [y])
    graph = read_graph(builder.build([x], [y]))
    kernel = prepare(graph.operators[0], graph)
    assert kernel.run(np.zeros((7, 5, 4), np.int8)).shape == (7, 20)


def test_reshape_to_no_values_and_an_open_size_is_refused() -> None:
    builder = GraphBuilder()
    x = builder.tensor((1, 12), "int8", 0.1)
    y = builder.tensor((1, 0, 1), "int8", 0.1, signature=(1, 0, -1))
    builder.operator("RESHAPE", [x], [y])
    graph = read_graph(builder.build([x], [y]))
    with pytest.raises(UnsupportedOperatorError, match="batch axis first"):
        prepare(graph.operators[0], graph)


def test_keras_flatten_folds_to_its_reshape() -> None:
    """SHAPE -> STRIDED_SLICE -> PACK -> RESHAPE: each has a kernel, RESHAPE needs none of them."""
    builder = GraphBuilder()
    x = builder.tensor((1, 5, 4), "int8", 0.1, signature=(-1, 5, 4))
    sizes = builder.tensor((3,), "int32")
    vectors = [builder.tensor((1,), "int32", data=[v]) for v in (0, 1, 1)]
    batch = builder.tensor((), "int32")
    rest = builder.tensor((), "int32", data=20)
    target = builder.tensor((2,), "int32")
    y = builder.tensor((1, 20), "int8", 0.1, signature=(-1, 20))
    builder.operator("SHAPE", [x], [sizes], out_type="INT32")
    builder.operator("STRIDED_SLICE", [sizes, *vectors], [batch], shrink_axis_mask=1)
    builder.operator("PACK", [batch, rest], [target], values_count=2)
    builder.operator("RESHAPE", [x, target], [y])
    graph = read_graph(builder.build([x], [y]))
    values = {x: np.zeros((7, 5, 4), np.int8)}
    for operator in graph.operators:
        kernel = prepare(operator, graph)
        values[kernel.output] = kernel.run(*[values[index] for index in kernel.inputs])
    assert values[target].tolist() == [7, 20]
    assert kernel.inputs == (x,)
    assert values[y].shape == (7, 20)
