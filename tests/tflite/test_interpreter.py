"""Whole graphs: both engines against TensorFlow Lite Micro's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.tflite import interpreter
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.interpreter import Interpreter
from tests.tflite.tflm import run_tflm

DEMO = ("digits_int8.tflite", "digits_int16.tflite")
INTEGER_FILES = [
    f"cifar_{name}_{width}"
    for name in ("resnet", "adv_train", "distil", "ens_adv", "sat")
    for width in ("int8", "int16")
] + ["vww_int8", "vww_int16", "wild/person_detect"]


def probes(interpreter: Interpreter, images: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Images, uniform noise, all-minimum, all-maximum and one-hot inputs: `count` in all."""
    tensor = interpreter.plan.input
    limits = np.iinfo(tensor.dtype)
    rng = np.random.default_rng(seed)
    shape = interpreter.input_shape
    size = int(np.prod(shape))
    hot = np.full((10, size), limits.min)
    hot[np.arange(10), rng.integers(0, size, 10)] = limits.max
    extremes = np.stack([np.full(shape, limits.min), np.full(shape, limits.max)])
    noise = rng.integers(limits.min, limits.max + 1, (count - 12 - len(images), *shape))
    return np.concatenate([images, extremes, hot.reshape(10, *shape), noise]).astype(tensor.dtype)


@pytest.mark.parametrize("name", DEMO)
def test_demo_models_equal_tflm(name: str) -> None:
    data = demo_path(name).read_bytes()
    fast, reference = (
        Interpreter(read_graph(data)),
        Interpreter(read_graph(data), engine="reference"),
    )
    q = probes(fast, np.empty((0, *fast.input_shape)), 200)
    oracle = run_tflm(data, [q])
    np.testing.assert_array_equal(fast.invoke(q), oracle)
    np.testing.assert_array_equal(reference.invoke(q), oracle)


@pytest.mark.parametrize("name", DEMO)
def test_every_activation_is_the_same_in_both_engines(name: str) -> None:
    fast = Interpreter(read_graph(demo_path(name).read_bytes()))
    same_activations(fast, probes(fast, np.empty((0, *fast.input_shape)), 70))


def same_activations(fast: Interpreter, q: np.ndarray) -> None:
    """Compare every activation, on all threads and on one, with the NumPy kernels'."""
    reference = Interpreter(fast.plan.graph, engine="reference")
    wanted = [step.output for step in fast.plan.steps]
    expected = reference.tensors(q, wanted)
    for found in (fast.tensors(q, wanted), fast.tensors_on_this_thread(q, wanted)):
        for step, ours, theirs in zip(fast.plan.steps, found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs, step.operator.name)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 64, 65, 300])
def test_any_batch_size_gives_the_same_integers(size: int) -> None:
    model = Interpreter(read_graph(demo_path(DEMO[0]).read_bytes()))
    q = probes(model, np.empty((0, *model.input_shape)), 300)
    whole = model.invoke(q)
    part = model.invoke(q[:size])
    assert part.shape == (size, whole.shape[1])
    np.testing.assert_array_equal(part, whole[:size])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_computes_the_same() -> None:
    """In a process of its own: a fork of pytest would have all that pytest has loaded."""
    program = """
import os, signal
import numpy as np
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.interpreter import Interpreter

interpreter = Interpreter(read_graph(demo_path("digits_int8.tflite").read_bytes()))
q = np.random.default_rng(0).integers(-128, 128, (256, *interpreter.input_shape)).astype(np.int8)
interpreter._program._least = 1
before = interpreter.invoke(q)
if os.fork():
    raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
signal.alarm(60)
os._exit(not np.array_equal(interpreter.invoke(q), before))
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=os.environ | {"TF_NUM_INTRAOP_THREADS": "2"},
    )
    assert run.returncode == 0


def test_a_large_activation_is_computed_in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Interpreter(read_graph(demo_path(DEMO[0]).read_bytes()), engine="reference")
    q = probes(small, np.empty((0, *small.input_shape)), 20)
    whole = small.invoke(q)
    monkeypatch.setattr(interpreter, "MAX_VALUES", 3 * small.plan.largest)
    sizes: list[int] = []
    first = small.plan.steps[0].kernel
    run = type(first).run
    monkeypatch.setattr(
        type(first), "run", lambda self, *x: (sizes.append(len(x[0])), run(self, *x))[1]
    )
    np.testing.assert_array_equal(small.invoke(q), whole)
    assert max(sizes) == 3


@pytest.mark.parametrize("bad", [np.zeros((2, 3), np.int8), np.zeros((1, 8, 8, 1), np.float32)])
def test_refuses_other_inputs(bad: np.ndarray) -> None:
    model = Interpreter(read_graph(demo_path(DEMO[0]).read_bytes()))
    with pytest.raises(QnnRobustError, match="expected int8 integers of shape"):
        model.invoke(bad)


@pytest.mark.parametrize("name", INTEGER_FILES)
def test_real_models_equal_tflm(shared: Path, name: str) -> None:
    data = (shared / "models" / f"{name}.tflite").read_bytes()
    model = Interpreter(read_graph(data))
    tensor = model.plan.input
    images = np.empty((0, *model.input_shape))
    if name.startswith("cifar"):
        with np.load(shared / "data" / "cifar10_test.npz") as archive:
            pixels = archive["x"][:100].astype(np.float64) / 255
        images = np.round(pixels / tensor.scale) + tensor.zero_point
    q = probes(model, images, 200)
    np.testing.assert_array_equal(model.invoke(q), run_tflm(data, [q]))
    same_activations(model, q[-20:])
