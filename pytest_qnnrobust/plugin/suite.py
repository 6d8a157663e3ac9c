"""The shipped suite: where it is, how it is collected, and in which folder it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_qnnrobust.options import ini
from pytest_qnnrobust.plugin.stash import (
    options_key,
)

NAME = "robustness_tests"
_PACKAGE = Path(__file__).resolve().parents[1]

SUITE = next(
    (folder / NAME for folder in (_PACKAGE, _PACKAGE.parent) if (folder / NAME).is_dir()),
    _PACKAGE / NAME,
)
"""Folder of the shipped suite: in a wheel inside the package, in a checkout beside it."""

LAWS = SUITE / "test_quantizer.py"


class SuiteModule(pytest.Module):
    """A module of the shipped suite: collected whatever naming patterns the user's ini sets."""

    def funcnamefilter(self, name: str) -> bool:
        return name.startswith("test_")

    def classnamefilter(self, name: str) -> bool:
        return False


def suite_modules(config: pytest.Config) -> list[Path]:
    """The modules of the shipped suite that the command line asks for."""
    chosen = config.stash[options_key]
    files = SUITE.glob("test_*.py") if chosen.gate else ()
    modules = sorted(path for path in files if path != LAWS)
    named = config.getoption("qnn_quantizer") is not None
    return [*modules, LAWS] if chosen.quantizer and (chosen.gate or named) else modules


def suite_argument(argument: str, folder: Path) -> str:
    """Resolve an argument that is a node id of the shipped suite, as reports print it.

    So such an id can be given in any folder; any other argument stays as it is.
    """
    head, separator, tail = argument.partition("::")
    if Path(head).parts[:1] != (SUITE.name,) or (folder / head).exists():
        return argument
    return str(SUITE.parent / head) + separator + tail


def stay_in_this_folder(config: pytest.Config) -> None:
    """Undo that pytest took a model's path for a test path and made its folder the root.

    Without this, in `--qnn-model ../models/m.tflite`, the cache would be written over there.
    """
    if config.getoption("rootdir", None) or config.getoption("inifilename", None):
        return
    here = config.invocation_params.dir
    path, _ = ini.nearest(here)
    config._rootpath = path.parent if path else here
