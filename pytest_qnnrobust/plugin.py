"""The pytest plugin: hooks and fixtures. Nothing heavier than pytest is imported at start-up."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_qnnrobust import options
from pytest_qnnrobust.options import ini
from pytest_qnnrobust.stash import (
    is_worker,
    load,
    options_key,
    or_usage_error,
    quantizer,
    quantizer_key,
    session_key,
    session_of,
    usable_quantizer,
)

if TYPE_CHECKING:
    from pytest_qnnrobust.attacks import Attack
    from pytest_qnnrobust.data.samples import Data
    from pytest_qnnrobust.evaluation.cells import Outcome
    from pytest_qnnrobust.models.base import Model
    from pytest_qnnrobust.run.session import Session
    from pytest_qnnrobust.run.subjects import Defense

FINISHED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
SUITE = Path(__file__).resolve().parents[1] / "robustness_tests"
WORKEROUTPUT = "qnnrobust"
LAWS = SUITE / "test_quantizer.py"
WIDTHS = ("float32", "int16", "int8")
NO_DEFENSE = "undefended"
MARKERS = (
    "qnn: test of a model's robustness",
    "qnn_clean: accuracy without an attack",
    "qnn_direct: attack on the model itself",
    "qnn_transfer: attack on the float model, its examples given to a quantized one",
    "qnn_defended: a network trained to resist attacks, beside the plain one",
    "qnn_squeezed: the networks behind feature squeezing",
    "qnn_takeaway: a published relation, judged on these models",
    "qnn_observation: a published relation of another paper, judged on these models",
    "qnn_sanity: keeps a weak attack from passing as robustness",
    "qnn_quantizer: law of a quantizer; needs no model",
    "qnn_law: law of the integer graph; needs no data",
    "qnn_together(attack): asks for cells of this attack, which --qnn-shard keeps together",
)

Found = TypeVar("Found")


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Runs before pytest's cache takes its folder from the root."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    chosen = config.stash[options_key] = options.from_config(config)
    if chosen.jobs is not None and (is_worker(config) or config.getoption("numprocesses", None)):
        raise pytest.UsageError("expected one of --qnn-jobs and pytest-xdist's -n, got both")
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        if any(argument.startswith("--qnn-") for argument in config.invocation_params.args):
            _stay_in_this_folder(config)
        config.args = [str(path) for path in _suite(config)] or config.args
    else:
        config.args = [_suite_argument(arg, config.invocation_params.dir) for arg in config.args]
    if not is_worker(config):
        config.pluginmanager.register(_Reporter(config), "qnnrobust-reporter")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    config, chosen = session.config, session.config.stash[options_key]
    if is_worker(config):
        return
    if LAWS in _suite(config):
        or_usage_error(lambda: usable_quantizer(config))
    if chosen.gate:
        load(config)
    if chosen.baseline or chosen.suppressions:
        or_usage_error(lambda: session_of(config).held_to)


def pytest_report_header(config: pytest.Config) -> list[str]:
    session, chosen = config.stash.get(session_key, None), config.stash[options_key]
    of_quantizer = quantizer_key in config.stash
    found = [f"qnnrobust: quantizer {chosen.quantizer}"] if of_quantizer else []
    if session is None or not chosen.gate:
        return found
    from pytest_qnnrobust.report import header

    return header.lines(session) + found


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    if module_path.parent != SUITE:
        return None
    nodeid = f"{SUITE.name}/{module_path.name}"
    module: pytest.Module = _SuiteModule.from_parent(parent, path=module_path, nodeid=nodeid)
    return module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, values in PARAMETERS.items():
        if fixture in metafunc.fixturenames and not _is_parametrized(metafunc, fixture):
            metafunc.parametrize(fixture, values(metafunc.config), indirect=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.path.parent == SUITE:
        item.location = (item.nodeid.split("::")[0], *item.location[1:])
        item.add_marker(pytest.mark.filterwarnings("ignore"))
    if any(name.startswith("qnn_") for name in getattr(item, "fixturenames", ())):
        item.add_marker("qnn")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if (shard := config.stash[options_key].shard) is not None:
        from pytest_qnnrobust import sharding

        items[:], others = sharding.split(items, *shard)
        config.hook.pytest_deselected(items=others)


class _Reporter:
    """Collects, in the process that prints, what the tests and the workers report."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "qnn_quantizer" in report.keywords and not self._config.stash[options_key].gate:
            return
        expected = hasattr(report, "wasxfail")
        if report.failed and "qnn" in report.keywords:
            message = report.longreprtext.strip().splitlines() or [report.when or "failed"]
            session_of(self._config).failed[report.nodeid] = message[-1][:1000]
        if report.skipped and not expected and "qnn" in report.keywords:
            tail = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            session_of(self._config).skipped[report.nodeid] = tail.removeprefix("Skipped: ")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        values = getattr(node, "workeroutput", {}).get(WORKEROUTPUT)
        if values:
            session_of(self._config).merge(values)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        session = self._config.stash.get(session_key, None)
        if session is not None:
            from pytest_qnnrobust.report import terminal

            terminal.write(terminalreporter, session)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        result = yield
        session = self._config.stash.get(session_key, None)
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        listing = self._config.getoption("collectonly")
        if session and terminal and not session.outcomes and not listing:
            from pytest_qnnrobust.report.terminal import not_measured

            terminal.write_line(not_measured(session))
        return result


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    gathered = config.stash.get(session_key, None)
    if gathered is None or config.getoption("collectonly"):
        return
    if is_worker(config):
        config.workeroutput[WORKEROUTPUT] = gathered.to_json()  # type: ignore[attr-defined]
        return
    gathered.tidy_cache()
    if session.exitstatus in FINISHED:
        if not gathered.close(_command(config)):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        _write_reports(gathered, session)


