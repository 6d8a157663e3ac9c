"""Random noise: the control that every attack has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks.base import FixedBudgetAttack
from pytest_qnnrobust.attacks.geometry.balls import cache_sized
from pytest_qnnrobust.attacks.settings import integer, setting
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Rows, Target
from pytest_qnnrobust.types import Float, Labels


@dataclass(frozen=True, kw_only=True, repr=False)
class NoiseAttack(FixedBudgetAttack):
    """Uniform noise in [-eps, eps] (Linf), or of length eps in a random direction (L1, L2).

    `repeats` independent draws; the first that is misclassified is kept, else the last.
    Black-box, one query per repeat.
    """

    knowledge = "black"
    norms = (1.0, 2.0, np.inf)

    norm: float = np.inf
    eps: float = 0.015
    repeats: int = setting(1, integer())

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        rows = target.all_rows
        for repeat in range(self.repeats):
            noisy = self._noisy(target, rows, streams)
            target.propose(rows, noisy)
            rows = rows[target.evaluate(noisy, rows).labels == y[rows]]
            target.progress(repeat + 1, self.repeats)
            if not len(rows):
                return

    def _noisy(self, target: Target, rows: Rows, streams: Streams) -> Float:
        draw = streams.in_ball if np.isinf(self.norm) else streams.on_sphere
        noisy = np.empty((len(rows), *target.input_shape), np.float32)
        for part in cache_sized(noisy.shape):
            noise = draw(rows[part], self.norm, *target.input_shape)
            noise *= target.eps
            noise += target.x[rows[part]]
            noisy[part] = target.seal(noise, rows[part])
        return noisy
