"""Progress of a long attack, shown behind the cursor of a terminal."""

from __future__ import annotations

import time
from typing import Any

import pytest


class Progress:
    """Shows, behind the cursor and on a terminal only, how far a long attack is, and how long the
    rest takes at the same pace."""

    PATIENCE = 2.0
    """Seconds of an attack before anything is shown."""

    EVERY = 0.5
    """Seconds between two notes."""

    def __init__(self, terminal: pytest.TerminalReporter, capture: Any) -> None:
        self._terminal = terminal
        self._capture = capture
        self._started: float | None = None
        self._shown = 0.0
        self._length = 0

    def __call__(self, done: int, total: int, text: str) -> None:
        now = time.perf_counter()
        if self._started is None:
            self._started = now
        early = now - self._started < self.PATIENCE or now - self._shown < self.EVERY
        if early and done < total:
            return
        self._shown = now
        note = f" {text} {done}/{total}"
        if done:
            note += f", {duration((now - self._started) * (total - done) / done)} left"
        if done >= total:
            note, self._started = "", None
        self._length = max(self._length, len(note))
        note = note.ljust(self._length)
        with self._capture.global_and_fixture_disabled():
            self._terminal.write(note + "\b" * len(note), flush=True)


def duration(seconds: float) -> str:
    """A duration in words, such as `40 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
