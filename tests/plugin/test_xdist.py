"""With and without pytest-xdist: the same cells, verdicts and exit codes."""

from __future__ import annotations

import pytest

from pytest_qnnrobust.demo import demo_path
from tests.plugin.spread import ROOT, report

pytest.importorskip("xdist")

INT8 = demo_path("digits_int8.tflite")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_same_report_for_any_number_of_workers(run, digits) -> None:
    args = ("--qnn-int8", INT8, "--qnn-data", digits, "--qnn-samples=6", "--qnn-attack=noise")
    args += ("-q", "-k", "direct or transfer or clean")
    plain, none, two = (run(*args, *workers) for workers in ((), ("-n0",), ("-n2",)))
    assert plain.ret == none.ret == two.ret == 0
    assert report(plain) == report(none) == report(two)


@pytest.mark.nightly
def test_same_laws_for_any_number_of_workers(run, digits) -> None:
    args = ("--qnn-int8", INT8, "--qnn-data", digits, "-q", "-k", "law or batch or input")
    plain, two = run(*args), run(*args, "-n2")
    assert plain.ret == two.ret == 0
    assert report(plain) == report(two)


@pytest.mark.nightly
def test_workers_share_a_cache_and_report_what_they_find_there(run, digits) -> None:
    args = ("--qnn-int8", INT8, "--qnn-data", digits, "--qnn-samples=6", "--qnn-attack=noise,fgsm")
    args += ("-q", "-k", "(direct or transfer) and int8", "--qnn-cache-dir=kept", "-n2")
    first, second = run(*args), run(*args)
    assert first.ret == second.ret == 0
    assert report(first) == report(second)


def test_mistake_is_one_line_before_workers_start(run) -> None:
    result = run("--qnn-int8", "absent.tflite", "-n2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line.strip()] == [result.errlines[0]]
    assert "absent.tflite" in result.errlines[0]


def test_failure_in_a_worker_fails_the_run(run, digits) -> None:
    args = ("--qnn-int8", INT8, "--qnn-data", digits, "--qnn-samples=6", "--qnn-attack=fgsm")
    args += ("--qnn-eps=0.4", "-k", "int8-fgsm and direct")
    assert run(*args).ret == 0
    # The worker reads what the run before it left in the cache, and imports no TensorFlow.
    result = run(*args, "--qnn-min-accuracy=0.99", "-n2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*int8-fgsm-direct: accuracy 0.* is below 0.99"])
