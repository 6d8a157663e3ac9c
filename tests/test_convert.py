"""TensorFlow's converter, driven from here: integers from end to end, the same bytes again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import DataError, ModelFileError, QnnRobustError
from pytest_qnnrobust.models.convert import convert
from pytest_qnnrobust.tflite.flatbuffer import read_graph

RNG = np.random.default_rng(0)
CALIBRATION = RNG.random((20, 8, 8, 1), np.float32)


@pytest.fixture(scope="module")
def network() -> Any:
    import keras

    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation="softmax"),
        ]
    )


@pytest.mark.parametrize("width", ["int8", "int16", "float32"])
def test_width_from_end_to_end(network: Any, width: Any) -> None:
    graph = read_graph(convert(network, width, CALIBRATION))
    assert graph.input.dtype == graph.output.dtype == width
    assert graph.input.shape == (1, 8, 8, 1)
    names = [operator.name for operator in graph.operators]
    assert names == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]


def test_dynamic_batch(network: Any) -> None:
    assert read_graph(convert(network, "int8", CALIBRATION, batch=None)).input.shape[0] == -1


@pytest.mark.parametrize("width", ["int8", "int16"])
def test_dense_has_one_scale(network: Any, width: Any) -> None:
    graph = read_graph(convert(network, width, CALIBRATION))
    dense = next(o for o in graph.operators if o.name == "FULLY_CONNECTED")
    weights = graph.tensors[dense.inputs[1]]
    assert weights.dtype == "int8"
    assert weights.quantization is not None
    assert not weights.quantization.per_axis


@pytest.mark.parametrize("width", ["int8", "int16", "float32"])
def test_same_bytes_again(network: Any, width: Any) -> None:
    assert convert(network, width, CALIBRATION) == convert(network, width, CALIBRATION)


def test_float_file_computes_the_same(network: Any) -> None:
    import tensorflow as tf

    with pytest.warns(UserWarning, match="deprecated"):
        interpreter = tf.lite.Interpreter(model_content=convert(network, "float32"))
    run = interpreter.get_signature_runner()
    (output,) = run(input=CALIBRATION[:1]).values()
    np.testing.assert_allclose(output, np.asarray(network(CALIBRATION[:1])), atol=1e-5)


def test_a_path_is_enough() -> None:
    graph = read_graph(convert(demo_path("digits_float.keras"), "int8", CALIBRATION))
    assert graph.operators[-1].name == "SOFTMAX"


def test_prints_nothing(network: Any, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    convert(network, "int8", CALIBRATION)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (
            None,
            "expected calibration data to quantize with, got calibration=None; "
            "give 100 or more samples of the training data",
        ),
        (
            np.zeros((3, 8, 8), np.float32),
            "expected calibration data of shape (N, 8, 8, 1), got shape=(3, 8, 8)",
        ),
        (
            np.zeros((0, 8, 8, 1), np.float32),
            "expected at least one calibration sample, got samples=0",
        ),
        (
            np.zeros((3, 8, 8, 1), np.uint8),
            "expected float calibration data, got dtype='uint8'; "
            "scale the data into the network's input domain",
        ),
        (
            np.full((1, 8, 8, 1), np.nan, np.float32),
            "expected finite calibration data, got not_finite=64",
        ),
    ],
)
def test_bad_calibration(network: Any, calibration: Any, message: str) -> None:
    with pytest.raises(QnnRobustError) as error:
        convert(network, "int8", calibration)
    assert str(error.value) == message
    assert calibration is None or isinstance(error.value, DataError)


def test_unknown_width(network: Any) -> None:
    with pytest.raises(QnnRobustError, match="one of int8, int16, float32, got width='int4'"):
        convert(network, "int4", CALIBRATION)  # type: ignore[arg-type]


def test_operator_without_an_integer_kernel(make_network: Callable[[Any], Any]) -> None:
    network = make_network(lambda x: x)
    with pytest.raises(ModelFileError) as error:
        convert(network, "int16", CALIBRATION)
    assert str(error.value).startswith("TensorFlow cannot convert this network to int16: ")
    assert "\n" not in str(error.value)


@pytest.fixture
def make_network() -> Callable[[Any], Any]:
    def make(_: Any) -> Any:
        import keras

        inputs = keras.Input((8, 8, 1))
        hidden = keras.ops.erf(keras.layers.Flatten()(inputs))
        return keras.Model(inputs, keras.layers.Dense(2)(keras.ops.sort(hidden)))

    return make
