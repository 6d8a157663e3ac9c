"""Tests of the suite that a run did not ask for: they need what was not given, and are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pytest_qnnrobust.plugin import fixtures
from pytest_qnnrobust.plugin.suite import SUITE
from pytest_qnnrobust.run.session import Session
from pytest_qnnrobust.run.subjects import NO_DATA
from pytest_qnnrobust.types import WIDTHS

COMPARES = "qnn_compares"
"""The marker of a test that compares a network with its float version."""

TWIN = (
    "no --qnn-float FILE; the float twin of an integer file does not ship (name the test to run it)"
)


def split(
    items: Sequence[pytest.Item], session: Session, named: bool
) -> tuple[list[pytest.Item], dict[pytest.Item, str]]:
    """Split tests into those that the run asked for, and the others with the reason.

    `named`: the user said which tests to run, and may mean those that compare with a float twin.
    """
    reasons = {item: _reason_against(item, session, named) for item in items}
    left_out = {item: reason for item, reason in reasons.items() if reason}
    return [item for item in items if item not in left_out], left_out


def _reason_against(item: pytest.Item, session: Session, named: bool) -> str:
    """Reason why the run did not ask for a test of the suite; "" where it did."""
    if item.path.parent != SUITE:
        return ""
    parameters: Mapping[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    names = set(getattr(item, "fixturenames", ()))
    width = parameters.get("qnn_model")
    if width in WIDTHS and (reason := session.subjects.missing(width)):
        return reason
    needs_float = width == "float32" or "qnn_float" in names or item.get_closest_marker(COMPARES)
    given = session.subjects.given
    if needs_float and not named and given and "float32" not in given:
        return TWIN
    if parameters.get("qnn_defense") == fixtures.NO_DEFENSE:
        return "no --qnn-defended NAME=FILE[,FILE...]"
    if item.get_closest_marker("qnn_squeezed") and session.options.squeeze is None:
        return "no --qnn-squeeze BITS,WINDOW"
    if {"qnn_data", "qnn_evaluate"} & names and session.subjects.data is None:
        return NO_DATA
    together = item.get_closest_marker("qnn_together")
    asked = [*(together.args if together else ()), parameters.get("name")]
    left_out = [name for name in asked if isinstance(name, str) and name not in session.attacks.ids]
    return f"no {left_out[0]} among the attacks of this run (--qnn-attack)" if left_out else ""
