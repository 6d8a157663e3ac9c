"""Which laws a quantizer breaks."""

from __future__ import annotations

from typing import Any

import pytest_qnnrobust as qnn
from pytest_qnnrobust.quantizers import QuantizerLawError


def failures(quantizer: Any, **changes: Any) -> dict[str, Any]:
    """The violation of each law that does not hold, by name."""
    try:
        qnn.check_quantizer(quantizer, **changes)
    except QuantizerLawError as error:
        return {failure.law: failure.violation for failure in error.failures}
    return {}
