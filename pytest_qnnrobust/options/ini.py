"""The `qnn_*` keys of the ini file that belongs to the folder where pytest was started.

pytest looks for its ini file before it knows the options of plugins: in `--qnn-model DIR/m.tflite`
it takes the path for a test path and looks in DIR. So the keys are looked up here as well.
"""

from __future__ import annotations

import configparser
import importlib
import sys
from pathlib import Path
from typing import Any

SECTIONS = {
    "pytest.toml": "pytest",
    ".pytest.toml": "pytest",
    "pytest.ini": "pytest",
    ".pytest.ini": "pytest",
    "pyproject.toml": "tool.pytest.ini_options",
    "tox.ini": "pytest",
    "setup.cfg": "tool:pytest",
}


def nearest(folder: Path) -> tuple[Path | None, dict[str, str]]:
    """The first ini file with a pytest section in `folder` or above, and its `qnn_*` keys."""
    for place in (folder, *folder.parents):
        for name, section in SECTIONS.items():
            path = place / name
            values = _section(path, section) if path.is_file() else None
            if values is not None:
                found = {k: v for k, v in values.items() if k.startswith("qnn_")}
                return path, {k: str(v) for k, v in found.items()}
    return None, {}


def _section(path: Path, section: str) -> dict[str, Any] | None:
    """The section's keys; None where it is absent or the file is for pytest to complain about."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            return _toml_section(text, section)
        parser = configparser.RawConfigParser(strict=False)
        parser.read_string(text)
    except (OSError, ValueError, configparser.Error):
        return None
    return dict(parser[section]) if parser.has_section(section) else None


def _toml_section(text: str, section: str) -> dict[str, Any] | None:
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    table: Any = tomllib.loads(text)
    for key in section.split("."):
        table = table.get(key) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else None
