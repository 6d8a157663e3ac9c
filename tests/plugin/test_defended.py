"""`--qnn-defended`: a network trained to resist attacks beside the plain one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.digits import FLOAT, INT8, INT16, broken_int8
from tests.plugin.conftest import summary

GATE = (
    "--qnn-samples=30",
    "--qnn-eps=0.02",
    "--qnn-attack=square-linf,deepfool",
    "robustness_tests/test_defended.py",
)


def test_a_defense_that_holds_is_judged_at_every_width(gate) -> None:
    result = gate(f"--qnn-defended=same={FLOAT},{INT8}", "--qnn-drop=0.3", "-v")
    text = summary(result)
    assert result.ret == 0
    assert "PASSED: " in text
    assert "HOLDS: same loses less than 30 points to square-linf" in text
    assert "HOLDS: T7 same against square-linf carries over" in text
    assert "HOLDS: T10 same adds no computation. 196,416 multiply-accumulates" in text
    assert "INCONCLUSIVE: T5 same increases the distance" in text
    assert "same-int8-square-linf-direct" in text
    assert "clean accuracy on these samples: float32 100.0 %, int8 100.0 %, same float32" in text
    assert "qnnrobust: defended same: float32 digits_float, int8 digits_int8" in text
    start = next(i for i, line in enumerate(result.outlines) if " robustness " in line)
    assert max(map(len, result.outlines[start:])) <= 80


def test_a_quantized_model_that_lost_the_defense_is_caught(gate, tmp_path: Path) -> None:
    broken = broken_int8(tmp_path / "broken.tflite")
    result = gate(f"--qnn-defended=broken={FLOAT},{broken}", "--qnn-drop=0.3", "-v")
    text = summary(result)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "VIOLATED: T7 broken against square-linf carries over" in text
    assert "VIOLATED: broken loses less than 30 points to square-linf. int8 under attack" in text


def test_without_a_defended_model_the_tests_say_what_to_give(gate) -> None:
    result = gate("-v")
    assert "no --qnn-defended NAME=FILE[,FILE...]" in summary(result)
    assert result.parseoutcomes().get("failed", 0) == 0


def test_several_defenses_in_an_ini_file_one_a_line(pytester: pytest.Pytester, gate) -> None:
    pytester.makeini(
        f"[pytest]\nqnn_defended =\n    a={INT8}\n    b={INT8}\n",
    )
    result = gate("--collect-only", "-q")
    for name in "ab":
        result.stdout.fnmatch_lines([f"*test_the_defense_adds_no_computation[[]{name}[]]"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--qnn-defended=x",), "expected NAME=FILE[,FILE...] such as sat=float.h5,int8.tflite"),
        (("--qnn-defended=a-b=m.tflite",), "NAME of letters, digits, _ and ., got 'a-b=m.tflite'"),
        (("--qnn-defended=a=no.tflite",), "no.tflite"),
        (
            (f"--qnn-defended=a={INT8}", f"--qnn-defended=a={INT16}"),
            "expected --qnn-defended to name each defence once",
        ),
        ((f"--qnn-defended=a={INT8},{INT8}",), "--qnn-defended a to have one file for each width"),
    ],
)
def test_a_mistake_is_one_line(gate, arguments: tuple[str, ...], text: str) -> None:
    result = gate(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.errlines if line.strip()]
    assert len(errors) == 1
    assert text in errors[0]


def test_a_plain_model_is_needed(run, digits) -> None:
    result = run(f"--qnn-defended=a={INT8}", f"--qnn-data={digits}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "is compared with a plain model; give the plain model as well" in result.stderr.str()


def test_another_network_is_no_defended_version(gate, tmp_path: Path) -> None:
    import keras

    layers = [keras.layers.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    keras.Sequential(layers).save(tmp_path / "other.keras")
    result = gate(f"--qnn-defended=a={tmp_path / 'other.keras'}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "to have the inputs and classes of digits_float" in result.stderr.str()
