"""Known regressions that a team has decided to live with, until a day that it has named."""

from __future__ import annotations

import configparser
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

from pytest_qnnrobust.errors import expected, one_line

MAX_BYTES = 1 << 20
KEYS = ("owner", "reason", "expires")


@dataclass(frozen=True)
class Suppression:
    """Cells whose name fits `pattern` (shell style) may be worse, through the day `expires`."""

    pattern: str
    owner: str
    reason: str
    expires: date

    def fits(self, name: str) -> bool:
        return fnmatchcase(name, self.pattern)

    def expired(self, today: date) -> bool:
        return today > self.expires

    def __str__(self) -> str:
        return f"{self.reason} ({self.owner}, until {self.expires.isoformat()})"


def read(path: Path) -> tuple[Suppression, ...]:
    """Read the sections of an ini file, each named by a cell or pattern, with all of `KEYS`.

    Raises QnnRobustError, one line that names the section, for anything else.
    """
    parser = configparser.RawConfigParser(delimiters=("=",))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise expected(f"suppressions of at most {MAX_BYTES} bytes", path=str(path))
        parser.read_string(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise expected(
            "an ini file of suppressions", path=str(path), reason=str(error)[:200]
        ) from None
    return tuple(_suppression(path, name, parser[name]) for name in parser.sections())


def _suppression(path: Path, name: str, section: configparser.SectionProxy) -> Suppression:
    keys = set(section)
    if keys != set(KEYS) or not all(section[key].strip() for key in KEYS):
        rule = f"{', '.join(KEYS)} in section [{name}] of {path}"
        raise expected(rule, found=sorted(keys))
    try:
        expires = date.fromisoformat(section["expires"].strip())
    except ValueError:
        rule = f"expires to be a day such as 2027-01-31 in section [{name}] of {path}"
        raise expected(rule, expires=section["expires"]) from None
    return Suppression(name, one_line(section["owner"]), one_line(section["reason"]), expires)


def expired(suppressions: Iterable[Suppression], today: date) -> list[Suppression]:
    """The suppressions whose day has passed."""
    return [suppression for suppression in suppressions if suppression.expired(today)]
