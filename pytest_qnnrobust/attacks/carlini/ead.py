"""EAD: the elastic-net attack, for perturbations that are small in L1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks.base import MinimalDistortionAttack
from pytest_qnnrobust.attacks.carlini.descent import (
    Nearest,
    Stagnation,
    margin_gradient,
    search_constant,
    squared_length,
)
from pytest_qnnrobust.attacks.carlini.polish import elastic_plane, lp_plane, polish
from pytest_qnnrobust.attacks.search import column
from pytest_qnnrobust.attacks.settings import flag, integer, not_negative, one_of, positive, setting
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Mask, Target
from pytest_qnnrobust.metrics import flat
from pytest_qnnrobust.types import Double, Float, Labels

DECISION_RULES = ("EN", "L1")


@dataclass(frozen=True, kw_only=True, repr=False)
class EAD(MinimalDistortionAttack):
    """Chen, Sharma, Zhang, Yi, Hsieh, "EAD: Elastic-Net Attacks to Deep Neural Networks" (2018).

    Algorithm 1: FISTA minimizes c * max(confidence - margin, 0) + beta * |delta|_1 + |delta|^2
    (eq. 7), delta in units of the input span: a gradient step of `learning_rate`, falling with the
    square root of the steps left, a soft threshold at beta inside the bounds (its operator
    S_beta), and momentum. `binary_search_steps` descents of `max_iter` steps look for c as C&W-L2
    does, with its `abort_early`. `decision_rule` says which adversarial point is the nearest: "EN"
    by beta * L1 + L2^2, "L1" by L1 (section 4.1). Both sequences of FISTA count, not only the last.

    Beyond the original: `polish_steps` rounds bring the result down the boundary
    (`carlini.polish.polish`) in L1, or for "EN" in polish_sparsity * beta * L1 + L2^2: 1 ends at
    the smallest elastic net, more is nearer in L1 and little farther in L2. 0 leaves them out.
    A sample that never reaches `confidence` keeps its nearest misclassified point.

    White-box, L1. At most binary_search_steps * max_iter + 1 gradients and twice as many queries,
    and one of each a polish step.
    """

    knowledge = "white"
    norms = (1.0,)

    confidence: float = setting(0.0, not_negative())
    beta: float = setting(0.001, not_negative())
    learning_rate: float = setting(0.01, positive())
    max_iter: int = setting(100, integer())
    binary_search_steps: int = setting(10, integer())
    initial_const: float = setting(0.01, positive())
    decision_rule: str = setting("EN", one_of(DECISION_RULES))
    abort_early: bool = setting(True, flag())
    polish_steps: int = setting(20, integer(least=0))
    polish_sparsity: float = setting(20.0, not_negative())

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        search = _Search(self, target)
        steps = self.binary_search_steps
        search_constant(target, search.descend, self.initial_const, steps)
        weight = self.polish_sparsity * self.beta * target.span
        plane = lp_plane(1.0) if self.decision_rule == "L1" else elastic_plane(weight)
        polish(target, search.nearest, plane, self.polish_steps, self.confidence)


class _Search:
    """Descents from the clean images; their common first gradient is asked for once.

    Inputs are taken in units of the span, from the lower bound: 0..1.
    """

    def __init__(self, attack: EAD, target: Target) -> None:
        self._attack = attack
        self._target = target
        self.nearest = Nearest(target, self._distance, attack.confidence)
        self._clean = margin_gradient(target, target.x, target.all_rows)

    def descend(self, const: Double) -> Mask:
        """Take `max_iter` steps of FISTA; true (B,) where an iterate was adversarial.

        The points ahead, which FISTA extrapolates, may become the nearest point, but do not count
        as success: a constant with which they alone are adversarial is too small.
        """
        attack, target = self._attack, self._target
        span, low = np.float32(target.span), np.float32(target.bounds[0])
        success = np.zeros(len(target), bool)
        rows, clean = target.all_rows, flat(target.x)
        fall, rise = (low - clean) / span, (low + span - clean) / span
        stagnation = Stagnation(len(rows), attack.max_iter, attack.abort_early)
        last, ahead = np.zeros_like(clean), np.zeros_like(clean)
        margin, gradient = self._clean[0], self._clean[1].copy()
        for iteration in range(attack.max_iter):
            rate = np.float32(attack.learning_rate * np.sqrt(1 - iteration / attack.max_iter))
            pull = np.where(margin > attack.confidence, 0, const[rows])
            loss = squared_length(ahead) + pull * (attack.confidence - margin)
            loss += attack.beta * np.abs(ahead).sum(axis=1)
            going = stagnation.going(iteration, loss)
            if not going.any():
                break
            if not going.all():
                rows, clean, fall, rise = rows[going], clean[going], fall[going], rise[going]
                last, ahead = last[going], ahead[going]
                gradient, pull = gradient[going], pull[going]
            gradient *= column(rate * span * pull)
            ahead *= 1 - 2 * rate
            ahead += gradient
            delta = self._shrink(ahead, fall, rise)
            ahead = delta - last
            ahead *= np.float32(iteration / (iteration + 3))
            ahead += delta
            last = delta
            delta = clean + span * last
            shaped = delta.reshape(-1, *target.input_shape)
            success[rows] |= self.nearest.judge(rows, target.seal(shaped, rows))[0]
            shaped = (clean + span * ahead).reshape(-1, *target.input_shape)
            margin, gradient = margin_gradient(target, shaped, rows)
            self.nearest.offer(rows, shaped, margin)
        return success

    def _shrink(self, delta: Float, fall: Float, rise: Float) -> Float:
        """Soft threshold at beta, inside the bounds: the paper's operator S_beta."""
        beta = np.float32(self._attack.beta)
        shrunk = delta - np.clip(delta, -beta, beta)
        return np.clip(shrunk, fall, rise, out=shrunk)

    def _distance(self, delta: Float) -> Float:
        span = np.float32(self._target.span)
        l1 = np.abs(delta).sum(axis=1) / span
        if self._attack.decision_rule == "L1":
            return np.asarray(l1)
        return np.asarray(np.float32(self._attack.beta) * l1 + squared_length(delta) / span**2)
