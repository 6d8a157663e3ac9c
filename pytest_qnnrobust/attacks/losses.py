"""Losses of scores in NumPy, for attacks that only see scores: larger is worse for the model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LOSSES = ("cross-entropy", "margin")


def margin(logits: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Largest other logit minus the label's, (n,): positive once the sample is misclassified."""
    scores = np.array(logits, np.float64)
    rows = np.arange(len(scores))
    own = scores[rows, y]
    scores[rows, y] = -np.inf
    return np.asarray(scores.max(axis=1) - own)


def cross_entropy(logits: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Negative log-likelihood of the label under softmax(logits), (n,)."""
    scores = np.asarray(logits, np.float64)
    scores = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(scores)), y])


def value(loss: str, logits: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """The loss of this name."""
    return margin(logits, y) if loss == "margin" else cross_entropy(logits, y)
