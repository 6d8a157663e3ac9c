"""Classifiers whose scores lie along one of several axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pytest_qnnrobust as qnn
from pytest_qnnrobust.errors import ModelFileError
from pytest_qnnrobust.tflite.builder import GraphBuilder
from tests.tflite.tflm import run_tflm

CLASSES = 5


def written(
    path: Path, shape: tuple[int, ...], ending: tuple[str, ...] = (), dtype: str = "int8"
) -> Path:
    """A convolution of 4 x 4 images to CLASSES scores of this shape, and what follows it."""
    rng = np.random.default_rng(0)
    scaled: tuple[Any, ...] = () if dtype == "float32" else (0.05,)
    builder = GraphBuilder()
    x = builder.tensor((1, 4, 4, 2), dtype, *scaled)
    kernel = (CLASSES, 4, 4, 2)
    if dtype == "float32":
        weights = builder.tensor(kernel, dtype, data=rng.normal(size=kernel).astype(np.float32))
    else:
        weights = builder.tensor(kernel, "int8", 0.02, data=rng.integers(-127, 128, kernel))
    y = builder.tensor((1, 1, 1, CLASSES), dtype, *scaled)
    options = {"padding": "VALID", "stride_h": 1, "stride_w": 1}
    zeros = np.zeros(CLASSES, np.float32 if dtype == "float32" else np.int32)
    scale = None if dtype == "float32" else 0.001
    bias = builder.tensor((CLASSES,), zeros.dtype.name, scale, data=zeros)
    builder.operator("CONV_2D", [x, weights, bias], [y], **options)
    if shape != (1, 1, 1, CLASSES):
        source, y = y, builder.tensor(shape, dtype, *scaled)
        builder.operator("RESHAPE", [source], [y], new_shape=list(shape))
    for name in ending:
        source = y
        if name == "SOFTMAX":
            y = builder.tensor(shape, dtype, *((1 / 256, -128) if scaled else ()))
            builder.operator(name, [source], [y], beta=1.0)
        else:
            y = builder.tensor(shape, "float32")
            builder.operator(name, [source], [y])
    path.write_bytes(builder.build([x], [y]))
    return path


ENDINGS = [(), ("SOFTMAX",), ("SOFTMAX", "DEQUANTIZE"), ("DEQUANTIZE",)]


@pytest.mark.parametrize("ending", ENDINGS, ids="-".join)
@pytest.mark.parametrize("shape", [(1, 1, 1, CLASSES), (1, 1, CLASSES), (1, CLASSES, 1)])
def test_scores_are_those_of_the_device(
    shape: tuple[int, ...], ending: tuple[str, ...], tmp_path: Path
) -> None:
    path = written(tmp_path / "m.tflite", shape, ending)
    if "SOFTMAX" in ending and shape[-1] == 1:
        with pytest.raises(ModelFileError, match="class scores of shape"):
            qnn.load_model(path)
        return
    model = qnn.load_model(path)
    assert model.classes == CLASSES
    low, high = model.bounds
    x = np.random.default_rng(1).uniform(low, high, (30, 4, 4, 2)).astype(np.float32)
    q = model.grid.quantize(x)
    expected = run_tflm(path.read_bytes(), [q]).reshape(30, CLASSES)
    np.testing.assert_array_equal(model.predict(x), expected_real(expected, ending))
    y = model.logits(x).argmax(axis=1)
    assert len(set(y)) > 1
    assert np.abs(model.loss_gradient(x, y, "margin").gradient).max() > 0
    # Logits, not probabilities: what a SOFTMAX rounds to 0 would have no gradient.
    assert (model.logits(x) < 0).any()


def expected_real(outputs: np.ndarray, ending: tuple[str, ...]) -> np.ndarray:
    if "DEQUANTIZE" in ending:
        return outputs
    scale, zero_point = (1 / 256, -128) if "SOFTMAX" in ending else (np.float32(0.05), 0)
    return ((outputs.astype(np.float64) - zero_point) * scale).astype(np.float32)


@pytest.mark.parametrize("runtime", ["tflm", "litert-builtin"])
def test_float_networks_and_tflites_own_runtime(runtime: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "m.tflite", (1, 1, 1, CLASSES), ("SOFTMAX",), "float32")
    model = qnn.load_model(path, runtime=runtime)
    x = np.random.default_rng(1).uniform(0, 1, (7, 4, 4, 2)).astype(np.float32)
    p = model.predict(x)
    assert p.shape == (7, CLASSES)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)


def test_a_map_of_scores_is_no_classifier(tmp_path: Path) -> None:
    builder = GraphBuilder()
    x, y = (builder.tensor((1, 4, 4, 2), "int8", 0.05) for _ in range(2))
    builder.operator("RELU", [x], [y])
    path = tmp_path / "m.tflite"
    path.write_bytes(builder.build([x], [y]))
    with pytest.raises(ModelFileError, match="class scores of shape"):
        qnn.load_model(path)
