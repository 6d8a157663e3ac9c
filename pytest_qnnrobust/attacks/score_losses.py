"""Losses of scores in NumPy, for attacks that only see scores: larger is worse for the model.

The same names and formulas as the differentiable losses in `pytest_qnnrobust.models.losses`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.models.losses import TINY
from pytest_qnnrobust.types import Double, Labels

Loss = Callable[[NDArray[Any], Labels, Labels], Double]

UNTARGETED = ("cross-entropy", "margin", "dlr")


def margin(logits: NDArray[Any], y: Labels, rival: Labels | None = None) -> Double:
    """Largest other logit minus the label's, (n,): positive once the sample is misclassified."""
    scores = np.array(logits, np.float64)
    rows = np.arange(len(scores))
    own = scores[rows, y]
    scores[rows, y] = -np.inf
    return np.asarray(scores.max(axis=1) - own)


def cross_entropy(logits: NDArray[Any], y: Labels, rival: Labels | None = None) -> Double:
    """Negative log-likelihood of the label under softmax(logits), (n,)."""
    scores = np.asarray(logits, np.float64)
    scores = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(scores)), y])


def targeted_cross_entropy(logits: NDArray[Any], y: Labels, rival: Labels) -> Double:
    """Log-likelihood of the rival under softmax(logits), (n,)."""
    return -cross_entropy(logits, rival)


def difference(logits: NDArray[Any], y: Labels, rival: Labels) -> Double:
    """The rival's logit minus the label's, (n,)."""
    scores = np.asarray(logits, np.float64)
    rows = np.arange(len(scores))
    return np.asarray(scores[rows, rival] - scores[rows, y])


def dlr(logits: NDArray[Any], y: Labels, rival: Labels | None = None) -> Double:
    """The margin over the spread of the three largest logits, (n,)."""
    if np.shape(logits)[1] < 3:
        return margin(logits, y)
    ranked = np.sort(np.asarray(logits, np.float64), axis=1)
    return margin(logits, y) / (ranked[:, -1] - ranked[:, -3] + TINY)


def targeted_dlr(logits: NDArray[Any], y: Labels, rival: Labels) -> Double:
    """The difference over the spread of the four largest logits, (n,)."""
    if np.shape(logits)[1] < 4:
        return difference(logits, y, rival)
    ranked = np.sort(np.asarray(logits, np.float64), axis=1)
    spread = ranked[:, -1] - (ranked[:, -3] + ranked[:, -4]) / 2
    return difference(logits, y, rival) / (spread + TINY)


_BY_NAME: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "targeted-cross-entropy": targeted_cross_entropy,
    "difference": difference,
    "targeted-dlr": targeted_dlr,
}


def value(loss: str, logits: NDArray[Any], y: Labels, rival: Labels | None = None) -> Double:
    """The loss of this name; targeted ones need the class `rival` (n,)."""
    return _BY_NAME[loss](logits, y, y if rival is None else rival)
