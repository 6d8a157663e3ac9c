"""Imports run from the artefact to the report and never back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest_qnnrobust

ROOT = Path(pytest_qnnrobust.__file__).parent
ROAD = (
    "errors ini batching option_values array_files child sharding",
    "demo flags keras_files hdf5_child litert_child losses metrics sequential stats",
    "options",
    "tflite differentiable data_sources strategies",
    "models",
    "gradient_sources tflite_models litert_models keras_models loading domain",
    "attacks defenses data gradient_metrics noise_gain quantizers",
    "cache answers evaluation kept_examples subjects",
    "verdicts",
    "takeaways observations results example_images",
    "baseline suppressions provenance",
    "closing gathered stopping merging",
    "session",
    "checks jobs replay replay_examples report tables",
    "stash",
    "plugin cli",
)
"""Modules and packages, stage by stage: each imports from its own stage and those before."""

FRONT_DOORS = {("models", "loading"), ("models", "gradient_sources")}
"""Functions that users find where they look for them, and that load what does the work."""

STAGE = {name: stage for stage, names in enumerate(ROAD) for name in names.split()}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the package but its `__init__`, under the name it has in `ROAD`."""
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if name != "__init__":
            yield name, ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """The modules of the package that a module imports, at its top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(ROOT.name):
            inner = (node.module or "").split(".")[1:]
            yield from [inner[0]] if inner else [alias.name for alias in node.names]


def test_every_module_has_its_place_on_the_road():
    assert {name for name, _ in modules()} == set(STAGE)


def test_imports_never_run_back():
    back = {
        (name, other)
        for name, tree in modules()
        for other in imported(tree)
        if STAGE[other] > STAGE[name]
    }
    assert back == FRONT_DOORS


def test_no_two_modules_need_each_other_to_be_imported():
    """Within a stage too, what runs at import makes no circle."""
    needs: dict[str, set[str]] = {name: set() for name in STAGE}
    for name, tree in modules():
        top = ast.Module([node for node in tree.body if isinstance(node, ast.ImportFrom)], [])
        needs[name] |= set(imported(top)) - {name}
    while ready := [name for name, others in needs.items() if not others]:
        for name in ready:
            del needs[name]
        for others in needs.values():
            others.difference_update(ready)
    assert not needs
