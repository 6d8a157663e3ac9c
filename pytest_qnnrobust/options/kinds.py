"""Kinds of values: what else there is to a value than the parser of its text.

A TOML file may hold a list where a flag has commas, a path is relative to the folder that it was
written in, and a report holds built-in types.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pytest_qnnrobust.options.values import (
    DIGITS,
    OBJECT,
    DefendedFiles,
    Limits,
    LossLimit,
    Squeezing,
    Threshold,
    parse_defended,
    parse_eps,
    parse_limits,
    parse_path,
    parse_source,
    parse_squeezing,
    parse_switch,
    parse_thresholds,
)

Value_co = TypeVar("Value_co", covariant=True)


def _as_a_tuple(value: Any) -> Any:
    """`value`, whose tuple JSON made a list."""
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Kind(Generic[Value_co]):
    """A way to read the values of an option.

    parse: reads the text of a flag or an ini file; argparse.ArgumentTypeError on a bad one.
    listed: the text is a list with commas; in an ini file also one item a line, or a TOML list.
    several: the flag may be given several times, each with a value that `parse` reads; the option
    has a tuple of them, written one a line or as a TOML list in an ini file.
    locate: makes a value with relative paths whole, given the folder that it was written in.
    restore: the value that `Options.to_json` wrote as built-in types.
    """

    parse: Callable[[str], Value_co]
    listed: bool = False
    several: bool = False
    locate: Callable[[Any, Path], Value_co] | None = None
    restore: Callable[[Any], Value_co] = _as_a_tuple

    def read(self, written: object) -> Any:
        """The value of what a flag, an ini file or a TOML file says.

        `written` is text, a number, a bool, or a list of those. Raises ArgumentTypeError.
        """
        if self.several:
            return tuple(self.parse(item) for item in _items(written))
        if self.listed:
            return self.parse(_with_commas(_items(written)))
        return self.parse(_text(written))


def _items(written: object) -> list[str]:
    texts = written if isinstance(written, list) else _text(written).splitlines()
    return [text for text in map(_text, texts) if text]


def _with_commas(lines: list[str]) -> str:
    """`lines` as one list; each but the last may end with its comma already."""
    return ",".join([*(line.removesuffix(",") for line in lines[:-1]), *lines[-1:]])


def _text(written: object) -> str:
    if isinstance(written, (str, int, float)):
        return str(written).strip()
    raise argparse.ArgumentTypeError(f"expected one value, got {written!r}")


def _whole_path(path: str | Path, folder: Path) -> Path:
    return folder / Path(path).expanduser()


def _whole_source(source: str, folder: Path) -> str:
    if source == DIGITS or OBJECT.fullmatch(source):
        return source
    return str(_whole_path(source, folder))


def _whole_defended(defenses: tuple[DefendedFiles, ...], folder: Path) -> Any:
    return tuple(files.located(folder) for files in defenses)


SWITCH = Kind(parse_switch)
"""True or false; as a flag it takes no value."""

PATH = Kind(parse_path, locate=_whole_path, restore=Path)

SOURCE = Kind(parse_source, locate=_whole_source)
"""Data: a path, or what is none: `module:function`, `digits`."""

EPS = Kind(
    parse_eps,
    listed=True,
    # Before a run could have several budgets, its document held a number.
    restore=lambda value: tuple(value) if isinstance(value, list) else (float(value),),
)

THRESHOLDS = Kind(
    parse_thresholds,
    listed=True,
    restore=lambda rows: tuple(Threshold(**row) for row in rows),
)

LIMITS = Kind(
    parse_limits,
    listed=True,
    restore=lambda row: Limits(tuple(LossLimit(**rule) for rule in row["rules"])),
)

SQUEEZING = Kind(parse_squeezing, listed=True, restore=lambda row: Squeezing(**row))

DEFENDED: Kind[Any] = Kind(
    parse_defended,
    several=True,
    locate=_whole_defended,
    restore=lambda rows: tuple(
        DefendedFiles(row["name"], tuple(map(Path, row["paths"]))) for row in rows
    ),
)
