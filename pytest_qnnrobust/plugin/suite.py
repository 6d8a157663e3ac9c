"""The shipped suite: where it is, how it is collected, and in which folder it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_qnnrobust import options
from pytest_qnnrobust.options import ini
from pytest_qnnrobust.plugin.stash import is_worker, options_key

NAME = "robustness_tests"
_PACKAGE = Path(__file__).resolve().parents[1]

SUITE = next(
    (folder / NAME for folder in (_PACKAGE, _PACKAGE.parent) if (folder / NAME).is_dir()),
    _PACKAGE / NAME,
)
"""Folder of the shipped suite: in a wheel inside the package, in a checkout beside it."""

NAMED = "qnnrobust_named"
"""What a worker is told: whether the user said which tests to run."""

LAWS = SUITE / "test_quantizer.py"
GATE = SUITE / "test_gate.py"


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


def is_of_suite(argument: str) -> bool:
    """Whether an argument of pytest names a module or a test of the shipped suite."""
    path = Path(argument.partition("::")[0])
    return path.parts[:1] == (SUITE.name,) or SUITE in (path, path.parent)


def own_tests(config: pytest.Config) -> list[str]:
    """The tests of the project that run beside the suite, where no path is named.

    Those that its `testpaths` say. Without those all of its folder, unless flags start the gate:
    in a folder of models `pytest --qnn-model m.tflite` is the gate and nothing else.
    """
    if not suite_modules(config) or config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        return list(config.args)
    return [] if options.starts_by_flag(config) else list(config.args)


def names_tests(config: pytest.Config) -> bool:
    """Whether the user said which tests to run: by path, by -k or by -m."""
    if is_worker(config):
        named: bool = config.workerinput[NAMED]  # type: ignore[attr-defined]
        return named
    by_path = config.args_source is pytest.Config.ArgsSource.ARGS
    return bool(by_path or config.getoption("keyword") or config.getoption("markexpr"))


def why_collected(config: pytest.Config) -> str:
    """What is collected and why, where the project's tests run beside the gate; else ""."""
    beside = [path for path in config.args if not is_of_suite(path)]
    by_path = config.args_source is pytest.Config.ArgsSource.ARGS
    if by_path or not beside or not config.stash[options_key].gate:
        return ""
    folders = ", ".join(beside)
    cause = "flags" if options.starts_by_flag(config) else "a model in the ini file"
    return (
        f"the gate, for {cause}, beside the project's tests in {folders}; `-m qnn` is the gate "
        "alone, a path the tests alone"
    )


def suite_argument(argument: str, folder: Path) -> str:
    """Resolve an argument that is a node id of the shipped suite, as reports print it.

    So such an id can be given in any folder; any other argument stays as it is.
    """
    head, separator, tail = argument.partition("::")
    if Path(head).parts[:1] != (SUITE.name,) or (folder / head).exists():
        return argument
    return str(SUITE.parent / head) + separator + tail


def requirements_beside(arguments: list[str], gate: bool) -> list[str]:
    """The module of the run's requirements, where modules of the suite are named but it is not.

    So a part of the suite is held to its baseline, too. Single tests, by node id, are not.
    """
    paths = [Path(argument) for argument in arguments if "::" not in argument]
    named = [path for path in paths if path.parent == SUITE]
    return [str(GATE)] if gate and named and GATE not in named else []


def stay_in_this_folder(config: pytest.Config) -> None:
    """Undo that pytest took a model's path for a test path and made its folder the root.

    Without this, in `--qnn-model ../models/m.tflite`, the cache would be written over there.
    """
    if config.getoption("rootdir", None) or config.getoption("inifilename", None):
        return
    here = config.invocation_params.dir
    path, _ = ini.nearest(here)
    config._rootpath = path.parent if path else here
