"""Boundaries that are left outside the integers, and files that contradict themselves."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from pytest_qnnrobust.errors import ModelFileError
from pytest_qnnrobust.tflite.builder import GraphBuilder
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.interpreter import Interpreter
from pytest_qnnrobust.tflite.plan import final_softmax
from tests.tflite.tflm import run_tflm


def boundary(outer: str, operators: tuple[str, str], softmax: bool) -> bytes:
    """outer -> int8 dense layer, softmax or none -> outer."""
    builder = GraphBuilder()
    quantization = {"uint8": 128, "float32": 0}[outer]

    def outside(scale: float, zero_point: int) -> int:
        if outer == "float32":
            return builder.tensor((1, 4), outer)
        return builder.tensor((1, 4), outer, scale, zero_point + quantization)

    x, q = outside(0.02, -9), builder.tensor((1, 4), "int8", 0.02, -9)
    weights = builder.tensor((4, 4), "int8", 0.01, data=np.arange(-80, 80, 10).reshape(4, 4))
    end = builder.tensor((1, 4), "int8", 0.02, 5)
    builder.operator(operators[0], [x], [q])
    builder.operator("FULLY_CONNECTED", [q, weights, -1], [end])
    scale, zero_point = 0.02, 5
    if softmax:
        scale, zero_point = 1 / 256, -128
        logits, end = end, builder.tensor((1, 4), "int8", scale, zero_point)
        builder.operator("SOFTMAX", [logits], [end], beta=1.0)
    y = outside(scale, zero_point)
    builder.operator(operators[1], [end], [y])
    return builder.build([x], [y])


@pytest.mark.parametrize("softmax", [True, False])
def test_uint8_boundary_is_int8_moved_by_128(softmax: bool) -> None:
    data = boundary("uint8", ("QUANTIZE", "QUANTIZE"), softmax)
    interpreter = Interpreter(read_graph(data))
    q = np.random.default_rng(0).integers(-128, 128, (50, 4)).astype(np.int8)
    q[:2] = [[-128] * 4, [127] * 4]
    theirs = run_tflm(data, [(q.astype(int) + 128).astype(np.uint8)])
    np.testing.assert_array_equal(interpreter.invoke(q).astype(int) + 128, theirs)


@pytest.mark.parametrize(
    ("outer", "operators"),
    [("uint8", ("QUANTIZE", "QUANTIZE")), ("float32", ("QUANTIZE", "DEQUANTIZE"))],
)
def test_final_softmax_is_found_behind_a_boundary(outer: str, operators: tuple[str, str]) -> None:
    for softmax in (True, False):
        graph = read_graph(boundary(outer, operators, softmax))
        assert (final_softmax(graph, graph.output) is not None) == softmax


def contradicting_shapes(builder: GraphBuilder) -> tuple[int, int]:
    x = builder.tensor((1, 4), "int8", 0.1)
    y = builder.tensor((1, 5), "int8", 0.1)
    builder.operator("RELU", [x], [y])
    return x, y


def operand_of_nowhere(builder: GraphBuilder) -> tuple[int, int]:
    x = builder.tensor((1, 4), "int8", 0.1)
    constant = builder.tensor((1, 4), "int8", 0.1, data=np.ones((1, 4)))
    moved, y = (builder.tensor((1, 4), "int8", 0.1) for _ in range(2))
    builder.operator("RELU", [constant], [moved])
    builder.operator("ADD", [x, moved], [y])
    return x, y


def contradicting_operands(builder: GraphBuilder) -> tuple[int, int]:
    x = builder.tensor((1, 4), "int8", 0.1)
    constant = builder.tensor((1, 3), "int8", 0.1, data=np.ones((1, 3)))
    y = builder.tensor((1, 4), "int8", 0.1)
    builder.operator("ADD", [x, constant], [y])
    return x, y


def zero_scale(builder: GraphBuilder) -> tuple[int, int]:
    x = builder.tensor((1, 4), "int8", 0.0)
    y = builder.tensor((1, 4), "int8", 0.1)
    builder.operator("RESHAPE", [x], [y])
    return x, y


def bias_beyond_47_bits(builder: GraphBuilder) -> tuple[int, int]:
    x = builder.tensor((1, 4), "int16", 0.1)
    weights = builder.tensor((4, 4), "int8", 0.1, data=np.ones((4, 4)))
    bias = builder.tensor((4,), "int64", 0.01, data=np.full(4, np.iinfo(np.int64).min))
    y = builder.tensor((1, 4), "int16", 0.1)
    builder.operator("FULLY_CONNECTED", [x, weights, bias], [y])
    return x, y


def huge_padding(builder: GraphBuilder) -> tuple[int, int]:
    x = builder.tensor((1, 4, 4, 1), "int8", 0.1)
    pooled = builder.tensor((1, 4, 4, 1), "int8", 0.1)
    y = builder.tensor((1, 16), "int8", 0.1)
    window = {"filter_height": 1, "filter_width": 1 << 13, "stride_h": 1, "stride_w": 1}
    builder.operator("AVERAGE_POOL_2D", [x], [pooled], **window)
    builder.operator("RESHAPE", [pooled], [y])
    return x, y


def reshapes(*shapes: tuple[int, ...]) -> Callable[[GraphBuilder], tuple[int, int]]:
    """RESHAPEs from each shape to the next; -1 is a size that the file leaves open."""

    def build(builder: GraphBuilder) -> tuple[int, int]:
        tensors = [
            builder.tensor(tuple(map(abs, shape)), "int8", 0.1, signature=shape) for shape in shapes
        ]
        for one, other in itertools.pairwise(tensors):
            builder.operator("RESHAPE", [one], [other])
        return tensors[0], tensors[-1]

    return build


@pytest.mark.parametrize("open_shapes", [[(1, -1)], [(1, 3, -1)], [(1, -1), (1, 3, 4)]])
def test_a_size_that_the_file_leaves_open_is_found(open_shapes: list[tuple[int, ...]]) -> None:
    builder = GraphBuilder()
    x, y = reshapes((1, 12), *open_shapes, (1, 12))(builder)
    interpreter = Interpreter(read_graph(builder.build([x], [y])))
    q = np.arange(24, dtype=np.int8).reshape(2, 12)
    np.testing.assert_array_equal(interpreter.invoke(q), q)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (reshapes((1, 12), (1, -1), (1, 9)), "12 values per sample in the shape .9,"),
        (contradicting_shapes, r"computes int8 of shape \(4,\).*states int8 of shape \(5,\)"),
        (operand_of_nowhere, "neither a constant nor computed from the input"),
        (contradicting_operands, "does not fit its operands"),
        (zero_scale, "one positive scale"),
        (bias_beyond_47_bits, "within 47 bits"),
        (huge_padding, "padding of at most 1024"),
    ],
)
def test_files_that_contradict_themselves_are_refused_at_load(
    build: Callable[[GraphBuilder], tuple[int, int]], reason: str
) -> None:
    builder = GraphBuilder()
    x, y = build(builder)
    graph = read_graph(builder.build([x], [y]))
    with pytest.raises(ModelFileError, match=reason) as error:
        Interpreter(graph)
    assert "\n" not in str(error.value)
