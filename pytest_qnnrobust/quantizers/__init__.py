"""Quantizers, and the laws that every quantizer must keep; names load on first use (PEP 562)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_qnnrobust.quantizers.adapters import FixedPoint as FixedPoint
    from pytest_qnnrobust.quantizers.adapters import Function as Function
    from pytest_qnnrobust.quantizers.adapters import KerasAbsMax as KerasAbsMax
    from pytest_qnnrobust.quantizers.adapters import KerasFakeQuant as KerasFakeQuant
    from pytest_qnnrobust.quantizers.base import Quantizer as Quantizer
    from pytest_qnnrobust.quantizers.check import LAWS as LAWS
    from pytest_qnnrobust.quantizers.check import QuantizerLawError as QuantizerLawError
    from pytest_qnnrobust.quantizers.check import Report as Report
    from pytest_qnnrobust.quantizers.check import check_nested as check_nested
    from pytest_qnnrobust.quantizers.check import check_quantizer as check_quantizer

_HOMES = {
    "LAWS": "check",
    "FixedPoint": "adapters",
    "Function": "adapters",
    "KerasAbsMax": "adapters",
    "KerasFakeQuant": "adapters",
    "Quantizer": "base",
    "QuantizerLawError": "check",
    "Report": "check",
    "check_nested": "check",
    "check_quantizer": "check",
}

__all__ = [
    "LAWS",
    "FixedPoint",
    "Function",
    "KerasAbsMax",
    "KerasFakeQuant",
    "Quantizer",
    "QuantizerLawError",
    "Report",
    "check_nested",
    "check_quantizer",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
