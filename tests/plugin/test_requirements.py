"""Requirements of the whole run as tests: JUnit, `--lf`, `-k` and the exit code agree."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.results import document
from tests.helpers.digits import broken_int8
from tests.plugin.conftest import summary

FLOAT, INT8 = demo_path("digits_float.keras"), demo_path("digits_int8.tflite")


@pytest.fixture
def held(run, digits, pytester):
    """`held(*args, model=INT8)`: two attacks at two budgets on forty digits, beside kept.json."""

    def start(*args: object, model=INT8, attacks="noise,fgsm", eps="2/255,8/255"):
        named = (f"--qnn-int8={model}", f"--qnn-data={digits}", f"--qnn-attack={attacks}")
        only = ("--qnn-samples=40", f"--qnn-eps={eps}", "-k", GATE)
        return run(*named, *only, "--qnn-baseline=kept.json", *args)

    assert start("--qnn-update").ret == 0
    return start


GATE = "(test_direct and int8) or qnn_gate"


def junit(path: str) -> dict[str, str]:
    """Test -> outcome, of a JUnit file."""
    import xml.etree.ElementTree as ElementTree

    cases = ElementTree.parse(path).iter("testcase")
    return {case.get("name", ""): next((child.tag for child in case if child.tag != "properties"),
                                       "passed") for case in cases}  # fmt: skip


def test_every_recorded_cell_is_a_test(held) -> None:
    result = held("--junitxml=j.xml")
    assert result.ret == 0
    cases = junit("j.xml")
    cells = [f"int8-{attack}-{n}/255-direct" for attack in ("noise", "fgsm") for n in (2, 8)]
    for subject in ("int8-clean", *cells, "cells without a record"):
        assert cases[f"test_baseline[{subject}]"] == "passed"
    assert "PASSED: 6 of 6 requirements held" in summary(result)


def test_every_output_tells_of_a_worse_cell(held, tmp_path, monkeypatch) -> None:
    """Of two budgets of one attack each is compared: the broken model fails all of them."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "job.md"))
    model = broken_int8(tmp_path / "digits_int8.tflite")
    result = held("--junitxml=j.xml", "--qnn-report=out", model=model)
    assert result.ret == 1
    worse = {name for name, value in junit("j.xml").items() if value == "failure"}
    cells = {f"test_baseline[int8-{a}-{n}/255-direct]" for a in ("noise", "fgsm") for n in (2, 8)}
    assert worse == {"test_baseline[int8-clean]", *cells}
    assert result.parseoutcomes()["failed"] == len(worse)
    values = json.loads(Path("out/results.json").read_text())
    assert values["state"] == "failed"
    told = {one["name"]: one["value"] for one in values["requirements"]}
    assert {name for name, value in told.items() if value == "violated"} == worse
    for text in (summary(result), Path("out/report.html").read_text(),
                 (tmp_path / "job.md").read_text()):  # fmt: skip
        for n in (2, 8):
            assert f"int8-fgsm-{n}/255-direct" in text
    assert "# Robustness: failed" in (tmp_path / "job.md").read_text()


class Changed(NamedTuple):
    """How a recorded cell was changed, and what comes of it: in JUnit, in words, as exit code."""

    cell: str
    change: Callable[[Outcome], Iterable[Outcome]]
    junit: str
    words: str
    value: str
    code: int


def all_right(cell: Outcome) -> list[Outcome]:
    return [replace(cell, adv_label=cell.label)]


CHANGED = {
    "worse": Changed("int8-fgsm-64/255-direct", all_right, "failure", "WORSE", "violated", 1),
    "equal": Changed("int8-fgsm-8/255-direct", lambda cell: [cell], "passed", "", "held", 0),
    "suppressed": Changed("int8-pgd-64/255-direct", all_right, "skipped", "ACCEPTED", "open", 0),
    "better": Changed(
        "int8-pgd-8/255-direct", lambda cell: [replace(cell, adv_label=cell.label + 1)], "passed",
        "", "held", 0,
    ),
    "new": Changed("int8-bim-64/255-direct", lambda cell: [], "failure", "NEW", "violated", 1),
    "inconclusive": Changed(
        "int8-bim-8/255-direct", all_right, "skipped", "INCONCLUSIVE", "open", 0
    ),
    "stale": Changed(
        "int8-noise-64/255-direct", lambda cell: [replace(cell, seed=7)], "failure", "STALE",
        "violated", 1,
    ),
    "vanished": Changed(
        "int8-square-linf-8/255-direct",
        lambda cell: [], "failure", "VANISHED", "violated", 1,
    ),
}  # fmt: skip


