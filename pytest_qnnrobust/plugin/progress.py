"""Progress of a run: how far its attacks are, and how long the rest of the whole run takes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any

import pytest

COSTS = {
    "noise": 1, "fgsm": 2, "bim": 10, "pgd": 10, "deepfool": 30, "square-l1": 40, "square-l2": 40,
    "square-linf": 40, "spsa": 60, "apgd-ce": 20, "apgd-t": 40, "fab": 30, "fab-t": 40,
    "hopskipjump": 150, "boundary": 150, "geoda": 150, "zoo": 200, "autoattack": 300,
}  # fmt: skip
"""About how long an attack takes beside others; of those that are not named, `USUAL`."""

USUAL = 60
OTHER = 5
"""About how long a test takes that is no attack, in the same measure."""

_PARAMETERS = re.compile(r"\[(.*)\]$")


class Progress:
    """Shows how far a long attack is, and how long the rest of the run takes at the same pace.

    On a terminal it stands behind the cursor; in a log it is a line of its own, now and then.
    """

    PATIENCE = 2.0
    """Seconds of an attack before anything is shown."""

    EVERY = 0.5
    """Seconds between two notes on a terminal."""

    EVERY_LINE = 30.0
    """Seconds between two lines in a log."""

    WIDTH = 80

    def __init__(self, terminal: pytest.TerminalReporter, capture: Any) -> None:
        self._terminal = terminal
        self._capture = capture
        self._first = time.perf_counter()
        self._started: float | None = None
        self._shown = 0.0
        self._length = 0
        self._left: dict[str, float] = {}
        self._all = 0.0

    def expect(self, nodeids: Iterable[str]) -> None:
        """Take these tests for those of the run; the time so far is not theirs."""
        self._left = {nodeid: cost(nodeid) for nodeid in nodeids}
        self._all = sum(self._left.values())
        self._first = time.perf_counter()

    def finish(self, nodeid: str) -> None:
        """Note that a test of the run is over."""
        self._left.pop(nodeid, None)

    def __call__(self, done: int, total: int, text: str) -> None:
        now = time.perf_counter()
        if self._started is None:
            self._started = now
        every = self.EVERY if self._terminal.isatty else self.EVERY_LINE
        if (now - self._started < self.PATIENCE or now - self._shown < every) and done < total:
            return
        if done >= total:
            self._started = None
            self._erase()
            return
        self._shown = now
        self._write(f"{text} {done}/{total}{self._rest(now, done / total)}")

    def _rest(self, now: float, part: float) -> str:
        """The time that the rest of the run takes, in words; "" while there is no telling."""
        left = sum(self._left.values())
        if self._all:
            attacked = next(iter(self._left.values()), 0.0)
            finished = self._all - left + part * attacked
            if finished <= 0:
                return ""
            return f", run {duration((now - self._first) * (self._all - finished) / finished)} left"
        if not part or self._started is None:
            return ""
        return f", {duration((now - self._started) * (1 - part) / part)} left"

    def _write(self, note: str) -> None:
        with self._capture.global_and_fixture_disabled():
            if not self._terminal.isatty:
                self._terminal.write(f"\nqnnrobust: {note}\n", flush=True)
                return
            room = self.WIDTH - self._terminal._tw.width_of_current_line - 2
            note = f" {note}"[: max(room, 0)]
            self._length = max(self._length, len(note))
            shown = note.ljust(self._length)
            self._terminal.write(shown + "\b" * len(shown), flush=True)

    def _erase(self) -> None:
        if self._length and self._terminal.isatty:
            with self._capture.global_and_fixture_disabled():
                self._terminal.write(" " * self._length + "\b" * self._length, flush=True)
        self._length = 0


def cost(nodeid: str) -> float:
    """About how long a test takes beside others, by the attack in its parameters."""
    parameters = _PARAMETERS.search(nodeid)
    text = f"-{parameters[1]}-" if parameters else ""
    known = [name for name in COSTS if f"-{name}-" in text]
    if known:
        return COSTS[max(known, key=len)]
    return USUAL if parameters and "test_direct" in nodeid else OTHER


def duration(seconds: float) -> str:
    """A duration in words, such as `40 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
