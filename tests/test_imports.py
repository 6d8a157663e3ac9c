"""Imports run from the artefact to the report and never back.

`python -m pytest tests/test_imports.py -s -k order` prints the graph of the packages.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest_qnnrobust

ROOT = Path(pytest_qnnrobust.__file__).parent
ORDER = (
    "errors disk exports types compute",
    "demo metrics statistics tflite",
    "options models quantizers",
    "data defenses attacks strategies",
    "evaluation",
    "claims",
    "results",
    "gate",
    "run",
    "report tables",
    "plugin cli",
)
"""The rooms, floor by floor: each imports from its own floor, without a circle, and those below."""

FLOOR = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms.split()}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module but the package's own `__init__`, under the name of its room."""
    for path in sorted(ROOT.rglob("*.py")):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room != "__init__":
            yield room, ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """The rooms that a module imports from, at its top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(ROOT.name):
            inner = (node.module or "").split(".")[1:]
            names = [inner[0]] if inner else [alias.name for alias in node.names]
            yield from (name for name in names if name in FLOOR)


def arrows() -> dict[str, set[str]]:
    """Room -> the other rooms that it imports from."""
    graph: dict[str, set[str]] = {room: set() for room in FLOOR}
    for room, tree in modules():
        graph[room] |= set(imported(tree)) - {room}
    return graph


def test_every_module_is_in_a_room():
    assert {room for room, _ in modules()} == set(FLOOR)


def test_order_of_the_rooms():
    graph = arrows()
    for floor, rooms in enumerate(ORDER):
        for room in rooms.split():
            print(f"{floor:>2} {room}: {' '.join(sorted(graph[room], key=FLOOR.get)) or '-'}")
    back = {(a, b) for a, others in graph.items() for b in others if FLOOR[b] > FLOOR[a]}
    assert not back


def test_no_circle_of_rooms():
    needs = arrows()
    while ready := [room for room, others in needs.items() if not others]:
        for room in ready:
            del needs[room]
        for others in needs.values():
            others.difference_update(ready)
    assert not needs
