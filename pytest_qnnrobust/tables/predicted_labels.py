"""Attacks that are given the network's own decisions as labels, on samples that it is wrong on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.evaluation.cells import Cell, Outcome
from pytest_qnnrobust.evaluation.evaluator import Evaluator
from pytest_qnnrobust.run.session import Session


@dataclass(frozen=True, eq=False)
class Moved:
    """Samples `index` (N,), wrong before the attack, and whether the target is right after it."""

    index: NDArray[np.int64]
    right: NDArray[np.bool_]
    seconds: float


def move_wrong(session: Session, cell: Cell, attacked: Outcome) -> Moved:
    """Attack the samples that were wrong in `attacked` away from what the network takes them for.

    `attacked` is the attack with true labels on the network that `cell` attacks. Given no labels,
    ART's DeepFool, Boundary and GeoDA take the network's own decisions: an image that is right
    before the attack is treated alike either way, one that is wrong is left alone with its true
    label and moved with the predicted one, which makes some of them right.
    """
    index = np.flatnonzero(~attacked.clean_correct)
    if not len(index):
        return Moved(index, np.zeros(0, bool), 0.0)
    of_all = session.evaluator
    evaluator = Evaluator(
        of_all.x[index],
        attacked.clean_label[index],
        seed=of_all.seed,
        progress=of_all.progress,
        cache=of_all.cache,
    )
    moved = evaluator.evaluate(cell)
    return Moved(index, moved.adv_label == of_all.y[index], moved.seconds)
