"""Files that a run is written to: a folder of reports, and the summary of a CI job."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_qnnrobust.errors import QnnRobustError, expected
from pytest_qnnrobust.report.matrix import failures
from pytest_qnnrobust.report.page import to_html
from pytest_qnnrobust.report.summary import to_markdown
from pytest_qnnrobust.results import document as documents
from pytest_qnnrobust.results.document import Results

JOB_SUMMARY = "GITHUB_STEP_SUMMARY"
ANNOTATIONS = 10
"""Largest number of annotations that GitHub shows for one step."""


def write(folder: Path, results: Results, passed: bool) -> list[Path]:
    """Write results.json, report.html and summary.md, and return their paths.

    Raises QnnRobustError where the folder cannot be written.
    """
    path = folder / "results.json"
    try:
        documents.write(path, results)
    except OSError as error:
        raise _not_writable(folder, error) from None
    return [path, *render(folder, results, passed)]


def render(folder: Path, results: Results, passed: bool) -> list[Path]:
    """Write report.html and summary.md, from the results alone, and return their paths."""
    texts = {"report.html": to_html(results, passed), "summary.md": to_markdown(results, passed)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise _not_writable(folder, error) from None
    return [folder / name for name in texts]


def _not_writable(folder: Path, error: OSError) -> QnnRobustError:
    rule = "--qnn-report to be a folder that can be written"
    return expected(rule, folder=str(folder), reason=error.strerror)


def write_job_summary(results: Results, passed: bool) -> Path | None:
    """Append the summary to the file that a GitHub job names, if it names one that is there."""
    path = os.environ.get(JOB_SUMMARY)
    if not path or not Path(path).parent.is_dir():
        return None
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(to_markdown(results, passed))
    return Path(path)


def error_lines(results: Results) -> list[str]:
    """Lines that GitHub shows beside the pull request; none where no job of GitHub's runs."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return []
    return [
        f"::error title=robustness::{_escaped(text)}" for text in failures(results)[:ANNOTATIONS]
    ]


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
