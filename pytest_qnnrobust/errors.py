"""Errors that a user can act on: one line, rule, `name=value`, cure."""

from __future__ import annotations

from typing import Any


class QnnRobustError(Exception):
    """Base of every error this package raises on purpose; its text is one line."""


class ModelFileError(QnnRobustError):
    """A model file that cannot be read, or that is not what it claims to be."""


class UnsupportedOperatorError(ModelFileError):
    """A graph that uses an operator, width or option which no kernel here implements."""


class DataError(QnnRobustError):
    """Test data that cannot be read or does not fit the model."""


class AttackError(QnnRobustError):
    """Attack parameters that are outside what the attack supports."""


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
    return error(" ".join(text.split()))
