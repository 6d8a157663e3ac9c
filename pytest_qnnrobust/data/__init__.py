"""Labelled test data in the units of the models.

Public names load on first use (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_qnnrobust.data.samples import Data as Data
    from pytest_qnnrobust.data.samples import load_data as load_data

__all__ = ["Data", "load_data"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("pytest_qnnrobust.data.samples"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
