"""The bound that a kernel states for its accumulators: never exceeded, tight to a factor of two."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.tflite.builder import GraphBuilder
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.kernels import prepare
from pytest_qnnrobust.tflite.kernels.conv_2d import Convolution
from pytest_qnnrobust.tflite.kernels.fully_connected import FullyConnected
from tests.tflite.one_operator import Build, convolution, fully_connected

WHOLE_IMAGE = {"image": (3, 3, 4), "padding": "VALID", "zero_points": (127, 0)}
BUILDS: dict[str, Build] = {
    "CONV_2D int8": convolution("int8", **WHOLE_IMAGE),
    "CONV_2D int16": convolution("int16", **WHOLE_IMAGE),
    "DEPTHWISE_CONV_2D int8": convolution(
        "int8",
        operator="DEPTHWISE_CONV_2D",
        filter_shape=(1, 3, 3, 4),
        depth_multiplier=1,
        **WHOLE_IMAGE,
    ),
    "FULLY_CONNECTED int8": fully_connected("int8"),
    "FULLY_CONNECTED int16": fully_connected("int16"),
}


@pytest.mark.parametrize("name", BUILDS)
def test_bound_holds_for_sign_aligned_inputs(name: str) -> None:
    builder = GraphBuilder()
    inputs, output = BUILDS[name](builder, np.random.default_rng(5))
    graph = read_graph(builder.build(inputs, [output]))
    kernel = prepare(graph.operators[0], graph)
    assert isinstance(kernel, Convolution | FullyConnected)
    limits = np.iinfo(graph.input.dtype)
    weights = kernel.weights if isinstance(kernel, FullyConnected) else kernel.filter
    if name.startswith("DEPTHWISE"):
        signs = np.sign(weights)
    else:
        signs = np.sign(weights).reshape(len(weights), *graph.input.shape[1:])
    worst = np.where(np.concatenate([signs, -signs]) > 0, limits.max, limits.min)
    reached = np.abs(kernel.accumulate(worst.astype(graph.input.dtype))).reshape(
        len(worst), -1, len(kernel.accumulator_bound)
    )
    assert (reached <= kernel.accumulator_bound).all()
    assert (reached.max(axis=(0, 1)) * 2.2 > kernel.accumulator_bound).all()
