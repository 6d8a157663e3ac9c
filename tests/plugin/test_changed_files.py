"""A file that is replaced during a run ends it: one line, exit code 4, no number of two files."""

from __future__ import annotations

import shutil
from dataclasses import asdict

import numpy as np
import pytest

from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import FileChangedError
from pytest_qnnrobust.results.document import DataRecord, ModelRecord
from pytest_qnnrobust.run.gathered import Gathered
from tests.plugin.spread import ROOT

REPLACES = """
import shutil

def {hook}({arguments}):
    shutil.copy({source!r}, {target!r})
"""
"""A conftest.py that replaces a file after the run has read it."""

AFTER_COLLECTION = ("pytest_collection_finish", "session")
BEFORE_WORKERS = ("pytest_configure_node", "node")


@pytest.fixture
def replaced(pytester: pytest.Pytester, cold, monkeypatch: pytest.MonkeyPatch):
    """`replaced(when, file, by, *args)`: the line of a run in which `file` becomes `by`."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("digits_float.keras", "digits_int8.tflite"):
        shutil.copy(demo_path(name), name)
    with np.load(demo_path("digits.npz")) as data:
        np.savez("few.npz", x=data["x"][:16], y=data["y"][:16])
        np.savez("others.npz", x=data["x"][16:32], y=data["y"][16:32])

    def start(when: tuple[str, str], file: str, by: object, *args: str) -> str:
        hook, arguments = when
        pytester.makeconftest(
            REPLACES.format(hook=hook, arguments=arguments, source=str(by), target=file)
        )
        result = cold("--qnn-data=few.npz", "--qnn-report=out", *args)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert not (pytester.path / "out" / "results.json").exists()
        lines = [line for line in result.outlines if "_pytest.outcomes.Exit: " in line]
        assert len(lines) == 1
        assert "Traceback" not in result.stdout.str()
        return lines[0]

    return start


def test_a_keras_file_replaced_before_a_width_is_derived_from_it(replaced) -> None:
    line = replaced(
        AFTER_COLLECTION, "digits_float.keras", demo_path("digits_pgd_float.keras"),
        "--qnn-float=digits_float.keras", "-k", "test_clean_accuracy_is and int8",
    )  # fmt: skip
    assert "expected a model file that stays as it is while the tests run, got path=" in line
    assert "start again" in line


@pytest.mark.parametrize(
    ("file", "by", "other"),
    [
        ("digits_int8.tflite", demo_path("digits_pgd_int8.tflite"), "['int8 model']"),
        pytest.param(
            "few.npz", "others.npz", "['data', 'calibration data']", marks=pytest.mark.nightly
        ),
    ],
)
def test_a_file_replaced_before_the_workers_of_xdist_read_it(replaced, file, by, other) -> None:
    pytest.importorskip("xdist")
    only = ("-k", "test_clean_accuracy_is and int8", "-n1")
    line = replaced(BEFORE_WORKERS, file, by, "--qnn-int8=digits_int8.tflite", *only)
    assert f"every worker to read the files that the run began with, got other={other}" in line


def test_a_file_replaced_before_the_workers_of_joblib_read_it(replaced) -> None:
    line = replaced(
        AFTER_COLLECTION, "digits_int8.tflite", demo_path("digits_pgd_int8.tflite"),
        "--qnn-int8=digits_int8.tflite", "--qnn-attack=noise", "-k", "test_direct and int8",
        "--qnn-jobs=2",
    )  # fmt: skip
    assert "expected the int8 model that the run began with" in line


@pytest.mark.parametrize("other", ["data", "models"])
def test_workers_that_tested_different_files_are_not_joined(other: str) -> None:
    model = asdict(ModelRecord("m", "int8", "tflm", "a" * 64, "derived: m"))
    data = asdict(DataRecord("d", "a" * 64, 20, 20, 0.0, 1.0, "0..1"))
    sent = {**Gathered().to_json(), "models": [model], "data": data}
    gathered = Gathered()
    gathered.merge(sent)
    gathered.merge(sent)
    changed = {**model, "digest": "b" * 64}, {**data, "digest": "b" * 64}
    theirs = {"models": [changed[0]]} if other == "models" else {"data": changed[1]}
    with pytest.raises(FileChangedError, match="every worker to test the same models and data"):
        gathered.merge({**sent, **theirs})
