"""Regression tests for the adversarial robustness of quantized TensorFlow Lite models.

Public names load on first use (PEP 562): importing the package costs milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_qnnrobust.exports import on_first_use

if TYPE_CHECKING:
    from pytest_qnnrobust import attacks as attacks
    from pytest_qnnrobust import defenses as defenses
    from pytest_qnnrobust import strategies as strategies
    from pytest_qnnrobust.data.samples import Data as Data
    from pytest_qnnrobust.data.samples import load_data as load_data
    from pytest_qnnrobust.errors import QnnRobustError as QnnRobustError
    from pytest_qnnrobust.evaluation.cells import Cell as Cell
    from pytest_qnnrobust.evaluation.cells import Outcome as Outcome
    from pytest_qnnrobust.evaluation.evaluator import evaluate as evaluate
    from pytest_qnnrobust.models.base import Model as Model
    from pytest_qnnrobust.models.convert import convert as convert
    from pytest_qnnrobust.models.load import load_model as load_model
    from pytest_qnnrobust.quantizers.check import check_quantizer as check_quantizer

__version__ = "0.1.0"

_HOMES = {
    "Cell": "evaluation.cells",
    "Data": "data.samples",
    "Model": "models.base",
    "Outcome": "evaluation.cells",
    "QnnRobustError": "errors",
    "check_quantizer": "quantizers.check",
    "convert": "models.convert",
    "evaluate": "evaluation.evaluator",
    "load_data": "data.samples",
    "load_model": "models.load",
}
_MODULES = ("attacks", "defenses", "strategies")

__all__ = [
    "Cell",
    "Data",
    "Model",
    "Outcome",
    "QnnRobustError",
    "attacks",
    "check_quantizer",
    "convert",
    "defenses",
    "evaluate",
    "load_data",
    "load_model",
    "strategies",
]

__getattr__, __dir__ = on_first_use(__name__, _HOMES, _MODULES)
