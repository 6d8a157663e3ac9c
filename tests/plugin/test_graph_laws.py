"""The laws of the integer graph on planted models: what is dead fails, what saturates does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_qnnrobust.tflite.builder import GraphBuilder
from tests.plugin.conftest import summary

SIZE = 64
DETECTOR = np.random.default_rng(0).permutation(np.repeat([1, -1], SIZE // 2))
EDGE = np.repeat([1, -1], SIZE // 2)
DEAD = np.zeros(SIZE, np.int64)
ONE_OUTPUT = "random inputs, constants and ramps give one output, [1, 1]"


def planted(weights: np.ndarray, classes: int = 2) -> str:
    """A file whose equal scores are 30 + weights @ x, cut to one, of inputs in -1..1."""
    builder = GraphBuilder()
    x = builder.tensor((1, SIZE), "int8", 1 / 127)
    rows = np.repeat(weights[None], classes, axis=0)
    kernel = builder.tensor((classes, SIZE), "int8", 1.0, data=rows)
    bias = builder.tensor((classes,), "int32", 1 / 127, data=np.full(classes, 30 * 127))
    y = builder.tensor((1, classes), "int8", 1 / 127)
    builder.operator("FULLY_CONNECTED", [x, kernel, bias], [y])
    Path("planted.tflite").write_bytes(builder.build([x], [y]))
    return "planted.tflite"


def data(classes: int = 2) -> str:
    """What the detector looks for, and noise: inputs and labels."""
    noise = np.random.default_rng(1).uniform(-1, 1, (8, SIZE))
    x = np.concatenate([noise, np.repeat(-DETECTOR[None], 8, axis=0)]).astype(np.float32)
    np.savez("d.npz", x=x, y=np.arange(16) % classes)
    return "d.npz"


@pytest.fixture
def law(pytester: pytest.Pytester, run):
    """`law(*args)`: whether outputs depend on the input."""
    which = ("robustness_tests/test_graph_laws.py", "-k", "outputs_depend and int8")
    return lambda *args: run(*args, *which, "-v")


def test_a_ramp_shows_that_a_model_which_saturates_on_noise_is_alive(law) -> None:
    law("--qnn-int8", planted(EDGE)).assert_outcomes(passed=1, deselected=15)


def test_the_data_show_it_where_nothing_made_up_does(law) -> None:
    law("--qnn-int8", planted(DETECTOR), "--qnn-data", data()).assert_outcomes(
        passed=1, deselected=15
    )


@pytest.mark.parametrize("weights", [DETECTOR, DEAD])
def test_without_data_one_output_is_a_reason_to_ask_for_them(law, weights) -> None:
    result = law("--qnn-int8", planted(weights))
    result.assert_outcomes(skipped=1, deselected=15)
    cure = "give --qnn-data to see whether the model is dead or saturates"
    assert f"{ONE_OUTPUT}; {cure}" in summary(result)
    assert "int8 outputs: " in summary(result)


def test_a_dead_model_fails_in_a_line_of_a_few_scores(law) -> None:
    result = law("--qnn-int8", planted(DEAD, classes=1000), "--qnn-data", data(1000))
    result.assert_outcomes(failed=1, deselected=15)
    shown = ONE_OUTPUT.replace("[1, 1]", "[1, 1, 1, 1, 1, ...] of 1000 scores")
    assert f"{shown}, and so do 16 samples of the data" in summary(result)
