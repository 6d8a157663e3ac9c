"""The shipped suite on the embedded digits models: what runs, what it prints, how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_qnnrobust.demo import demo_path
from tests.plugin.conftest import LOADED

FLOAT, INT16, INT8 = (
    demo_path(name) for name in ("digits_float.keras", "digits_int16.tflite", "digits_int8.tflite")
)
FEW = ("--qnn-samples=8", "--qnn-attack=noise,fgsm")


def summary(result: pytest.RunResult) -> str:
    """The output with its line breaks as single spaces."""
    return " ".join(result.stdout.str().split())


def test_gate_runs_in_any_folder_and_only_the_suite(pytester: pytest.Pytester, run, digits) -> None:
    pytester.makepyfile(test_mine="def test_never(): assert False")
    result = run("--qnn-int8", INT8, "--qnn-data", digits, *FEW, "-vk", "direct or transfer")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "qnnrobust: int8 digits_int8.tflite (tflm, double scales)",
            "qnnrobust: 8 of 40 samples of digits40.npz (uint8 images, inputs in 0..1: what*",
            "qnnrobust: Linf 2/255 (0.007843, 2 int8 steps), 8/255 (0.03137, 8 int8 steps)",
            "robustness_tests/test_direct.py*",
            "int8: 100.0 % clean -> *",
            "cell *acc %*interval*",
            "int8-noise-2/255-direct * 8 *",
        ]
    )
    result.stdout.no_fnmatch_line("*test_mine*")
    assert "float32 was not given; derived: dequantized twin of digits_int8.tflite" in summary(
        result
    )
    assert "int8-noise-8/255-surrogate" in result.stdout.str()


def test_a_run_prints_few_lines_that_fit_the_terminal(run, digits) -> None:
    result = run("--qnn-int8", INT8, "--qnn-data", digits, *FEW)
    lines = result.outlines
    assert result.ret == 0
    assert len(lines) < 25
    assert all(len(line) <= 80 for line in lines if not line.startswith("rootdir: "))
    assert [i for i, line in enumerate(lines) if not line] == [lines.index("")], "one blank line"
    assert lines[2:4] == [
        "qnnrobust: int8 digits_int8.tflite (tflm, double scales)",
        "qnnrobust: 8 of 40 samples of digits40.npz (0..1), profile smoke, seed 0",
    ]


def test_a_missing_core_is_told_with_its_cost(run, digits, monkeypatch) -> None:
    monkeypatch.setenv("QNNROBUST_ISA", "none")
    result = run("--qnn-int8", INT8, "--qnn-data", digits, *FEW, "-k", "int8-noise")
    assert result.ret == 0
    told = "WITHOUT THE NATIVE CORE, the same integers 10 to 50 times slower: QNNROBUST_ISA=none"
    assert told in summary(result)


def test_models_that_are_run_alike_share_a_line_of_the_header(run, digits) -> None:
    args = ("--qnn-int8", INT8, "--qnn-int16", INT16, "--qnn-data", digits, *FEW)
    result = run(*args, "-k", "int8-noise")
    result.stdout.fnmatch_lines(
        [
            "qnnrobust: int16 digits_int16.tflite, int8 digits_int8.tflite (tflm, double",
            "  scales)",
        ],
        consecutive=True,
    )


def test_requirements_end_the_last_line_of_the_tests(run, digits) -> None:
    args = ("--qnn-int8", INT8, "--qnn-data", digits, *FEW, "--qnn-min-accuracy=int8-worst:0.1")
    result = run(*args, "-m", "qnn_gate or qnn_clean")
    shown = [line for line in result.outlines if line.endswith("%]")]
    assert [line.count("%]") for line in shown] == [1] * len(shown)
    assert shown[-1].startswith("robustness_tests/test_gate.py .")
    assert shown[-1].endswith("[100%]")


def test_paths_replace_the_suite(pytester: pytest.Pytester, run) -> None:
    pytester.makepyfile(test_mine="def test_mine(): pass")
    result = run("--qnn-int8", INT8, "test_mine.py")
    result.assert_outcomes(passed=1)


def test_user_naming_patterns_do_not_hide_the_suite(pytester: pytest.Pytester, run) -> None:
    pytester.makeini(
        "[pytest]\npython_files = check_*.py\npython_functions = check_*\n"
        "filterwarnings = error\naddopts = --strict-markers\ntestpaths = here\n"
    )
    result = run("--qnn-int8", INT8, "-k", "does_not_depend_on_the_batch and int8")
    result.assert_outcomes(passed=1, deselected=result.parseoutcomes()["deselected"])


def test_node_ids_are_readable_and_run_again(run, digits) -> None:
    args = ("--qnn-int8", INT8, "--qnn-data", digits, *FEW)
    listed = run(*args, "--collect-only", "-q")
    node = "robustness_tests/test_direct.py::test_direct[int8-fgsm-2/255]"
    assert node in listed.outlines
    run(*args, node).assert_outcomes(passed=1)


def test_collecting_says_nothing_of_robustness(run) -> None:
    run("--qnn-demo", "--collect-only", "-q").stdout.no_fnmatch_line("*NOT measured*")


def test_without_data_laws_run_and_the_last_line_says_so(run) -> None:
    result = run("--qnn-model", INT8, "-v")
    outcomes = result.parseoutcomes()
    assert result.ret == 0
    assert outcomes["passed"] == 8
    last = [line for line in result.outlines if line][-1]
    assert last == (
        "robustness was NOT measured: no data: give --qnn-data SOURCE, or qnn_data in the ini file"
    )
    text = summary(result)
    assert "int8 ties: " in text
    assert "NOT RUN: test_clean_accuracy_is_above_chance" in text
    assert "no int16 model, and none can be derived without a float; give --qnn-int16" in text


def test_ini_data_makes_a_model_alone_enough(pytester: pytest.Pytester, run, digits) -> None:
    pytester.makeini(f"[pytest]\nqnn_data = {digits}\n")
    result = run("--qnn-model", INT8, *FEW, "-k", "test_direct")
    assert "int8-fgsm-2/255-direct" in result.stdout.str()
    result.stdout.no_fnmatch_line("*NOT measured*")


def test_missing_widths_are_quantized_from_the_float_model(run, digits) -> None:
    result = run(
        "--qnn-model", FLOAT, "--qnn-data", digits, *FEW, "-vk", "test_transfer and noise and int"
    )
    assert result.parseoutcomes()["passed"] == 4
    for width in ("int16", "int8"):
        derived = f"{width} was not given; derived: digits_float.keras quantized on 40 samples of"
        assert derived in summary(result)
        assert f"{width}-noise-2/255-transfer" in result.stdout.str()


def test_budget_below_one_input_step_is_not_a_result(run, digits) -> None:
    args = ("--qnn-int8", INT8, "--qnn-data", digits, *FEW, "--qnn-eps=0.0008")
    result = run(*args, "-vk", "int8-fgsm")
    result.assert_outcomes(skipped=1, deselected=result.parseoutcomes()["deselected"])
    assert "eps=0.0008 is less than one int8 input step (0.00392)" in summary(result)
    assert "int8-fgsm-direct" not in summary(result)


def test_a_budget_that_reaches_no_attack_is_told(run, digits) -> None:
    args = ("--qnn-int8", INT8, "--qnn-data", digits, "--qnn-samples=4", "--qnn-eps=0.3")
    result = run(*args, "--qnn-attack=deepfool", "-k", "test_direct and int8")
    assert "--qnn-eps REACHES NO ATTACK of this run: none has an Linf budget" in summary(result)


def test_threshold_fails_with_the_number_that_decided(run, digits) -> None:
    args = ("--qnn-int8", INT8, "--qnn-data", digits, "--qnn-samples=8", "-k", "int8-fgsm")
    threshold = "--qnn-min-accuracy=int8-fgsm-direct:0.99"
    result = run(*args, "--qnn-attack=fgsm", "--qnn-eps=0.4", threshold)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["int8-fgsm-direct: accuracy 0.* of 8 samples is below 0.99"])
    result.stdout.fnmatch_lines(["FAILED: int8-fgsm-direct: *, required 99 %"])
    assert run(*args, "--qnn-attack=fgsm", "--qnn-eps=0.4", "--qnn-min-accuracy=0", "-q").ret == 0


def test_nothing_required_is_measured_and_not_passed(run, digits) -> None:
    args = ("--qnn-int8", INT8, "--qnn-data", digits, *FEW, "-k", "int8-noise or required")
    result = run(*args)
    assert result.ret == 0
    assert "MEASURED, nothing required: record it with --qnn-baseline=FILE" in summary(result)
    required = run(*args, "--qnn-require")
    assert required.ret == 1
    assert "robustness_tests/test_gate.py::test_required[something]" in summary(required)
    held = run(*args, "--qnn-require", "--qnn-min-accuracy=int8-noise:0.5")
    assert held.ret == 0
    assert "PASSED: " in summary(held)


def test_summary_fits_80_columns_at_every_verbosity(run, digits) -> None:
    args = ("--qnn-int8", INT8, "--qnn-data", digits, *FEW, "-k", "noise or clean")
    for verbosity in ("-q", "-v"):
        result = run(*args, verbosity)
        start = next(i for i, line in enumerate(result.outlines) if "= robustness =" in line)
        end = next(i for i, line in enumerate(result.outlines) if " passed" in line)
        assert max(len(line) for line in result.outlines[start:end]) <= 80


def test_junit_carries_the_cells(pytester: pytest.Pytester, run, digits) -> None:
    run("--qnn-int8", INT8, "--qnn-data", digits, *FEW, "-k", "int8-noise", "--junitxml=j.xml")
    text = Path("j.xml").read_text()
    test = 'classname="robustness_tests.test_direct" name="test_direct[int8-noise-8/255]"'
    assert test in text
    assert '<property name="int8-noise-8/255-direct"' in text


def test_demo_is_green(run) -> None:
    result = run("--qnn-demo", "--qnn-samples=8", "--qnn-attack=noise,deepfool", "-v")
    outcomes = result.parseoutcomes()
    assert result.ret == 0
    assert "failed" not in outcomes
    assert "T1 DeepFool transfer accuracy int8 >= int16 >= float32" in summary(result)


def test_time_budget_that_ends_an_attack_is_reported(run, digits) -> None:
    result = run(
        "--qnn-int8", INT8, "--qnn-data", digits, "--qnn-attack=boundary", "--qnn-samples=8",
        "--qnn-time-budget=0.001", "-k", "test_direct and int8",
    )  # fmt: skip
    assert "CUT SHORT by a budget, not robust: 8 samples of int8-boundary-direct" in summary(result)


def test_attack_selection_leaves_the_others_out_by_name(run, digits) -> None:
    result = run("--qnn-int8", INT8, "--qnn-data", digits, *FEW, "-vk", "takeaways or sanity")
    text = summary(result)
    assert "no boundary among the attacks of this run (--qnn-attack)" in text
    assert "no square-linf among the attacks of this run (--qnn-attack)" in text
    assert "boundary-direct" not in text


@pytest.mark.parametrize("option", ["--qnn-model", "--qnn-data"])
def test_nothing_is_written_outside_of_the_folder(
    option: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest takes the path behind an option of a plugin for a test path, and its root from it."""
    elsewhere, here = pytester.mkdir("elsewhere"), pytester.mkdir("here")
    (here / "test_own.py").write_text("def test_own(): pass")
    model = elsewhere / "m.tflite"
    model.write_bytes(demo_path("digits_int8.tflite").read_bytes())
    before = {path for path in pytester.path.rglob("*") if path.parent != here}
    monkeypatch.chdir(here)
    pytester.runpytest_inprocess(*LOADED, option, "../elsewhere/m.tflite", "-k", "saturate")
    after = {path for path in pytester.path.rglob("*") if here not in path.parents}
    assert after - {here} == before - {here}
    assert (here / ".pytest_cache").is_dir()


