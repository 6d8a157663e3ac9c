"""Files written whole or not at all, and tried before they are needed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from pytest_qnnrobust.errors import OutputError, QnnRobustError, expected

Kind = Literal["folder", "file"]

PART = ".part"
"""Suffix of a file that is being written."""

PROBE_BYTES = 1 << 12
"""Size of the file that is written to try a folder: more than file systems keep in an inode."""


def write(path: Path, *contents: bytes | memoryview) -> None:
    """Write `contents` under another name, `<stem>.*.part`, then move them to `path`.

    Makes the folder where it is missing. Raises OSError, and what was at `path` is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{_unused()}{PART}")
    try:
        with part.open("xb") as file:
            for content in contents:
                file.write(content)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8, as `write` does."""
    write(path, text.encode())


def try_folder(folder: Path) -> None:
    """Write a file into `folder`, or into the one in which it would be made, and remove it.

    Raises OSError where that fails.
    """
    there = next(filter(_is_there, (folder, *folder.parents)), folder)
    probe = there / f".qnnrobust-{_unused()}"
    try:
        with probe.open("xb") as file:
            file.write(os.urandom(PROBE_BYTES))
            file.flush()
            # Some file systems find out that they are full when they store, not when they are told.
            os.fsync(file.fileno())
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def try_file(path: Path) -> None:
    """Try whether `write` could write `path`, which stays as it is. Raises OSError if not."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    try_folder(path.parent)


def try_appending(path: Path) -> None:
    """Try whether `path` could be appended to, without doing so. Raises OSError if not.

    What is there and is no regular file, such as a pipe, cannot be tried.
    """
    if not path.is_file():
        if not path.exists() or path.is_dir():
            try_file(path)
        return
    path.open("ab").close()
    # The folder says whether the disk is full; that it is somebody else's says nothing.
    with suppress(PermissionError):
        try_folder(path.parent)


@contextmanager
def writing(option: str, kind: Kind, path: Path) -> Iterator[None]:
    """Raise OutputError, one line, where the disk refuses what is written inside.

    `option` is what named the output at `path`.
    """
    try:
        yield
    except OSError as error:
        raise refusal(option, kind, path, error) from None


def refusal(
    option: str, kind: Kind, path: Path, error: Exception, cure: str | None = None
) -> QnnRobustError:
    """The OutputError of an output that cannot be written, to be raised by the caller."""
    named: dict[str, Any] = {
        kind: str(path),
        "reason": getattr(error, "strerror", None) or str(error),
    }
    rule = f"{option} to be a {kind} that can be written"
    return expected(rule, cure=cure, error=OutputError, **named)


def _is_there(path: Path) -> bool:
    """Whether something has this name, be it a link that leads nowhere."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _unused() -> str:
    """A part of a name that no other file has."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"
