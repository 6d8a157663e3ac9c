"""UAP: one perturbation that fools a model on a whole set of inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks.base import FixedBudgetAttack
from pytest_qnnrobust.attacks.geometry.balls import l2_projection
from pytest_qnnrobust.attacks.gradient.deepfool import nearest_boundary
from pytest_qnnrobust.attacks.score_losses import UNTARGETED
from pytest_qnnrobust.attacks.settings import (
    integer,
    not_negative,
    one_of,
    positive,
    satisfies,
    setting,
)
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Rows, Target
from pytest_qnnrobust.types import Double, Float, Labels

INNER = ("fgsm", "pgd", "deepfool")

PGD_STEP = 0.25
"""Length of a PGD step as a share of `inner_eps`."""

TINY = 1e-30
"""Keeps the division by a length finite."""

OVERSHOOT = 0.02
"""Share by which DeepFool's steps cross the linearized boundary (the authors' value)."""


@dataclass(frozen=True, kw_only=True, repr=False)
class UAP(FixedBudgetAttack):
    """Moosavi-Dezfooli et al., "Universal Adversarial Perturbations" (2017), algorithm 1.

    One perturbation within `eps` (L2 or Linf) is trained on all samples of the call and applied to
    each of them: the one exception to the rule that a sample's result is its own. It depends on
    the set of samples, their indices and the seed; not on their order, nor on batch_size.

    At most `max_iter` passes over the samples in random order, `group` at a time; each group moves
    the perturbation by its inner attack, which is projected back. inner="fgsm": a step of length
    `inner_eps` along the summed gradient of `loss`; "pgd": `inner_iter` such steps, a quarter as
    long, within `inner_eps`; "deepfool": up to `inner_iter` times the sum of the DeepFool steps.
    Only those of the group push that are not fooled at that point, as published, where a group is
    one sample. The perturbation of the best pass is the result; passes end once all but a share
    `delta` of the samples are fooled (0, stronger than the authors' 0.2: once all are).
    White-box, per pass one gradient and one query a sample (pgd: `inner_iter` gradients; deepfool:
    up to `inner_iter` Jacobians and queries).
    """

    knowledge = "white"
    norms = (2.0, np.inf)
    universal = True

    norm: float = np.inf
    eps: float = 0.1
    inner: str = setting("fgsm", one_of(INNER))
    inner_eps: float = setting(0.01, positive("inner_eps is in model input units"))
    inner_iter: int = setting(10, integer())
    delta: float = setting(0.0, not_negative(), satisfies("< 1", lambda delta: delta < 1))
    max_iter: int = setting(20, integer())
    group: int = setting(16, integer())
    loss: str = setting("margin", one_of(UNTARGETED))

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        shift = np.zeros((1, *target.input_shape))
        rows = target.all_rows
        most = 0
        for step in range(self.max_iter):
            order = np.argsort(streams.uniform(rows, 1)[:, 0])
            for start in range(0, len(order), self.group):
                shift = self._push(target, shift, order[start : start + self.group])
            sealed = target.seal(x + shift)
            fooled = int((target.evaluate(sealed).labels != y).sum())
            if fooled > most or step == 0:
                most = fooled
                target.propose(rows, sealed)
            target.progress(step + 1, self.max_iter)
            if fooled >= (1 - self.delta) * len(rows):
                return

    def _push(self, target: Target, shift: Double, group: Rows) -> Double:
        """The perturbation (1, *input_shape) after the inner attack on one group."""
        if self.inner == "deepfool":
            return self._deepfool(target, shift, group)
        steps = 1 if self.inner == "fgsm" else self.inner_iter
        length = self.inner_eps if self.inner == "fgsm" else self.inner_eps * PGD_STEP
        moved = np.zeros(shift.shape)
        for _ in range(steps):
            x = self._shifted(target, shift + moved, group)
            answer = target.loss_gradient(x, group, self.loss)
            held = np.argmax(answer.logits, axis=1) == target.y[group]
            if not held.any():
                break
            gradient = answer.gradient[held].astype(np.float64)
            uphill = self._unit(gradient.sum(axis=0, keepdims=True))
            moved = self._within(moved + length * uphill, self.inner_eps)
        return self._within(shift + moved, target.eps)

    def _deepfool(self, target: Target, shift: Double, group: Rows) -> Double:
        """The summed DeepFool steps of those that are not fooled, until all are or time is up."""
        for _ in range(self.inner_iter):
            x = self._shifted(target, shift, group)
            held = target.evaluate(x, group).labels == target.y[group]
            group, x = group[held], x[held]
            if not len(group):
                break
            step = nearest_boundary(target, x, group)
            step = (1 + OVERSHOOT) * step.sum(axis=0, keepdims=True)
            shift = self._within(shift + step, target.eps)
        return shift

    def _shifted(self, target: Target, shift: Double, group: Rows) -> Float:
        return target.seal(target.x[group] + self._within(shift, target.eps), group)

    def _within(self, shift: Double, radius: float) -> Double:
        return (
            np.clip(shift, -radius, radius) if np.isinf(self.norm) else l2_projection(shift, radius)
        )

    def _unit(self, gradient: Double) -> Double:
        """The steepest step of length 1 in `norm`."""
        if np.isinf(self.norm):
            return np.sign(gradient)
        length = np.sqrt((gradient * gradient).sum())
        return gradient / max(float(length), TINY)
