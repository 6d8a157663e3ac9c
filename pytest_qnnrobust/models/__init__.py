"""Classifiers under attack: every file and runtime behind one `Model`.

Public names load on first use (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_qnnrobust.exports import on_first_use

if TYPE_CHECKING:
    from pytest_qnnrobust.models.base import CHUNK as CHUNK
    from pytest_qnnrobust.models.base import Gradient as Gradient
    from pytest_qnnrobust.models.base import Model as Model
    from pytest_qnnrobust.models.base import Scores as Scores
    from pytest_qnnrobust.models.base import Wrapper as Wrapper
    from pytest_qnnrobust.models.grid import InputGrid as InputGrid
    from pytest_qnnrobust.models.load import load_model as load_model
    from pytest_qnnrobust.types import Float as Float
    from pytest_qnnrobust.types import GradientSource as GradientSource
    from pytest_qnnrobust.types import Labels as Labels
    from pytest_qnnrobust.types import Runtime as Runtime
    from pytest_qnnrobust.types import Width as Width

_HOMES = {
    "CHUNK": "base",
    "Float": ".types",
    "Gradient": "base",
    "GradientSource": ".types",
    "InputGrid": "grid",
    "Labels": ".types",
    "Model": "base",
    "Runtime": ".types",
    "Scores": "base",
    "Width": ".types",
    "Wrapper": "base",
    "load_model": "load",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
