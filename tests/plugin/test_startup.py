"""The plugin costs nothing where it is not used, and leaves other people's runs alone."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("tensorflow", "numpy", "scipy", "hypothesis", "keras", "art", "PIL")
PLUGIN = () if entry_points(group="pytest11", name="qnnrobust") else ("pytest_qnnrobust.plugin",)


def test_unrelated_run_imports_nothing_heavy(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(
        f"""
        import sys

        def test_modules():
            assert "pytest_qnnrobust.plugin" in sys.modules
            assert not [name for name in {HEAVY} if name in sys.modules]
        """
    )
    loaded = [arg for name in PLUGIN for arg in ("-p", name)]
    others = ["-p", "no:hypothesispytest", "-p", "no:cacheprovider"]
    result = pytester.runpytest_subprocess(*loaded, *others)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*qnnrobust:*")
    result.stdout.no_fnmatch_line("*robustness*")


def test_a_model_in_the_ini_file_leaves_a_named_test_alone(pytester: pytest.Pytester, run) -> None:
    pytester.makeini("[pytest]\nqnn_model = absent.tflite\nqnn_data = absent.npz\n")
    pytester.makepyfile(test_mine="def test_mine(): pass")
    result = run("test_mine.py")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*robustness*")


def test_help_names_every_flag_and_its_ini_key(run) -> None:
    result = run("--help")
    text = " ".join(result.stdout.str().split())
    from pytest_qnnrobust.options import OPTIONS

    for option in OPTIONS:
        assert option.flag in text
        assert f"(ini key: {option.key})" in text


def test_markers_and_fixtures_are_registered(run) -> None:
    run("--markers").stdout.fnmatch_lines(["@pytest.mark.qnn_transfer: *"])
    run("--fixtures").stdout.fnmatch_lines(["qnn_int8 [[]session scope[]]*"])
