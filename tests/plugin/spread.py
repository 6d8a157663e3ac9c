"""What a run has in common however its work is spread: for tests and benchmarks of shared runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
"""The folder that workers in other processes import the project from."""

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
    asked = config.client.run(lambda: "pytest_qnnrobust.run.jobs" in __import__("sys").modules)
    print("workers that computed:", sum(asked.values()))
    config.client.close()
    config.client.cluster.close()
"""
"""A conftest.py: a Dask cluster of two workers on this machine, for joblib."""

STARTED = ("created", "command", "options")
"""What results.json says of how the run was started."""


def measured(folder: Path) -> dict[str, Any]:
    """What results.json in `folder` says, without times and how the run was started."""
    values = json.loads((folder / "results.json").read_text())
    for outcome in values["outcomes"]:
        del outcome["seconds"]
    return {name: value for name, value in values.items() if name not in STARTED}


def report(result: pytest.RunResult) -> list[str]:
    """The summary's lines without the seconds."""
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if "= robustness =" in line)
    end = next(i for i, line in enumerate(lines) if re.search(r"\d passed", line))
    return [re.sub(r" +[\d.]+$", "", line) for line in lines[start + 1 : end]]
