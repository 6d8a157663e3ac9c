"""The parts of the terminal report that need no run."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from pytest_qnnrobust.report.terminal import Progress


class Screen:
    """A terminal and its capture manager in one."""

    def __init__(self) -> None:
        self.written: list[str] = []

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
    monkeypatch.setattr(Progress, "PATIENCE", 0.0)
    progress = Progress(screen, screen)  # type: ignore[arg-type]
    progress(3, 10, "PGD")
    progress(10, 10, "PGD")
    shown, erased = screen.written
    assert shown == " PGD 3/10 " + "\b" * 10
    assert erased == " " * 11 + "\b" * 11


def test_short_attacks_show_nothing_but_the_erasure(screen: Screen) -> None:
    progress = Progress(screen, screen)  # type: ignore[arg-type]
    progress(3, 10, "PGD")
    assert screen.written == []
