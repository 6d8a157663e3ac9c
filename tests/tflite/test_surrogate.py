"""The float twin against TFLite's float arithmetic, and straight-through gradients."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from pytest_qnnrobust.data.samples import load_data
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import UnsupportedOperatorError
from pytest_qnnrobust.models.convert import convert
from pytest_qnnrobust.models.load import load_model
from pytest_qnnrobust.tflite.surrogate import OPERATORS, FloatTwin
from tests.helpers import digits
from tests.tflite.cases import CASES
from tests.tflite.run_case import one_operator, run_kernel

STEPS_APART = {"int8": 2, "int16": 32}
"""Output steps between fixed-point and real arithmetic: roundings; 16-bit multipliers in int16."""


@pytest.fixture(scope="module")
def digit_samples() -> tuple[np.ndarray, np.ndarray]:
    data = load_data("digits")
    return data.x[:128], data.y[:128]


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in CASES
        if name.split()[0] in OPERATORS
        and "float32" not in name
        and "saturating" not in name
        and not name.startswith(("RELU6", "SOFTMAX", "QUANTIZE", "DEQUANTIZE", "PADV2"))
    ],
)
def test_twin_of_each_operator_is_the_real_valued_operator(name: str) -> None:
    import tensorflow as tf

    _, graph, batches = one_operator(name, CASES[name])
    if len(graph.inputs) > 1:
        pytest.skip("the twin has one input")
    start, end = graph.input, graph.output
    integers = run_kernel(graph, batches).astype(np.float64)
    real = tf.constant(((batches[0] - float(start.zero_point)) * start.scale).astype(np.float32))
    twin = FloatTwin(graph, start, end)(real).numpy()
    assert twin.shape == integers.shape
    limits = np.iinfo(end.dtype)
    steps = np.clip(twin / end.scale + end.zero_point, limits.min, limits.max)
    assert np.abs(steps - integers).max() <= STEPS_APART[end.dtype]


def test_float_file_equals_tflite(
    digit_samples: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    import tensorflow as tf

    x, _ = digit_samples
    data = convert(demo_path("digits_float.keras"), "float32", x[:32])
    path = tmp_path / "float.tflite"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = tf.lite.Interpreter(model_content=data)
    oracle.allocate_tensors()
    expected = []
    for sample in x[:32]:
        oracle.set_tensor(oracle.get_input_details()[0]["index"], sample[None])
        oracle.invoke()
        expected.append(oracle.get_tensor(oracle.get_output_details()[0]["index"])[0])
    model = load_model(path)
    assert model.width == "float32"
    np.testing.assert_allclose(model.predict(x[:32]), expected, atol=1e-5)


@pytest.mark.parametrize("width", ["int8", "int16"])
def test_straight_through_forward_is_the_integer_graph(
    width: str, digit_samples: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = digit_samples
    model = digits.network(width)
    assert model.grid is not None
    straight = model.loss_gradient(x, y)
    np.testing.assert_array_equal(straight.logits, model.logits(x))
    assert np.abs(straight.gradient).reshape(len(x), -1).max(axis=1).all()


@pytest.mark.parametrize("width", ["int8", "int16"])
def test_gradients_point_where_finite_differences_of_the_twin_do(
    width: str, digit_samples: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = digit_samples
    twin = digits.network(width).surrogate
    gradient = twin.loss_gradient(x, y, "margin").gradient
    step = 2e-4
    direction = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    ends = [twin.loss_gradient(x + s * step * direction, y, "margin").loss for s in (1, -1)]
    measured = (ends[0] - ends[1]) / (2 * step)
    expected = (gradient * direction).reshape(len(x), -1).sum(axis=1)
    assert np.corrcoef(measured, expected)[0, 1] > 0.99


def test_jacobian_rows_are_gradients_of_logits(
    digit_samples: tuple[np.ndarray, np.ndarray],
) -> None:
    x, y = digit_samples
    model = digits.network("int8")
    logits, jacobian = model.jacobian(x[:4])
    order = np.argsort(logits, axis=1)
    rows = np.arange(4)
    own, best = y[:4], np.where(order[:, -1] == y[:4], order[:, -2], order[:, -1])
    margin = model.loss_gradient(x[:4], y[:4], "margin").gradient
    np.testing.assert_allclose(margin, jacobian[rows, best] - jacobian[rows, own], atol=1e-4)


def test_an_operator_without_twin_is_named_at_construction() -> None:
    _, graph, _ = one_operator("PACK int8 axis 1", next(CASES[n] for n in CASES if "PACK" in n))
    with pytest.raises(UnsupportedOperatorError, match=r"PACK.*has no float twin; supported: ADD"):
        FloatTwin(graph, graph.input, graph.output)
