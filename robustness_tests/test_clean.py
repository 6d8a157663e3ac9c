"""Accuracy without an attack: what quantization alone costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pytest_qnnrobust.claims import takeaways
from pytest_qnnrobust.claims.verdicts import Verdict
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.run.session import Session

pytestmark = pytest.mark.qnn_clean


@pytest.mark.usefixtures("qnn_data")
def test_clean_accuracy_is_above_chance(qnn_model: Model, qnn_session: Session) -> None:
    right = qnn_session.right_on_clean(qnn_model)
    qnn_session.gathered.note(
        f"clean accuracy {qnn_model.width}", f"{100 * right.mean():.2f} % of {len(right)} samples"
    )
    common = np.bincount(qnn_session.clean_data.y).max() / len(right)
    if right.mean() <= common:
        pytest.fail(
            f"{qnn_model.width} is right on {100 * right.mean():.1f} % of {len(right)} samples, no "
            f"more than always answering the commonest class ({100 * common:.1f} %): check the "
            f"labels and the input domain {qnn_model.bounds}",
            pytrace=False,
        )


@pytest.mark.usefixtures("qnn_data")
@pytest.mark.parametrize("qnn_model", ["int16", "int8"], indirect=True)
def test_clean_accuracy_parity(
    qnn_model: Model,
    qnn_float: Model,
    qnn_session: Session,
    qnn_judge: Callable[[Verdict], None],
) -> None:
    """Quantization does not cost more clean accuracy than the margin (--qnn-margin)."""
    qnn_judge(
        takeaways.clean_parity(
            f"{qnn_model.width} keeps the clean accuracy of float32",
            (qnn_model.width, qnn_session.right_on_clean(qnn_model)),
            ("float32", qnn_session.right_on_clean(qnn_float)),
            qnn_session.rule,
        )
    )
