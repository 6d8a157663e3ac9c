"""`--qnn-sequential`: the same verdicts from fewer samples."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.results import document
from tests.helpers.digits import broken_int8
from tests.plugin.conftest import summary
from tests.plugin.spread import ROOT, report

INT8 = demo_path("digits_int8.tflite")
CELL = "int8-square-linf-direct"
SEQUENTIAL = "--qnn-sequential"
DIRECT = ("robustness_tests/test_direct.py", "-k", "int8")
LIMIT = "--qnn-fail-if=accuracy:-12pt,clean:-12pt"


@pytest.fixture
def square(run, pytester):
    """`square(*args, model=INT8, eps=0.05)`: Square-Linf on the int8 network and 160 digits."""
    with np.load(demo_path("digits.npz")) as data:
        np.savez(pytester.path / "digits160.npz", x=data["x"][:160], y=data["y"][:160])

    def start(*args: object, model=INT8, eps=0.05, tests=DIRECT):
        return run(
            f"--qnn-int8={model}", "--qnn-data=digits160.npz", "--qnn-samples=160",
            "--qnn-attack=square-linf", f"--qnn-eps={eps}", "--qnn-report=out", "-v", *tests,
            *args,
        )  # fmt: skip

    return start


@pytest.fixture
def written(pytester):
    """`written()`: what the last run wrote into results.json."""
    return lambda: document.read(pytester.path / "out" / "results.json")


@pytest.mark.parametrize(("least", "eps", "code"), [(0.5, 0.05, 0), (0.5, 0.2, 1)])
def test_the_same_verdict_of_a_threshold_comes_with_fewer_samples(
    square, written, least, eps, code
) -> None:
    threshold = f"--qnn-min-accuracy={least}"
    assert square(threshold, eps=eps).ret == code
    whole = written().cells[CELL]
    result = square(threshold, SEQUENTIAL, eps=eps)
    assert result.ret == code
    part = written().cells[CELL]
    assert len(part) <= 50 < len(whole) == 160
    for name in ("adv_label", "clean_label", "queries", "l2", "linf", "index"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[: len(part)])
    (record,) = written().sequential
    assert (record.value, record.attacked) == ("violated" if code else "holds", len(part))
    said = f"stopped after {len(part)} of 160: accuracy >= {least} {record.value} (anytime-valid, "
    assert said + "level 0.05 over 3 claims" in summary(result)


def test_a_cell_near_its_threshold_runs_to_the_end_and_is_inconclusive(square, written) -> None:
    square()
    accuracy = written().cells[CELL].accuracy
    near = f"--qnn-min-accuracy={accuracy - 0.01:.3f}"
    assert square(near).parseoutcomes()["passed"] == 1
    result = square(near, SEQUENTIAL)
    assert result.ret == 0
    assert result.parseoutcomes()["skipped"] == 1
    (record,) = written().sequential
    assert (record.value, record.attacked, record.decided) == ("undecided", 160, None)
    assert "attacked all 160: accuracy >= 0." in summary(result)
    strict = square(near, SEQUENTIAL, "--qnn-inconclusive=fail")
    assert strict.ret == 1
    assert square(near, SEQUENTIAL, "--qnn-inconclusive=pass").parseoutcomes()["passed"] == 1


def test_against_a_baseline_a_cell_stops_and_is_compared_on_what_it_has(
    square, written, pytester, tmp_path
) -> None:
    baseline = "--qnn-baseline=kept.json"
    assert square(baseline, "--qnn-update", SEQUENTIAL).ret == 0
    before = document.read(pytester.path / "kept.json")
    assert len(before.cells[CELL]) == 160
    assert not before.sequential
    unchanged = square(baseline, SEQUENTIAL, LIMIT)
    assert unchanged.ret == 0
    kept, text = written(), summary(unchanged)
    assert len(kept.cells[CELL]) < 160
    assert {one.status for one in kept.comparison} == {"kept"}
    assert re.search(r"stopped after \d+ of 160: a loss of at most 12 points holds \(any", text)
    broken = broken_int8(tmp_path / "digits_int8.tflite")
    full = square(baseline, LIMIT, model=broken)
    early = square(baseline, SEQUENTIAL, LIMIT, model=broken)
    assert full.ret == early.ret == 1
    assert len(written().cells[CELL]) == 25
    for result in (full, early):
        assert f"WORSE: {CELL} accuracy. now" in summary(result)
        assert "WORSE: int8-clean clean. now" in summary(result)
    assert "first 25 of 160 samples, anytime-valid" in summary(early)


def test_a_run_without_the_option_takes_no_shorter_cell(square, pytester) -> None:
    """A document in which a cell has fewer samples is stale unless the cell was watched."""
    square("--qnn-baseline=kept.json", "--qnn-update")
    square("--qnn-min-accuracy=0.5", SEQUENTIAL)
    path = pytester.path / "out" / "results.json"
    values = json.loads(path.read_text())
    assert values["sequential"][0]["about"] == "threshold"
    from pytest_qnnrobust.cli import main

    assert main(["compare", str(pytester.path / "kept.json"), str(path)]) == 1


def test_other_claims_get_every_sample_and_the_verdict_stays(square, written) -> None:
    """Masked gradients are judged on whole cells; the order of the tests does not matter."""
    tests = "(test_direct or test_transfer or weaker_than_a_transferred_one) and int8"
    tests += " and (square or not weaker)"
    result = square("--qnn-min-accuracy=0.5", SEQUENTIAL, tests=("-k", tests))
    found = written()
    assert result.ret == 0
    assert {len(one) for one in found.outcomes} == {160}
    assert {one.attacked for one in found.sequential} == {25}
    assert len(found.sequential) == 2
    assert "T2 " in summary(result)


@pytest.mark.nightly
def test_workers_stop_where_one_process_does(square, written, monkeypatch) -> None:
    pytest.importorskip("xdist")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    args = ("--qnn-min-accuracy=0.5", "--qnn-baseline=kept.json", SEQUENTIAL, LIMIT)
    tests = "(test_direct or test_transfer) and int8"
    square("--qnn-baseline=kept.json", "--qnn-update", tests=("-k", tests))
    one = square(*args, tests=("-k", tests))
    alone = written()
    two = square(*args, "-n2", tests=("-k", tests))
    together = written()
    assert one.ret == two.ret == 0
    assert report(one) == report(two)
    assert alone.sequential == together.sequential
    assert len(alone.sequential) == 4
    for cell, outcome in alone.cells.items():
        np.testing.assert_array_equal(outcome.adv_label, together.cells[cell].adv_label)


def test_finished_prefixes_are_read_from_the_cache(square, written, pytester) -> None:
    args = ("--qnn-min-accuracy=0.5", SEQUENTIAL, "--qnn-cache-dir=kept")
    square(*args)
    first = {path.name for path in (pytester.path / "kept").glob("*.npz")}
    stopped = len(written().cells[CELL])
    square(*args, "--qnn-alpha=0.0001")
    longer = len(written().cells[CELL])
    found = {path.name for path in (pytester.path / "kept").glob("*.npz")}
    assert longer > stopped
    assert first < found


def test_the_page_and_the_summary_say_where_a_cell_stopped(square, pytester) -> None:
    square("--qnn-min-accuracy=0.5", SEQUENTIAL)
    for name in ("report.html", "summary.md"):
        text = (pytester.path / "out" / name).read_text()
        assert "Sequential tests" in text
        assert "stopped after 25 of 160: accuracy " in text


def test_samples_that_stand_by_class_are_refused(square, pytester) -> None:
    with np.load(demo_path("digits.npz")) as data:
        order = np.argsort(data["y"], kind="stable")
        np.savez(pytester.path / "digits160.npz", x=data["x"][order], y=data["y"][order])
    assert square("--qnn-min-accuracy=0.5").ret == 0
    result = square("--qnn-min-accuracy=0.5", SEQUENTIAL)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "expected samples in random order for --qnn-sequential" in result.stderr.str()


def test_a_run_that_is_held_to_nothing_is_a_mistake(square) -> None:
    result = square(SEQUENTIAL)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "give --qnn-min-accuracy or --qnn-baseline" in result.stderr.str()


def test_the_ini_key_asks_for_it(square, written, pytester) -> None:
    pytester.makeini("[pytest]\nqnn_sequential = true\nqnn_min_accuracy = 0.5\n")
    assert square().ret == 0
    assert len(written().cells[CELL]) == 25


def test_few_samples_are_watched_and_what_cannot_be_divided_is_not(square, written) -> None:
    few = square("--qnn-min-accuracy=0.85", SEQUENTIAL, "--qnn-samples=20")
    (record,) = written().sequential
    assert few.ret == 0
    assert (record.value, record.attacked, record.planned) == ("undecided", 20, 20)
    assert square("--qnn-min-accuracy=0.2", SEQUENTIAL, "--qnn-time-budget=600").ret == 0
    assert written().sequential == ()
    assert len(written().cells[CELL]) == 160
    square("--qnn-min-accuracy=0.2", SEQUENTIAL, "--qnn-attack=uap", "--qnn-samples=40")
    assert written().sequential == ()
    assert [len(one) for one in written().outcomes] == [40]
