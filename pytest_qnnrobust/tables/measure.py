"""Measurement of the cells of tables: from the shards on disk where they are, else by attack."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.compute.processors import share_processors
from pytest_qnnrobust.errors import AttackError, QnnRobustError
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.metrics import mean_distance
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.options.values import Limit
from pytest_qnnrobust.run.session import Session
from pytest_qnnrobust.run.subjects import MissingError
from pytest_qnnrobust.statistics import paired
from pytest_qnnrobust.tables.cells import PLAIN, SQUEEZING, TableCell
from pytest_qnnrobust.tables.predicted_labels import move_wrong
from pytest_qnnrobust.tables.published import DISTANCES


@dataclass(frozen=True)
class Measured:
    """A cell's accuracy in % of `n` samples, its Clopper-Pearson interval, and mean distances.

    As in the paper, the accuracy is the share of the samples that are classified right after the
    attack, whatever they were before it. `distances` are means over the samples that the attacked
    network was fooled on, `distances_all`, the paper's, over all that it was right on; `seconds` is
    the attack's time when it was computed.
    """

    cell: TableCell
    n: int
    accuracy: float
    interval: paired.Interval
    distances: Mapping[str, float]
    distances_all: Mapping[str, float]
    seconds: float
    predicted_labels: bool = False


@dataclass(frozen=True)
class Conditions:
    """The conditions of measurement: on how many samples, and with which labels.

    Of `limits` the first that fits a cell holds for it. The attacks of `predicted_labels` are given
    the decisions of the network that they attack instead of the true labels. Distances are those of
    the images that it was right on either way.
    """

    limits: tuple[Limit, ...] = ()
    predicted_labels: tuple[str, ...] = ()

    def samples_of(self, session: Session, cell: TableCell) -> int:
        """Number of samples that the cell is measured on."""
        fitting = (limit.samples for limit in self.limits if limit.fits(cell.table, cell.attack))
        return min(next(fitting, session.attacks.samples), len(session.data))


AS_ASKED = Conditions()


def measure(session: Session, cell: TableCell, conditions: Conditions = AS_ASKED) -> Measured:
    """Measure the cell on the first samples; MissingError where a model of it is missing."""
    samples = conditions.samples_of(session, cell)
    model = _network(session, cell)
    if cell.how == "clean":
        return _measured(cell, session.right_on_clean(model)[: session.attacks.samples], None)
    attack = session.attacks.attack(cell.attack)
    source = _trained(session, cell, cell.width if cell.how == "direct" else "float32")
    judged = attacked = session.cells.cell(source, attack)
    if source is not model:
        judged = session.cells.cell(model, attack, "transfer", source)
    on_source = session.evaluate(attacked, samples, record=False)
    outcome = session.evaluate(judged, samples, record=False)
    right = outcome.adv_label == outcome.label
    if cell.attack not in conditions.predicted_labels:
        return _measured(cell, right, on_source)
    moved = move_wrong(session, judged, on_source)
    right[moved.index] = moved.right
    measured = _measured(cell, right, on_source)
    seconds = measured.seconds + moved.seconds
    return replace(measured, seconds=seconds, predicted_labels=True)


def _network(session: Session, cell: TableCell) -> Model:
    """The model whose accuracy the cell is."""
    network = _trained(session, cell, cell.width)
    return session.cells.squeezed(network) if cell.defence == SQUEEZING else network


def _trained(session: Session, cell: TableCell, width: str) -> Model:
    """The network of this width, without what stands in front of it."""
    if cell.defence in (PLAIN, SQUEEZING):
        return session.subject(width).model
    return session.cells.defended(cell.defence, width)


def _measured(cell: TableCell, right: NDArray[np.bool_], attacked: Outcome | None) -> Measured:
    interval = paired.proportion_interval(int(right.sum()), len(right))
    percent = paired.Interval(100 * interval.low, 100 * interval.high, interval.level)
    accuracy = 100 * float(right.mean())
    if attacked is None:
        return Measured(cell, len(right), accuracy, percent, {}, {}, 0.0)
    fooled, all_right = (
        {name: mean_distance(getattr(attacked, name), mask) for name in DISTANCES}
        for mask in (attacked.fooled, attacked.clean_correct)
    )
    return Measured(cell, len(right), accuracy, percent, fooled, all_right, attacked.seconds)


def fill_cache(
    options: Options, planned: Sequence[TableCell], conditions: Conditions, processes: int
) -> None:
    """Measure `planned` as one of `processes`, for the shards that this leaves in the cache.

    What goes wrong here goes wrong in the process that reports, too, which says so.
    """
    share_processors(processes)
    with suppress(KeyboardInterrupt, QnnRobustError):
        session = Session(options)
        session.load()
        for cell in planned:
            with suppress(MissingError, AttackError):
                measure(session, cell, conditions)


@contextmanager
def cache_fillers(
    options: Options, planned: Sequence[TableCell], conditions: Conditions, processes: int
) -> Iterator[None]:
    """Have `processes` - 1 others fill the cache from the end of `planned` while this lasts.

    They meet this process in the middle: no two compute the same shard.
    """
    context = multiprocessing.get_context("spawn")
    arguments = (options, list(reversed(planned)), conditions, processes)
    others = [
        context.Process(target=fill_cache, args=arguments, daemon=True)
        for _ in range(processes - 1)
    ]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.terminate()
