"""What the process that prints collects from tests and workers, and writes down."""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_qnnrobust.plugin.stash import (
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


def write_reports(gathered: Session, session: pytest.Session) -> None:
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


def shell_command(config: pytest.Config) -> str:
    """What a shell would repeat the run by."""
    return shlex.join(["pytest", *map(str, config.invocation_params.args)])
