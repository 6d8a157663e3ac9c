"""The embedded digits: accurate, small, of the promised operators, and rebuilt bit for bit."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pytest_qnnrobust.demo import FILES, demo_path
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.models.convert import convert
from pytest_qnnrobust.models.keras import load_keras

SCRIPT = Path(__file__).resolve().parents[1] / "fixtures" / "build_digits.py"
OPERATORS = [
    "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD", "AVERAGE_POOL_2D",
    "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED", "SOFTMAX",
]  # fmt: skip


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_digits", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_files_are_small() -> None:
    assert sum(demo_path(name).stat().st_size for name in FILES) < 600_000


def test_unknown_file() -> None:
    with pytest.raises(QnnRobustError, match=r"^expected an embedded file, one of digits_float"):
        demo_path("../pyproject.toml")


def test_float_accuracy() -> None:
    with np.load(demo_path("digits.npz")) as data:
        x, y = (data["x"] / 255).astype(np.float32), data["y"]
    assert np.mean(load_keras(demo_path("digits_float.keras")).classify(x) == y) >= 0.96


@pytest.mark.parametrize("width", ["int8", "int16"])
def test_quantized_operators(width: str) -> None:
    from pytest_qnnrobust.tflite.flatbuffer import read_graph

    graph = read_graph(demo_path(f"digits_{width}.tflite").read_bytes())
    assert [operator.name for operator in graph.operators] == OPERATORS
    assert graph.input.dtype == graph.output.dtype == width
    assert graph.input.shape == (1, 8, 8, 1)


def test_input_is_the_unit_interval() -> None:
    from pytest_qnnrobust.tflite.flatbuffer import read_graph

    tensor = read_graph(demo_path("digits_int8.tflite").read_bytes()).input
    assert (tensor.scale, tensor.zero_point) == (float(np.float32(1 / 255)), -128)


def test_data_is_rebuilt(script: ModuleType) -> None:
    train, test = script.split_digits()
    with np.load(demo_path("digits.npz")) as data:
        np.testing.assert_array_equal(data["x"], test[0])
        np.testing.assert_array_equal(data["y"], test[1])
    calibration = script.npz_bytes(x=train[0][:200], y=train[1][:200])
    assert calibration == demo_path("digits_calibration.npz").read_bytes()


def test_archives_have_no_dates(script: ModuleType) -> None:
    first, second = (script.npz_bytes(x=np.arange(3)) for _ in range(2))
    assert first == second
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("width", ["int8", "int16"])
def test_conversion_of_the_committed_network_gives_the_committed_file(width: str) -> None:
    """Weights and structure are equal; calibrated scales may differ with the processor's kernels.

    `fixtures/build_digits.py --check` compares the bytes, training included.
    """
    from pytest_qnnrobust.tflite.flatbuffer import read_graph

    with np.load(demo_path("digits_calibration.npz")) as data:
        calibration = (data["x"] / np.float32(255)).astype(np.float32)
    rebuilt = read_graph(convert(demo_path("digits_float.keras"), width, calibration))
    committed = read_graph(demo_path(f"digits_{width}.tflite").read_bytes())
    assert len(rebuilt.tensors) == len(committed.tensors)
    for ours, theirs in zip(rebuilt.tensors, committed.tensors, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        if ours.dtype == "int8" and ours.data is not None and theirs.data is not None:
            np.testing.assert_array_equal(ours.data, theirs.data)
        if ours.quantization is not None and theirs.quantization is not None:
            np.testing.assert_allclose(
                ours.quantization.scale, theirs.quantization.scale, rtol=1e-4
            )
