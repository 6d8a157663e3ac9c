"""Reporter of a run: collects from tests and workers, in the process that prints, and writes."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_qnnrobust.errors import FileChangedError
from pytest_qnnrobust.plugin.stash import (
    FILES,
    REFUSAL,
    end_run,
    options_key,
    progress_key,
    session_key,
    session_of,
)
from pytest_qnnrobust.plugin.suite import NAMED, names_tests

if TYPE_CHECKING:
    from pytest_qnnrobust.run.session import Session

WORKEROUTPUT = "qnnrobust"


class Reporter:
    """Collects, in the process that prints, what the tests and the workers report."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        stash = self._config.stash
        progress, run = stash.get(progress_key, None), stash.get(session_key, None)
        attacks = stash[options_key].gate and not self._config.getoption("collectonly")
        if progress and run and attacks and run.subjects.data is not None:
            from pytest_qnnrobust.plugin import time_left

            progress.expect(time_left.of_run(session.items, run))

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if progress := self._config.stash.get(progress_key, None):
            progress.begin(nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if progress := self._config.stash.get(progress_key, None):
            progress.finish(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if progress := self._config.stash.get(progress_key, None):
            progress.erase()
        options, keywords = self._config.stash[options_key], report.keywords
        if "qnn" not in keywords or ("qnn_quantizer" in keywords and not options.gate):
            return
        # Asked for the session only here: to make one is to import NumPy and more.
        if report.failed:
            message = report.longreprtext.strip().splitlines() or [report.when or "failed"]
            session_of(self._config).gathered.failed[report.nodeid] = message[-1][:1000]
        # A requirement that is open stands among the requirements.
        is_open = "qnn_gate" in keywords
        if report.skipped and not (is_open or hasattr(report, "wasxfail")):
            tail = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            reason = tail.removeprefix("Skipped: ")
            session_of(self._config).gathered.skipped[report.nodeid] = reason

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[NAMED] = names_tests(self._config)
        if self._config.stash[options_key].gate:
            node.workerinput[FILES] = session_of(self._config).subjects.digests

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        output = getattr(node, "workeroutput", {})
        try:
            if refusal := output.get(REFUSAL):
                raise FileChangedError(refusal)
            if values := output.get(WORKEROUTPUT):
                session_of(self._config).gathered.merge(values)
        except FileChangedError as changed:
            end_run(self._config, changed)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        session = self._config.stash.get(session_key, None)
        if session is not None:
            from pytest_qnnrobust.report import terminal

            summary = terminal.Summary(
                results=session.closed or session.document(shell_command(self._config)),
                gate=session.gate,
                recorded=session.held_to.results,
                options=session.options,
                written=session.written,
                unwritten=tuple(session.gathered.unwritten.values()),
                closed=session.closed is not None,
                verbose=self._config.get_verbosity() > 0,
            )
            terminal.write(terminalreporter, summary)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        result = yield
        session = self._config.stash.get(session_key, None)
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        listing = self._config.getoption("collectonly")
        if session and terminal and not session.gathered.outcomes and not listing:
            from pytest_qnnrobust.report.terminal import not_measured
            from pytest_qnnrobust.run.subjects import NO_DATA

            options = session.options
            no_data = options.data is None and not options.demo
            terminal.write_line(not_measured(NO_DATA if no_data else "no cell ran"))
        return result


def write_reports(run: Session, session: pytest.Session) -> None:
    """Write what --qnn-report and a CI job ask for; an output that the disk refuses fails the run.

    That is exit code 4, whichever output of the run it was.
    """
    from pytest_qnnrobust.run import outputs

    report, summary = outputs.report(run.options), outputs.job_summary()
    if run.closed is not None and (report or summary):
        from pytest_qnnrobust.report import files

        passed = session.exitstatus == pytest.ExitCode.OK
        if report is not None:
            with run.writing(report):
                run.written += files.write(report.path, run.closed, passed and run.all_written)
        if summary is not None:
            with run.writing(summary):
                files.append_summary(summary.path, run.closed, passed and run.all_written)
                run.written.append(summary.path)
    if not run.all_written:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR


def shell_command(config: pytest.Config) -> str:
    """The shell command that repeats the run."""
    return shlex.join(["pytest", *map(str, config.invocation_params.args)])
