"""Checks of the strategies' arguments: a mistake is named when a strategy is made, not drawn."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, TypeVar

from pytest_qnnrobust.errors import expected

Choice = TypeVar("Choice")


def check_choices(name: str, given: Iterable[Choice], allowed: Collection[Choice]) -> list[Choice]:
    """The chosen values in the order of `allowed`; raises QnnRobustError for any other or none."""
    chosen = list(given) if isinstance(given, Collection) and not isinstance(given, str) else []
    if not chosen or not set(chosen) <= set(allowed):
        values: dict[str, Any] = {name: given}
        raise expected(f"{name} among {', '.join(map(str, allowed))}", **values)
    return [value for value in allowed if value in chosen]


def check_range(
    names: tuple[str, str], low: int, high: int, limits: tuple[int, int]
) -> tuple[int, int]:
    """Raise QnnRobustError unless `limits[0] <= low <= high <= limits[1]`, integers all."""
    values: dict[str, Any] = dict(zip(names, (low, high), strict=True))
    if not all(type(value) is int for value in values.values()):
        raise expected(f"{' and '.join(names)} to be integers", **values)
    if not limits[0] <= low <= high <= limits[1]:
        rule = f"{limits[0]} <= {names[0]} <= {names[1]} <= {limits[1]}"
        raise expected(rule, **values)
    return low, high
