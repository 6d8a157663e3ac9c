"""Runs pytest inside pytest, with the plugin, in an empty folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import walk_packages

import numpy as np
import pytest

import pytest_qnnrobust
from pytest_qnnrobust.demo import demo_path

INSTALLED = bool(entry_points(group="pytest11", name="qnnrobust"))
LOADED = () if INSTALLED else ("-p", "pytest_qnnrobust.plugin")

Run = Callable[..., pytest.RunResult]


@pytest.fixture(scope="session", autouse=True)
def _modules_stay_imported() -> None:
    """In-process runs restore sys.modules: TensorFlow does not survive that, the rest is slow."""
    import filelock  # noqa: F401
    import jinja2  # noqa: F401
    import keras  # noqa: F401
    import scipy.optimize
    import scipy.stats  # noqa: F401
    import tensorflow  # noqa: F401

    for module in walk_packages(pytest_qnnrobust.__path__, "pytest_qnnrobust."):
        if not module.name.endswith(("_child", "__main__")):
            import_module(module.name)


@pytest.fixture(scope="session", autouse=True)
def _models_are_compiled_once(models_compiled_once: None) -> None:
    """In-process runs share what TensorFlow traced of a file, which takes seconds each time."""


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all tests of all workers: what one of them computed no other has to."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "answers"


@pytest.fixture
def cold(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`cold(*args)`: pytest in this process, without xdist and any cache that args do not name."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def start(*args: object) -> pytest.RunResult:
        return pytester.runpytest_inprocess(*LOADED, "-p", "no:cacheprovider", *map(str, args))

    return start


@pytest.fixture
def run(cold: Run, answers: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run(*args)`: the same, on `answers` where args have settings of a run and no cache.

    Named in the environment, so that the command that a report shows is `args`.
    """

    def start(*args: object) -> pytest.RunResult:
        given = " ".join(map(str, args))
        with monkeypatch.context() as patch:
            if "--qnn-" in given and "-cache" not in given:
                patch.setenv("PYTEST_ADDOPTS", f"--qnn-cache-dir={answers}")
            return cold(*args)

    return start


@pytest.fixture
def digits(pytester: pytest.Pytester) -> str:
    """40 of the embedded test digits, as an .npz in the folder of the run."""
    with np.load(demo_path("digits.npz")) as data:
        np.savez(pytester.path / "digits40.npz", x=data["x"][:40], y=data["y"][:40])
    return "digits40.npz"


@pytest.fixture
def on_digits(run: Run, digits: str) -> Run:
    """`on_digits(*args)`: the gate on the float and the int8 digits network."""
    float32, int8 = (demo_path(name) for name in ("digits_float.keras", "digits_int8.tflite"))

    def start(*args: object) -> pytest.RunResult:
        plain = (f"--qnn-float={float32}", f"--qnn-int8={int8}", f"--qnn-data={digits}")
        return run(*plain, *args)

    return start


@pytest.fixture
def gate(on_digits: Run, request: pytest.FixtureRequest) -> Run:
    """`gate(*args)`: the same with GATE, the settings that all tests of a module share."""
    return partial(on_digits, *request.module.GATE)


@pytest.fixture
def refused(pytester: pytest.Pytester, run):
    """`refused(*args)` -> the one line with which pytest ended."""

    def files() -> list[str]:
        """All but what Python writes of the modules that it imports."""
        return sorted(p.name for p in pytester.path.iterdir() if p.name != "__pycache__")

    def start(*args: object) -> str:
        before = files()
        result = run(*args)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        errors = [line for line in result.errlines if line.strip()]
        assert len(errors) == 1, errors
        assert errors[0].startswith("ERROR: ")
        assert "Traceback" not in result.stdout.str()
        assert "collected" not in result.stdout.str()
        assert files() == before
        return errors[0]

    return start


def summary(result: pytest.RunResult) -> str:
    """The output with its line breaks as single spaces."""
    return " ".join(result.stdout.str().split())
