"""Cells (model x attack x mode), their outcomes, and the cache that both may come from.

Public names load on first use (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_qnnrobust.exports import on_first_use

if TYPE_CHECKING:
    from pytest_qnnrobust.evaluation.cells import MODES as MODES
    from pytest_qnnrobust.evaluation.cells import Cell as Cell
    from pytest_qnnrobust.evaluation.cells import Mode as Mode
    from pytest_qnnrobust.evaluation.cells import Outcome as Outcome
    from pytest_qnnrobust.evaluation.evaluator import Evaluator as Evaluator
    from pytest_qnnrobust.evaluation.evaluator import evaluate as evaluate

_HOMES = {
    "Cell": "cells",
    "Evaluator": "evaluator",
    "MODES": "cells",
    "Mode": "cells",
    "Outcome": "cells",
    "evaluate": "evaluator",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
