"""Attacks computed by joblib's workers: processes of this machine, or a cluster of the user's.

joblib's own `parallel_config` says where: loky unless a conftest.py names another backend, such as
"dask" or "ray" for a cluster whose machines see the same files.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import Attack, AttackResult
from pytest_qnnrobust.compute.processors import share_processors
from pytest_qnnrobust.compute.quiet import quiet
from pytest_qnnrobust.errors import FileChangedError, QnnRobustError, expected
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.files import START_AGAIN
from pytest_qnnrobust.options import Options, names_that_matter_for
from pytest_qnnrobust.run.session import Session

LEAST = 4
"""Smallest number of samples that are worth sending to a worker."""

OF_THIS_MACHINE = ("LokyBackend", "MultiprocessingBackend")
"""joblib's backends whose workers share the processors of this process."""

_alone = threading.Lock()


@dataclass(frozen=True)
class Part:
    """Samples `first` to `last` of one attack, in terms that a worker understands.

    `model` is the session's name for it, `digest` that of its file, `data` that of the samples;
    `neighbours` workers share the processors of the machine.
    """

    options: Options
    model: str
    digest: str
    data: str
    attack: Attack
    first: int
    last: int
    neighbours: int


def compute(part: Part) -> AttackResult:
    """Run a part, in a worker. Raises FileChangedError where its model or data are other ones."""
    # Backends such as Dask run a worker's tasks in threads, which share one session.
    with _alone:
        session = _session(part.options, part.neighbours)
        model = session.cells.model_named(part.model)
        _check_same(f"the {part.model} model", part.digest, model.digest or "", model.name)
        _check_same("the data", part.data, session.data.digest, session.data.name)
        with quiet():
            return session.evaluator.run_here(model, part.attack, np.arange(part.first, part.last))


def _check_same(what: str, begun_with: str, here: str, name: str) -> None:
    if here != begun_with:
        rule = f"{what} that the run began with"
        cure = f"every worker needs the same files at the same paths; {START_AGAIN}"
        raise expected(rule, worker_has=name, cure=cure, error=FileChangedError)


@lru_cache(maxsize=1)
def _session(options: Options, neighbours: int) -> Session:
    """The worker's session, kept for its next part: to load the models takes seconds."""
    share_processors(neighbours)
    session = Session(options)
    session.load()
    return session


class Workers:
    """Gives the attacks of one session to `jobs` workers (-1: to all that there are)."""

    def __init__(self, session: Session, jobs: int) -> None:
        self._session = session
        self._jobs = jobs
        defaults = Options()
        here = {name: getattr(defaults, name) for name in names_that_matter_for("here")}
        self._options = replace(session.options, **here)

    def __call__(
        self, model: Model, attack: Attack, index: NDArray[np.int64]
    ) -> AttackResult | None:
        """The attack on samples `index` in a row; None for what this process has to do itself.

        That is a model that no option names, and an attack that learns from all samples together.
        """
        name = self._session.cells.name_of(model)
        if name is None or not model.digest or attack.universal or len(index) < 2 * LEAST:
            return None
        import joblib

        count = min(joblib.effective_n_jobs(self._jobs), len(index) // LEAST)
        if count < 2:
            return None
        backend = type(joblib.parallel.get_active_backend()[0]).__name__
        neighbours = count if backend in OF_THIS_MACHINE else 1
        data = self._session.data
        # The input domain may be that of a baseline, which workers are not told of.
        options = replace(self._options, domain=data.bounds)
        parts = [
            Part(
                options, name, model.digest, data.digest, attack,
                int(i[0]), int(i[-1]) + 1, neighbours,
            )
            for i in np.array_split(index, count)
        ]  # fmt: skip
        return AttackResult.joined(list(self._watched(parts, joblib)))

    def _watched(self, parts: list[Part], joblib: Any) -> Iterator[AttackResult]:
        parallel = joblib.Parallel(n_jobs=self._jobs, batch_size=1, return_as="generator")
        watch = self._session.progress
        results: Iterable[AttackResult] = parallel(joblib.delayed(compute)(part) for part in parts)
        try:
            for part, result in zip(parts, results, strict=True):
                if watch is not None:
                    watch(part.last, self._session.attacks.samples, f"on {len(parts)} workers")
                yield result
        except QnnRobustError:
            raise
        except Exception as error:
            cure = "a worker may have died for want of memory: try fewer --qnn-jobs"
            rule = "--qnn-jobs to have workers that answer"
            reason = f"{type(error).__name__}: {error}"
            raise expected(rule, reason=reason, cure=cure) from None
