"""Fast gradient method: one step along the gradient, as far as the budget allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks import score_losses
from pytest_qnnrobust.attacks.base import FixedBudgetAttack
from pytest_qnnrobust.attacks.geometry.steepest import steepest
from pytest_qnnrobust.attacks.settings import one_of, setting
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Target
from pytest_qnnrobust.types import Float, Labels


@dataclass(frozen=True, kw_only=True, repr=False)
class FGSM(FixedBudgetAttack):
    """Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples" (2015), eq. 2.

    The step that raises the linearized loss most inside ball and bounds: eps * sign(gradient) in
    Linf, its counterparts in L1 and L2. White-box, one gradient per sample.
    """

    knowledge = "white"
    norms = (1.0, 2.0, np.inf)

    norm: float = np.inf
    eps: float = 0.0008
    loss: str = setting("cross-entropy", one_of(score_losses.UNTARGETED))

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        gradient = target.loss_gradient(x, loss=self.loss).gradient
        step = steepest(gradient, x, self.norm, target.eps, target.bounds)
        target.propose(target.all_rows, target.project(x + step))
