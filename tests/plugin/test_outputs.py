"""A disk that refuses the outputs of a run: before the first attack where that can be seen."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_qnnrobust import disk
from pytest_qnnrobust.attacks import Attack
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.evaluation.cache import ResultCache
from pytest_qnnrobust.run.gathered import Gathered
from tests.plugin.conftest import summary

INT8 = demo_path("digits_int8.tflite")
FULL = os.strerror(errno.ENOSPC)
ONE_CELL = ("--qnn-attack=noise", "--qnn-samples=8", "robustness_tests/test_direct.py")


@pytest.fixture
def one_cell(cold, digits):
    """`one_cell(*args)`: noise on the int8 digits network, without a cache."""
    named = (f"--qnn-int8={INT8}", f"--qnn-data={digits}", *ONE_CELL, "-k", "int8")
    return lambda *args: cold(*named, *args)


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`refuse(text)`: from now on the disk is full for files with `text` in their path."""

    def start(text: str) -> None:
        write = disk.write

        def full(path: Path, *contents: bytes) -> None:
            if text in str(path):
                raise OSError(errno.ENOSPC, FULL)
            write(path, *contents)

        monkeypatch.setattr(disk, "write", full)

    return start


@pytest.fixture
def no_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    """No attack may begin."""

    def begin(*_: object, **__: object) -> None:
        raise AssertionError("an attack began")

    monkeypatch.setattr(Attack, "__call__", begin)


REFUSED = [
    (("--qnn-report=file/out",), "--qnn-report to be a folder", "file/out"),
    (("--qnn-keep-examples=file/out",), "--qnn-keep-examples to be a folder", "file/out"),
    (("--qnn-baseline=file/b.json", "--qnn-update"), "--qnn-baseline to be a file", "file/b.json"),
    (("--qnn-baseline=folder", "--qnn-update"), "--qnn-baseline to be a file", "folder"),
]


@pytest.mark.parametrize(("args", "rule", "path"), REFUSED)
def test_an_output_is_tried_before_the_first_attack(
    one_cell, no_attack, pytester: pytest.Pytester, args, rule: str, path: str
) -> None:
    Path("file").write_text("kept")
    Path("folder").mkdir()
    result = one_cell(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = (line for line in result.errlines if line.strip())
    assert f"expected {rule} that can be written, got" in line
    assert str(pytester.path / path) in line
    assert Path("file").read_text() == "kept"
    assert not list(Path("folder").iterdir())


def test_a_full_disk_costs_no_attack(one_cell, no_attack, monkeypatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", refuse)
    result = one_cell("--qnn-report=out")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "reason='Read-only file system'" in result.stderr.str()
    assert not Path("out").exists()


def test_the_page_of_a_job_is_tried_like_an_option(one_cell, no_attack, monkeypatch) -> None:
    Path("folder").mkdir()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "folder")
    result = one_cell()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "expected GITHUB_STEP_SUMMARY to be a file that can be written" in result.stderr.str()


def test_a_list_of_the_tests_leaves_nothing_and_tries_nothing(one_cell) -> None:
    Path("file").write_text("")
    assert one_cell("--collect-only", "--qnn-report=file/out").ret == 0


def test_own_tests_end_with_one_line(pytester: pytest.Pytester, cold, digits, no_attack) -> None:
    Path("file").write_text("")
    mine = pytester.makepyfile("def test_mine(qnn_int8): pass")
    pytester.makeini(f"[pytest]\nqnn_int8 = {INT8}\nqnn_report = file/out\n")
    result = cold(mine)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Exit: expected --qnn-report to be a folder that can be written" in summary(result)


LATER = [
    (("--qnn-keep-examples=out",), "out/int8-noise", "--qnn-keep-examples to be a folder"),
    (("--qnn-baseline=b.json", "--qnn-update"), "b.json", "--qnn-baseline to be a file"),
    (("--qnn-report=out",), "report.html", "--qnn-report to be a folder"),
]


@pytest.mark.parametrize(("args", "text", "rule"), LATER)
def test_a_disk_that_fills_during_the_run_loses_no_summary(
    one_cell, refuse, monkeypatch, args, text: str, rule: str
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "job.md")
    refuse(text)
    result = one_cell(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    result.stdout.fnmatch_lines(
        ["worst at ?/255: int8-noise-* of 8 *", "wrote *job.md", f"expected {rule}*"]
    )
    assert f"reason='{FULL}'" in summary(result)
    assert result.parseoutcomes()["passed"] == 2
    assert Path("job.md").read_text().startswith("# Robustness: failed")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_page_that_cannot_be_appended_to_loses_no_report(one_cell, monkeypatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/dev/full")
    result = one_cell("--qnn-report=out")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = summary(result)
    assert "expected GITHUB_STEP_SUMMARY to be a file that can be written" in text
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "report.html", "results.json", "summary.md",
    ]  # fmt: skip


def test_what_a_worker_could_not_write_is_told_once() -> None:
    here, worker = Gathered(), Gathered()
    worker.unwritten["--qnn-keep-examples"] = "expected"
    for _ in range(2):
        here.merge(worker.to_json())
    assert here.unwritten == {"--qnn-keep-examples": "expected"}


@pytest.mark.nightly
def test_workers_tell_what_they_could_not_write(one_cell, pytester, monkeypatch) -> None:
    pytest.importorskip("xdist")
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", str(root))
    pytester.makeconftest(
        """
        from pytest_qnnrobust.results import kept_examples

        def write(folder, name, examples):
            raise OSError(28, "No space left on device")

        kept_examples.write = write
        """
    )
    result = one_cell("--qnn-keep-examples=out", "-n1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert summary(result).count("expected --qnn-keep-examples to be a folder") == 1
    assert result.parseoutcomes()["passed"] == 1


NOT_KEPT = "the run goes on and keeps nothing there"


def test_a_cache_on_a_full_disk_is_left_aside_at_the_start(one_cell, monkeypatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, FULL)

    monkeypatch.setattr(os, "fsync", refuse)
    result = one_cell("--qnn-cache-dir=kept")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["qnnrobust: expected --qnn-cache-dir to be a folder that can be*"])
    text = summary(result)
    assert text.count("cache: expected --qnn-cache-dir to be a folder that can be written") == 1
    assert text.count(NOT_KEPT) == 2, "in the header, and in the summary"
    assert not list(Path("kept").glob("*.npz"))


def test_a_cache_that_fails_in_the_middle_is_left_aside(one_cell, refuse) -> None:
    plain = one_cell("--qnn-report=plain")
    refuse("kept")
    result = one_cell("--qnn-cache-dir=kept", "--qnn-report=out")
    assert result.ret == plain.ret == 0
    assert summary(result).count(NOT_KEPT) == 1
    assert FULL in (Path("out") / "results.json").read_text()
    assert not list(Path("kept").glob("*.npz"))


def test_a_warm_cache_on_a_read_only_disk_still_answers(one_cell, refuse, monkeypatch) -> None:
    assert one_cell("--qnn-cache-dir=kept").ret == 0
    refuse("kept")

    def mkdir(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    asked = []
    load = ResultCache.load

    def watched(cache: ResultCache, key: str, samples: int) -> object:
        asked.append(load(cache, key, samples))
        return asked[-1]

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(ResultCache, "load", watched)
    result = one_cell("--qnn-cache-dir=kept")
    assert result.ret == 0
    assert "Read-only file system" in summary(result)
    assert asked
    assert None not in asked
