"""Settings of an attack: dataclass fields that say which values they take.

`max_iter: int = setting(100, integer())` is a field whose value is checked when an attack is made.
A subclass that only gives the field another default keeps its checks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, fields
from numbers import Integral, Real
from typing import Any, TypeVar, cast

import numpy as np

from pytest_qnnrobust.errors import AttackError, QnnRobustError, expected

Value = TypeVar("Value")
Check = Callable[[str, Any], None]
"""`check(name, value)` raises AttackError unless the setting `name` may have this value."""

CHECKS = "checks"
"""Key of the checks in the metadata of a dataclass field."""


def setting(default: Value, *checks: Check) -> Value:
    """A dataclass field with this default, whose value has to pass all checks."""
    return field(default=default, metadata={CHECKS: checks})


def required(*checks: Check) -> Any:
    """A dataclass field without a default, whose value has to pass all checks."""
    return field(metadata={CHECKS: checks})


def check_settings(attack: Any) -> None:
    """Raise AttackError for the first field of a dataclass whose value fails a check."""
    for declared in fields(attack):
        require(
            getattr(attack, declared.name), declared.name, *_checks(type(attack), declared.name)
        )


def require(value: Any, name: str, *checks: Check) -> None:
    """Raise AttackError unless the value of the setting `name` passes all checks."""
    for check in checks:
        check(name, value)


def integer(least: int = 1) -> Check:
    """An integer of at least `least`."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise conflict(f"{name} to be an integer >= {least}", **{name: value})

    return check


def positive(cure: str | None = None) -> Check:
    """A finite number above zero."""

    def check(name: str, value: Any) -> None:
        if not (is_number(value) and value > 0):
            rule = f"{name} to be a number > 0"
            raise expected(rule, cure=cure, error=AttackError, **{name: value})

    return check


def not_negative() -> Check:
    """A finite number, zero or above."""
    return satisfies("a number >= 0", lambda value: is_number(value) and value >= 0)


def fraction() -> Check:
    """A number in (0, 1]."""
    return satisfies("a number in (0, 1]", lambda value: is_number(value) and 0 < value <= 1)


def flag() -> Check:
    """True or False."""
    return satisfies("True or False", lambda value: isinstance(value, bool))


def one_of(names: tuple[str, ...]) -> Check:
    """One of these names."""
    return satisfies(f"one of {', '.join(names)}", lambda value: value in names)


def optional(check: Check) -> Check:
    """None, or what passes the check."""

    def check_given(name: str, value: Any) -> None:
        if value is not None:
            check(name, value)

    return check_given


def satisfies(rule: str, holds: Callable[[Any], bool]) -> Check:
    """A value of which `holds` is true; otherwise the error says "NAME to be RULE"."""

    def check(name: str, value: Any) -> None:
        if not holds(value):
            raise conflict(f"{name} to be {rule}", **{name: value})

    return check


def is_number(value: Any) -> bool:
    """True if a value is a finite real number; True and False are none."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and bool(np.isfinite(float(value)))


def conflict(rule: str, **values: Any) -> QnnRobustError:
    """The error for settings that break a rule, to be raised by the caller."""
    return expected(rule, error=AttackError, **values)


def _checks(attack_class: type, name: str) -> tuple[Check, ...]:
    """The checks of a field, from the nearest class that declares any."""
    for ancestor in attack_class.__mro__:
        declared = vars(ancestor).get("__dataclass_fields__", {}).get(name)
        if declared is not None and CHECKS in declared.metadata:
            return cast("tuple[Check, ...]", declared.metadata[CHECKS])
    return ()
