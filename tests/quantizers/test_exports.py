"""The package's names load on first use."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from pytest_qnnrobust import quantizers


def test_importing_the_package_imports_no_library() -> None:
    code = (
        "import sys, pytest_qnnrobust.quantizers;"
        "print([m for m in ('numpy', 'scipy', 'keras', 'tensorflow') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"


def test_numpy_quantizers_need_no_keras() -> None:
    code = (
        "import sys; from pytest_qnnrobust.quantizers import create;"
        "[create(n) for n in ('affine:8', 'dorefa:4', 'ternary', 'stochastic-ternary')];"
        "print('keras' in sys.modules, 'tensorflow' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("name", quantizers.__all__)
def test_every_name_is_there(name: str) -> None:
    home = import_module(f"pytest_qnnrobust.quantizers.{quantizers._HOMES[name]}")
    assert getattr(quantizers, name) is getattr(home, name)
    assert name in dir(quantizers)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = quantizers.nothing