@pytest.fixture(scope="session")
def qnn_session(pytestconfig: pytest.Config) -> Session:
    """What this run gathers: models, data, outcomes, verdicts, notes."""
    session = session_of(pytestconfig)
    load(pytestconfig)
    return session


@pytest.fixture(scope="session")
def qnn_float(qnn_session: Session) -> Model:
    """The float model, given or derived from an integer file; skips where there is none."""
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
    """Each width in turn; a width that is neither given nor derivable is skipped."""
    return _model(qnn_session, request.param)


@pytest.fixture
def qnn_defense(request: pytest.FixtureRequest, qnn_session: Session) -> Defense:
    """Each defence of --qnn-defended in turn; skips where there is none."""
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
    """The labelled test data, `x, y = qnn_data`; skips where there is none."""
    return _or_skip(lambda: qnn_session.data)


@pytest.fixture
def qnn_attack(request: pytest.FixtureRequest, qnn_session: Session) -> Attack:
    """Each attack of the run in turn, at the profile's budget."""
    return qnn_session.attack(request.param)


@pytest.fixture
def qnn_evaluate(
    request: pytest.FixtureRequest, qnn_session: Session, qnn_data: Data
) -> Callable[..., Outcome]:
    """`qnn_evaluate(model, attack, mode="direct")` -> the cell's Outcome, kept for the summary.

    `mode="transfer"` attacks the float model, or `source`, and gives its examples to `model`.
    `samples` limits the cell to the first ones, `record=False` keeps it out of the summary.
    `stop=True` lets --qnn-sequential end it once what the cell is held to is certain.
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
        cell = _or_skip(lambda: qnn_session.cell(model, attack, mode, source))
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

    `finding=True`: a published observation that says nothing bad of a model on which it does not
    hold; there the test is an expected failure, unless --qnn-findings=fail.
    """

    def judge(verdict: Any, finding: bool = False) -> None:
        qnn_session.judge(verdict, finding)
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


def _write_reports(gathered: Session, session: pytest.Session) -> None:
    """What --qnn-report and a CI job ask for; a folder that cannot be written fails the run."""
    from pytest_qnnrobust.errors import QnnRobustError

    folder = gathered.options.report
    if gathered.closed is None or not (folder or os.environ.get("GITHUB_STEP_SUMMARY")):
        return
    from pytest_qnnrobust.report import files

    passed = session.exitstatus == pytest.ExitCode.OK
    try:
        if folder is not None:
            gathered.written += files.write(folder, gathered.closed, passed)
        if summary := files.write_job_summary(gathered.closed, passed):
            gathered.written.append(summary)
    except QnnRobustError as error:
        gathered.gate = replace(gathered.gate, problems=(*gathered.gate.problems, str(error)))
        session.exitstatus = pytest.ExitCode.USAGE_ERROR


def _command(config: pytest.Config) -> str:
    """What a shell would repeat the run by."""
    return shlex.join(["pytest", *map(str, config.invocation_params.args)])


class _SuiteModule(pytest.Module):
    """A module of the shipped suite: collected whatever naming patterns the user's ini sets."""

    def funcnamefilter(self, name: str) -> bool:
        return name.startswith("test_")

    def classnamefilter(self, name: str) -> bool:
        return False


def _suite(config: pytest.Config) -> list[Path]:
    """The modules of the shipped suite that the command line asks for."""
    chosen = config.stash[options_key]
    found = sorted(path for path in SUITE.glob("test_*.py") if path != LAWS) if chosen.gate else []
    named = config.getoption("qnn_quantizer") is not None
    return [*found, LAWS] if chosen.quantizer and (chosen.gate or named) else found


def _defenses(config: pytest.Config) -> tuple[str, ...]:
    names = tuple(files.name for files in config.stash[options_key].defended)
    return names or (NO_DEFENSE,)


PARAMETERS: dict[str, Callable[[pytest.Config], tuple[str, ...]]] = {
    "qnn_model": lambda _: WIDTHS,
    "qnn_attack": lambda config: session_of(config).attack_ids,
    "qnn_defense": _defenses,
}
"""The fixtures that run a test once for each of these ids."""


def _model(session: Session, width: str) -> Model:
    return _or_skip(lambda: session.subject(width).model)


def _or_skip(get: Callable[[], Found]) -> Found:
    from pytest_qnnrobust.run.subjects import MissingError

    try:
        return get()
    except MissingError as missing:
        pytest.skip(str(missing))


def _suite_argument(argument: str, folder: Path) -> str:
    """A node id of the shipped suite, as reports print it, is an argument in any folder."""
    head, separator, tail = argument.partition("::")
    if Path(head).parts[:1] != (SUITE.name,) or (folder / head).exists():
        return argument
    return str(SUITE.parent / head) + separator + tail


def _stay_in_this_folder(config: pytest.Config) -> None:
    """Undo that pytest took a model's path for a test path and made its folder the root.

    Without this, in `--qnn-model ../models/m.tflite`, the cache would be written over there.
    """
    if config.getoption("rootdir", None) or config.getoption("inifilename", None):
        return
    here = config.invocation_params.dir
    path, _ = ini.nearest(here)
    config._rootpath = path.parent if path else here


def _is_parametrized(metafunc: pytest.Metafunc, fixture: str) -> bool:
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0]
        names = names.split(",") if isinstance(names, str) else names
        if fixture in (name.strip() for name in names):
            return True
    return False
