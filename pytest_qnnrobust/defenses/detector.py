"""Feature squeezing as a detector: an input whose scores squeezing changes much is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.defenses.defended import Defended
from pytest_qnnrobust.defenses.feature_squeezing import FeatureSqueezing
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.models.base import Model

SQUEEZERS = (FeatureSqueezing(4, 1), FeatureSqueezing(None, 2))
"""The colour depth alone and the window alone, as Xu et al. join them."""


class SqueezingDetector:
    """A detector of adversarial inputs: Xu, Evans, Qi, "Feature Squeezing" (2017), section 4.

    The score of an input is the largest L1 distance (0..2) between the model's probabilities for
    it and for its squeezed versions; above `threshold`, the input is called adversarial.
    Raises QnnRobustError for a threshold outside [0, 2] or no squeezers.
    """

    def __init__(
        self,
        model: Model,
        threshold: float,
        squeezers: Sequence[FeatureSqueezing] = SQUEEZERS,
    ) -> None:
        if not 0 <= threshold <= 2:
            raise expected("threshold to be an L1 distance in [0, 2]", threshold=threshold)
        if not squeezers:
            raise expected("one squeezer or more", squeezers=len(squeezers))
        self.model = model
        self.threshold = threshold
        self.squeezers = tuple(squeezers)

    @classmethod
    def fitted(
        cls,
        model: Model,
        x: NDArray[Any],
        false_positive_rate: float = 0.05,
        squeezers: Sequence[FeatureSqueezing] = SQUEEZERS,
    ) -> SqueezingDetector:
        """Fit the threshold: at most `false_positive_rate` of the clean inputs `x` lie above it.

        `x` is float32 (N, *input_shape) in model units. Raises QnnRobustError for a rate outside
        [0, 1) or no inputs.
        """
        if not 0 <= false_positive_rate < 1:
            rule = "false_positive_rate to be in [0, 1)"
            raise expected(rule, false_positive_rate=false_positive_rate)
        if not len(x):
            raise expected("one clean input or more", inputs=0)
        detector = cls(model, 0.0, squeezers)
        passed = int(np.ceil((1 - false_positive_rate) * len(x)))
        detector.threshold = float(np.sort(detector.scores(x))[max(passed, 1) - 1])
        return detector

    def scores(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """The score of each input (N, *input_shape), float64 (N,): an L1 distance in 0..2."""
        plain = self.model.predict(x).astype(np.float64)
        squeezed = [Defended(self.model, squeezer).predict(x) for squeezer in self.squeezers]
        gaps = [np.abs(probabilities - plain).sum(axis=1) for probabilities in squeezed]
        return np.asarray(np.max(gaps, axis=0))

    def detects(self, x: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each input (N, *input_shape) is called adversarial, bool (N,)."""
        return np.asarray(self.scores(x) > self.threshold)
