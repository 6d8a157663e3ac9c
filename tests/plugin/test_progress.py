"""How far a run is, on a terminal and in a log."""

from __future__ import annotations

from contextlib import nullcontext
from io import StringIO

import pytest
from _pytest._io import TerminalWriter

from pytest_qnnrobust.plugin import progress as progress_module
from pytest_qnnrobust.plugin.progress import Progress
from pytest_qnnrobust.plugin.time_left import TimeLeft


class Screen:
    """A terminal, its writer and its capture manager in one, `column` columns into a line."""

    fullwidth = 80

    def __init__(self, isatty: bool = True, column: int = 0) -> None:
        self.written: list[str] = []
        self.isatty = isatty
        self.width_of_current_line = column
        self._tw = self._file = self

    def write(self, text: str, flush: bool = False) -> None:
        self.written.append(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def global_and_fixture_disabled(self) -> nullcontext[None]:
        return nullcontext()


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module.time, "perf_counter", clock)
    return clock


def progress_on(screen: Screen) -> Progress:
    return Progress(screen, screen)  # type: ignore[arg-type]


def attack(progress: Progress, clock: Clock, seconds: float = 400.0) -> None:
    """An attack on eight samples, from now on."""
    begun = clock.now
    for done in (0, 2, 6, 8):
        clock.now = begun + seconds * done / 8
        progress(done, 8, "PGD")


def notes(screen: Screen) -> list[str]:
    return [written.rstrip("\b").rstrip() for written in screen.written]


RUN = {f"t::{i}": [("int8", f"pgd-{i}/255")] for i in range(3)}
"""Three tests of an attack each, all of them as long."""


def test_progress_leaves_the_cursor_where_it_was(screen: Screen, clock: Clock) -> None:
    attack(progress_on(screen), clock)
    shown = [" 5 min left, PGD 2/8", " 2 min left, PGD 6/8", ""]
    for written, note in zip(screen.written, shown, strict=True):
        assert written == note.ljust(20) + "\b" * 20


def test_progress_tells_the_time_that_the_rest_of_the_run_takes(clock: Clock) -> None:
    screen = Screen(column=40)
    progress = progress_on(screen)
    progress.expect(TimeLeft(RUN, pace=400 / 17))
    progress.begin("t::0")
    attack(progress, clock)
    assert notes(screen) == [
        " run 20 min left", " run 18 min left, PGD 2/8", " run 15 min left, PGD 6/8", ""
    ]  # fmt: skip


def test_a_note_is_cut_where_the_line_has_no_room(clock: Clock) -> None:
    screen = Screen(column=60)
    progress = progress_on(screen)
    progress.expect(TimeLeft(RUN, pace=400 / 17))
    progress.begin("t::0")
    attack(progress, clock)
    assert " run 18 min left," in notes(screen)
    assert all(len(note) <= 80 - 60 - 2 for note in notes(screen))


def test_progress_in_a_log_is_a_note_among_the_dots(clock: Clock) -> None:
    screen = Screen(isatty=False, column=40)
    progress = progress_on(screen)
    progress.expect(TimeLeft(RUN, pace=400 / 17))
    progress.begin("t::0")
    attack(progress, clock)
    assert screen.written == ["(run 20 min left)", "(run 18 min left)", "(run 15 min left)"]


def test_a_note_in_a_log_waits_for_a_line_with_room_but_not_for_long(clock: Clock) -> None:
    screen = Screen(isatty=False)
    progress = progress_on(screen)
    progress.expect(TimeLeft(RUN, pace=400 / 17))
    progress.begin("t::0")
    screen.width_of_current_line = 54
    attack(progress, clock)
    assert screen.written == ["(run 20 min left)", "\n(run 15 min left)"]


def test_a_run_that_is_soon_over_has_no_notes(clock: Clock) -> None:
    for isatty in (False, True):
        screen = Screen(isatty)
        progress = progress_on(screen)
        progress.expect(TimeLeft(RUN, pace=0.01))
        progress.begin("t::0")
        attack(progress, clock, seconds=1)
        progress.finish("t::0")
        progress.begin("t::1")
        assert screen.written == []


def test_a_note_does_not_move_what_pytest_writes_at_the_end_of_a_line(
    screen: Screen, clock: Clock
) -> None:
    screen._tw = TerminalWriter(StringIO())  # type: ignore[assignment]
    progress = progress_on(screen)
    progress.expect(TimeLeft(RUN, pace=400 / 17))
    progress.begin("t::0")
    assert "run 20 min left" in screen._tw._file.getvalue()  # type: ignore[attr-defined]
    assert screen._tw.width_of_current_line == 0


def test_a_note_is_gone_before_pytest_writes_on(screen: Screen, clock: Clock) -> None:
    progress = progress_on(screen)
    progress.expect(TimeLeft(RUN, pace=400 / 17))
    progress.begin("t::0")
    progress.erase()
    progress.erase()
    assert screen.written[1:] == [" " * 16 + "\b" * 16]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (7200, "2.0 h")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert progress_module.duration(seconds) == text
