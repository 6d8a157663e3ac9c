"""The laws of quantization on the quantizer of --qnn-quantizer, one test each; no model needed."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.plugin.stash import options_key
from pytest_qnnrobust.quantizers.base import QuantizerUnderTest, prepare
from pytest_qnnrobust.quantizers.check import LAWS, Failure, examine
from pytest_qnnrobust.quantizers.laws import Law

pytestmark = pytest.mark.qnn_quantizer


@pytest.fixture(scope="session")
def tested(qnn_quantizer: Any) -> QuantizerUnderTest:
    """The quantizer with its claims, fitted where it has to be."""
    try:
        return prepare(qnn_quantizer)
    except QnnRobustError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_law(tested: QuantizerUnderTest, law: Law, pytestconfig: pytest.Config) -> None:
    """Every input of the law's strategy; a failure is the smallest counter-example."""
    outcome = examine(law, tested, seed=pytestconfig.stash[options_key].seed)
    if isinstance(outcome, Failure):
        pytest.fail(str(outcome), pytrace=False)
    if outcome:
        pytest.skip(f"{law.name} does not apply: {outcome}")
