"""Validation of attack settings and of what an attack is called with."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import AttackError, DataError, QnnRobustError, expected
from pytest_qnnrobust.metrics import norm_name
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.types import Float, Labels

NORM_NAMES: dict[Any, float] = {"1": 1.0, "l1": 1.0, "2": 2.0, "l2": 2.0}
NORM_NAMES |= {"inf": np.inf, "linf": np.inf}


def norm(value: Any, supported: tuple[float, ...]) -> float:
    """The norm as a float: 1, 2, np.inf, or a name such as "l2" or "inf"."""
    found = NORM_NAMES.get(value.lower()) if isinstance(value, str) else value
    if isinstance(found, Real) and not isinstance(found, bool) and float(found) in supported:
        return float(found)
    names = ", ".join(norm_name(known) for known in supported)
    raise expected(f"norm to be one of {names}", norm=value, error=AttackError)


def positive(*, cure: str | None = None, **values: Any) -> None:
    """Each value is a finite number above zero."""
    for name, value in values.items():
        if not (_is_number(value) and value > 0):
            raise expected(
                f"{name} to be a number > 0", cure=cure, error=AttackError, **{name: value}
            )


def not_negative(**values: Any) -> None:
    """Each value is a finite number, zero or above."""
    for name, value in values.items():
        if not (_is_number(value) and value >= 0):
            raise expected(f"{name} to be a number >= 0", error=AttackError, **{name: value})


def fraction(**values: Any) -> None:
    """Each value is a number in (0, 1]."""
    for name, value in values.items():
        if not (_is_number(value) and 0 < value <= 1):
            raise expected(f"{name} to be a number in (0, 1]", error=AttackError, **{name: value})


def count(*, least: int = 1, **values: Any) -> None:
    """Each value is an integer of at least `least`."""
    for name, value in values.items():
        if not _is_integer(value) or value < least:
            rule = f"{name} to be an integer >= {least}"
            raise expected(rule, error=AttackError, **{name: value})


def choice(known: tuple[str, ...], **values: Any) -> None:
    """Each value is one of `known`."""
    for name, value in values.items():
        if value not in known:
            rule = f"{name} to be one of {', '.join(known)}"
            raise expected(rule, error=AttackError, **{name: value})


def flag(**values: Any) -> None:
    """Each value is True or False."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise expected(f"{name} to be True or False", error=AttackError, **{name: value})


def conflict(rule: str, **values: Any) -> QnnRobustError:
    """The error for settings that exclude each other."""
    return expected(rule, error=AttackError, **values)


def call_arguments(seed: Any, query_budget: Any, time_budget: Any, batch_size: Any) -> None:
    """What every attack is called with, besides the data."""
    count(least=0, seed=seed)
    count(batch_size=batch_size)
    if query_budget is not None:
        count(query_budget=query_budget)
    if time_budget is not None:
        positive(time_budget=time_budget, cure="time_budget is in seconds")


def samples(
    model: Model, x: NDArray[Any], y: NDArray[Any], index: NDArray[Any] | None
) -> tuple[Float, Labels, Labels]:
    """The data as float32 (N, *input_shape) and int64 (N,), checked against the model."""
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim == 0 or x.shape[1:] != model.input_shape:
        rule = f"x of shape (N, {', '.join(map(str, model.input_shape))})"
        raise expected(rule, shape=x.shape, error=DataError)
    if not np.issubdtype(x.dtype, np.floating):
        cure = "attacks take real-valued inputs in model units"
        raise expected("x of floats", dtype=str(x.dtype), cure=cure, error=DataError)
    if not np.isfinite(x).all():
        raise expected("x without NaN and infinity", error=DataError)
    x = x.astype(np.float32)
    y = _whole_numbers("y", y, len(x))
    if len(y) and (y.min() < 0 or y.max() >= model.classes):
        rule = f"labels in 0..{model.classes - 1}"
        raise expected(rule, smallest=int(y.min()), largest=int(y.max()), error=DataError)
    return _inside(model, x), y, _index(index, len(x))


def _inside(model: Model, x: Float) -> Float:
    low, high = model.bounds
    slack = 1e-5 * (high - low)
    seen = x if model.grid is None else model.grid.snap(x)
    if model.grid is not None:
        slack += model.grid.scale / 2
    if len(x) and (seen.min() < low - slack or seen.max() > high + slack):
        values = {"smallest": float(seen.min()), "largest": float(seen.max())}
        cure = "scale the data, or give the model its domain by with_bounds(low, high)"
        raise expected(f"x in [{low:g}, {high:g}]", cure=cure, error=DataError, **values)
    return np.clip(x, np.float32(low), np.float32(high), out=x) if model.grid is None else x


def _index(index: NDArray[Any] | None, n: int) -> Labels:
    if index is None:
        return np.arange(n, dtype=np.int64)
    index = _whole_numbers("index", np.asarray(index), n)
    if n and index.min() < 0:
        raise expected("index >= 0", smallest=int(index.min()), error=DataError)
    return index


def _whole_numbers(name: str, values: NDArray[Any], n: int) -> Labels:
    if values.shape != (n,):
        raise expected(f"{name} of shape ({n},)", shape=values.shape, error=DataError)
    if not np.issubdtype(values.dtype, np.integer):
        raise expected(f"{name} of integers", dtype=str(values.dtype), error=DataError)
    return values.astype(np.int64)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, Real) and not isinstance(value, bool) and bool(np.isfinite(float(value)))
    )


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
