"""Reporter of a run: collects from tests and workers, in the process that prints, and writes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_qnnrobust.errors import FileChangedError
from pytest_qnnrobust.plugin.stash import (
    FILES,
    REFUSAL,
    end_run,
    options_key,
    session_key,
    session_of,
)

if TYPE_CHECKING:
    from pytest_qnnrobust.run.session import Session

WORKEROUTPUT = "qnnrobust"


class Reporter:
    """Collects, in the process that prints, what the tests and the workers report."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        options, keywords = self._config.stash[options_key], report.keywords
        if "qnn" not in keywords or ("qnn_quantizer" in keywords and not options.gate):
            return
        # Asked for the session only here: to make one is to import NumPy and more.
        if report.failed:
            message = report.longreprtext.strip().splitlines() or [report.when or "failed"]
            session_of(self._config).gathered.failed[report.nodeid] = message[-1][:1000]
        if report.skipped and not hasattr(report, "wasxfail"):
            tail = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            reason = tail.removeprefix("Skipped: ")
            session_of(self._config).gathered.skipped[report.nodeid] = reason

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
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
                closed=session.closed is not None,
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
    """Write what --qnn-report and a CI job ask for; a folder that refuses it fails the run."""
    from pytest_qnnrobust.errors import QnnRobustError

    folder = run.options.report
    if run.closed is None or not (folder or os.environ.get("GITHUB_STEP_SUMMARY")):
        return
    from pytest_qnnrobust.report import files

    passed = session.exitstatus == pytest.ExitCode.OK
    try:
        if folder is not None:
            run.written += files.write(folder, run.closed, passed)
        if summary := files.write_job_summary(run.closed, passed):
            run.written.append(summary)
    except QnnRobustError as error:
        run.gate = replace(run.gate, problems=(*run.gate.problems, str(error)))
        session.exitstatus = pytest.ExitCode.USAGE_ERROR


def shell_command(config: pytest.Config) -> str:
    """The shell command that repeats the run."""
    return shlex.join(["pytest", *map(str, config.invocation_params.args)])
