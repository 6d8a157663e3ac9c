"""`--qnn-cache-dir` with its limit, and without it: what a run leaves in the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_qnnrobust.demo import demo_path
from tests.plugin.conftest import summary

INT8 = demo_path("digits_int8.tflite")


@pytest.fixture
def two_cells(cold, digits):
    """`two_cells(*args)`: noise and Square-Linf on the int8 digits network, one shard each."""

    def start(*args: object) -> pytest.RunResult:
        named = (f"--qnn-int8={INT8}", f"--qnn-data={digits}", "--qnn-samples=20")
        which = ("robustness_tests/test_direct.py", "-k", "int8", "--qnn-eps=0.05")
        return cold(*named, *which, "--qnn-attack=noise,square-linf", *args)

    return start


def entries() -> dict[str, int]:
    return {path.name: path.stat().st_size for path in Path("kept").glob("*.npz")}


def test_no_cache_neither_reads_nor_writes(two_cells, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nqnn_cache_dir = kept\n")
    assert two_cells("--qnn-no-cache").ret == 0
    assert not Path("kept").exists()
    assert two_cells().ret == 0
    before = {path: path.stat().st_mtime_ns for path in Path("kept").glob("*.npz")}
    assert len(before) == 2
    assert two_cells("--qnn-no-cache").ret == 0
    assert {path: path.stat().st_mtime_ns for path in Path("kept").glob("*.npz")} == before


def test_a_run_leaves_no_more_than_the_size(two_cells) -> None:
    assert two_cells("--qnn-cache-dir=kept").ret == 0
    sizes = entries()
    assert len(sizes) == 2
    assert not list(Path("kept/locks").iterdir())
    limit = max(sizes.values())
    assert two_cells("--qnn-cache-dir=kept", f"--qnn-cache-size={limit}").ret == 0
    assert len(entries()) == 1
    assert sum(entries().values()) <= limit


@pytest.mark.nightly
def test_a_limit_in_the_ini_file_holds_with_workers(
    two_cells, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xdist")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    pytester.makeini("[pytest]\nqnn_cache_dir = kept\nqnn_cache_size = 1\n")
    assert two_cells("-n2").ret == 0
    assert Path("kept/locks").is_dir()
    assert not entries()


def test_a_damaged_entry_changes_no_report(two_cells) -> None:
    first = two_cells("--qnn-cache-dir=kept", "--qnn-report=a")
    for path in Path("kept").glob("*.npz"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    second = two_cells("--qnn-cache-dir=kept", "--qnn-baseline=a/results.json")
    assert first.ret == second.ret == 0
    assert ": 3 kept" in summary(second)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--qnn-cache-size=2G",), "--qnn-cache-size needs --qnn-cache-dir DIR"),
        (("--qnn-cache-size=many", "--qnn-cache-dir=kept"), "expected a size such as 2G or 500M"),
        (("--qnn-cache-dir=digits40.npz",), "--qnn-cache-dir to be a folder that can be written"),
    ],
)
def test_a_mistake_is_one_line(two_cells, args, message: str) -> None:
    result = two_cells(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.errlines if line.strip()]
    assert len(errors) == 1
    assert message in errors[0]
    assert not Path("kept").exists()
