"""The parts of the terminal report that need no run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_qnnrobust.report import terminal
from tests.helpers.outcomes import outcome


@pytest.mark.parametrize(
    ("queries", "seconds", "shown"),
    [
        (3571, 999.94, ["3571", "999.9"]),
        (99_999, 1073.04, ["99999", "1073"]),
        (614_400, 86_400.0, ["614k", "86400"]),
    ],
)
def test_columns_of_a_long_attack_stay_apart(queries: int, seconds: float, shown: list) -> None:
    cell = replace(outcome("int16", np.ones(9, bool)), queries=np.full(9, queries), seconds=seconds)
    line = terminal.cell_line(cell, 0.95)
    assert line.split()[-2:] == shown
    assert len(line) == len(terminal.HEADING) < terminal.WIDTH
