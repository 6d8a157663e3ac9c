"""How many examples or repeats a property is tried on."""

from __future__ import annotations

from hypothesis import settings

NIGHTLY = 24
"""Examples of the profile "nightly" (conftest.py), beside 8 on a pull request."""


def examples(number: int) -> int:
    """`number` at night, a third of it on a pull request."""
    return max(1, number * min(settings().max_examples, NIGHTLY) // NIGHTLY)
