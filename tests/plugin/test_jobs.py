"""`--qnn-jobs`: the same results from joblib's workers, here or on a cluster."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pytest_qnnrobust.demo import demo_path

FLOAT, INT8 = demo_path("digits_float.keras"), demo_path("digits_int8.tflite")
ROOT = Path(__file__).resolve().parents[2]
ON_DASK = """
import dask
import joblib
from distributed import Client, LocalCluster

def pytest_configure(config):
    dask.config.set({"distributed.worker.daemon": False})
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    config.client = Client(cluster)
    joblib.parallel_config("dask")

def pytest_unconfigure(config):
    asked = config.client.run(lambda: "pytest_qnnrobust.jobs" in __import__("sys").modules)
    print("workers that computed:", sum(asked.values()))
    config.client.close()
    config.client.cluster.close()
"""


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def measured(folder: Path) -> dict[str, Any]:
    """What results.json says, without times and how the run was started."""
    values = json.loads((folder / "results.json").read_text())
    for name in ("created", "command", "options"):
        del values[name]
    for outcome in values["outcomes"]:
        del outcome["seconds"]
    return dict(values)


def arguments(digits: str, *more: str) -> tuple[str, ...]:
    return (
        f"--qnn-float={FLOAT}", f"--qnn-int8={INT8}", f"--qnn-data={digits}", "--qnn-samples=21",
        "--qnn-attack=fgsm,square-linf", "--qnn-eps=0.1", "--qnn-squeeze=4,2",
        "-k", "direct or transfer or squeezing", "-q", *more,
    )  # fmt: skip


def test_two_processes_find_what_one_does(run, digits, pytester) -> None:
    plain = run(*arguments(digits, "--qnn-report=plain"))
    spread = run(*arguments(digits, "--qnn-report=spread", "--qnn-jobs=2"))
    assert plain.ret == spread.ret == 0
    found = measured(pytester.path / "plain")
    assert measured(pytester.path / "spread") == found
    assert any(one["id"].startswith("squeezed-int8-square") for one in found["outcomes"])


@pytest.mark.skipif(find_spec("distributed") is None, reason="needs distributed")
def test_two_workers_of_a_dask_cluster_find_what_one_process_does(run, digits, pytester) -> None:
    plain = run(*arguments(digits, "--qnn-report=plain", "-m", "qnn_direct"))
    pytester.makeconftest(ON_DASK)
    more = ("--qnn-report=spread", "--qnn-jobs=all", "-m", "qnn_direct", "-s")
    spread = pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments(digits, *more))
    assert plain.ret == spread.ret == 0
    spread.stdout.fnmatch_lines(["*workers that computed: 2"])
    assert measured(pytester.path / "spread") == measured(pytester.path / "plain")


def test_it_takes_the_place_of_xdist(run, digits) -> None:
    pytest.importorskip("xdist")
    result = run(*arguments(digits, "--qnn-jobs=2", "-n2"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*expected one of --qnn-jobs and pytest-xdist's -n, got both"])


@pytest.mark.parametrize("value", ["0", "-2", "many"])
def test_a_bad_number_is_one_line(run, digits, value) -> None:
    result = run(*arguments(digits, f"--qnn-jobs={value}"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"--qnn-jobs: expected an integer >= 1, got '{value}'" in result.stderr.str()
