"""What a run was made with: models, data, versions."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata

import pytest_qnnrobust
from pytest_qnnrobust.data.samples import Data
from pytest_qnnrobust.results.document import DataRecord, ModelRecord
from pytest_qnnrobust.types import WIDTHS

DERIVED = "derived: "
"""How the origin of a model starts that was made of another one."""

LIBRARIES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "tensorflow": "tensorflow",
    "keras": "keras",
    "art": "adversarial-robustness-toolbox",
    "pytest": "pytest",
}
"""By the name they are imported under: what each is installed as."""


def package_version() -> str:
    return pytest_qnnrobust.__version__


def versions() -> dict[str, str]:
    """Of Python, the platform, and those of `LIBRARIES` that are installed."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name, distribution in LIBRARIES.items():
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(distribution)
    return found


def data_record(attacked: Data, available: int) -> DataRecord:
    """Of the attacked samples, the first of `available`."""
    low, high = (float(bound) for bound in attacked.bounds)
    return DataRecord(
        attacked.name, attacked.digest, len(attacked), available, low, high, attacked.domain
    )


def in_order(records: list[ModelRecord]) -> list[ModelRecord]:
    """Each model once: plain ones first, then each defence, by width."""
    return sorted(set(records), key=lambda one: (one.defense, WIDTHS.index(one.width), one.name))


def derived_origins(records: Iterable[ModelRecord]) -> dict[str, str]:
    """Width -> origin of each plain model that was derived from another, not given."""
    return {
        record.width: record.origin
        for record in records
        if not record.defense and record.origin.startswith(DERIVED)
    }
