"""Carlini and Wagner's attack for L2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks.base import MinimalDistortionAttack
from pytest_qnnrobust.attacks.carlini.descent import (
    Nearest,
    Stagnation,
    TanhSpace,
    margin_gradient,
    search_constant,
    squared_length,
)
from pytest_qnnrobust.attacks.carlini.polish import lp_plane, polish
from pytest_qnnrobust.attacks.search import Adam, column
from pytest_qnnrobust.attacks.settings import flag, integer, not_negative, positive, setting
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Mask, Target
from pytest_qnnrobust.metrics import flat
from pytest_qnnrobust.types import Double, Float, Labels

STRIDE = 0.6
"""Longest step of Adam, as a share of the RMS of the sample's smallest perturbation so far."""

PACE = 3.0
"""Factor of the longest step after a descent without an adversarial point."""

LONGEST = 1.0
"""Longest step of Adam, in w: two of them cross the domain."""


@dataclass(frozen=True, kw_only=True, repr=False)
class CarliniL2(MinimalDistortionAttack):
    """Carlini, Wagner, "Towards Evaluating the Robustness of Neural Networks" (2017), section VI.A.

    Adam minimizes |delta|^2 + c * max(confidence - margin, 0) over w, x + delta = tanh(w) scaled
    to the bounds, delta in units of the input span; margin is f6 on logits. Each of
    `binary_search_steps` descents of `max_iter` steps starts at the clean image with its own c:
    ten times the last one until one succeeds, then bisected; the tenth or later last one takes the
    smallest c that succeeded. `abort_early` ends a sample's descent when a tenth of `max_iter`, at
    least MIN_CHECK steps, brought its loss down by less than 0.01 %. Every point visited counts.

    Beyond the original, which is weak in few iterations and reaches no further than `max_iter`
    times `learning_rate`: as long as a sample has no adversarial point, each descent takes PACE
    times longer steps than the last; once it has, Adam's steps are at most STRIDE times that
    perturbation's RMS (the original's stay at `learning_rate`, in w). And `polish_steps` rounds
    bring the result down the boundary (`carlini.polish.polish`); 0 leaves them out. A sample that
    never reaches `confidence` keeps its nearest misclassified point.

    White-box, L2. At most binary_search_steps * max_iter + 1 gradients and as many queries
    (only points that would be nearer are asked again), and one of each a polish step.
    """

    knowledge = "white"
    norms = (2.0,)

    confidence: float = setting(0.0, not_negative())
    learning_rate: float = setting(0.01, positive())
    max_iter: int = setting(10, integer())
    binary_search_steps: int = setting(10, integer())
    initial_const: float = setting(0.01, positive())
    abort_early: bool = setting(True, flag())
    polish_steps: int = setting(20, integer(least=0))

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        search = _Search(self, target)
        steps = self.binary_search_steps
        search_constant(target, search.descend, self.initial_const, steps)
        polish(target, search.nearest, lp_plane(2), self.polish_steps, self.confidence)


class _Search:
    """Descents from the clean images; their common first gradient is asked for once."""

    def __init__(self, attack: CarliniL2, target: Target) -> None:
        self._attack = attack
        self._target = target
        self._space = TanhSpace(target.bounds)
        self.nearest = Nearest(target, squared_length, attack.confidence)
        self._start = self._space.variables(flat(target.x))
        self._clean = margin_gradient(target, target.x, target.all_rows)
        self._longest = np.full(len(target), attack.learning_rate, np.float32)

    def descend(self, const: Double) -> Mask:
        """Take `max_iter` steps of Adam; true (B,) where a point on the way was adversarial."""
        attack, target = self._attack, self._target
        success = np.zeros(len(target), bool)
        rows, clean, w = target.all_rows, flat(target.x), self._start.copy()
        adam, stagnation = Adam(w), Stagnation(len(w), attack.max_iter, attack.abort_early)
        points, slope = self._space.inputs(w)
        margin, gradient = self._clean[0], self._clean[1].copy()
        fooled = np.zeros(len(w), bool)
        for iteration in range(attack.max_iter):
            points -= clean
            points *= np.float32(1 / target.span)
            pull = np.where(fooled, 0, const[rows])
            loss = squared_length(points) + pull * (attack.confidence - margin)
            going = stagnation.going(iteration, loss)
            if not going.any():
                break
            if not going.all():
                rows, clean, w, points = rows[going], clean[going], w[going], points[going]
                gradient, slope, pull = gradient[going], slope[going], pull[going]
                adam.keep(going)
            points *= np.float32(2 / target.span)
            gradient *= column(-pull)
            gradient += points
            gradient *= slope
            adam.descend(w, gradient, self._rate(rows, w.shape[1]))
            points, slope = self._space.inputs(w)
            shaped = points.reshape(-1, *target.input_shape)
            margin, gradient = margin_gradient(target, shaped, rows)
            fooled = self.nearest.offer(rows, shaped, margin)
            success[rows] |= fooled
        never = np.isinf(self.nearest.distance)
        self._longest[never] = np.minimum(PACE * self._longest[never], LONGEST)
        return success

    def _rate(self, rows: Labels, elements: int) -> Float:
        rms = np.sqrt(self.nearest.distance[rows] / np.float32(elements))
        return np.asarray(np.minimum(self._longest[rows], STRIDE * rms / self._space.half))
