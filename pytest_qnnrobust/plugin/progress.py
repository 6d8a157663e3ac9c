"""Progress of a run: how far its attacks are, and how long the rest of the whole run takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_qnnrobust.results.wrapping import WIDTH

if TYPE_CHECKING:
    from pytest_qnnrobust.plugin.time_left import TimeLeft

PERCENT = " [100%]"
"""What pytest writes at the end of a line."""


class Progress:
    """Shows how far a long attack is, and how long the rest of the run takes.

    On a terminal it stands behind the cursor. In a log it is a note among the dots now and then,
    where their line has room for it.
    """

    PATIENCE = 2.0
    """Seconds of an attack before it is shown; shorter runs show nothing either."""

    EVERY = 0.5
    """Seconds between two notes on a terminal."""

    EVERY_IN_LOG = 30.0
    """Seconds between two notes in a log; runs that are over sooner have none."""

    NEW_LINE = 300.0
    """Seconds after which a note in a log begins a line, where the last one is full."""

    def __init__(self, terminal: pytest.TerminalReporter, capture: Any) -> None:
        self._terminal = terminal
        self._capture = capture
        self._left: TimeLeft | None = None
        self._test = ""
        self._began = 0.0
        self._attacks = 0
        self._done = 0
        self._started: float | None = None
        self._shown = time.perf_counter() - self.EVERY_IN_LOG
        self._length = 0

    def expect(self, left: TimeLeft) -> None:
        """Take these tests for those of the run."""
        self._left = left

    def begin(self, test: str) -> None:
        """Note that a test begins, and show how long the run takes from here."""
        self._test, self._began = test, time.perf_counter()
        self._attacks, self._done, self._started = 0, 0, None
        if self._left is not None:
            self._show("", self._left.seconds(test), self._began)

    def finish(self, test: str) -> None:
        """Note that a test is over."""
        if self._left is not None:
            seconds = time.perf_counter() - self._began
            self._left.finish(test, seconds, attacked=self._started is not None)

    def __call__(self, done: int, total: int, text: str) -> None:
        """Note that `done` samples of `total` are attacked, and show it in long attacks."""
        now = time.perf_counter()
        if self._started is None or done < self._done:
            self._attacks += self._started is not None
            self._started = now
        self._done = done
        if done >= total:
            self.erase()
        elif now - self._started >= self.PATIENCE:
            self._show(f"{text} {done}/{total}", self._seconds(now, done / total), now)

    def erase(self) -> None:
        """Erase the note on a terminal, where pytest goes on writing."""
        if self._length and self._terminal.isatty:
            self._write_and_return(" " * self._length)
        self._length = 0

    def _seconds(self, now: float, part: float) -> float | None:
        """Seconds that the rest of the run takes, or of the attack where the run is not known."""
        if self._left is not None:
            attacks = max(self._left.attacks_of(self._test), self._attacks + 1)
            return self._left.seconds(
                self._test, now - self._began, (self._attacks + part) / attacks
            )
        if not part or self._started is None:
            return None
        return (now - self._started) * (1 - part) / part

    def _show(self, text: str, seconds: float | None, now: float) -> None:
        on_terminal = self._terminal.isatty
        every = self.EVERY if on_terminal else self.EVERY_IN_LOG
        least = self.PATIENCE if on_terminal else self.EVERY_IN_LOG
        if now - self._shown < every or (seconds is not None and seconds < least):
            return
        run = "run " if self._left is not None else ""
        rest = f"{run}{duration(seconds)} left" if seconds is not None else ""
        if on_terminal:
            self._write_behind_cursor(" " + ", ".join(filter(None, (rest, text))))
            self._shown = now
        elif rest and (start := self._place(len(rest) + 2, now)) is not None:
            with self._capture.global_and_fixture_disabled():
                self._terminal.write(f"{start}({rest})", flush=True)
            self._shown = now

    def _write_behind_cursor(self, note: str) -> None:
        room = WIDTH - self._terminal._tw.width_of_current_line - 2
        note = note[: max(room, 0)]
        self._length = max(self._length, len(note))
        self._write_and_return(note.ljust(self._length))

    def _write_and_return(self, text: str) -> None:
        """Write past pytest's writer, which would count the text as a part of its line."""
        with self._capture.global_and_fixture_disabled():
            file = self._terminal._tw._file
            file.write(text + "\b" * len(text))
            file.flush()

    def _place(self, length: int, now: float) -> str | None:
        """What goes before a note in a log: nothing, or an end of line; None where it must wait."""
        line = self._terminal._tw
        dots = self._left.to_come(self._test) if self._left is not None else 0
        if line.width_of_current_line + length + dots + len(PERCENT) + 1 < line.fullwidth:
            return ""
        return "\n" if now - self._shown >= self.NEW_LINE else None


def duration(seconds: float) -> str:
    """A duration in words, such as `40 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
