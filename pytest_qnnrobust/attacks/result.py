"""Result of an attack, and the recorder that gathers it batch by batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from pytest_qnnrobust.attacks.geometry.balls import cache_sized
from pytest_qnnrobust.attacks.target import Mask, Rows
from pytest_qnnrobust.metrics import delta_distances
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.types import Double, Float, Labels


@dataclass(frozen=True, eq=False)
class AttackResult:
    """The graded outcome for N samples; every array has length N.

    `x_adv` float32 (N, *input_shape). `success`: the target classifies `x_adv` as something else
    than the label (a sample that was wrong already is a success at distance 0, and unchanged).
    `queries` and `gradients` are what the attack asked for, without the grading. `l0`, `l1`, `l2`,
    `linf` float64: between `x_adv` and the clean image as the target sees it, which is the given
    one on a float target and the given one snapped to the grid on a quantized one; `l0` counts
    elements. `exhausted`: a budget or an interruption cut the sample short. `model_seconds` is the
    part of `seconds` that the model took to answer the attack and the grading.
    """

    x_adv: Float
    success: Mask
    queries: Labels
    gradients: Labels
    l0: Double
    l1: Double
    l2: Double
    linf: Double
    clean_label: Labels
    adv_label: Labels
    exhausted: Mask
    seconds: float
    model_seconds: float
    interrupted: bool = False

    def __len__(self) -> int:
        return len(self.success)

    @classmethod
    def joined(cls, parts: Sequence[AttackResult]) -> AttackResult:
        """The results for consecutive samples as one."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            pieces = [getattr(part, field.name) for part in parts]
            whole = isinstance(pieces[0], np.ndarray) and pieces[0].ndim > 0
            values[field.name] = np.concatenate(pieces) if whole else sum(pieces)
        return cls(**values | {"interrupted": any(part.interrupted for part in parts)})


class Recorder:
    """The arrays of a result while the batches of a call fill them."""

    def __init__(self, model: Model, x: Float, y: Labels) -> None:
        self._started = time.perf_counter()
        self._model = model
        self._y = y
        self.clean = x if model.grid is None else model.grid.snap(x)
        self.model_seconds = 0.0
        self.clean_label = self.classify(self.clean)
        self.x_adv = x.copy()
        self.adv_label = self.clean_label.copy()
        self.queries = np.zeros(len(x), np.int64)
        self.gradients = np.zeros(len(x), np.int64)
        self.exhausted = np.zeros(len(x), bool)
        self.interrupted = False
        self._distances = np.zeros((4, len(x)))

    def classify(self, x: Float) -> Labels:
        """The model's own verdict on `x`, for the grading."""
        started = time.perf_counter()
        labels = self._model.classify(x)
        self.model_seconds += time.perf_counter() - started
        return labels

    def record(
        self,
        rows: Rows,
        x_adv: Float,
        labels: Labels,
        queries: Labels,
        gradients: Labels,
        exhausted: Mask,
    ) -> None:
        """Store what the target said of `x_adv` for samples `rows`."""
        for part in cache_sized(x_adv.shape):
            delta = self._delta(x_adv[part], self.clean[rows[part]])
            size = delta_distances(delta)
            self._distances[:, rows[part]] = size.l0, size.l1, size.l2, size.linf
        moved = np.flatnonzero(self._distances[0, rows])
        self.x_adv[rows[moved]] = x_adv[moved]
        self.adv_label[rows[moved]] = labels[moved]
        self.queries[rows] = queries
        self.gradients[rows] = gradients
        self.exhausted[rows] = exhausted

    def result(self) -> AttackResult:
        l0, l1, l2, linf = self._distances
        return AttackResult(
            x_adv=self.x_adv,
            success=self.adv_label != self._y,
            queries=self.queries,
            gradients=self.gradients,
            l0=l0,
            l1=l1,
            l2=l2,
            linf=linf,
            clean_label=self.clean_label,
            adv_label=self.adv_label,
            exhausted=self.exhausted,
            seconds=time.perf_counter() - self._started,
            model_seconds=self.model_seconds,
            interrupted=self.interrupted,
        )

    def _delta(self, x_adv: Float, clean: Float) -> Double:
        """The perturbation; exact multiples of the step where the input is quantized."""
        grid = self._model.grid
        if grid is None:
            return x_adv.astype(np.float64) - clean.astype(np.float64)
        steps = grid.quantize(x_adv).astype(np.int64) - grid.quantize(clean).astype(np.int64)
        return np.asarray(steps * grid.scale, np.float64)
