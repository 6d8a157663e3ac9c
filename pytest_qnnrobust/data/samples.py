"""Test data: real-valued samples in model units and integer labels, checked against the models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.data.domain import OVERRIDE, Domain, resolve_domain, scale, span
from pytest_qnnrobust.data.sources import Raw, read_source
from pytest_qnnrobust.errors import DataError, expected
from pytest_qnnrobust.models.base import Model

MAX_OUTSIDE = 0.25
"""Part of all float values that may lie outside of the models' input domain."""


@dataclass(frozen=True, eq=False)
class Data:
    """Labelled samples: `x` float32 (N, *shape) in model units, `y` int64 (N,).

    `name` is that of their source, `bounds` the (low, high) of the input domain, `domain` the text
    that says how it was chosen. Unpacks as `x, y = data`.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    name: str
    bounds: tuple[float, float]
    domain: str

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter((self.x, self.y))

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the values and shapes of x and y, on which cached results depend."""
        content = hashlib.sha256(f"{self.x.shape}".encode())
        content.update(_bytes(self.x, "<f4"))
        content.update(_bytes(self.y, "<i8"))
        return content.hexdigest()

    def first(self, n: int) -> Data:
        """The first n samples."""
        return replace(self, x=self.x[:n], y=self.y[:n])

    def at(self, index: NDArray[np.int64]) -> Data:
        """The samples at the positions `index`."""
        return replace(self, x=self.x[index], y=self.y[index])


def load_data(
    source: Any,
    *,
    model: Model | Sequence[Model] | None = None,
    domain: tuple[float, float] | None = None,
    recorded: tuple[float, float] | None = None,
    limit: int | None = None,
) -> Data:
    """Load labelled samples and check them against the model, or all models, under test.

    `source` is an `.npz` file (keys x, y), a folder of class folders of PNG or JPEG images,
    `module:function` returning (x, y), `"digits"` (the embedded test digits), or a tuple (x, y)
    of arrays. x is (N, *shape); uint8 images 0..255 are scaled into the models' input domain, or
    into `domain` (low, high); floats are taken to be in model units, and the few that lie outside
    of the domain are clipped to it. y holds the class of each sample, or one-hot rows. `recorded`
    is the domain of a run that this one is compared with (see `resolve_domain`). `limit` keeps the
    first samples, and memory for those alone is taken: nothing is asked of the others.

    Raises DataError, one line, for a source that cannot be read or does not fit the models.
    """
    models = [model] if isinstance(model, Model) else list(model or ())
    if limit is not None and limit < 1:
        raise expected("limit to be 1 or more", limit=limit, error=DataError)
    shape = models[0].input_shape if models else None
    channels = shape[-1] if shape is not None and len(shape) == 3 else None
    raw = read_source(source, channels, limit)
    x = _fit_shape(_check_finite(raw), raw.name, models)
    y = _check_labels(raw, models)
    resolved = resolve_domain(models, x, y, domain, recorded)
    bounds = resolved.bounds
    if x.dtype == np.uint8:
        return Data(scale(x, bounds), y, raw.name, bounds, f"uint8 images, {resolved}")
    x, note = _clip(x, resolved, raw.name)
    return Data(x, y, raw.name, bounds, f"{note}, {resolved}")


def _check_finite(raw: Raw) -> NDArray[Any]:
    """x, uint8 or finite float32."""
    x = raw.x
    if x.dtype == np.uint8:
        return x
    # Sample by sample, as all that is done to floats here: masks of everything would fill memory.
    finite = np.array([np.isfinite(sample).all() for sample in x])
    if not finite.all():
        raise expected(
            "finite values in x",
            data=raw.name,
            samples_with_nan_or_infinity=int(np.count_nonzero(~finite)),
            first=int(np.argmin(finite)),
            error=DataError,
        )
    return x


def _fit_shape(x: NDArray[Any], name: str, models: Sequence[Model]) -> NDArray[Any]:
    """x with the models' input shape: an axis of length 1 may be missing or too many."""
    for model in models:
        wanted = model.input_shape
        if x.shape[1:] == wanted:
            continue
        if _without_ones(x.shape[1:]) == _without_ones(wanted):
            x = x.reshape(len(x), *wanted)
            continue
        channels_first = x.ndim == 4 and (*x.shape[2:], x.shape[1]) == wanted
        raise expected(
            f"samples of shape {wanted}, the input of {model.name}",
            data=name,
            shape=x.shape[1:],
            cure="move the channels last: np.moveaxis(x, 1, -1)" if channels_first else None,
            error=DataError,
        )
    return x


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _check_labels(raw: Raw, models: Sequence[Model]) -> NDArray[np.int64]:
    """Labels int64 (N,) from integers (N,) or (N, 1), or from one-hot rows (N, classes)."""
    y = _whole_labels(raw)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
            rule = "labels of shape (N,), or one-hot rows of one 1 and zeros"
            raise expected(rule, data=raw.name, shape=y.shape, error=DataError)
        for model in models:
            if y.shape[1] != model.classes:
                rule = f"one-hot labels of {model.classes} classes, the output of {model.name}"
                raise expected(rule, data=raw.name, classes=y.shape[1], error=DataError)
        y = np.argmax(y, axis=1)
    y = y.astype(np.int64)
    classes = min((model.classes for model in models), default=None)
    low, high = int(y.min()), int(y.max())
    if low < 0 or (classes is not None and high >= classes):
        rule = "labels from 0" if classes is None else f"labels in 0..{classes - 1}"
        cure = "labels count the classes from 0" if classes == high else None
        raise expected(rule, data=raw.name, smallest=low, largest=high, cure=cure, error=DataError)
    return y


def _whole_labels(raw: Raw) -> NDArray[Any]:
    y = raw.y
    if np.issubdtype(y.dtype, np.floating) and not (np.isfinite(y) & (y == np.round(y))).all():
        value = float(y[~(np.isfinite(y) & (y == np.round(y)))][0])
        raise expected("integer labels", data=raw.name, label=value, error=DataError)
    return y


def _clip(x: NDArray[np.float32], domain: Domain, name: str) -> tuple[NDArray[np.float32], str]:
    """x limited to the domain, and what was done in words; many values outside are an error."""
    low, high = domain.bounds
    outside = sum(int(np.count_nonzero((sample < low) | (sample > high))) for sample in x)
    if outside == 0:
        return x, "floats as they are"
    if outside > MAX_OUTSIDE * x.size:
        raise expected(
            f"inputs in {span(domain.bounds)} ({domain.why})",
            data=name,
            smallest=float(x.min()),
            largest=float(x.max()),
            cure=f"scale them, or give pixels as uint8; {OVERRIDE}",
            error=DataError,
        )
    return np.clip(x, low, high, out=x), f"floats, {outside} of {x.size} values clipped"


def _bytes(array: NDArray[Any], dtype: str) -> memoryview:
    """The bytes of an array, without a copy where it is contiguous and of this dtype."""
    return np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data
