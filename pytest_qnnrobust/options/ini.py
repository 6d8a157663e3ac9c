"""The `qnn_*` keys of ini files, as they are written: text, and TOML's numbers, bools and lists.

They are read here and not with `config.getini`, for two reasons. pytest has one type for each key
and, in `[tool.pytest]`, refuses every other, so that 8/255 and 0.03 could not both be budgets. And
it looks for its ini file before it knows the options of plugins: in `--qnn-model DIR/m.tflite` it
takes the path for a test path and looks in DIR.

The parsers are those of pytest: iniconfig, and tomllib (before Python 3.11 tomli).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import iniconfig
import pytest

NAMES = (
    "pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini",
    "setup.cfg",
)  # fmt: skip
"""The files that pytest looks for in a folder, in its order."""


def of_run(config: pytest.Config) -> tuple[Path, dict[str, Any]]:
    """The ini file that pytest found (or where one would be), and its keys under those of -o."""
    path = config.inipath or config.rootpath / "pytest.ini"
    keys = _section(path) or {}
    overrides = (text.partition("=") for text in config.getoption("override_ini", None) or ())
    return path, _ours({**keys, **{key.strip(): value for key, _, value in overrides}})


def nearest(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """The first ini file with a pytest section in `folder` or above, and its keys."""
    for place in (folder, *folder.parents):
        for name in NAMES:
            keys = _section(place / name)
            if keys is not None:
                return place / name, _ours(keys)
    return None, {}


def _ours(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of this plugin that have a value."""
    return {k: v for k, v in keys.items() if k.startswith("qnn_") and v not in ("", [])}


def _section(path: Path) -> Mapping[str, Any] | None:
    """pytest's section; None where it is absent or the file is for pytest to complain about."""
    if not path.is_file():
        return None
    try:
        return _toml_table(path) if path.suffix == ".toml" else _ini_section(path)
    except (OSError, ValueError, iniconfig.ParseError):
        return None


def _ini_section(path: Path) -> Mapping[str, Any] | None:
    name = "tool:pytest" if path.suffix == ".cfg" else "pytest"
    sections = iniconfig.IniConfig(str(path))
    return dict(sections[name].items()) if name in sections else None


def _toml_table(path: Path) -> Mapping[str, Any] | None:
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    places = [("tool", "pytest", "ini_options"), ("tool", "pytest")]
    if path.name != "pyproject.toml":
        places.insert(0, ("pytest",))
    tables = (_table(document, *names) for names in places)
    return next((table for table in tables if table is not None), None)


def _table(document: Any, *names: str) -> dict[str, Any] | None:
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else None
