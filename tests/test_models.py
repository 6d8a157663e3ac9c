"""Models through `load_model`: what each runtime returns, counts and refuses."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pytest_qnnrobust as qnn
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import FileChangedError, ModelFileError, UnsupportedOperatorError
from pytest_qnnrobust.models import load
from pytest_qnnrobust.models.files import read_model_file
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.models.lazy import FileFacts
from pytest_qnnrobust.tflite import fixed_point
from pytest_qnnrobust.tflite.builder import GraphBuilder
from tests.helpers import digits
from tests.tflite.tflm import run_tflm


@pytest.fixture(scope="module")
def digit_data() -> qnn.Data:
    return qnn.load_data("digits")


@pytest.mark.parametrize("width", digits.FILES)
def test_contract(width: str, digit_data: qnn.Data) -> None:
    model = digits.network(width)
    x, y = digit_data.x[:300], digit_data.y[:300]
    scores = model.evaluate(x)
    assert scores.labels.dtype == np.int64
    assert scores.logits.shape == model.predict(x).shape == (300, 10)
    np.testing.assert_array_equal(scores.labels, model.predict(x).argmax(axis=1))
    assert (scores.labels == y).mean() > 0.95
    assert model.queries == 900
    assert model.loss_gradient(x[:3], y[:3]).gradient.shape == (3, *model.input_shape)
    assert model.gradients == 3
    assert model.predict(x[:0]).shape == (0, 10)
    assert model.jacobian(x[:0])[1].shape == (0, 10, *model.input_shape)


def test_the_device_decides_on_its_output_and_ties_go_to_the_lowest_class() -> None:
    model = digits.network("int8")
    x = np.random.default_rng(0).uniform(0, 1, (500, *model.input_shape)).astype(np.float32)
    output = model.predict(x)
    best = output.max(axis=1, keepdims=True)
    lowest = np.array([np.flatnonzero(row)[0] for row in output == best])
    np.testing.assert_array_equal(model.classify(x), lowest)


def test_input_grid_is_the_quantize_operator_of_tflm() -> None:
    grid = digits.network("int8").grid
    assert grid is not None
    rng = np.random.default_rng(1)
    ties = (np.arange(-140, 140) + 0.5) * grid.scale
    x = np.concatenate([rng.uniform(-2, 3, 500), ties, [np.inf, -np.inf]]).astype(np.float32)
    builder = GraphBuilder()
    source = builder.tensor((1, 1), "float32")
    target = builder.tensor((1, 1), "int8", grid.scale, grid.zero_point)
    builder.operator("QUANTIZE", [source], [target])
    oracle = run_tflm(builder.build([source], [target]), [x[:-2, None]])
    np.testing.assert_array_equal(grid.quantize(x[:-2]), oracle[:, 0])
    np.testing.assert_array_equal(grid.quantize(x[-2:]), [127, -128])
    np.testing.assert_array_equal(grid.snap(grid.snap(x)), grid.snap(x))


@pytest.mark.parametrize(
    "runtime", [pytest.param("litert", marks=pytest.mark.nightly), "litert-builtin"]
)
@pytest.mark.parametrize("width", ["int8", pytest.param("int16", marks=pytest.mark.nightly)])
def test_litert_is_near_the_device_and_says_what_it_is(
    runtime: str, width: str, digit_data: qnn.Data
) -> None:
    path = demo_path(f"digits_{width}.tflite")
    phone, device = qnn.load_model(path, runtime=runtime), digits.network(width)
    assert phone.runtime == runtime
    assert device.runtime == "tflm"
    agree = phone.classify(digit_data.x[:200]) == device.classify(digit_data.x[:200])
    assert agree.mean() > 0.98
    assert phone.loss_gradient(digit_data.x[:2], digit_data.y[:2]).gradient.shape[0] == 2


def test_older_firmware_derives_other_multipliers() -> None:
    double = digits.network("int8")
    single = qnn.load_model(digits.INT8, scale_arithmetic="float")
    x = np.random.default_rng(2).uniform(0, 1, (64, *double.input_shape)).astype(np.float32)
    assert np.abs(double.logits(x) - single.logits(x)).max() < 1


def test_gradients_do_not_depend_on_the_batch(digit_data: qnn.Data) -> None:
    model = digits.network("int8")
    x, y = digit_data.x[:40], digit_data.y[:40]
    whole = model.loss_gradient(x, y).gradient
    parts = [model.loss_gradient(x[i : i + 7], y[i : i + 7]).gradient for i in range(0, 40, 7)]
    # Bit for bit by oneDNN. TensorFlow's other kernels, the default on many processors, sum in an
    # order that follows the size of the batch: the last bit of a float32 is theirs.
    rounding = np.finfo(np.float32).eps * np.abs(whole).max()
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=rounding)


def unknown_operator() -> bytes:
    builder = GraphBuilder()
    x = builder.tensor((1, 4), "int8", 0.1, 0)
    y = builder.tensor((1, 4), "int8", 0.1, 0)
    builder.operator("FLOOR_MOD", [x, x], [y])
    return builder.build([x], [y])


def two_outputs() -> bytes:
    builder = GraphBuilder()
    x = builder.tensor((1, 4), "int8", 0.1, 0)
    ends = [builder.tensor((1, 4), "int8", 0.1, 0) for _ in range(2)]
    for end in ends:
        builder.operator("RELU", [x], [end])
    return builder.build([x], ends)


def no_class_scores() -> bytes:
    builder = GraphBuilder()
    x = builder.tensor((1, 4, 4, 1), "int8", 0.1, 0)
    y = builder.tensor((1, 4, 4, 1), "int8", 0.1, 0)
    builder.operator("RELU", [x], [y])
    return builder.build([x], [y])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("absent.tflite", None, "expected a model file, got path="),
        ("model.pb", b"", "expected a model file that ends in .tflite, .keras or .h5"),
        ("m.onnx", b"", "onnx2tf converts an ONNX file to .tflite"),
        ("text.tflite", b"no model, only text", "is not a readable TFLite model"),
        ("empty.tflite", b"", "is not a readable TFLite model"),
        ("unknown.tflite", unknown_operator(), "operator='0 FLOOR_MOD'"),
        ("two.tflite", two_outputs(), "one input and one output"),
        ("image.tflite", no_class_scores(), "expected class scores"),
    ],
)
def test_bad_files_get_one_line(
    name: str, content: bytes | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError) as error:
        qnn.load_model(path)
    assert reason in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_known_facts_is_loaded_at_the_first_question(
    tmp_path: Path, digit_data: qnn.Data
) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(b"no network at all")
    facts = FileFacts((8, 8, 1), 10, (0.0, 1.0))
    file = read_model_file(path)
    model = load.load_checked(file, runtime="tflm", scale_arithmetic="double", facts=facts)
    assert (model.width, model.input_shape, model.classes) == ("float32", (8, 8, 1), 10)
    with pytest.raises(ModelFileError, match="not a readable Keras model"):
        model.classify(digit_data.x)
    path.write_bytes(demo_path("digits_float.keras").read_bytes())
    with pytest.raises(FileChangedError, match="stays as it is while the tests run"):
        model.classify(digit_data.x)
    path.unlink()
    with pytest.raises(FileChangedError, match="now='no file that can be read'; start again"):
        model.classify(digit_data.x)


def test_a_lazy_model_answers_as_the_one_that_was_loaded(digit_data: qnn.Data) -> None:
    path = demo_path("digits_float.keras")
    whole = qnn.load_model(path)
    facts = FileFacts(whole.input_shape, whole.classes, whole.bounds)
    file = read_model_file(path)
    model = load.load_checked(file, runtime="tflm", scale_arithmetic="double", facts=facts)
    assert model.digest == whole.digest
    assert (model.runtime, model.differentiable) == (whole.runtime, whole.differentiable)
    assert (model.gradient_source, model.grid) == (whole.gradient_source, whole.grid)
    x, y = digit_data.x[:9], digit_data.y[:9]
    np.testing.assert_array_equal(model.predict(x), whole.predict(x))
    for own, found in zip(whole.jacobian(x), model.jacobian(x), strict=True):
        np.testing.assert_array_equal(found, own)
    gradient = model.with_bounds(0, 2).loss_gradient(x, y).gradient
    np.testing.assert_array_equal(gradient, whole.loss_gradient(x, y).gradient)


@pytest.mark.parametrize("name", ["digits_int8.tflite", "digits_float.keras"])
def test_a_file_replaced_while_it_is_read_is_the_one_that_its_digest_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digit_data: qnn.Data
) -> None:
    path, other = tmp_path / name, tmp_path / "other"
    path.write_bytes(demo_path(name).read_bytes())
    other.write_bytes(demo_path(name.replace("digits", "digits_pgd")).read_bytes())
    opened = Path.open

    def open_and_replace(self: Path, *args: Any, **options: Any) -> Any:
        file = opened(self, *args, **options)
        if self == path and other.exists():
            other.replace(path)
        return file

    monkeypatch.setattr(Path, "open", open_and_replace)
    model = qnn.load_model(path)
    whole = demo_path(name)
    assert not other.exists()
    assert str(model.digest).startswith(hashlib.sha256(whole.read_bytes()).hexdigest())
    x = digit_data.x[:4]
    np.testing.assert_array_equal(model.predict(x), digits.network(model.width).predict(x))


def test_an_unsupported_operator_lists_the_supported_ones(tmp_path: Path) -> None:
    path = tmp_path / "unknown.tflite"
    path.write_bytes(unknown_operator())
    with pytest.raises(UnsupportedOperatorError, match="ADD, AVERAGE_POOL_2D, CONCATENATION"):
        qnn.load_model(path)


def test_importing_the_package_imports_no_framework() -> None:
    code = (
        "import sys, pytest_qnnrobust; "
        "print([m for m in ('tensorflow', 'art', 'scipy', 'hypothesis', 'numpy') "
        "if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "runtime", "accuracy"),
    [
        ("cifar_resnet_float.h5", "tflm", 0.883),
        ("cifar_resnet_int16.tflite", "tflm", 0.882),
        ("cifar_resnet_int8.tflite", "tflm", 0.880),
        ("cifar_resnet_int8.tflite", "litert-builtin", 0.875),
    ],
)
def test_clean_accuracy_on_the_first_1000_images(
    shared: Path, name: str, runtime: str, accuracy: float
) -> None:
    """The paper's Table 4 gives 87.5 % for int8: TFLite without delegates, not the device."""
    model = qnn.load_model(shared / "models" / name, runtime=runtime)
    data = qnn.load_data(shared / "data" / "cifar10_test.npz", model=model, limit=1000)
    assert (model.classify(data.x) == data.y).mean() == pytest.approx(accuracy, abs=1e-9)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize(("scale", "zero_point"), [(1 / 255, -128), (0.58, 83), (1 / 32767, 0)])
def test_a_grid_knows_the_real_value_of_each_of_its_integers(
    dtype: str, scale: float, zero_point: int
) -> None:
    info = np.iinfo(dtype)
    integers = np.arange(info.min, info.max + 1)
    grid = InputGrid(scale, zero_point, dtype)
    expected = fixed_point.dequantize(integers, scale, zero_point)
    for q in (integers, integers.astype(dtype)):
        found = grid.dequantize(q)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(grid.dequantize(q[::-2]), expected[::-2])
