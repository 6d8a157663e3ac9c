"""`--qnn-shard I/N` and `qnnrobust merge`: the parts of a run are the whole run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_qnnrobust import cli, disk
from tests.plugin.spread import measured

SELECTED = "--qnn-attack=fgsm,square-linf,noise", "--qnn-samples=9", "--qnn-eps=0.1"


@pytest.fixture
def reported(on_digits, pytester):
    """`reported(folder, *args)`: the whole run or a part of it, reported into `folder`."""

    def start(folder: str, *args: str) -> pytest.RunResult:
        here = ("-q", f"--qnn-report={folder}", "-k", "not int16 and not law")
        return on_digits(*SELECTED, *here, *args)

    return start


def merge(pytester: pytest.Pytester, *arguments: str) -> int:
    return cli.main(["merge", *arguments, "--output=merged"])


def test_the_parts_together_are_the_whole(reported, pytester, capsys) -> None:
    whole = reported("whole")
    parts = [reported(f"part{i}", f"--qnn-shard={i}/3") for i in (1, 2, 3)]
    assert whole.ret == 0
    assert [part.ret for part in parts] == [0, 0, 0]
    passed = [part.parseoutcomes().get("passed", 0) for part in parts]
    assert sum(passed) == whole.parseoutcomes()["passed"]
    assert min(passed) > 0
    assert merge(pytester, *(f"part{i}/results.json" for i in (3, 1, 2))) == 0
    assert measured(pytester.path / "merged") == measured(pytester.path / "whole")
    merged = json.loads((pytester.path / "merged" / "results.json").read_text())
    assert "--qnn-shard" not in merged["command"]
    assert {path.name for path in (pytester.path / "merged").iterdir()} == {
        "results.json", "report.html", "summary.md",
    }  # fmt: skip


def test_a_merged_run_is_recorded_and_compared(reported, pytester, capsys) -> None:
    for i in (1, 2):
        reported(f"part{i}", f"--qnn-shard={i}/2")
    parts = ("part1/results.json", "part2/results.json")
    assert merge(pytester, *parts, "--baseline=kept.json", "--update") == 0
    assert merge(pytester, *parts, "--baseline=kept.json") == 0
    path = pytester.path / "kept.json"
    recorded = json.loads(path.read_text())
    del recorded["outcomes"][0]
    path.write_text(json.dumps(recorded))
    assert merge(pytester, *parts, "--baseline=kept.json") == 1
    assert "NEW: " in capsys.readouterr().out
    assert merge(pytester, *parts, "--baseline=kept.json", "--allow=new") == 0


def test_a_failed_part_fails_the_whole(reported, pytester, capsys) -> None:
    codes = [reported(f"part{i}", f"--qnn-shard={i}/2", "--qnn-min-accuracy=int8-fgsm-direct:1")
             for i in (1, 2)]  # fmt: skip
    assert sorted(int(part.ret) for part in codes) == [0, 1]
    assert merge(pytester, "part1/results.json", "part2/results.json") == 1
    assert "FAILED: robustness_tests/test_direct.py" in capsys.readouterr().out


@pytest.fixture
def two_parts(reported, pytester) -> list[str]:
    """The results of the clean tests alone, in two parts."""
    for i in (1, 2):
        assert reported(f"part{i}", f"--qnn-shard={i}/2", "-k", "clean or fgsm-direct").ret == 0
    return ["part1/results.json", "part2/results.json"]


def test_what_is_not_one_whole_run_is_refused(two_parts, pytester, capsys) -> None:
    first, second = two_parts

    def refused(*parts: str) -> str:
        assert merge(pytester, *parts) == cli.USAGE_ERROR
        return capsys.readouterr().err

    assert "2 in all, got parts='1/2'" in refused(first)
    assert "got parts='1/2, 1/2'" in refused(first, first)
    changed = json.loads(Path(second).read_text())
    changed["options"]["seed"] = 1
    Path("other.json").write_text(json.dumps(changed))
    assert "expected parts of one run, got options seed='0 and 1'" in refused(first, "other.json")
    changed["options"]["seed"] = 0
    changed["models"][0]["digest"] = "0" * 64
    Path("other.json").write_text(json.dumps(changed))
    assert "float32 model=" in refused(first, "other.json")


@pytest.mark.parametrize("value", ["0/2", "3/2", "2", "1/0", "a/b"])
def test_a_bad_part_is_one_line(reported, value) -> None:
    result = reported("out", f"--qnn-shard={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"expected I/N with 1 <= I <= N such as 2/3, got '{value}'" in result.stderr.str()


def test_more_parts_than_there_is_to_share(reported) -> None:
    result = reported("out", "--qnn-shard=3/90")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "expected --qnn-shard I/N with N <= " in result.stderr.str() + result.stdout.str()


def test_a_part_is_not_held_to_a_baseline(reported) -> None:
    result = reported("out", "--qnn-shard=1/2", "--qnn-baseline=kept.json", "--qnn-update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "give the baseline to `qnnrobust merge`" in result.stderr.str()


def test_a_part_without_a_report_is_lost(on_digits) -> None:
    result = on_digits("--qnn-shard=1/2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "give --qnn-report DIR" in result.stderr.str()


def test_a_disk_that_refuses_the_merged_run_is_one_line(two_parts, capsys, monkeypatch) -> None:
    Path("file").write_text("")

    def refused(*arguments: str) -> str:
        assert cli.main(["merge", *two_parts, *arguments]) == cli.USAGE_ERROR
        (line,) = capsys.readouterr().err.splitlines()
        return line.removeprefix("qnnrobust merge: error: expected ")

    assert refused("--output=file/out").startswith("--output to be a folder that can be written")
    baseline = refused("--output=out", "--baseline=file/b.json", "--update")
    assert baseline.startswith("--baseline to be a file that can be written")
    assert not Path("out").exists()

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "write_text", full)
    assert "--output to be a folder" in refused("--output=out")
    monkeypatch.undo()
