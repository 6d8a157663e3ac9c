"""Affine quantization: equal to what TensorFlow's converter writes into the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.models.convert import convert
from pytest_qnnrobust.quantizers import Affine, AffineQuantizer, affine_parameters
from pytest_qnnrobust.tflite.flatbuffer import read_graph

SHAPE = (6, 6, 2)
KERNELS = {
    "CONV_2D": lambda k: k.transpose(3, 0, 1, 2),
    "DEPTHWISE_CONV_2D": lambda k: k.transpose(3, 0, 1, 2).reshape(1, 3, 3, 4),
    "FULLY_CONNECTED": lambda k: k.T,
}


@pytest.fixture(scope="module")
def network() -> Any:
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(4, 3, activation="relu"),
            layers.DepthwiseConv2D(3),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.5, 3.0), (-0.3, 2.2)])
@pytest.mark.parametrize("width", ["int8", "int16"])
def test_the_converters_own_parameters_and_codes(
    network: Any, width: Any, low: float, high: float
) -> None:
    x = np.random.default_rng(1).uniform(low, high, (40, *SHAPE)).astype(np.float32)
    graph = read_graph(convert(network, width, x))
    wide = width == "int16"
    inputs = Affine(bits=16 if wide else 8, symmetric=wide).fit(x)
    assert inputs.scale == graph.input.scale
    assert inputs.zero_point == graph.input.zero_point
    kernels = iter(np.asarray(w) for w in network.trainable_weights if len(w.shape) > 1)
    seen = 0
    for operator in graph.operators:
        if operator.name not in KERNELS:
            continue
        tensor = graph.tensors[operator.inputs[1]]
        kernel = KERNELS[operator.name](next(kernels))
        stored = tensor.quantization
        assert stored is not None
        axis = stored.quantized_dimension if stored.per_axis else None
        spec = Affine(symmetric=True, narrow_range=True, quantized_dimension=axis)
        fitted = spec.fit(kernel)
        np.testing.assert_array_equal(np.ravel(fitted.scale).astype(np.float32), stored.scale)
        np.testing.assert_array_equal(fitted.quantize(kernel), tensor.data)
        seen += 1
    assert seen == 3


def test_literal_codes() -> None:
    quantizer = AffineQuantizer(0.5, 3)
    x = np.array([-100, -0.75, -0.25, 0, 0.25, 0.74, 100, np.nan, np.inf], np.float32)
    codes = quantizer.quantize(x)
    assert codes.tolist() == [-128, 1, 2, 3, 4, 4, 127, 3, 127]
    assert codes.dtype == np.int8
    assert quantizer.dequantize(codes)[:4].tolist() == [-65.5, -1.0, -0.5, 0.0]


@given(
    low=st.floats(-1e6, 1e6, width=32),
    span=st.floats(0, 1e6, width=32),
    bits=st.integers(2, 16),
    symmetric=st.booleans(),
    narrow=st.booleans(),
)
def test_zero_is_exact_and_the_range_is_covered(
    low: float, span: float, bits: int, symmetric: bool, narrow: bool
) -> None:
    ends = np.array([low, low + span], np.float32)
    fitted = Affine(bits, symmetric, narrow).fit(ends)
    zero = fitted.quantize(np.zeros(1, np.float32))
    assert fitted.dequantize(zero)[0] == 0
    assert fitted.minimum <= fitted.zero_point <= fitted.maximum
    if low <= 0 <= low + span:
        back = fitted.dequantize(fitted.quantize(ends))
        assert np.all(np.abs(back - ends) <= fitted.scale * (0.5 + 1e-3) + 1e-6 * np.abs(ends))


@given(st.data())
def test_per_axis_is_per_tensor_on_each_slice(data: st.DataObject) -> None:
    axis = data.draw(st.integers(-3, 2))
    seed = data.draw(st.integers(0, 2**32 - 1))
    x = np.random.default_rng(seed).normal(0, 3, (2, 3, 4)).astype(np.float32)
    spec = Affine(quantized_dimension=axis)
    codes = np.moveaxis(spec.quantize(x), axis, 0)
    for part, found in zip(np.moveaxis(x, axis, 0), codes, strict=True):
        np.testing.assert_array_equal(Affine().quantize(part), found)


def test_an_empty_range_has_scale_1() -> None:
    scale, zero_point = affine_parameters([0.0, 0.0], [0.0, 1.0])
    assert scale[0] == 1
    assert zero_point.tolist() == [0, -128]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Affine(bits=1), "expected bits from 2 to 16, got bits=1"),
        (lambda: AffineQuantizer(0.0), "expected finite scales above 0, got scale=0.0"),
        (
            lambda: AffineQuantizer(1.0, 1, symmetric=True),
            "expected zero_point 0 where symmetric, got zero_point=1",
        ),
        (
            lambda: Affine().fit(np.array([np.inf])),
            "expected finite ranges, got low=0.0, high=inf",
        ),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(QnnRobustError) as error:
        make()
    assert str(error.value) == message


def test_one_scale_for_each_channel_or_one_for_all() -> None:
    with pytest.raises(QnnRobustError, match="one for each element of quantized_dimension"):
        AffineQuantizer(np.ones(3, np.float32))
