"""Compiled steps against the NumPy kernels they were proved from, on every one-operator graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pytest_qnnrobust.tflite.accumulate import Engine
from pytest_qnnrobust.tflite.graph import Graph
from pytest_qnnrobust.tflite.kernels import Settings, prepare
from pytest_qnnrobust.tflite.lowering import Elementwise, Host, Lowered, Product, lower
from pytest_qnnrobust.tflite.plan import Step
from tests.tflite.cases import CASES
from tests.tflite.run_case import one_operator

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


def compiled(forms: dict[str, Lowered], arrays: dict[str, list[Any]], fuse: bool) -> Any:
    """The outputs of these forms by name, from one traced function."""
    import tensorflow as tf

    def run(inputs: dict[str, list[Any]]) -> dict[str, Any]:
        return {name: apply(form, inputs[name]) for name, form in forms.items()}

    inputs = {name: [tf.constant(array) for array in arrays[name]] for name in forms}
    outputs = tf.function(run, jit_compile=fuse, autograph=False)(inputs)
    return {name: output.numpy() for name, output in outputs.items()}


def apply(form: Lowered, inputs: list[Any]) -> Any:
    if isinstance(form, Elementwise):
        return form.apply(*inputs)
    assert isinstance(form, Product)
    return form.finish(*[form.multiply(operand) for operand in form.operands(inputs[0])])


def tables() -> Iterator[tuple[str, str]]:
    """Each operator with the engines that it is compiled for."""
    operators = dict.fromkeys(name.split()[0] for name in CASES if "float32" not in name)
    for operator in operators:
        for engine in ENGINES if operator == "CONV_2D" else ("quantized",):
            yield operator, engine


@pytest.mark.parametrize(("operator", "engine"), list(tables()))
def test_compiled_steps_equal_their_kernels(operator: str, engine: str) -> None:
    """One traced function an operator: tracing each case by itself took most of the time."""
    steps: dict[str, Step] = {}
    forms: dict[str, Lowered] = {}
    arrays: dict[str, list[Any]] = {}
    dtypes: dict[str, str] = {}
    for name in CASES:
        if name.split()[0] == operator and "float32" not in name:
            graph, steps[name], forms[name], arrays[name] = lowered_step(name, ENGINES[engine])
            dtypes[name] = graph.tensors[steps[name].output].dtype
    hosts = {name: form for name, form in forms.items() if isinstance(form, Host)}
    fused = {n: f for n, f in forms.items() if isinstance(f, Elementwise) and len(n) % 2 == 0}
    plain = {n: f for n, f in forms.items() if n not in fused and n not in hosts}
    results = {name: form.run(*arrays[name]) for name, form in hosts.items()}
    for chosen, fuse in ((fused, True), (plain, False)):
        if chosen:
            results |= compiled(chosen, arrays, fuse)
    assert set(results) == set(forms)
    for name, result in results.items():
        assert result.dtype == dtypes[name], name
        kernel = steps[name].kernel
        np.testing.assert_array_equal(result, kernel.run(*arrays[name]), name)


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
