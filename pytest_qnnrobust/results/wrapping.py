"""Lines of a terminal: how wide they are, and how a longer text is broken."""

from __future__ import annotations

import textwrap

WIDTH = 80
TIE = "\u00a0"
"""A space at which no line is broken."""


def wrap(text: str) -> list[str]:
    """The lines of a text, broken at spaces; all but the first are indented."""
    lines = textwrap.wrap(
        text, WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )
    return [line.replace(TIE, " ") for line in lines]
