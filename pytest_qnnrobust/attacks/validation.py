"""Validation of norms, and of the data and numbers that an attack is called with."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.settings import integer, optional, positive, require
from pytest_qnnrobust.errors import AttackError, DataError, expected
from pytest_qnnrobust.metrics import norm_name
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.types import Float, Labels

NORM_NAMES: dict[Any, float] = {"1": 1.0, "l1": 1.0, "2": 2.0, "l2": 2.0}
NORM_NAMES |= {"inf": np.inf, "linf": np.inf}


def norm(value: Any, supported: tuple[float, ...]) -> float:
    """The norm as a float: 1, 2, np.inf, or a name such as "l2" or "inf"."""
    number = NORM_NAMES.get(value.lower()) if isinstance(value, str) else value
    if isinstance(number, Real) and not isinstance(number, bool) and float(number) in supported:
        return float(number)
    names = ", ".join(norm_name(order) for order in supported)
    raise expected(f"norm to be one of {names}", norm=value, error=AttackError)


def call_arguments(seed: Any, query_budget: Any, time_budget: Any, batch_size: Any) -> None:
    """Check the arguments that every attack is called with, besides the data."""
    require(seed, "seed", integer(least=0))
    require(batch_size, "batch_size", integer())
    require(query_budget, "query_budget", optional(integer()))
    require(time_budget, "time_budget", optional(positive("time_budget is in seconds")))


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
    if model.grid is not None:
        # The codes of a quantized input may end a step before the domain that they stand for.
        slack += model.grid.scale
    if len(x) and (x.min() < low - slack or x.max() > high + slack):
        values = {"smallest": float(x.min()), "largest": float(x.max())}
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
