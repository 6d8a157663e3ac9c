"""The outputs of a run, and their trial before the first attack: a full disk costs none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_qnnrobust import disk
from pytest_qnnrobust.options import Options

JOB_SUMMARY = "GITHUB_STEP_SUMMARY"


@dataclass(frozen=True)
class Output:
    """What a run writes at `path`, and the option that names it; `appended` to what is there."""

    option: str
    kind: disk.Kind
    path: Path
    appended: bool = False

    def try_out(self) -> None:
        """Write a file there and remove it; raises OutputError where that fails."""
        with self.writing():
            if self.kind == "folder":
                disk.try_folder(self.path)
            elif self.appended:
                disk.try_appending(self.path)
            else:
                disk.try_file(self.path)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Raise OutputError, one line, where the disk refuses what is written inside."""
        with disk.writing(self.option, self.kind, self.path):
            yield


def of_run(options: Options) -> tuple[Output, ...]:
    """The outputs of a run of pytest, without its cache, which it can go on without."""
    named = (report(options), kept_examples(options), new_baseline(options), job_summary())
    return tuple(output for output in named if output is not None)


def report(options: Options) -> Output | None:
    """The folder of --qnn-report."""
    return None if options.report is None else Output("--qnn-report", "folder", options.report)


def kept_examples(options: Options) -> Output | None:
    """The folder of --qnn-keep-examples."""
    folder = options.keep_examples
    return None if folder is None else Output("--qnn-keep-examples", "folder", folder)


def new_baseline(options: Options) -> Output | None:
    """The file of --qnn-baseline, where the run is to be recorded in it."""
    if options.baseline is None or not (options.update or options.update_new):
        return None
    return Output("--qnn-baseline", "file", options.baseline)


def job_summary() -> Output | None:
    """The file that a GitHub job names, where its folder is there."""
    path = os.environ.get(JOB_SUMMARY)
    if not path or not os.path.isdir(Path(path).parent):
        return None
    return Output(JOB_SUMMARY, "file", Path(path), appended=True)
