"""Classifiers under attack: every file and runtime behind one `Model`.

Public names load on first use (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    "CHUNK": "models.base",
    "Float": "types",
    "Gradient": "models.base",
    "GradientSource": "types",
    "InputGrid": "models.grid",
    "Labels": "types",
    "Model": "models.base",
    "Runtime": "types",
    "Scores": "models.base",
    "Width": "types",
    "Wrapper": "models.base",
    "load_model": "models.load",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"pytest_qnnrobust.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
