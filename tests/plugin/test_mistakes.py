"""A user's mistake: one line, exit code 4, before anything is collected or written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_qnnrobust.demo import demo_path

FLOAT, INT16, INT8 = (
    demo_path(name) for name in ("digits_float.keras", "digits_int16.tflite", "digits_int8.tflite")
)


def save(**arrays: object) -> str:
    np.savez("bad.npz", **arrays)  # type: ignore[arg-type]
    return "bad.npz"


def images(n: int = 4) -> np.ndarray:
    return np.zeros((n, 8, 8, 1), np.uint8)


def test_missing_model(refused) -> None:
    assert "nope.tflite" in refused("--qnn-model", "nope.tflite")


def test_not_a_model(refused) -> None:
    Path("m.tflite").write_bytes(b"hello world, I am no model" * 10)
    assert "m.tflite" in refused("--qnn-model", "m.tflite")


def test_truncated_model(refused) -> None:
    Path("m.tflite").write_bytes(INT8.read_bytes()[:-700])
    assert "m.tflite" in refused("--qnn-model", "m.tflite")


def test_truncated_keras_file(refused) -> None:
    Path("m.keras").write_bytes(FLOAT.read_bytes()[:-700])
    assert "m.keras" in refused("--qnn-model", "m.keras")


def test_keras_file_with_a_lambda_layer(refused) -> None:
    import keras

    layers = [keras.layers.Input((8, 8, 1)), keras.layers.Lambda(lambda x: x * 2)]
    layers += [keras.layers.Flatten(), keras.layers.Dense(10)]
    keras.Sequential(layers).save("m.keras")
    assert "Lambda" in refused("--qnn-model", "m.keras")


@pytest.mark.parametrize(
    ("flag", "path", "cure"),
    [
        ("--qnn-int8", FLOAT, "belongs to --qnn-float"),
        ("--qnn-int8", INT16, "belongs to --qnn-int16"),
        ("--qnn-int16", INT8, "belongs to --qnn-int8"),
        ("--qnn-float", INT8, "belongs to --qnn-int8"),
    ],
)
def test_model_of_another_width(refused, flag: str, path: Path, cure: str) -> None:
    assert cure in refused(flag, path)


def test_two_models_of_one_width(refused) -> None:
    line = refused("--qnn-int8", INT8, "--qnn-model", INT8)
    assert "expected one int8 model" in line


@pytest.mark.parametrize(
    ("arrays", "rule"),
    [
        ({"x": np.zeros((4, 9, 9, 1), np.uint8), "y": np.zeros(4, int)}, "(8, 8, 1)"),
        ({"x": images(), "y": np.array([0, 1, 2, 10])}, "labels in 0..9"),
        ({"x": images(), "y": np.zeros(3, int)}, "one label for each of 4 samples"),
        ({"x": np.full((4, 8, 8, 1), np.nan), "y": np.zeros(4, int)}, "finite"),
        ({"x": images(0), "y": np.zeros(0, int)}, "at least one sample"),
        ({"x": images()}, "y"),
    ],
)
def test_bad_data(refused, arrays: dict[str, np.ndarray], rule: str) -> None:
    assert rule in refused("--qnn-int8", INT8, "--qnn-data", save(**arrays))


def test_missing_data(refused) -> None:
    assert "absent.npz" in refused("--qnn-int8", INT8, "--qnn-data", "absent.npz")


def test_data_with_a_pickle(refused) -> None:
    bad = save(x=np.array([{}], object), y=np.zeros(1, int))
    assert "bad.npz" in refused("--qnn-int8", INT8, "--qnn-data", bad)


def test_unknown_attack_lists_the_known_ones(refused) -> None:
    line = refused("--qnn-int8", INT8, "--qnn-attack=pgd,magic")
    assert "square-linf" in line
    assert "magic" in line


def test_threshold_for_a_cell_that_does_not_exist(refused) -> None:
    assert "int4" in refused("--qnn-int8", INT8, "--qnn-min-accuracy=int4-pgd:0.5")


def test_eps_beyond_the_domain(refused) -> None:
    line = refused("--qnn-int8", INT8, "--qnn-eps=3")
    assert "expected --qnn-eps to be in (0, 1], got eps=3.0; the inputs are in (0.0, 1.0)" in line


def test_unknown_profile_lists_the_known_ones(refused) -> None:
    line = refused("--qnn-int8", INT8, "--qnn-profile=foo")
    assert "expected --qnn-profile to be one of smoke, standard, paper, goliath-cifar10" in line
    assert line.endswith("got profile='foo'")


def test_attack_that_the_chosen_preset_does_not_have(refused) -> None:
    line = refused("--qnn-int8", INT8, "--qnn-profile=stq", "--qnn-attack=geoda")
    assert "an attack of stq (fgsm, pgd, square-linf, boundary, cw-l2, zoo)" in line


def test_bad_calibration_data(refused) -> None:
    line = refused("--qnn-float", FLOAT, "--qnn-calibration", "absent.npz")
    assert "absent.npz" in line


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--qnn-eps=abc", "--qnn-eps: expected a number such as 0.03 or 8/255, got 'abc'"),
        ("--qnn-domain=1,0", "--qnn-domain: expected LOW < HIGH, got '1,0'"),
        ("--qnn-data=", "--qnn-data: expected a path, got '' (an unset variable?)"),
        (
            "--qnn-min-accuracy=int8-pgd",
            "--qnn-min-accuracy: expected VALUE or CELL:VALUE such as int8-pgd-direct:0.5, "
            "got 'int8-pgd'",
        ),
    ],
)
def test_bad_value_of_a_flag(refused, argument: str, line: str) -> None:
    assert refused("--qnn-int8", INT8, argument) == f"ERROR: {line}"


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ('qnn_runtime = "quick"', "expected tflm or litert or litert-builtin, got 'quick'"),
        ("qnn_runtime = 1", "expected tflm or litert or litert-builtin, got '1'"),
        ("qnn_samples = [50]", "expected one value, got [50]"),
        ("qnn_samples = true", "expected an integer >= 1, got 'True'"),
        ("qnn_samples = 1.5", "expected an integer >= 1, got '1.5'"),
        ("qnn_eps = nan", "expected a number such as 0.03 or 8/255, got 'nan'"),
        ("qnn_eps = {value = 1}", "expected one value, got {'value': 1}"),
        ("qnn_data = 2026-01-01", "expected one value, got datetime.date(2026, 1, 1)"),
        ('qnn_sequential = "maybe"', "expected true or false, got 'maybe'"),
        ("qnn_sequential = [true]", "expected one value, got [True]"),
        ('qnn_attack = [["pgd"]]', "expected one value, got ['pgd']"),
        ('qnn_allow = ["new", "old"]', "expected some of new, vanished, stale, got 'old'"),
        (
            'qnn_defended = ["a.tflite"]',
            "expected NAME=FILE[,FILE...] such as sat=float.h5,int8.tflite, NAME of letters, "
            "digits, _ and ., got 'a.tflite'",
        ),
    ],
)
@pytest.mark.parametrize("table", ["tool.pytest.ini_options", "tool.pytest"])
def test_bad_value_in_a_toml_file(
    refused, pytester: pytest.Pytester, table: str, line: str, rule: str
) -> None:
    path = pytester.makepyprojecttoml(f"[{table}]\n{line}\n")
    assert refused() == f"ERROR: {line.split()[0]} in {path}: {rule}"


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("qnn_runtime = quick", "expected tflm or litert or litert-builtin, got 'quick'"),
        ("qnn_sequential = maybe", "expected true or false, got 'maybe'"),
        ("qnn_allow =\n  new\n  old", "expected some of new, vanished, stale, got 'old'"),
    ],
)
def test_bad_value_in_an_ini_file(refused, pytester: pytest.Pytester, line: str, rule: str) -> None:
    path = pytester.makeini(f"[pytest]\n{line}\n")
    assert refused() == f"ERROR: {line.split()[0]} in {path}: {rule}"


def test_a_forgotten_model_is_named(run, digits) -> None:
    result = run(f"--qnn-data={digits}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --qnn-data is about a gate, and no model is given; *"])


def test_own_tests_need_no_model_for_the_data(pytester: pytest.Pytester, run, digits) -> None:
    pytester.makepyfile("def test_mine(qnn_data): assert len(qnn_data.x) == 40")
    run(f"--qnn-data={digits}").assert_outcomes(passed=1)
