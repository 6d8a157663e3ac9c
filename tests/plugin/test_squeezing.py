"""`--qnn-squeeze`: the networks behind feature squeezing."""

from __future__ import annotations

import pytest

from pytest_qnnrobust.demo import demo_path
from tests.plugin.conftest import summary

FLOAT, INT8 = (demo_path(name) for name in ("digits_float.keras", "digits_int8.tflite"))
GATE = (
    "--qnn-samples=40",
    "--qnn-eps=0.1",
    "--qnn-attack=square-linf,jsma",
    "robustness_tests/test_squeezing.py",
    "-v",
)


def test_squeezing_is_judged_as_the_literature_does_and_honestly(gate) -> None:
    result = gate("--qnn-squeeze=2,1", "-k", "not int16")
    text = summary(result)
    assert result.ret == 0
    assert "HOLDS: squeezing loses less than 20 points to square-linf. int8 under attack" in text
    assert "int8 squeezing withstands square-linf that knows it" in text
    assert "squeezed-int8-square-linf-transfer" in text
    assert "squeezed-int8-square-linf-direct" in text
    assert "T8 feature squeezing runs beside the network. 192 operations, 0 bytes" in text
    assert "T9 int8 squeezing recovers the smaller L0" in text
    assert "has one half only" in text


def test_both_halves_are_compared_with_one(gate) -> None:
    text = summary(gate("--qnn-squeeze=3,2", "-k", "fewer_colours and int8"))
    assert "int8 squeezing denoises more than fewer colours alone. squeezing" in text


def test_squeezing_that_blurs_the_digits_fails_the_gate(gate) -> None:
    result = gate("--qnn-squeeze=none,4", "-k", "withstands_examples and linf and not cw")
    assert result.ret == 1
    assert "VIOLATED: squeezing loses less than 20 points to square-linf" in summary(result)


def test_a_squeezed_cell_obeys_its_threshold(gate) -> None:
    args = ("--qnn-squeeze=2,1", "-k", "know_it and int8 and linf")
    assert gate(*args, "--qnn-min-accuracy=squeezed-int8-square-linf-direct:0.1").ret == 0
    result = gate(*args, "--qnn-min-accuracy=squeezed-int8-square-linf-direct:0.99")
    assert result.ret == 1
    assert "BELOW --qnn-min-accuracy: squeezed-int8-square-linf-direct" in summary(result)
    assert "test_threshold[squeezed-int8-square-linf-direct] FAILED" in summary(result)


def test_a_threshold_for_squeezed_cells_needs_squeezing(gate) -> None:
    result = gate("--qnn-min-accuracy=squeezed-int8-square-linf-direct:0.1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "expected --qnn-min-accuracy to name a cell" in result.stderr.str()


def test_without_squeezing_nothing_is_judged(gate) -> None:
    result = gate()
    assert "no --qnn-squeeze BITS,WINDOW" in summary(result)
    assert "passed" not in result.parseoutcomes()
    assert "failed" not in result.parseoutcomes()


@pytest.mark.parametrize("text", ["4", "4;2", "x,2", "4,y"])
def test_a_bad_setting_is_one_line(run, text: str) -> None:
    result = run("--qnn-demo", f"--qnn-squeeze={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    message = f"--qnn-squeeze: expected BITS,WINDOW such as 4,2 or none,2, got '{text}'"
    assert message in result.stderr.str()


def test_a_squeezing_that_does_not_exist_is_one_line(run) -> None:
    result = run("--qnn-demo", "--qnn-squeeze=16,2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "bit_depth to be None or an integer in [1, 15], got bit_depth=16" in result.stderr.str()
