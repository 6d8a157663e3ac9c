"""Records of what a run was made with: models, data, versions, the engine."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata

import pytest_qnnrobust
from pytest_qnnrobust.data.samples import Data
from pytest_qnnrobust.results.document import DataRecord, ModelRecord
from pytest_qnnrobust.tflite import native
from pytest_qnnrobust.types import WIDTHS

DERIVED = "derived: "
"""Beginning of the origin of a model that was made from another one."""

LIBRARIES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "tensorflow": "tensorflow",
    "keras": "keras",
    "art": "adversarial-robustness-toolbox",
    "pytest": "pytest",
}
"""Libraries that results depend on: name when imported -> name when installed."""


def package_version() -> str:
    return pytest_qnnrobust.__version__


def versions() -> dict[str, str]:
    """Versions of Python, of the platform, and of those `LIBRARIES` that are installed; the engine
    of integer models and its instruction set.
    """
    core = native.library()
    installed = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "engine": "native" if core else "reference",
        "instruction_set": core.isa if core else "none",
    }
    for name, distribution in LIBRARIES.items():
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(distribution)
    return installed


def data_record(attacked: Data, available: int) -> DataRecord:
    """The record of the attacked samples, which are the first of `available`."""
    low, high = (float(bound) for bound in attacked.bounds)
    return DataRecord(
        attacked.name, attacked.digest, len(attacked), available, low, high, attacked.domain
    )


def in_order(records: list[ModelRecord]) -> list[ModelRecord]:
    """Each model once: plain ones first, then each defence, by width."""
    return sorted(
        set(records),
        key=lambda record: (record.defense, WIDTHS.index(record.width), record.name),
    )


def derived_origins(records: Iterable[ModelRecord]) -> dict[str, str]:
    """Width -> origin of each plain model that was derived from another, not given."""
    return {
        record.width: record.origin
        for record in records
        if not record.defense and record.origin.startswith(DERIVED)
    }


def is_twin(records: Iterable[ModelRecord], defense: str, width: str) -> bool:
    """Whether this is the float twin that was derived from an integer file, plain or wrapped.

    It is no model of the user's: a defended network that was given is none, whatever its width.
    """
    known = list(records)
    if width != "float32" or width not in derived_origins(known):
        return False
    return not defense or (defense, width) not in {(one.defense, one.width) for one in known}
