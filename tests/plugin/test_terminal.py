"""The parts of the terminal report that need no run."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from pytest_qnnrobust.plugin import progress as progress_module
from pytest_qnnrobust.plugin.progress import Progress
from pytest_qnnrobust.report import terminal
from tests.helpers.outcomes import outcome


class Screen:
    """A terminal, its writer and its capture manager in one, `column` columns into a line."""

    def __init__(self, isatty: bool = True, column: int = 0) -> None:
        self.written: list[str] = []
        self.isatty = isatty
        self.width_of_current_line = column
        self._tw = self

    def write(self, text: str, flush: bool = False) -> None:
        self.written.append(text)

    def global_and_fixture_disabled(self) -> nullcontext[None]:
        return nullcontext()


@pytest.fixture
def screen() -> Screen:
    return Screen()


def test_progress_leaves_the_cursor_where_it_was(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(Progress(screen, screen), monkeypatch)  # type: ignore[arg-type]
    shown = [" PGD 0/8", " PGD 2/8, 5 min left", " PGD 6/8, 2 min left", ""]
    assert screen.written[0] == shown[0] + "\b" * len(shown[0])
    for written, note in zip(screen.written[1:], shown[1:], strict=True):
        assert written == note.ljust(20) + "\b" * 20


def show(progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show an attack on eight samples that takes 400 seconds, from second 0."""
    monkeypatch.setattr(Progress, "PATIENCE", 0.0)
    monkeypatch.setattr(Progress, "EVERY", 0.0)
    clock = iter([0.0, 100.0, 300.0, 400.0])
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: next(clock))
    for done in (0, 2, 6, 8):
        progress(done, 8, "PGD")


def test_progress_tells_the_time_that_the_rest_of_the_run_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Screen(column=60)
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: 0.0)
    progress = Progress(screen, screen)  # type: ignore[arg-type]
    progress.expect(["t.py::test_direct[int8-pgd-2/255]", "t.py::test_direct[int8-pgd-8/255]"])
    show(progress, monkeypatch)
    notes = [written.rstrip("\b").rstrip() for written in screen.written]
    assert notes[:2] == [" PGD 0/8", " PGD 2/8, run 12 m"]
    assert all(len(note) <= 80 - 60 - 2 for note in notes)


def test_progress_in_a_log_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(isatty=False)
    progress = Progress(screen, screen)  # type: ignore[arg-type]
    show(progress, monkeypatch)
    assert screen.written == [
        "\nqnnrobust: PGD 2/8, 5 min left\n", "\nqnnrobust: PGD 6/8, 2 min left\n",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("nodeid", "as_long_as"),
    [
        ("t::test_direct[int8-square-linf-8/255]", "square-linf"),
        ("t::test_direct[boundary-int8]", "boundary"),
        ("t::test_transfer[int8-apgd-t-2/255]", "apgd-t"),
    ],
)
def test_a_test_takes_as_long_as_its_attack(nodeid: str, as_long_as: str) -> None:
    assert progress_module.cost(nodeid) == progress_module.COSTS[as_long_as]
    assert progress_module.cost("t::test_clean") < progress_module.cost(nodeid)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (7200, "2.0 h")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert progress_module.duration(seconds) == text


def test_short_attacks_show_nothing_but_the_erasure(screen: Screen) -> None:
    progress = Progress(screen, screen)  # type: ignore[arg-type]
    progress(3, 10, "PGD")
    assert screen.written == []


@pytest.mark.parametrize(
    ("queries", "seconds", "shown"),
    [
        (3571, 999.94, ["3571", "999.9"]),
        (99_999, 1073.04, ["99999", "1073"]),
        (614_400, 86_400.0, ["614k", "86400"]),
    ],
)
def test_columns_of_a_long_attack_stay_apart(queries: int, seconds: float, shown: list) -> None:
    cell = replace(outcome("int16", np.ones(9, bool)), queries=np.full(9, queries), seconds=seconds)
    line = terminal.cell_line(cell, 0.95)
    assert line.split()[-2:] == shown
    assert len(line) == len(terminal.HEADING) < terminal.WIDTH
