"""Float graphs whose weights are packed: unpacked as TFLite does, or refused by name at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pytest_qnnrobust as qnn
from pytest_qnnrobust.errors import ModelFileError, UnsupportedOperatorError
from pytest_qnnrobust.tflite import folding
from pytest_qnnrobust.tflite.builder import GraphBuilder

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(0, 0.3, (3, 4)).astype(np.float32)
CODES = RNG.integers(-127, 128, (3, 4))
SCALES = (0.01, 0.02, 0.003)

Pack = Callable[[GraphBuilder], int]
"""Adds constants, and the operators that make weights (3, 4) of them; returns the weights."""


def computed(builder: GraphBuilder, operator: str, inputs: list[int], **options: Any) -> int:
    shape = options.pop("shape", (3, 4))
    output = builder.tensor(shape, "float32")
    builder.operator(operator, inputs, [output], **options)
    return output


def float16(builder: GraphBuilder) -> int:
    return computed(builder, "DEQUANTIZE", [builder.tensor((3, 4), "float16", data=WEIGHTS)])


def one_scale(builder: GraphBuilder) -> int:
    codes = builder.tensor((3, 4), "int8", 0.01, -3, CODES)
    return computed(builder, "DEQUANTIZE", [codes])


def scale_of_each_row(builder: GraphBuilder) -> int:
    return computed(builder, "DEQUANTIZE", [builder.tensor((3, 4), "int8", SCALES, data=CODES)])


def fake_quantized(
    scales: Any, dtype: str = "int8", zero_point: int = 0, shape: tuple[int, ...] = (3, 4)
) -> Pack:
    """`shape`: what the file states of the codes, which the converter may leave open."""

    def pack(builder: GraphBuilder) -> int:
        weights = builder.tensor((3, 4), "float32", data=WEIGHTS)
        codes = builder.tensor(shape, dtype, scales, zero_point)
        builder.operator("QUANTIZE", [weights], [codes])
        return computed(builder, "DEQUANTIZE", [codes])

    return pack


def fake_quant(**options: Any) -> Pack:
    def pack(builder: GraphBuilder) -> int:
        weights = builder.tensor((3, 4), "float32", data=WEIGHTS)
        return computed(builder, "FAKE_QUANT", [weights], **options)

    return pack


def moved(builder: GraphBuilder) -> int:
    packed = builder.tensor((1, 4, 3), "float16", data=WEIGHTS.T[None])
    whole = computed(builder, "CAST", [packed], shape=(1, 4, 3))
    flat = builder.tensor((2,), "int32", data=(4, 3))
    flat = computed(builder, "RESHAPE", [whole, flat], shape=(4, 3))
    return computed(builder, "TRANSPOSE", [flat, builder.tensor((2,), "int32", data=(1, 0))])


def classifier(pack: Pack) -> bytes:
    """x (1, 4) -> x @ weights.T + bias, the bias a float16 of its own."""
    builder = GraphBuilder()
    x = builder.tensor((1, 4), "float32")
    weights = pack(builder)
    packed = builder.tensor((3,), "float16", data=(0.1, -0.2, 0.3))
    bias = computed(builder, "DEQUANTIZE", [packed], shape=(3,))
    y = builder.tensor((1, 3), "float32")
    builder.operator("FULLY_CONNECTED", [x, weights, bias], [y])
    return builder.build([x], [y])


def by_tflite(content: bytes, x: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    outputs = []
    for sample in x:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(outputs)


@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(float16, id="float16"),
        pytest.param(one_scale, id="int8"),
        pytest.param(scale_of_each_row, id="int8 by row"),
        pytest.param(fake_quantized(0.01), id="rounded to int8"),
        pytest.param(fake_quantized(SCALES), id="rounded to int8 by row"),
        pytest.param(fake_quantized(0.0001, "int16"), id="rounded to int16"),
        pytest.param(fake_quantized(0.01, "uint8", 120, shape=()), id="rounded to uint8, no shape"),
        pytest.param(fake_quant(min=-0.5, max=0.7, num_bits=8), id="FAKE_QUANT"),
        pytest.param(fake_quant(min=0.1, max=0.7, num_bits=3), id="FAKE_QUANT above 0"),
        pytest.param(moved, id="CAST, RESHAPE, TRANSPOSE"),
    ],
)
def test_packed_weights_are_those_of_tflite(pack: Pack, tmp_path: Path) -> None:
    content = classifier(pack)
    (tmp_path / "m.tflite").write_bytes(content)
    model = qnn.load_model(tmp_path / "m.tflite")
    x = np.concatenate([np.eye(4), RNG.uniform(-1, 1, (5, 4))]).astype(np.float32)
    assert (model.width, model.bounds) == ("float32", (0.0, 1.0))
    np.testing.assert_allclose(model.predict(x), by_tflite(content, x), atol=1e-6)
    assert model.loss_gradient(x, np.zeros(9, int)).gradient.any()


def test_a_folded_constant_is_joined_to_every_sample(tmp_path: Path) -> None:
    builder = GraphBuilder()
    x = builder.tensor((1, 2), "float32")
    packed = builder.tensor((1, 3), "float16", data=(1, 2, 3))
    y = builder.tensor((1, 5), "float32")
    whole = computed(builder, "DEQUANTIZE", [packed], shape=(1, 3))
    builder.operator("CONCATENATION", [whole, x], [y], axis=1)
    (tmp_path / "m.tflite").write_bytes(builder.build([x], [y]))
    scores = qnn.load_model(tmp_path / "m.tflite").predict(np.zeros((2, 2), np.float32))
    np.testing.assert_array_equal(scores, [[1, 2, 3, 0, 0]] * 2)


def computed_by(operator: str) -> Pack:
    return lambda b: computed(b, operator, [b.tensor((3, 4), "float32", data=WEIGHTS)])


def of_another_shape(builder: GraphBuilder) -> int:
    return computed(builder, "DEQUANTIZE", [builder.tensor((4, 3), "float16", data=WEIGHTS.T)])


def without_a_scale(builder: GraphBuilder) -> int:
    return computed(builder, "DEQUANTIZE", [builder.tensor((3, 4), "int8", data=CODES)])


def hybrid(builder: GraphBuilder) -> int:
    return builder.tensor((3, 4), "int8", 0.01, data=CODES)


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        (
            computed_by("RELU"),
            r"operator 2 \(FULLY_CONNECTED\) reads tensor 2 .*operator 0 \(RELU\) does not compute"
            r" from the input; constants are supported there, and CAST, DEQUANTIZE",
        ),
        (of_another_shape, r"\(DEQUANTIZE\) computes float32 of shape \(4, 3\), where"),
        (without_a_scale, r"operator 0 \(DEQUANTIZE\) does not fit .* has no scale"),
        (fake_quantized(0.0), r"operator 0 \(QUANTIZE\) does not fit .* has a scale of 0"),
        (fake_quant(min=1.0, max=-1.0, num_bits=8), r"a range of 1\.0\.\.-1\.0 in 8 bits"),
        (fake_quant(min=-1.0, max=1.0, num_bits=40), "in 40 bits"),
        (fake_quant(min=-1.0, max=1.0, num_bits=4, narrow_range=True), "runs no narrow_range"),
        (hybrid, "got dtype=float32; convert with full-integer quantization"),
    ],
)
def test_what_cannot_be_folded_is_refused_by_name(pack: Pack, reason: str, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(classifier(pack))
    with pytest.raises(ModelFileError, match=reason) as caught:
        qnn.load_model(tmp_path / "m.tflite")
    assert str(caught.value).startswith(str(tmp_path / "m.tflite"))
    assert "contradicts itself" not in str(caught.value)


def test_constants_that_fill_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "MAX_FOLDED", 50)
    (tmp_path / "m.tflite").write_bytes(classifier(float16))
    with pytest.raises(ModelFileError, match="at most 50 bytes of unpacked constants"):
        qnn.load_model(tmp_path / "m.tflite")


def test_a_constant_alone_is_no_classifier(tmp_path: Path) -> None:
    builder = GraphBuilder()
    x = builder.tensor((1, 4), "float32")
    packed = builder.tensor((1, 3), "float16", data=(0.1, -0.2, 0.3))
    y = computed(builder, "DEQUANTIZE", [packed], shape=(1, 3))
    (tmp_path / "m.tflite").write_bytes(builder.build([x], [y]))
    with pytest.raises(UnsupportedOperatorError, match=r"no operator computes tensor 2 .* input"):
        qnn.load_model(tmp_path / "m.tflite")


def test_a_network_of_integers_that_are_neither_int8_nor_int16_is_refused(tmp_path: Path) -> None:
    builder = GraphBuilder()
    x, y = (builder.tensor((1, 4), "uint8", 0.1) for _ in range(2))
    builder.operator("RELU", [x], [y])
    (tmp_path / "m.tflite").write_bytes(builder.build([x], [y]))
    with pytest.raises(ModelFileError, match=r"float32, int8 or int16 in tensor 0 .* dtype=uint8"):
        qnn.load_model(tmp_path / "m.tflite")


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [
        ("uint8", r"operator 0 \(QUANTIZE\) rounds some to uint8; convert with full-integer"),
        ("int8", r"got dtype=float32; convert with full-integer quantization"),
    ],
)
def test_activations_that_are_rounded_between_floats_are_refused(
    dtype: str, reason: str, tmp_path: Path
) -> None:
    builder = GraphBuilder()
    x, flat = builder.tensor((1, 4), "float32"), builder.tensor((1, 4), dtype, 0.1)
    builder.operator("QUANTIZE", [x], [flat])
    real = computed(builder, "DEQUANTIZE", [flat], shape=(1, 4))
    y = computed(builder, "RELU", [real], shape=(1, 4))
    (tmp_path / "m.tflite").write_bytes(builder.build([x], [y]))
    with pytest.raises(ModelFileError, match=reason):
        qnn.load_model(tmp_path / "m.tflite")
