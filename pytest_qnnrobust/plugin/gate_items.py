"""Requirements of the whole run as tests: collected with the others, judged after them.

No process but the one that prints has the outcomes of all workers. So a test of a requirement only
notes that it was asked for; when the others are done, it is reported like any test.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.options import INCONCLUSIVE
from pytest_qnnrobust.plugin.stash import is_worker, load, options_key, session_of
from pytest_qnnrobust.plugin.suite import GATE, SUITE, SuiteModule, names_tests

if TYPE_CHECKING:
    from pytest_qnnrobust.results.document import RequirementRecord

deselected_key = pytest.StashKey[bool]()
"""Whether the user left out tests of the suite, whose cells a requirement may need."""


class GateModule(SuiteModule):
    """The module of the suite whose tests are the requirements of the run."""

    def collect(self) -> Iterator[pytest.Item]:
        if not is_worker(self.config):
            load(self.config)
        try:
            names = list(session_of(self.config).requirements)
        except QnnRobustError:
            # The controller has read the files; a worker that cannot says so in its first test.
            return
        for name in names:
            # Spelt out, so that the part in brackets is read as that of a parametrized test.
            yield GateItem.from_parent(self, name=name, nodeid=f"{self.nodeid}::{name}")


class GateItem(pytest.Item):
    """One requirement, named by its id."""

    def runtest(self) -> None:
        """Do nothing: `report` judges all requirements together."""

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, self.name


def note(item: GateItem) -> None:
    """Note that a requirement was asked for, and attack what it is about where no test does."""
    config = item.config
    session = session_of(config)
    session.gathered.asked[item.name] = None
    if names_tests(config) or config.stash.get(deselected_key, False):
        failed_before = bool(config.getoption("lf", False))
        session.measure_for(session.requirements[item.name], failed_before)


def report(config: pytest.Config, command: str) -> None:
    """Judge the requirements that were asked for, and report each as a test."""
    for record in session_of(config).judge(command):
        nodeid = f"{SUITE.name}/{GATE.name}::{record.name}"
        location = (f"{SUITE.name}/{GATE.name}", None, record.name)
        outcome, text = _outcome(record, config.stash[options_key].inconclusive)
        longrepr: Any = text if outcome == "failed" else None
        if outcome == "skipped":
            longrepr = (str(GATE), 0, f"Skipped: {text}")
        config.hook.pytest_runtest_logstart(nodeid=nodeid, location=location)
        for when in ("setup", "call", "teardown"):
            made = pytest.TestReport(
                nodeid=nodeid,
                location=location,
                keywords={record.name: 1, "qnn": 1, "qnn_gate": 1},
                outcome=outcome if when == "call" else "passed",
                longrepr=longrepr if when == "call" else None,
                when=when,
                user_properties=[(record.name, record.text)],
            )
            config.hook.pytest_runtest_logreport(report=made)
        config.hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)


def _outcome(
    record: RequirementRecord, inconclusive: str
) -> tuple[Literal["passed", "failed", "skipped"], str]:
    """The outcome of the test of a requirement, and its message."""
    if record.accepted:
        return "skipped", f"accepted: {record.accepted}; {record.text}"
    if record.value == "violated":
        return "failed", record.text
    if record.value == "held" or inconclusive == "pass":
        return "passed", record.text
    text = INCONCLUSIVE + record.text
    return ("failed" if inconclusive == "fail" else "skipped"), text
