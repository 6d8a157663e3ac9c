"""A classifier of one number, whose attacks can be worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust import attacks
from pytest_qnnrobust.models import Model

SQUARE = attacks.create("square-linf", eps=0.2, max_iter=50)


class ThresholdModel(Model):
    """Class 1 where the mean of the input exceeds `cut`."""

    width = "float32"
    runtime = "keras"
    differentiable = False

    def __init__(self, cut: float, name: str = "threshold") -> None:
        super().__init__(name, (4,), 2)
        self.cut = cut

    def _evaluate(self, x: NDArray[np.float32]) -> tuple[Any, Any]:
        score = x.mean(axis=1) - self.cut
        logits = np.stack([-score, score], axis=1).astype(np.float32)
        return logits, logits


def samples(n: int = 12) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """n constant inputs from 0.05 to 0.95, and whether they exceed 0.5."""
    level = np.linspace(0.05, 0.95, n, dtype=np.float32)
    return np.repeat(level[:, None], 4, axis=1), (level > 0.5).astype(np.int64)
