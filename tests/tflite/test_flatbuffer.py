"""The reader: what it returns for a good file, one clear line for everything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import ModelFileError
from pytest_qnnrobust.tflite.builder import GraphBuilder
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.kernels import Settings, prepare
from tests.tflite.tflm import run_tflm

INT8 = demo_path("digits_int8.tflite").read_bytes()
INT16 = demo_path("digits_int16.tflite").read_bytes()


def test_reads_quantization_options_and_constants() -> None:
    graph = read_graph(INT8)
    assert graph.input.dtype == "int8"
    convolution = next(o for o in graph.operators if o.name == "CONV_2D")
    assert convolution.options["padding"] in ("SAME", "VALID")
    weights = graph.tensors[convolution.inputs[1]]
    assert weights.data is not None
    assert weights.data.shape == weights.shape
    assert weights.quantization is not None
    assert len(weights.quantization.scale) == weights.shape[0]


def test_a_vector_has_one_dimension_whatever_the_file_says() -> None:
    """Old converters wrote the quantized dimension of a filter with its bias, too."""
    builder = GraphBuilder()
    x = builder.tensor((1, 4, 4, 2), "int8", 0.1)
    filters = np.ones((1, 1, 1, 2), np.int8)
    weights = builder.tensor(filters.shape, "int8", [0.1, 0.2], data=filters, quantized_dimension=3)
    bias = builder.tensor(
        (2,), "int32", [0.01, 0.02], data=np.array([5, -5]), quantized_dimension=3
    )
    y = builder.tensor((1, 4, 4, 2), "int8", 0.1)
    options = {"stride_h": 1, "stride_w": 1, "depth_multiplier": 1}
    builder.operator("DEPTHWISE_CONV_2D", [x, weights, bias], [y], **options)
    data = builder.build([x], [y])
    graph = read_graph(data)
    assert graph.tensors[bias].quantization.quantized_dimension == 0
    q = np.random.default_rng(0).integers(-128, 128, (5, 4, 4, 2)).astype(np.int8)
    kernel = prepare(graph.operators[0], graph, Settings())
    np.testing.assert_array_equal(kernel.run(q), run_tflm(data, [q]))


def test_agrees_with_tensorflow_on_every_tensor() -> None:
    tf = pytest.importorskip("tensorflow")
    for data in (INT8, INT16):
        with pytest.warns(UserWarning, match="deprecated"):
            oracle = tf.lite.Interpreter(model_content=data)
        oracle.allocate_tensors()
        graph = read_graph(data)
        details = {d["index"]: d for d in oracle.get_tensor_details()}
        for tensor in graph.tensors:
            detail = details[tensor.index]
            assert tensor.name == detail["name"]
            assert tensor.shape[1:] == tuple(detail["shape_signature"])[1:]
            assert np.dtype(tensor.dtype) == detail["dtype"]
            if tensor.quantization is not None:
                parameters = detail["quantization_parameters"]
                np.testing.assert_array_equal(tensor.quantization.scale, parameters["scales"])
                np.testing.assert_array_equal(
                    tensor.quantization.zero_point, parameters["zero_points"]
                )
            if tensor.is_constant:
                np.testing.assert_array_equal(tensor.data, oracle.get_tensor(tensor.index))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "identifier TFL3"),
        (b"not a model at all, only text", "identifier TFL3"),
        (INT8[:200], "truncated"),
        (INT8[: len(INT8) // 2], "truncated"),
        (INT8[:4] + b"TFL2" + INT8[8:], "identifier TFL3"),
        (b"\xff\xff\xff\x7f" + INT8[4:], "truncated"),
    ],
)
def test_refuses_what_is_no_model(data: bytes, reason: str) -> None:
    with pytest.raises(ModelFileError, match=reason) as error:
        read_graph(data, "some.tflite")
    assert str(error.value).startswith("some.tflite is not a readable TFLite model")
    assert "\n" not in str(error.value)


@settings(deadline=None, max_examples=300)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(INT8) - 1), st.integers(0, 255)), min_size=1, max_size=6
    ),
    cut=st.one_of(st.none(), st.integers(0, len(INT8))),
)
def test_a_mutated_file_is_read_or_refused(edits: list[tuple[int, int]], cut: int | None) -> None:
    data = bytearray(INT8)
    for at, value in edits:
        data[at] = value
    try:
        graph = read_graph(bytes(data[:cut]))
    except ModelFileError as error:
        message = str(error)
    else:
        message = graph.input.dtype
    assert message
    assert "\n" not in message


def test_real_models_have_the_operators_of_the_reference(shared: Path) -> None:
    graph = read_graph((shared / "models" / "cifar_resnet_int8.tflite").read_bytes())
    assert [operator.name for operator in graph.operators].count("CONV_2D") == 9
    assert graph.input.scale == pytest.approx(1 / 255)
    assert graph.input.zero_point == -128
