"""Compiled steps against the NumPy kernels they were proved from, on every one-operator graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_qnnrobust.tflite.accumulate import Engine
from pytest_qnnrobust.tflite.graph import Graph
from pytest_qnnrobust.tflite.kernels import Settings, prepare
from pytest_qnnrobust.tflite.lowering import Elementwise, Host, Lowered, Product, lower
from pytest_qnnrobust.tflite.plan import Step
from tests.tflite.cases import CASES
from tests.tflite.test_kernels_against_tflm import one_operator

ENGINES: dict[str, tuple[Engine, ...]] = {
    "quantized": ("quantized", "float32", "float64"),
    "float32": ("float32", "float64"),
    "float64": ("float64",),
}
LEFT_TO_THE_HOST = (
    "AVERAGE_POOL_2D {} overlapping",
    "AVERAGE_POOL_2D {} same 3x2",
    "CONV_2D {} dilated",
    "CONV_2D {} grouped",
    "DEPTHWISE_CONV_2D {} dilated",
    "DEPTHWISE_CONV_2D {} stride 2 by 3",
)
"""Beside a few int16 steps whose 65,535 levels leave float64 no room: those names vary."""
HOST_OPERATORS = ("DEQUANTIZE", "PACK", "PRELU", "SOFTMAX", "STRIDED_SLICE")


def lowered_step(name: str, engines: tuple[Engine, ...]) -> tuple[Graph, Step, Lowered, list[Any]]:
    _, graph, batches = one_operator(name, CASES[name])
    kernel = prepare(graph.operators[0], graph, Settings())
    step = Step(graph.operators[0], kernel, kernel.inputs, kernel.output)
    by_index = dict(zip(graph.inputs, batches, strict=True))
    return graph, step, lower(step, graph, engines), [by_index[i] for i in kernel.inputs]


def evaluate(form: Lowered, arrays: list[Any], fuse: bool) -> np.ndarray:
    import tensorflow as tf

    if isinstance(form, Host):
        return form.run(*arrays)
    if isinstance(form, Elementwise):
        return tf.function(form.apply, jit_compile=fuse)(*map(tf.constant, arrays)).numpy()

    def product(x: Any) -> Any:
        return form.finish(*[form.multiply(operand) for operand in form.operands(x)])

    return tf.function(product)(tf.constant(arrays[0])).numpy()


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        (name, engine)
        for name in CASES
        for engine in ENGINES
        if "float32" not in name and (engine == "quantized" or name.startswith("CONV_2D"))
    ],
)
def test_compiled_step_equals_the_kernel(name: str, engine: str) -> None:
    graph, step, form, arrays = lowered_step(name, ENGINES[engine])
    result = evaluate(form, arrays, fuse=len(name) % 2 == 0)
    assert result.dtype == graph.tensors[step.output].dtype
    np.testing.assert_array_equal(result, step.kernel.run(*arrays))


@pytest.mark.parametrize("name", [name for name in CASES if " int8" in name])
def test_common_int8_steps_are_compiled(name: str) -> None:
    rare = tuple(text.format("int8") for text in LEFT_TO_THE_HOST)
    if name.split()[0] in HOST_OPERATORS or name.startswith(rare) or "float32" in name:
        pytest.skip("left to the NumPy kernel")
    if name.startswith("CONCATENATION"):
        pytest.skip("the case joins a constant")
    assert not isinstance(lowered_step(name, ENGINES["quantized"])[2], Host)


@pytest.mark.parametrize("width", ["int8", "int16"])
@pytest.mark.parametrize("axes", ["its axes", "an axis of one"])
def test_a_dense_layer_is_no_batched_product(width: str, axes: str) -> None:
    """Found by a generated graph: TensorFlow 2.21 ends the process at (n, 1, m, k) by a matrix."""
    import tensorflow as tf

    name = f"FULLY_CONNECTED {width} keeps {axes}"
    _, _, form, (x,) = lowered_step(name, ENGINES["float32"])
    assert isinstance(form, Product)
    traced = tf.function(lambda q: [form.multiply(one) for one in form.operands(q)])
    operations = traced.get_concrete_function(tf.constant(x)).graph.get_operations()
    kinds = {operation.type for operation in operations}
    assert "MatMul" in kinds
    assert not any("Batch" in kind for kind in kinds)
