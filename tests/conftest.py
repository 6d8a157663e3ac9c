"""Fixtures shared by the tests of the plugin itself."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

from tests.helpers.examples import NIGHTLY, PULL_REQUEST

pytest_plugins = ["pytester"]

for profile, examples in (("pull-request", PULL_REQUEST), ("nightly", NIGHTLY)):
    hypothesis.settings.register_profile(
        profile, max_examples=examples, derandomize=True, deadline=None
    )

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--nightly",
        action="store_true",
        help="run the tests marked nightly too, and three times as many examples of each property",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--hypothesis-profile", None) is None:
        hypothesis.settings.load_profile("nightly" if runs_nightly(config) else "pull-request")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of real models before -m looks at markers, and leave out nightly ones."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("real_models")
    if not runs_nightly(config):
        config.hook.pytest_deselected(items=[item for item in items if _is_nightly(item)])
        items[:] = [item for item in items if not _is_nightly(item)]


def _is_nightly(item: pytest.Item) -> bool:
    return item.get_closest_marker("nightly") is not None


def runs_nightly(config: pytest.Config) -> bool:
    """Whether --nightly is given, or -m asks for (or against) that marker by name."""
    return config.getoption("--nightly") or "nightly" in config.getoption("-m")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and CIFAR-10 images that stands beside the project."""
    if not (SHARED / "models").is_dir():
        pytest.skip(f"no real models: {SHARED} is absent")
    return SHARED
