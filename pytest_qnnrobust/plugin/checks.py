"""Requirements of the shipped suite: they pass, skip or fail a test, naming what decided."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import Attack
from pytest_qnnrobust.attacks.base import out_of_reach
from pytest_qnnrobust.defenses import Defended
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.gate import thresholds
from pytest_qnnrobust.metrics import lp_norm
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.integer import IntegerModel
from pytest_qnnrobust.options import INCONCLUSIVE
from pytest_qnnrobust.results.document import SequentialRecord
from pytest_qnnrobust.run.session import Session
from pytest_qnnrobust.run.subjects import Defense, MissingError
from pytest_qnnrobust.tflite.workload import Workload, workload
from pytest_qnnrobust.types import WIDTHS

QUESTIONS = 60_000
"""Largest number of queries that a width may be asked for its measured gradients."""

LEAST_SAMPLES = 6
"""Smallest number of samples compared: fewer pairs are never significant."""


def require_selected(session: Session, *names: str) -> None:
    """Skip where --qnn-attack leaves out an attack that the test is about."""
    left_out = [name for name in names if name not in session.attacks.ids]
    if left_out:
        pytest.skip(f"--qnn-attack leaves out {', '.join(left_out)}")


def comparable_models(session: Session) -> dict[str, Model]:
    """The models of all widths that there are; skips where there are fewer than two."""
    models: dict[str, Model] = {}
    for width in WIDTHS:
        with suppress(MissingError):
            models[width] = session.subject(width).model
    if len(models) < 2:
        pytest.skip("a comparison of widths needs two of them")
    return models


def clean_baseline(
    session: Session, outcomes: Mapping[str, Outcome]
) -> dict[str, NDArray[np.bool_]]:
    """Masks by width: whether the plain model is right on the clean samples of the outcome."""
    plain = comparable_models(session)
    return {w: session.right_on_clean(plain[w])[: len(outcome)] for w, outcome in outcomes.items()}


def squeezed(session: Session, model: Model) -> Defended:
    """`model` behind the run's feature squeezing; skips where there is none."""
    try:
        return session.cells.squeezed(model)
    except MissingError as missing:
        pytest.skip(str(missing))


def measured_gradient(session: Session, model: Model) -> NDArray[np.float32]:
    """The loss gradient of the first samples by differences, as the paper measured its zeros.

    The step is the same for every width: --qnn-probe-steps of the 255 that an int8 input has.
    Skips where fewer than `LEAST_SAMPLES` could be asked for within `QUESTIONS`.
    """
    x, y = session.data
    n = QUESTIONS // (2 * int(np.prod(model.input_shape)))
    if n < LEAST_SAMPLES:
        pytest.skip(f"measured gradients of {LEAST_SAMPLES} samples ask over {QUESTIONS} questions")
    steps = session.options.probe_steps
    if model.grid is not None:
        steps = max(1, round(steps * session.attacks.span / 255 / model.grid.scale))
    measured = session.cached(model.with_gradient("finite-difference", steps))
    return measured.loss_gradient(x[:n], y[:n]).gradient


def true_class_rank(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Rank (N,) of the true class among the scores (N, classes): 0 where it is the highest.

    Of equal scores the class of the lower index counts as the higher one.
    """
    order = np.argsort(-logits, axis=1, kind="stable")
    return np.asarray(np.argmax(order == labels[:, None], axis=1), np.int64)


def require_widths(defense: Defense, needed: str, least: int) -> None:
    """Skip where a defence lacks the width `needed`, or has fewer than `least` in all."""
    if needed not in defense.models or len(defense.models) < least:
        have = ", ".join(defense.models)
        pytest.skip(f"{defense.name} needs a {needed} model and a quantized one; it has {have}")


def integer_graph(models: Mapping[str, Model]) -> tuple[str, Workload]:
    """The first integer model's width and what its graph asks of a device; skips without one."""
    for width, model in models.items():
        if isinstance(model, IntegerModel):
            return width, workload(model.interpreter.plan.graph)
    pytest.skip("computation is counted on an integer .tflite run by TFLM's arithmetic")


def require_reachable_budget(model: Model, attack: Attack) -> None:
    """Skip an attack whose budget says nothing of robustness: below an input step, or no limit."""
    reason = out_of_reach(model, attack)
    if reason:
        pytest.skip(reason)


def require_legal_examples(
    session: Session, model: Model, attack: Attack, samples: int | None = None
) -> None:
    """Fail where an example of the first `samples` leaves the bounds, the eps ball or the grid."""
    x_adv = session.craft(model, attack, samples).x_adv
    given = clean = session.data.x[: len(x_adv)]
    if model.grid is not None:
        clean = model.grid.snap(clean)
    low, high = model.bounds
    slack = 1e-5 * (high - low)
    problems = []
    if len(x_adv) and (x_adv.min() < low - slack or x_adv.max() > high + slack):
        problems.append(f"outside of {model.bounds}")
    eps = getattr(attack, "eps", None)
    moved = (x_adv != given).reshape(len(x_adv), -1).any(axis=1)
    if eps is not None:
        reach = lp_norm(x_adv.astype(np.float64) - clean, cast(Any, attack).norm)[moved]
        if reach.max(initial=0.0) > eps + slack:
            problems.append(f"{reach.max():.6g} away, eps={eps:.6g}")
    if model.grid is not None and np.any(model.grid.snap(x_adv[moved]) != x_adv[moved]):
        problems.append("off the input grid")
    if problems:
        pytest.fail(f"adversarial examples {' and '.join(problems)}", pytrace=False)


def require_accuracy(session: Session, outcome: Outcome) -> None:
    """Fail where the cell is below its --qnn-min-accuracy.

    Where --qnn-sequential watched it: fail where it is surely below, skip where that is open.
    """
    record = thresholds.watched(session.gathered.sequential.values(), outcome.id)
    if record is not None:
        _require_decided(session, record)
        return
    threshold = thresholds.strictest(session.options.min_accuracy, outcome.id)
    if threshold and thresholds.is_below(outcome, [threshold], ()):
        interval = outcome.interval(1 - session.options.alpha)
        pytest.fail(
            f"{outcome.id}: accuracy {outcome.accuracy:.3f} [{interval.low:.3f}, "
            f"{interval.high:.3f}] of {len(outcome)} samples is below {threshold.accuracy:g}",
            pytrace=False,
        )


def _require_decided(session: Session, record: SequentialRecord) -> None:
    """Fail where the claim is violated; where it is open, do as --qnn-inconclusive says."""
    text = f"{record.cell} {record}"
    if record.value == "violated":
        pytest.fail(text, pytrace=False)
    if record.value == "undecided" and session.options.inconclusive == "fail":
        pytest.fail(INCONCLUSIVE + text, pytrace=False)
    if record.value == "undecided" and session.options.inconclusive == "warn":
        pytest.skip(INCONCLUSIVE + text)
