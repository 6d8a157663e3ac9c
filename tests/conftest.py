"""Fixtures shared by the tests of the plugin itself."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ["pytester"]

hypothesis.settings.register_profile("seeded", derandomize=True, deadline=None)
hypothesis.settings.load_profile("seeded")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("real_models")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and CIFAR-10 images that stands beside the project."""
    if not (SHARED / "models").is_dir():
        pytest.skip(f"no real models: {SHARED} is absent")
    return SHARED
