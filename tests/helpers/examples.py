"""How many examples or repeats a property is tried on."""

from __future__ import annotations

from hypothesis import settings

PULL_REQUEST, NIGHTLY = 100, 300
"""Examples of the profiles (conftest.py), for properties that name no number of their own."""


def examples(number: int) -> int:
    """`number` at night, a third of it on a pull request."""
    return max(1, number * min(settings().max_examples, NIGHTLY) // NIGHTLY)
