"""The suite's own requirements catch what they are there for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pytest_qnnrobust import attacks
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.plugin import checks

GRID = InputGrid(0.1, 0, "int8")
CLEAN = np.full((2, 4), 0.5, np.float32)
ATTACK = attacks.create("square-linf", eps=0.2)


def session(x_adv: np.ndarray) -> Any:
    crafted = SimpleNamespace(x_adv=x_adv.astype(np.float32))
    return SimpleNamespace(data=SimpleNamespace(x=CLEAN), craft=lambda *asked: crafted)


def model(grid: InputGrid | None = None) -> Any:
    return SimpleNamespace(bounds=(0.0, 0.6), grid=grid, width="int8", input_shape=(4,))


@pytest.mark.parametrize("grid", [None, GRID])
def test_legal_examples_pass(grid: InputGrid | None) -> None:
    x_adv = CLEAN.copy()
    x_adv[0] = 0.3
    checks.require_legal_examples(session(x_adv), model(grid), ATTACK)


@pytest.mark.parametrize(
    ("value", "grid", "problem"),
    [
        (0.65, None, r"outside of \(0.0, 0.6\)"),
        (0.2, None, "0.3 away, eps=0.2"),
        (0.44, GRID, "off the input grid"),
    ],
)
def test_illegal_examples_fail(value: float, grid: InputGrid | None, problem: str) -> None:
    x_adv = CLEAN.copy()
    x_adv[1, 2] = value
    with pytest.raises(pytest.fail.Exception, match=problem):
        checks.require_legal_examples(session(x_adv), model(grid), ATTACK)


@pytest.mark.parametrize(("eps", "skipped"), [(0.05, True), (0.1, False), (0.3, False)])
def test_budget_below_one_step_is_skipped(eps: float, skipped: bool) -> None:
    attack = attacks.create("square-linf", eps=eps)
    if not skipped:
        checks.require_reachable_budget(model(GRID), attack)
        return
    with pytest.raises(pytest.skip.Exception, match="less than one int8 input step"):
        checks.require_reachable_budget(model(GRID), attack)


@pytest.mark.parametrize("grid", [None, GRID])
def test_a_budget_that_holds_every_input_is_skipped(grid: InputGrid | None) -> None:
    attack = attacks.create("square-l1", eps=2.5)
    with pytest.raises(pytest.skip.Exception, match=r"more than any two inputs are apart \(2.4\)"):
        checks.require_reachable_budget(model(grid), attack)
