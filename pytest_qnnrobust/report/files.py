"""Files that a run is written to: a folder of reports, and the summary of a CI job."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_qnnrobust import disk
from pytest_qnnrobust.report.matrix import failures
from pytest_qnnrobust.report.page import to_html
from pytest_qnnrobust.report.summary import to_markdown
from pytest_qnnrobust.results import document as documents
from pytest_qnnrobust.results.document import Results

ANNOTATIONS = 10
"""Largest number of annotations that GitHub shows for one step."""


def write(folder: Path, results: Results, passed: bool) -> list[Path]:
    """Write results.json, report.html and summary.md, and return their paths.

    Raises OSError where the disk refuses.
    """
    path = folder / "results.json"
    documents.write(path, results)
    return [path, *render(folder, results, passed)]


def render(folder: Path, results: Results, passed: bool) -> list[Path]:
    """Write report.html and summary.md, from the results alone, and return their paths.

    Raises OSError where the disk refuses.
    """
    texts = {"report.html": to_html(results, passed), "summary.md": to_markdown(results, passed)}
    for name, text in texts.items():
        disk.write_text(folder / name, text)
    return [folder / name for name in texts]


def append_summary(path: Path, results: Results, passed: bool) -> None:
    """Append the summary to the file of a CI job. Raises OSError where the disk refuses."""
    with path.open("a", encoding="utf-8") as file:
        file.write(to_markdown(results, passed))


def error_lines(results: Results) -> list[str]:
    """Lines that GitHub shows beside the pull request; none where no job of GitHub's runs."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return []
    return [
        f"::error title=robustness::{_escaped(text)}" for text in failures(results)[:ANNOTATIONS]
    ]


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
