"""The fixtures of a run: models, data, attacks, and what evaluates and judges them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_qnnrobust import options
from pytest_qnnrobust.plugin.stash import (
    load,
    options_key,
    quantizer,
    session_of,
)

if TYPE_CHECKING:
    from pytest_qnnrobust.attacks import Attack
    from pytest_qnnrobust.data.samples import Data
    from pytest_qnnrobust.evaluation.cells import Outcome
    from pytest_qnnrobust.models.base import Model
    from pytest_qnnrobust.run.session import Session
    from pytest_qnnrobust.run.subjects import Defense

NO_DEFENSE = "undefended"

T = TypeVar("T")


@pytest.fixture(scope="session")
def qnn_session(pytestconfig: pytest.Config) -> Session:
    """The session of this run: its options, models, data and attacks, and what its tests report.

    A model or data file that cannot be used ends the run with one line.
    """
    session = session_of(pytestconfig)
    load(pytestconfig)
    return session


@pytest.fixture(scope="session")
def qnn_float(qnn_session: Session) -> Model:
    """The float32 model, given or derived from an integer file; skips where there is none.

    As for every model, `predict` maps float32 (N, *input_shape), in model input units, to float32
    (N, classes).
    """
    return _model(qnn_session, "float32")


@pytest.fixture(scope="session")
def qnn_int16(qnn_session: Session) -> Model:
    """The int16x8 model, given or quantized from the float one; skips where there is none."""
    return _model(qnn_session, "int16")


@pytest.fixture(scope="session")
def qnn_int8(qnn_session: Session) -> Model:
    """The int8 model, given or quantized from the float one; skips where there is none."""
    return _model(qnn_session, "int8")


@pytest.fixture
def qnn_model(request: pytest.FixtureRequest, qnn_session: Session) -> Model:
    """The model of each width in turn; skips where it is neither given nor derivable."""
    return _model(qnn_session, request.param)


@pytest.fixture
def qnn_defense(request: pytest.FixtureRequest, qnn_session: Session) -> Defense:
    """Each defence of --qnn-defended in turn, with its `name` and `models` by width; skips where
    there is none.
    """
    if request.param == NO_DEFENSE:
        pytest.skip("no defended model: give --qnn-defended NAME=FILE[,FILE...]")
    return qnn_session.subjects.defenses[request.param]


@pytest.fixture(scope="session")
def qnn_quantizer(pytestconfig: pytest.Config) -> Any:
    """The quantizer of --qnn-quantizer; skips where there is none."""
    from pytest_qnnrobust.errors import QnnRobustError

    if pytestconfig.stash[options_key].quantizer is None:
        pytest.skip("no quantizer: give --qnn-quantizer MODULE:OBJECT")
    try:
        return quantizer(pytestconfig)
    except QnnRobustError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.fixture(scope="session")
def qnn_data(qnn_session: Session) -> Data:
    """The samples to attack, `x, y = qnn_data`; skips where no data was given.

    `x` is float32 (N, *input_shape) in model input units, `y` int64 (N,).
    """
    return _or_skip(lambda: qnn_session.data)


@pytest.fixture
def qnn_attack(request: pytest.FixtureRequest, qnn_session: Session) -> Attack:
    """Each attack of the run in turn, at each of its budgets (AttackPlan.runs)."""
    return qnn_session.attacks.attack(request.param)


@pytest.fixture
def qnn_evaluate(
    request: pytest.FixtureRequest, qnn_session: Session, qnn_data: Data
) -> Callable[..., Outcome]:
    """`qnn_evaluate(model, attack, mode="direct")` -> the cell's Outcome, kept for the summary.

    `mode="transfer"` attacks the float model, or `source`, and gives its examples to `model`; it
    skips where there is no such model. `samples` limits the cell to the first ones, `record=False`
    keeps it out of the summary, `stop=True` lets --qnn-sequential end it once all claims about it
    are decided. The test fails where the attack cannot be run on the model.
    """

    from pytest_qnnrobust.errors import AttackError

    def evaluate(
        model: Model,
        attack: Attack,
        mode: str = "direct",
        samples: int | None = None,
        record: bool = True,
        source: Model | None = None,
        stop: bool = False,
    ) -> Outcome:
        cell = _or_skip(lambda: qnn_session.cells.cell(model, attack, mode, source))
        try:
            outcome = qnn_session.evaluate(cell, samples, record, stop)
        except AttackError as error:
            pytest.fail(f"{cell.id}: {error}", pytrace=False)
        if record:
            text = f"{outcome.accuracy:.4f} of {len(outcome)}"
            request.node.user_properties.append((outcome.id, text))
        return outcome

    return evaluate


@pytest.fixture
def qnn_judge(request: pytest.FixtureRequest, qnn_session: Session) -> Callable[..., None]:
    """`qnn_judge(verdict)`: pass where it holds, fail where violated, skip where inconclusive.

    --qnn-inconclusive may have an inconclusive verdict pass or fail instead. `finding=True`: a
    published observation that says nothing bad of a model on which it does not hold; there the
    test is an expected failure, unless --qnn-findings=fail. `required=True`: the run says that it
    passed, not only measured, where this holds.
    """

    def judge(verdict: Any, finding: bool = False, required: bool = False) -> None:
        qnn_session.gathered.keep_verdict(verdict, finding)
        if required:
            qnn_session.gathered.keep_requirement(verdict)
        request.node.user_properties.append((verdict.name, str(verdict)))
        if verdict.value == "violated":
            if finding and qnn_session.options.findings == "report":
                pytest.xfail(f"a finding that does not hold here: {verdict}")
            pytest.fail(str(verdict), pytrace=False)
        policy = qnn_session.options.inconclusive
        if verdict.value == "inconclusive" and policy != "pass":
            text = f"{verdict.name}: {verdict.statement}; {verdict.sensitivity}"
            if policy == "fail" and not finding:
                pytest.fail(options.INCONCLUSIVE + text, pytrace=False)
            pytest.skip(options.INCONCLUSIVE + text)

    return judge


def _defenses(config: pytest.Config) -> tuple[str, ...]:
    names = tuple(files.name for files in config.stash[options_key].defended)
    return names or (NO_DEFENSE,)


def _attack_ids(config: pytest.Config) -> tuple[str, ...]:
    from pytest_qnnrobust.run.attack_plan import AttackPlan

    return AttackPlan(config.stash[options_key]).runs


def _widths(config: pytest.Config) -> tuple[str, ...]:
    from pytest_qnnrobust.types import WIDTHS

    return WIDTHS


PARAMETERS: dict[str, Callable[[pytest.Config], tuple[str, ...]]] = {
    "qnn_model": _widths,
    "qnn_attack": _attack_ids,
    "qnn_defense": _defenses,
}
"""The fixtures that run a test once for each of these ids."""


def _model(session: Session, width: str) -> Model:
    return _or_skip(lambda: session.subject(width).model)


def _or_skip(get: Callable[[], T]) -> T:
    from pytest_qnnrobust.run.subjects import MissingError

    try:
        return get()
    except MissingError as missing:
        pytest.skip(str(missing))
