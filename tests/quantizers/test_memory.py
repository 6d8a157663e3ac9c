"""Flash and RAM: against TensorFlow Lite Micro's own planner, and by hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.quantizers import memory_footprint
from pytest_qnnrobust.quantizers.memory import (
    greedy_arena,
    lifetimes,
    packed,
    peak_activations,
)
from pytest_qnnrobust.tflite.flatbuffer import read_graph


def arena_head(content: bytes, capfd: pytest.CaptureFixture[str]) -> int:
    """Bytes that TFLM's planner gives the activations."""
    runtime = pytest.importorskip("tflite_micro").runtime
    interpreter = runtime.Interpreter.from_bytes(content, arena_size=4_000_000)
    capfd.readouterr()
    interpreter.print_allocations()
    said = "".join(capfd.readouterr())
    found = re.search(r"Arena allocation head (\d+) bytes", said)
    assert found, said
    return int(found[1])


@pytest.mark.parametrize("name", ["digits_int8", "digits_int16", "digits_pgd_int8"])
def test_ram_is_the_arena_that_tflm_plans(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    content = demo_path(f"{name}.tflite").read_bytes()
    assert memory_footprint(read_graph(content)).ram == arena_head(content, capfd)


@pytest.mark.parametrize(
    "name", ["cifar_resnet_int8", "cifar_resnet_int16", "vww_int8", "vww_int16"]
)
def test_ram_of_real_models(name: str, shared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = (shared / "models" / f"{name}.tflite").read_bytes()
    assert memory_footprint(read_graph(content)).ram == arena_head(content, capfd)


def test_flash_of_a_file_is_its_constants() -> None:
    content = demo_path("digits_int8.tflite").read_bytes()
    graph = read_graph(content)
    found = memory_footprint(graph)
    data = [t.data for t in graph.tensors if t.data is not None]
    scales = sum(
        len(graph.tensors[op.inputs[1]].quantization.scale)  # type: ignore[union-attr]
        for op in graph.operators
        if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    )
    assert found.flash == sum(d.nbytes for d in data) + 4 * scales
    assert found.flash < len(content)


def test_fewer_bits_pack_the_weights_only() -> None:
    graph = read_graph(demo_path("digits_int8.tflite").read_bytes())
    eight, two = memory_footprint(graph), memory_footprint(graph, bits=2, activation_bits=8)
    kernels = [s for s in eight.stored if s.scales]
    assert eight.flash - two.flash == sum(s.values - packed(s.values, 2) for s in kernels)
    assert two.ram == eight.ram


def test_a_keras_network_by_hand() -> None:
    import keras

    from pytest_qnnrobust.quantizers.layers import QuantizedActivation, QuantizedConv2D

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same"),
            QuantizedActivation("dorefa:4"),
            QuantizedConv2D(8, 3, padding="same", weights="binary", use_bias=False),
            layers.BatchNormalization(),
            QuantizedActivation("dorefa:4"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )
    found = memory_footprint(model)
    first, binary, dense = 4 * (36 + 4), 288 // 8 + 4 + 4 * 8, 4 * (80 + 10)
    assert found.flash == first + binary + dense
    assert found.ram == 8 * 8 * 4 // 2 + 8 * 8 * 8 // 2
    assert memory_footprint(model, bits=8).ram == 8 * 8 * 4 + 8 * 8 * 8


def test_a_branch_keeps_its_input() -> None:
    steps = [("a", ("x",), ("y",)), ("b", ("y",), ("z",)), ("add", ("x", "z"), ("out",))]
    sizes = {"x": 100, "y": 10, "z": 16, "out": 1}
    spans = lifetimes(steps, (("x",), ("out",)))
    assert peak_activations(steps, sizes, spans) == (112 + 16 + 16, "b")
    assert greedy_arena(sizes, spans) == 112 + 16 + 16


def test_a_gap_that_is_too_small_costs_memory() -> None:
    """96 x 96 x 3 and three convolutions, as in the visual wake words network."""
    steps = [("a", ("x",), ("p",)), ("b", ("p",), ("q",)), ("c", ("q",), ("r",))]
    sizes = {"x": 27648, "p": 18432, "q": 18432, "r": 36864}
    spans = lifetimes(steps, (("x",), ("r",)))
    assert peak_activations(steps, sizes, spans)[0] == 18432 + 36864
    assert greedy_arena(sizes, spans) == 2 * 18432 + 36864


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(0, 5), st.integers(0, 5)), min_size=1))
def test_the_arena_holds_what_lives_at_once(buffers: list[tuple[int, int, int]]) -> None:
    sizes = {i: size for i, (size, _, _) in enumerate(buffers)}
    spans = {i: (min(a, b), max(a, b)) for i, (_, a, b) in enumerate(buffers)}
    steps = [(str(i), (), ()) for i in range(6)]
    live, arena = peak_activations(steps, sizes, spans)[0], greedy_arena(sizes, spans)
    assert live <= arena <= sum(16 * -(-size // 16) for size in sizes.values())


def test_residual_of_keras_keeps_its_input() -> None:
    import keras

    inputs = keras.Input((4, 4, 4))
    x = keras.layers.Conv2D(4, 3, padding="same", name="one")(inputs)
    y = keras.layers.Conv2D(4, 3, padding="same", name="two")(x)
    model = keras.Model(inputs, keras.layers.Add(name="sum")([inputs, y]))
    assert memory_footprint(model).ram == 3 * 4 * 4 * 4 * 4


@pytest.mark.parametrize("bits", [0, 33])
def test_bad_bits(bits: int) -> None:
    with pytest.raises(QnnRobustError) as error:
        memory_footprint(None, bits=bits)
    assert str(error.value) == f"expected bits from 1 to 32, got bits={bits}"


@pytest.mark.parametrize(("values", "bits", "expected"), [(9, 1, 2), (8, 1, 1), (3, 12, 5)])
def test_packing(values: int, bits: int, expected: int) -> None:
    assert packed(values, bits) == expected == int(np.ceil(values * bits / 8))
