"""Fixtures shared by the tests of the plugin itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from pytest_qnnrobust.compute.processors import share_processors
from tests.helpers.examples import NIGHTLY, PULL_REQUEST

if TYPE_CHECKING:
    from pytest_qnnrobust.models import Model
    from pytest_qnnrobust.models.files import ModelFile

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
    share_processors(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
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


@pytest.fixture(scope="session")
def models_compiled_once() -> Iterator[None]:
    """Sessions of one process share what TensorFlow traced of a file, which takes seconds."""
    from pytest_qnnrobust.run import subjects

    load = subjects.load_checked
    models: dict[tuple[str, ...], Model] = {}

    def load_once(file: ModelFile, *, runtime: str, scale_arithmetic: str, facts: Any) -> Model:
        settings = {"runtime": runtime, "scale_arithmetic": scale_arithmetic, "facts": facts}
        if runtime != "tflm":
            return load(file, **settings)
        key = (file.digest, file.path.name, scale_arithmetic)
        if key not in models:
            models[key] = load(file, **settings)
            for name, value in vars(type(models[key])).items():
                if isinstance(value, cached_property) and name != "surrogate":
                    getattr(models[key], name)  # Copies share what the first of them has.
        return models[key].with_bounds(*models[key].bounds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subjects, "load_checked", load_once)
        yield
