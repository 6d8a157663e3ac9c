"""The real interval of a model's inputs, read from its quantization or judged by its accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import DataError, expected
from pytest_qnnrobust.models.base import Model

UNIT = (0.0, 1.0)
USUAL: tuple[tuple[float, float], ...] = (UNIT, (-1.0, 1.0), (0.0, 255.0), (-128.0, 127.0))
IMAGE_DOMAINS = USUAL[:3]
TOLERANCE = 0.05
"""Part of the span by which the end of a calibrated range may miss that of a usual one."""

BLOCK = 1 << 16
"""Pixels that are scaled together."""

JUDGED_ON = 256
"""Images, at most, that are classified in each candidate domain."""
OVERRIDE = "give domain=(low, high) (--qnn-domain) to override"


@dataclass(frozen=True)
class Domain:
    """The interval `low`..`high` of real-valued inputs, and in words `why` it is this one."""

    low: float
    high: float
    why: str

    @property
    def bounds(self) -> tuple[float, float]:
        return self.low, self.high

    def __str__(self) -> str:
        return f"inputs in {span(self.bounds)}: {self.why}"


def resolve_domain(
    models: Sequence[Model],
    x: NDArray[Any],
    y: NDArray[np.int64] | None = None,
    override: tuple[float, float] | None = None,
    recorded: tuple[float, float] | None = None,
) -> Domain:
    """The input domain that `models` share, for raw data `x` (uint8 images, or floats as they are).

    The first of these that there is:

    1. `override`;
    2. `recorded`, the domain of the run that this one is compared with, unless a model states
       another usual domain: what only came out of a calibration must not decide what the model is
       tested on;
    3. the range of an int8 input, or bounds other than 0..1 of a float model (a Rescaling layer, or
       given by hand);
    4. the symmetric range of an int16 input, or half of it;
    5. for uint8 images the usual domain in which up to 256 clean images are classified best, for
       floats the data's own range.

    Raises DataError where models state several domains.
    """
    if override is not None:
        low, high = float(override[0]), float(override[1])
        if not low < high:
            raise expected("domain with low < high", low=low, high=high, error=DataError)
        return Domain(low, high, "as given")
    if recorded is not None and not any(_states_another(model, recorded) for model in models):
        return Domain(*recorded, "as the baseline records")
    return _stated(models) or _from_int16(models, x, y) or _from_float(models, x, y)


def usual(bounds: tuple[float, float]) -> tuple[float, float]:
    """The usual domain that `bounds` approximates, or `bounds` where there is none."""
    for low, high in USUAL:
        slack = TOLERANCE * (high - low)
        if abs(bounds[0] - low) <= slack and abs(bounds[1] - high) <= slack:
            return low, high
    return bounds


def span(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:.6g}..{bounds[1]:.6g}"


def _stated(models: Sequence[Model]) -> Domain | None:
    """The domain that files state: the range of an int8 input, the Rescaling of a float model."""
    stated: dict[str, Domain] = {}
    for model in models:
        if model.grid is not None and model.width == "int8":
            bounds = usual(model.grid.range)
            stated[model.name] = Domain(*bounds, f"what the int8 input of {model.name} covers")
        elif model.grid is None and model.bounds != UNIT:
            stated[model.name] = Domain(*model.bounds, f"what {model.name} states")
    if len({domain.bounds for domain in stated.values()}) > 1:
        domains = {name: span(domain.bounds) for name, domain in stated.items()}
        raise expected(
            "models of one input domain", domains=domains, cure=OVERRIDE, error=DataError
        )
    return next(iter(stated.values()), None)


def _states_another(model: Model, recorded: tuple[float, float]) -> bool:
    """Whether the model states a usual domain that is not the recorded one."""
    stated = _stated([model])
    return stated is not None and stated.bounds in USUAL and stated.bounds != recorded


def _from_int16(
    models: Sequence[Model], x: NDArray[Any], y: NDArray[np.int64] | None
) -> Domain | None:
    model = next((m for m in models if m.grid is not None and m.width == "int16"), None)
    if model is None or model.grid is None:
        return None
    # An int16 input is symmetric (zero point 0), so that 0..1 data use half of its range.
    reach = max(abs(end) for end in model.grid.range)
    positive, symmetric = usual((0.0, reach)), usual((-reach, reach))
    if x.dtype == np.uint8:
        return _judged(models, x, y, (positive, symmetric), f"the int16 range +-{reach:.6g}")
    if x.min() >= 0:
        return Domain(*positive, f"the data's half of the int16 range of {model.name}")
    return Domain(*symmetric, f"what the int16 input of {model.name} covers")


def _from_float(models: Sequence[Model], x: NDArray[Any], y: NDArray[np.int64] | None) -> Domain:
    if x.dtype == np.uint8:
        return _judged(models, x, y, IMAGE_DOMAINS, "a float input")
    low, high = float(x.min()), float(x.max())
    for bounds in USUAL:
        if bounds[0] <= low and high <= bounds[1]:
            return Domain(*bounds, "the usual domain that holds the data")
    return Domain(
        low, high if high > low else low + 1, "the smallest and largest value of the data"
    )


def _judged(
    models: Sequence[Model],
    x: NDArray[Any],
    y: NDArray[np.int64] | None,
    candidates: tuple[tuple[float, float], ...],
    ambiguous: str,
) -> Domain:
    """The candidate in which the first model classifies the first images best."""
    if not models or y is None:
        return Domain(*candidates[0], f"assumed; {OVERRIDE}")
    # A copy of the model counts the queries, so that the attacks' counters start at 0.
    model = models[0].with_bounds(*models[0].bounds)
    x, y = x[:JUDGED_ON], y[:JUDGED_ON]
    accuracy = {c: float(np.mean(model.classify(scale(x, c)) == y)) for c in candidates}
    best = max(candidates, key=lambda candidate: accuracy[candidate])
    others = ", ".join(f"{span(c)} {accuracy[c]:.1%}" for c in candidates if c != best)
    return Domain(
        *best,
        f"{ambiguous} leaves it open; {model.name} is right on {accuracy[best]:.1%} of {len(x)} "
        f"images there ({others}); {OVERRIDE}",
    )


def scale(x: NDArray[Any], bounds: tuple[float, float]) -> NDArray[np.float32]:
    """uint8 images 0..255 -> float32 low..high, rounded once; 0..1 gives exactly x / 255."""
    low, high = bounds
    levels = (np.arange(256.0) * (high - low) / 255 + low).astype(np.float32)
    scaled = np.empty(x.shape, np.float32)
    pixels, values = x.reshape(-1), scaled.reshape(-1)
    # Block by block: NumPy makes 8 bytes of each index.
    for start in range(0, pixels.size, BLOCK):
        part = slice(start, start + BLOCK)
        np.take(levels, pixels[part], out=values[part], mode="clip")
    return scaled
