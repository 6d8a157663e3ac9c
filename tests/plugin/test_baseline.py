"""`--qnn-baseline`: a run against a recorded one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from tests.helpers.digits import broken_int8
from tests.plugin.conftest import summary

INT8 = demo_path("digits_int8.tflite")
FAST = ("--qnn-samples=40", "--qnn-eps=0.05", "robustness_tests/test_direct.py", "-k", "int8")


@pytest.fixture
def one_cell(run, digits):
    """`one_cell(*args, model=INT8, attack="square-linf")`: one cell on forty digits."""

    def start(*args: object, model=INT8, attack: str = "square-linf") -> pytest.RunResult:
        named = (f"--qnn-int8={model}", f"--qnn-data={digits}", f"--qnn-attack={attack}")
        return run(*named, *FAST, "--qnn-baseline=kept.json", *args)

    return start


@pytest.fixture
def recorded(one_cell, pytester):
    """A baseline of Square-Linf on the int8 digits network, and its values."""
    result = one_cell("--qnn-update")
    assert result.ret == 0
    assert "wrote" in summary(result)
    return json.loads((pytester.path / "kept.json").read_text())


def test_a_run_like_the_recorded_one_passes(one_cell, recorded, pytester) -> None:
    before = (pytester.path / "kept.json").read_bytes()
    result = one_cell()
    assert result.ret == 0
    assert "kept.json of 20" in summary(result)
    assert ": 2 kept" in summary(result)
    assert "PASSED: 2 of 2 requirements held" in summary(result)
    assert (pytester.path / "kept.json").read_bytes() == before
    assert [one["id"] for one in recorded["outcomes"]] == ["int8-square-linf-direct"]
    assert recorded["models"][0]["digest"].endswith("-tflm-double")
    assert "--qnn-update" in recorded["command"]


def test_a_broken_model_fails_with_the_reason_and_the_cure(one_cell, recorded, tmp_path) -> None:
    result = one_cell(model=broken_int8(tmp_path / "digits_int8.tflite"))
    assert result.ret == 1
    text = summary(result)
    assert "WORSE: int8-clean clean. now" in text
    assert "WORSE: int8-square-linf-direct accuracy. now" in text
    assert "to accept this run as the baseline: pytest -p no:cacheprovider --qnn-int8=" in text
    assert "--qnn-baseline=kept.json --qnn-update" in text


def test_a_range_from_a_bad_calibration_is_tested_in_the_recorded_domain(
    one_cell, recorded, tmp_path
) -> None:
    narrow = scaled_input(tmp_path / "digits_int8.tflite", 0.3)
    result = one_cell(model=narrow)
    assert result.ret == 1
    text = summary(result)
    assert "WORSE: int8-clean clean. now" in text
    assert "allowed -2 points" in text
    assert "inputs in 0..1: as the baseline records" in text
    accepted = one_cell("--qnn-update", model=narrow)
    assert "40 samples of digits40.npz (0..0.3)" in summary(accepted)


def test_another_usual_domain_is_other_data(one_cell, recorded, tmp_path) -> None:
    result = one_cell("--qnn-eps=20", model=scaled_input(tmp_path / "digits_int8.tflite", 255.0))
    assert result.ret == 1
    stale = "STALE: int8-square-linf-direct. other data: inputs in 0..255, recorded with 0..1"
    assert stale in summary(result)


def test_an_inconclusive_cell_says_how_many_samples_would_settle_it(
    one_cell, recorded, tmp_path
) -> None:
    dimmed = scaled_input(tmp_path / "digits_int8.tflite", 0.9)
    text = summary(one_cell("--qnn-fail-if=accuracy:-10pt", model=dimmed))
    line = text[text.index("INCONCLUSIVE: int8-square-linf-direct accuracy") :]
    assert re.search(r"allowed -10 points; about [\d,]+ would settle it", line)


def scaled_input(path: Path, factor: float) -> Path:
    """The int8 digits network whose input covers `factor` times the range."""
    content = INT8.read_bytes()
    graph = read_graph(content, INT8.name)
    scale = graph.tensors[graph.inputs[0]].quantization.scale
    assert content.count(scale.tobytes()) == 1
    path.write_bytes(content.replace(scale.tobytes(), (scale * np.float32(factor)).tobytes()))
    return path


def test_accepting_records_the_run(one_cell, recorded, tmp_path) -> None:
    broken = broken_int8(tmp_path / "digits_int8.tflite")
    result = one_cell("--qnn-update", model=broken)
    assert result.ret == 0
    assert "ACCEPTED: int8-square-linf-direct accuracy (worse). recorded anew" in summary(result)
    assert one_cell(model=broken).ret == 0


def test_new_and_vanished_cells_fail_unless_they_are_allowed(one_cell, recorded, pytester) -> None:
    more = one_cell(attack="square-linf,noise")
    assert more.ret == 1
    assert "NEW: int8-noise-direct. not in the baseline" in summary(more)
    assert one_cell("--qnn-allow=new", attack="square-linf,noise").ret == 0
    other = one_cell(attack="noise")
    assert other.ret == 1
    assert "VANISHED: int8-square-linf-direct. in the baseline, not" in summary(other)
    assert one_cell("--qnn-update-new", attack="square-linf,noise").ret == 0
    values = json.loads((pytester.path / "kept.json").read_text())
    assert len(values["outcomes"]) == 2
    assert values["created"] == recorded["created"]
    assert one_cell(attack="square-linf,noise").ret == 0


def test_other_settings_and_data_are_named(one_cell, recorded) -> None:
    seed = one_cell("--qnn-seed=1")
    assert seed.ret == 1
    assert "STALE: int8-square-linf-direct. other seed: 1, recorded with 0" in summary(seed)
    fewer = one_cell("--qnn-samples=30")
    assert "other data: 30 samples of" in summary(fewer)
    assert one_cell("--qnn-samples=30", "--qnn-allow=stale,vanished").ret == 0


@pytest.mark.parametrize(("expires", "code"), [("2999-01-01", 0), ("2001-01-01", 1)])
def test_a_suppression_holds_until_its_day(
    one_cell, recorded, pytester, tmp_path, expires: str, code: int
) -> None:
    (pytester.path / "known.ini").write_text(
        f"[int8-*]\nowner = ml\nreason = new head, ticket 7\nexpires = {expires}\n"
    )
    broken = broken_int8(tmp_path / "digits_int8.tflite")
    result = one_cell("--qnn-suppressions=known.ini", model=broken)
    assert result.ret == code
    text = summary(result)
    if code:
        assert "test_suppression[int8-*]: has expired: new head, ticket 7 (ml, until" in text
        assert "WORSE: int8-clean clean" in text
    else:
        assert "(worse). suppressed: new head, ticket 7 (ml, until 2999-01-01)" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "expected a baseline, got path="),
        (("--qnn-update", "--qnn-update-new"), "not both"),
        (("--qnn-fail-if=accuracy:3"), "expected [CELL:]LOSS:-AMOUNT such as accuracy:-3pt"),
        (("--qnn-allow=old", "--qnn-update"), "expected some of new, vanished, stale, got 'old'"),
        (("--qnn-suppressions=none.ini", "--qnn-update"), "an ini file of suppressions"),
    ],
)
def test_a_mistake_is_one_line(one_cell, args, message: str) -> None:
    result = one_cell(*((args,) if isinstance(args, str) else args))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()


def test_an_update_needs_a_file(run) -> None:
    result = run("--qnn-int8", INT8, "--qnn-update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--qnn-update needs --qnn-baseline FILE" in result.stderr.str()


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": 7}'])
def test_a_damaged_baseline_costs_no_attack(one_cell, pytester, content: str) -> None:
    (pytester.path / "kept.json").write_text(content)
    result = one_cell()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "kept.json" in result.stderr.str()
    assert "collected" not in result.stdout.str()


@pytest.mark.parametrize(
    "text",
    ["[a]\nowner = x\nreason = y\n", "[a]\nowner=x\nreason=y\nexpires=soon\n", "no section"],
)
def test_a_bad_suppression_is_one_line(one_cell, pytester, text: str) -> None:
    (pytester.path / "known.ini").write_text(text)
    result = one_cell("--qnn-suppressions=known.ini", "--qnn-update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "known.ini" in result.stderr.str()
    assert len([line for line in result.stderr.lines if line.strip()]) == 1


def test_a_report_is_written_with_what_became_of_the_cells(
    one_cell, recorded, pytester, monkeypatch
) -> None:
    job = pytester.path / "job.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(job))
    result = one_cell("--qnn-report=out", attack="square-linf,noise")
    assert result.ret == 1
    folder = pytester.path / "out"
    values = json.loads((folder / "results.json").read_text())
    assert values["state"] == "failed"
    assert values["headline"][0].startswith("int8: 100.0 % clean -> ")
    assert {one["name"]: one["status"] for one in values["comparison"]} == {
        "int8-clean clean": "kept",
        "int8-noise-direct": "new",
        "int8-square-linf-direct accuracy": "kept",
    }
    assert values["examples"][0]["clean"]["shape"] == [8, 8]
    assert "NEW: int8-noise-direct" in (folder / "report.html").read_text()
    assert job.read_text() == (folder / "summary.md").read_text()
    assert job.read_text().startswith("# Robustness: failed")
