"""State of a run in pytest's stash: its options, its session and the user's quantizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_qnnrobust import options

if TYPE_CHECKING:
    from pytest_qnnrobust.plugin.progress import Progress
    from pytest_qnnrobust.run.session import Session

options_key = pytest.StashKey[options.Options]()
session_key = pytest.StashKey["Session"]()
progress_key: pytest.StashKey[Progress] = pytest.StashKey()
quantizer_key = pytest.StashKey[Any]()

FILES, REFUSAL = "qnnrobust files", "qnnrobust refusal"
"""What the controller of pytest-xdist tells a worker, and a worker tells it: the digests of the
files that the run began with, and why the run has to end."""


def session_of(config: pytest.Config) -> Session:
    """The run's session, created at the first call; nothing is loaded yet."""
    if session_key not in config.stash:
        from pytest_qnnrobust.run import outputs
        from pytest_qnnrobust.run.session import Session

        chosen = config.stash[options_key]
        tried = () if config.getoption("collectonly") else outputs.of_run(chosen)
        session = config.stash[session_key] = Session(chosen, tried)
        _show_progress(config, session)
        if (jobs := session.options.jobs) is not None:
            from pytest_qnnrobust.run.jobs import Workers

            session.elsewhere = Workers(session, jobs)
    return config.stash[session_key]


def _show_progress(config: pytest.Config, session: Session) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if terminal is not None and capture is not None:
        from pytest_qnnrobust.plugin.progress import Progress

        session.progress = config.stash[progress_key] = Progress(terminal, capture)


def load(config: pytest.Config) -> None:
    """Read models and data, where no hook has; a user's mistake ends the run with exit code 4.

    So do other files than those that the controller of pytest-xdist has read.
    """
    from pytest_qnnrobust.errors import QnnRobustError

    try:
        session_of(config).load()
        if begun_with := getattr(config, "workerinput", {}).get(FILES):
            session_of(config).hold_to(begun_with)
    except QnnRobustError as error:
        end_run(config, error)


def end_run(config: pytest.Config, error: Exception) -> NoReturn:
    """End the run with the error's line and exit code 4; a worker has its controller do it."""
    if is_worker(config):
        config.workeroutput[REFUSAL] = str(error)  # type: ignore[attr-defined]
    pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)


def quantizer(config: pytest.Config) -> Any:
    """The object that --qnn-quantizer names, imported at the first call.

    Raises QnnRobustError where it cannot be imported.
    """
    if quantizer_key not in config.stash:
        from pytest_qnnrobust.errors import QnnRobustError
        from pytest_qnnrobust.quantizers.adapters import load_quantizer

        folders = (config.rootpath, config.invocation_params.dir)
        try:
            loaded = load_quantizer(str(config.stash[options_key].quantizer), folders)
        except QnnRobustError as error:
            raise QnnRobustError(f"--qnn-quantizer: {error}") from None
        config.stash[quantizer_key] = loaded
    return config.stash[quantizer_key]


def usable_quantizer(config: pytest.Config) -> None:
    """Raise QnnRobustError where --qnn-quantizer names nothing that a law can be asked of."""
    from pytest_qnnrobust.errors import QnnRobustError
    from pytest_qnnrobust.quantizers.base import prepare

    named = quantizer(config)
    try:
        prepare(named)
    except QnnRobustError as error:
        source = config.stash[options_key].quantizer
        raise QnnRobustError(f"--qnn-quantizer: {source}: {error}") from None


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn a user's mistake into pytest.UsageError: one line and exit code 4."""
    from pytest_qnnrobust.errors import QnnRobustError

    try:
        yield
    except QnnRobustError as error:
        raise pytest.UsageError(str(error)) from None


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")
