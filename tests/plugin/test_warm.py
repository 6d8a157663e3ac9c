"""A run whose answers are all in the cache computes nothing: TensorFlow is not even imported."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.models.convert import convert
from tests.plugin.conftest import LOADED
from tests.plugin.spread import measured

ROOT = Path(__file__).resolve().parents[2]
FLOAT, INT8 = demo_path("digits_float.keras"), demo_path("digits_int8.tflite")
WHAT_WAS_IMPORTED = """
import os
import sys
from pathlib import Path

def pytest_unconfigure(config):
    heavy = {"tensorflow", "keras", "h5py", "ai_edge_litert"} & set(sys.modules)
    Path("imported").mkdir(exist_ok=True)
    Path(f"imported/{os.getpid()}").write_text(" ".join(sorted(heavy)))
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A float model at a path of the test's own."""
    return Path(shutil.copy(FLOAT, tmp_path / "mine.keras"))


@pytest.fixture
def few(digits: str):
    """`few(run, *args)`: FGSM, and what the suite asks beside attacks, on 8 digits."""

    def start(run, *args: object) -> pytest.RunResult:
        common = (f"--qnn-data={digits}", "--qnn-samples=8", "--qnn-attack=fgsm")
        return run(*common, "--qnn-cache-dir=kept", *args)

    return start


@pytest.fixture
def apart(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """`apart(*args)` -> what pytest in a process of its own returned, and what it imported."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)

    def start(*args: object) -> tuple[pytest.RunResult, set[str]]:
        pytester.makeconftest(WHAT_WAS_IMPORTED)
        options = (*LOADED, "-p", "no:cacheprovider", *map(str, args))
        result = pytester.runpytest_subprocess(*options)
        return result, {path.read_text() for path in Path("imported").iterdir()}

    return start


@pytest.mark.parametrize(
    "models",
    [
        pytest.param((f"--qnn-model={INT8}",), id="float derived"),
        pytest.param(
            (f"--qnn-float={FLOAT}", f"--qnn-int8={INT8}"),
            id="int16 derived",
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            (f"--qnn-model={INT8}", "--qnn-runtime=litert-builtin"),
            id="phone",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_everything_cached_needs_no_tensorflow(run, few, apart, models) -> None:
    assert few(run, *models, "--qnn-report=cold").ret == 0
    result, imported = few(apart, *models, "--qnn-report=warm")
    assert result.ret == 0
    assert imported == {""}
    cold, warm = (json.loads(Path(name, "results.json").read_text()) for name in ("cold", "warm"))
    for name in ("created", "command"):
        del cold[name], warm[name]
    cold["options"]["report"] = warm["options"]["report"] = None
    assert cold == warm


@pytest.mark.nightly
def test_a_cold_run_imports_it(few, apart) -> None:
    _, imported = few(apart, f"--qnn-int8={INT8}", "-k", "test_clean_accuracy_is and int8")
    assert "tensorflow" in imported.pop()


@pytest.mark.nightly
def test_a_float_tflite_is_given_no_second_dry_run(run, few, apart, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(convert(FLOAT, "float32"))
    for start in (run, apart):
        found = few(start, f"--qnn-model={tmp_path / 'm.tflite'}", "-k", "test_direct")
    assert found[0].ret == 0
    assert found[1] == {""}


@pytest.mark.nightly
def test_workers_import_nothing_either(run, few, apart) -> None:
    pytest.importorskip("xdist")
    args = (f"--qnn-float={FLOAT}", f"--qnn-int8={INT8}", "-k", "float32 or int8")
    assert few(run, *args).ret == 0
    result, imported = few(apart, *args, "-n2")
    assert result.ret == 0
    assert imported == {""}
    assert len(list(Path("imported").iterdir())) == 3


def test_another_file_at_the_same_path_is_loaded_and_asked(run, few, model: Path) -> None:
    which = (f"--qnn-float={model}", "-k", "test_direct and float32")
    assert few(run, *which, "--qnn-report=first").ret == 0
    shutil.copy(demo_path("digits_pgd_float.keras"), model)
    assert few(run, *which, "--qnn-report=second").ret == 0
    assert few(run, *which, "--qnn-report=plain", "--qnn-no-cache").ret == 0
    first, second, plain = (measured(Path(name)) for name in ("first", "second", "plain"))
    assert second["outcomes"] == plain["outcomes"] != first["outcomes"]
    content = hashlib.sha256(model.read_bytes()).hexdigest()
    assert second["models"][0]["digest"].startswith(content)


def test_a_broken_file_ends_the_run_as_ever(run, few, model: Path) -> None:
    which = (f"--qnn-float={model}", "-k", "test_direct and float32")
    for start, content in ((run, None), (run, model.read_bytes()[:-99])):
        if content is not None:
            model.write_bytes(content)
        result = few(start, *which)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.errlines if line.strip()]
    assert len(errors) == 1
    assert "mine.keras is not a readable Keras model" in errors[0]


@pytest.mark.nightly
def test_damaged_entries_of_every_kind_are_made_again(run, few, model: Path) -> None:
    which = (f"--qnn-float={model}", f"--qnn-int8={INT8}", "-k", "float32 or law or int16")
    assert few(run, *which, "--qnn-report=first").ret == 0
    written = {path.name for path in Path("kept").glob("*.npz")}
    for path in Path("kept").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert few(run, *which, "--qnn-report=second").ret == 0
    assert {path.name for path in Path("kept").glob("*.npz")} == written
    assert measured(Path("first")) == measured(Path("second"))
