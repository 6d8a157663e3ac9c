"""Public names of a package that load on first use (PEP 562): importing it costs milliseconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any


def on_first_use(
    package: str, homes: Mapping[str, str], modules: Collection[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make `__getattr__` and `__dir__` of a package that imports its public names late.

    `homes` has the module of each name, relative to the package: `base` is a module in it,
    `.types` one beside it. `modules` are modules of the package that are public themselves.
    """

    def load(name: str) -> Any:
        if name in modules:
            return import_module(f".{name}", package)
        if name in homes:
            return getattr(import_module(f".{homes[name]}", package), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes, *modules})

    return load, names