def test_a_second_run_reads_finished_attacks_from_the_cache_folder(
    pytester: pytest.Pytester, run, digits
) -> None:
    args = ("--qnn-int8", INT8, "--qnn-data", digits, "--qnn-samples=8", "--qnn-attack=square-linf")
    args += ("--qnn-cache-dir=kept", "--qnn-eps=0.015", "-vk", "test_direct and int8")
    first = run(*args)
    kept = {path: path.stat().st_ino for path in (pytester.path / "kept").glob("*.npz")}
    assert len(kept) == 1
    second = run(*args)
    assert {path: path.stat().st_ino for path in (pytester.path / "kept").glob("*.npz")} == kept
    cell = [line for line in first.stdout.lines if line.startswith("int8-square-linf-direct")]
    assert cell
    assert cell == [line for line in second.stdout.lines if line.startswith("int8-square-linf")]


def test_gradients_may_come_from_elsewhere(run, digits) -> None:
    args = ("--qnn-int8", INT8, "--qnn-data", digits, "--qnn-samples=3", "--qnn-attack=fgsm")
    for source in ("surrogate", "finite-difference"):
        result = run(
            *args, f"--qnn-gradient={source}", "--qnn-eps=0.3", "-k", "test_direct and int8"
        )
        result.assert_outcomes(passed=1, deselected=result.parseoutcomes()["deselected"])


@pytest.mark.nightly
def test_the_budget_of_the_run_is_that_of_an_attack_of_art(run, digits) -> None:
    pytest.importorskip("art")
    args = ("--qnn-int8", INT8, "--qnn-data", digits, "--qnn-samples=6", "--qnn-eps=0.1")
    result = run(*args, "--qnn-attack=art:FastGradientMethod,fab", "-vm", "qnn_direct")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["int8-art:FastGradientMethod-direct*", "int8-fab-direct*"])
    rows = result.outlines
    numbers = rows[rows.index("int8-art:FastGradientMethod-direct") + 1]
    assert numbers.split()[-4:-2] == ["0.1", "(25.5)"]
