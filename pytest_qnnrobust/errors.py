"""Errors that a user can act on: one line, rule, `name=value`, cure."""

from __future__ import annotations

from typing import Any

LONGEST = 1000
"""Characters of a message; a name in a hostile file may have a million."""


class QnnRobustError(Exception):
    """Base of every error this package raises on purpose; its text is one printable line.

    What a file brings into it can end no line, move no cursor and fill no screen.
    """

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))


class ModelFileError(QnnRobustError):
    """A model file that cannot be read, or that is not what it claims to be."""


class UnsupportedOperatorError(ModelFileError):
    """A graph that uses an operator, width or option which no kernel here implements."""


class FileChangedError(QnnRobustError):
    """A file that is not what it was at an earlier read of the same run, or in another process."""


class DataError(QnnRobustError):
    """Test data that cannot be read or does not fit the model."""


class AttackError(QnnRobustError):
    """Attack parameters that are outside what the attack supports."""


class OutputError(QnnRobustError):
    """A file or folder that the disk refuses to be written: full, read-only, not permitted."""


def one_line(text: str) -> str:
    """`text` without line breaks and control characters, a long one without its middle."""
    line = _without_middle(" ".join(text.split()))
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return _without_middle("".join(shown))


def _without_middle(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 300]} ... {line[-250:]}"


def expected(
    rule: str,
    *,
    cure: str | None = None,
    error: type[QnnRobustError] = QnnRobustError,
    **values: Any,
) -> QnnRobustError:
    """Build `expected <rule>, got <name>=<value>; <cure>`, to be raised by the caller."""
    got = ", ".join(f"{name}={value!r}" for name, value in values.items())
    text = f"expected {rule}"
    if got:
        text += f", got {got}"
    if cure:
        text += f"; {cure}"
    return error(text)
