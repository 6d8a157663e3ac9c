"""Labelled test data in the units of the models.

Public names load on first use (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_qnnrobust.exports import on_first_use

if TYPE_CHECKING:
    from pytest_qnnrobust.data.samples import Data as Data
    from pytest_qnnrobust.data.samples import load_data as load_data

_HOMES = {"Data": "samples", "load_data": "samples"}

__all__ = list(_HOMES)

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