@pytest.fixture
def changed(run, digits, pytester):
    """`changed(*args)`: eight cells beside a baseline that differs in every way there is.

    Two budgets of one attack came out differently, a worse cell is suppressed.
    """
    args = (f"--qnn-int8={INT8}", f"--qnn-data={digits}", "--qnn-samples=40")
    attacks = ("--qnn-attack=noise,fgsm,bim,pgd", "--qnn-eps=8/255,64/255")

    def start(*more: object) -> pytest.RunResult:
        return run(*args, *attacks, "-k", GATE, "--qnn-baseline=kept.json", *more)

    assert start("--qnn-update").ret == 0
    kept = document.read(Path("kept.json"))
    changes = {one.cell: one.change for one in CHANGED.values()}
    cells = [new for old in kept.outcomes for new in changes.get(old.id, lambda c: [c])(old)]
    gone = replace(cells[0], id=CHANGED["vanished"].cell, attack="square-linf")
    document.write(Path("kept.json"), replace(kept, outcomes=(*cells, gone)))
    Path("known.ini").write_text(
        "[int8-pgd-64/255-*]\nowner = ml\nreason = ticket 7\nexpires = 2999-01-01\n"
    )
    return partial(start, "--qnn-suppressions=known.ini")


def test_every_output_tells_the_same_of_every_difference(changed, monkeypatch) -> None:
    """The table of docs/gate.md, "Where a difference is told"."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "job.md")
    result = changed("--junitxml=j.xml", "--qnn-report=out")
    assert result.ret == 1
    cases = junit("j.xml")
    values = json.loads(Path("out/results.json").read_text())
    told = {one["name"]: one["value"] for one in values["requirements"]}
    statuses = {one["name"].partition(" ")[0]: one for one in values["comparison"]}
    page = Path("out/report.html").read_text()
    job = Path("job.md").read_text()
    assert Path("out/summary.md").read_text() == job
    counts = "1 inconclusive, 4 kept, 1 new, 1 stale, 1 vanished, 2 worse"
    assert counts in summary(result)
    assert counts in job
    for kind, one in CHANGED.items():
        item = f"test_baseline[{one.cell}]"
        assert cases[item] == one.junit, kind
        assert told[item] == one.value, kind
        assert (one.junit == "failure") == (item in summary(result)), kind
        assert (one.junit == "failure") == (item in job), kind
        for text in (summary(result), job):
            assert not one.words or f"{one.words}: {one.cell}" in text, kind
        assert one.cell in page, kind
        word = kind if kind not in ("equal", "better", "suppressed") else "kept"
        assert statuses[one.cell]["status"] == ("worse" if kind == "suppressed" else word), kind
    assert cases["test_baseline[cells without a record]"] == "failure", "for the new one"
    assert statuses[CHANGED["suppressed"].cell]["accepted"].startswith("suppressed: ticket 7")
    failed = [name for name, value in cases.items() if value == "failure"]
    assert result.parseoutcomes()["failed"] == len(failed) == 5
    assert len(values["failed"]) == len(failed)


@pytest.mark.parametrize("kind", [kind for kind in CHANGED if kind != "new"])
def test_each_difference_alone_ends_with_its_exit_code(changed, kind: str) -> None:
    cell = CHANGED[kind].cell.removeprefix("int8-").removesuffix("-direct")
    result = changed("-k", f"baseline and {cell}")
    assert result.ret == CHANGED[kind].code
    assert result.parseoutcomes()[CHANGED[kind].junit.replace("failure", "failed")] == 1
    assert "fits no cell" not in summary(result)


def test_lf_attacks_a_new_cell_for_its_test(changed) -> None:
    cache = ("-p", "cacheprovider", "-o", "cache_dir=lf")
    first = changed(*cache)
    again = changed(*cache, "--lf")
    assert again.ret == 1
    assert again.parseoutcomes()["failed"] == first.parseoutcomes()["failed"] == 5
    assert "skipped" not in again.parseoutcomes()


def test_lf_runs_what_failed_and_attacks_for_it(held, pytester, tmp_path, digits) -> None:
    model = broken_int8(tmp_path / "digits_int8.tflite")
    first = held("-p", "cacheprovider", "-o", "cache_dir=lf", model=model)
    assert first.ret == 1
    again = held("-p", "cacheprovider", "-o", "cache_dir=lf", "--lf", model=model)
    assert again.ret == 1
    assert again.parseoutcomes()["failed"] == first.parseoutcomes()["failed"]
    assert "passed" not in again.parseoutcomes()


def test_k_chooses_cells_of_the_baseline(held) -> None:
    result = held("-k", "baseline and fgsm-8/255")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] == 1
    assert "kept.json of 20" in summary(result)
    assert "VANISHED" not in summary(result)


def test_a_vanished_and_a_new_cell_are_tests(held) -> None:
    result = held("--junitxml=j.xml", attacks="fgsm", eps="8/255,16/255")
    cases = junit("j.xml")
    assert result.ret == 1
    assert cases["test_baseline[int8-fgsm-2/255-direct]"] == "failure"
    assert cases["test_baseline[int8-noise-8/255-direct]"] == "failure"
    assert cases["test_baseline[int8-fgsm-16/255-direct]"] == "failure"
    assert cases["test_baseline[int8-fgsm-8/255-direct]"] == "passed"
    allowed = held(
        "--qnn-allow=new,vanished", "--junitxml=j.xml", attacks="fgsm", eps="8/255,16/255"
    )
    assert allowed.ret == 0
    assert junit("j.xml")["test_baseline[int8-fgsm-2/255-direct]"] == "skipped"


def test_workers_report_the_same_requirements(held, pytester) -> None:
    pytest.importorskip("xdist")
    alone = held("--junitxml=one.xml")
    together = held("--junitxml=two.xml", "-n2")
    assert alone.ret == together.ret == 0
    assert junit("one.xml") == junit("two.xml")


def test_a_robust_accuracy_can_be_required(run, digits) -> None:
    args = (f"--qnn-int8={INT8}", f"--qnn-data={digits}", "--qnn-attack=fgsm", "--qnn-samples=40")
    only = ("-m", "qnn_direct or qnn_gate")
    low = run(*args, *only, "--qnn-min-accuracy=int8-worst-8/255:0.1")
    assert low.ret == 0
    assert "PASSED: 1 of 1 requirements held" in summary(low)
    high = run(*args, *only, "--qnn-min-accuracy=int8-worst-8/255:1")
    assert high.ret == 1
    failed = (
        r"FAILED: test_robust_accuracy\[int8-worst-8/255\]: .* withstand all of fgsm; required 100"
    )
    assert re.search(failed, summary(high))
    refused = run(*args, *only, "--qnn-min-accuracy=int8-worst-4/255:1")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR


def test_a_robust_accuracy_that_was_cut_short_is_open(run, digits) -> None:
    args = (f"--qnn-int8={INT8}", f"--qnn-data={digits}", "--qnn-attack=pgd", "--qnn-samples=40")
    only = ("-k", GATE, "--qnn-min-accuracy=int8-worst-8/255:0.1", "--qnn-time-budget=0.000001")
    result = run(*args, *only)
    assert result.ret == 0
    assert "MEASURED, nothing decided: 1 requirement open" in summary(result)
    assert "CUT SHORT by a budget, not robust" in summary(result)


def test_quantization_may_not_cost_robust_accuracy(run, digits, tmp_path) -> None:
    args = (f"--qnn-float={FLOAT}", f"--qnn-data={digits}", "--qnn-attack=fgsm", "--qnn-samples=40")
    only = ("-m", "qnn_direct or qnn_gate", "-k", "not int16")
    broken = broken_int8(tmp_path / "digits_int8.tflite")
    result = run(*args, *only, f"--qnn-int8={broken}")
    assert result.ret == 1
    assert "test_quantization[int8-2/255]" in summary(result)
    kept = run(*args, *only, f"--qnn-int8={INT8}", "-v")
    assert kept.ret == 0
    assert re.search(r"test_quantization\[int8-8/255\] (PASSED|SKIPPED)", kept.stdout.str())


def test_a_model_in_the_ini_file_gates_beside_the_projects_tests(pytester, run, digits) -> None:
    (pytester.path / "m.tflite").write_bytes(INT8.read_bytes())
    pytester.makeini(
        f"[pytest]\ntestpaths = own\nqnn_model = m.tflite\nqnn_data = {digits}\n"
        "qnn_attack = noise\nqnn_samples = 8\n"
    )
    own = pytester.mkdir("own")
    (own / "test_own.py").write_text("def test_own(): pass\n")
    both = run()
    assert both.ret == 0
    assert "the gate, for a model in the ini file, beside the project's tests in own" in summary(
        both
    )
    assert "own/test_own.py" in both.stdout.str()
    assert "int8: 100.0 % clean" in both.stdout.str()
    by_flag = run("--qnn-int8=m.tflite", "-o", "qnn_model=")
    assert "own/test_own.py" in by_flag.stdout.str()
    alone = run("own")
    alone.assert_outcomes(passed=1)
    assert "robustness" not in alone.stdout.str()
    gate = run("-m", "qnn")
    assert "own/test_own.py" not in gate.stdout.str()
    assert "int8: 100.0 % clean" in gate.stdout.str()
