"""Files are written whole or not at all, and tried without a trace."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pytest_qnnrobust import disk
from pytest_qnnrobust.errors import OutputError


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that finds out that it is full when it stores."""

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)


def test_a_folder_is_tried_without_a_trace(tmp_path: Path) -> None:
    disk.try_folder(tmp_path / "new" / "below")
    disk.try_folder(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("file", "Not a directory"),
        ("file/a/b", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("nowhere/below", "No such file or directory"),
    ],
)
def test_what_can_be_no_folder_is_found_out(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    with pytest.raises(OSError, match=reason):
        disk.try_folder(tmp_path / path)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("trial", [disk.try_file, disk.try_appending])
def test_a_file_that_is_tried_stays_as_it_is(tmp_path: Path, trial) -> None:
    path = tmp_path / "kept.json"
    path.write_text("kept")
    before = path.stat()
    trial(path)
    trial(tmp_path / "new.json")
    after = path.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert [each.name for each in tmp_path.iterdir()] == ["kept.json"]


@pytest.mark.parametrize("trial", [disk.try_file, disk.try_appending])
def test_a_folder_is_no_file(tmp_path: Path, trial) -> None:
    with pytest.raises(IsADirectoryError):
        trial(tmp_path)


@pytest.mark.parametrize("trial", [disk.try_folder, disk.try_file, disk.try_appending])
def test_a_full_disk_is_found_out_and_keeps_nothing(tmp_path: Path, full: None, trial) -> None:
    with pytest.raises(OSError, match="No space left"):
        trial(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_pipe_is_not_opened_to_be_tried(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    disk.try_appending(tmp_path / "pipe")


def test_a_file_that_cannot_be_written_is_as_before(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "out" / "kept.json"
    disk.write(path, b"first, ", b"whole")
    assert path.read_bytes() == b"first, whole"

    def refuse(part: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError) as refused, disk.writing("--x", "file", path):
        disk.write(path, b"second")
    assert str(refused.value) == (
        f"expected --x to be a file that can be written, got file={str(path)!r}, "
        "reason='No space left on device'"
    )
    assert path.read_bytes() == b"first, whole"
    assert [each.name for each in path.parent.iterdir()] == ["kept.json"]
