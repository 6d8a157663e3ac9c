"""The terminal summary of planted runs."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from pytest_qnnrobust.gate.gate import Gate
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.report import terminal
from pytest_qnnrobust.results.document import ModelRecord
from pytest_qnnrobust.results.wrapping import WIDTH
from tests.helpers.outcomes import outcome
from tests.helpers.runs import STEP, cell, run


@pytest.mark.parametrize(
    ("queries", "seconds", "shown"),
    [
        (3571, 999.94, ["3571", "999.9"]),
        (99_999, 1073.04, ["99999", "1073"]),
        (614_400, 86_400.0, ["614k", "86400"]),
    ],
)
def test_columns_of_a_long_attack_stay_apart(queries: int, seconds: float, shown: list) -> None:
    one = replace(outcome("int16", np.ones(9, bool)), queries=np.full(9, queries), seconds=seconds)
    line = terminal.cell_line(one, 0.95)
    assert line.split()[-2:] == shown
    assert len(line) == len(terminal.HEADING) < WIDTH


def lines(verbose: bool = False, **changes: object) -> list[str]:
    summary = terminal.Summary(run("measured", **changes), Gate(), None, Options(), verbose=verbose)
    return summary.lines()


def test_the_worst_cell_of_each_budget_is_shown_of_what_ships() -> None:
    l2 = cell("int16", "square-l2", 0.5, 0.9, norm="l2", id="int16-square-l2-direct")
    shown = [line for line in lines(outcomes=(*run("measured").outcomes, l2)) if "worst at" in line]
    assert [line.rsplit(" ", 6)[0] for line in shown] == [
        "worst at 8/255: int8-pgd-8/255-direct",
        "worst at 2/255: int8-pgd-2/255-direct",
        "worst at L2 0.5: int16-square-l2-direct",
    ]
    assert all(re.fullmatch(r".* \d+\.\d % of 40 \(.*-.* %\)", line) for line in shown)


def test_attacks_without_a_budget_are_shown_where_there_are_no_others() -> None:
    shown = lines(outcomes=(cell("int8", "deepfool", None, 0.0),))
    assert "worst: int8-deepfool-direct 0.0 % of 40 (0.0-8.8 %)" in shown


def test_a_squeezed_float_network_has_its_sentence_with_v_alone() -> None:
    cells = [
        cell(width, "pgd", 8 * STEP, 0.5, defense=defense)
        for width in ("int8", "float32")
        for defense in ("", "squeezed")
    ]
    given = tuple(ModelRecord(w, w, "tflm", None, w) for w in ("float32", "int8"))
    changes = {"outcomes": tuple(cells), "models": given}
    names = [line.partition(": ")[0] for line in lines(**changes) if " clean -> " in line]
    assert names == ["int8", "float32", "squeezed int8"]
    names = [line.partition(": ")[0] for line in lines(True, **changes) if " clean -> " in line]
    assert names == ["int8", "float32", "squeezed int8", "squeezed float32"]
