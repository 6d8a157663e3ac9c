"""Carlini and Wagner's attack for Linf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks.base import MinimalDistortionAttack
from pytest_qnnrobust.attacks.carlini.descent import Descent, Nearest, margin_gradient
from pytest_qnnrobust.attacks.carlini.polish import lp_plane, polish
from pytest_qnnrobust.attacks.geometry.hyperplanes import row_norm
from pytest_qnnrobust.attacks.search import column
from pytest_qnnrobust.attacks.settings import (
    conflict,
    fraction,
    integer,
    not_negative,
    positive,
    satisfies,
    setting,
)
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Target
from pytest_qnnrobust.types import Float, Labels

STRIDE = 0.2
"""Longest step of Adam, as a share of tau."""

WITHIN = np.float32(1.001)
"""Largest perturbation, as a multiple of tau, that counts as inside: float32 rounding."""


@dataclass(frozen=True, kw_only=True, repr=False)
class CarliniLinf(MinimalDistortionAttack):
    """Carlini, Wagner, "Towards Evaluating the Robustness of Neural Networks" (2017), section VI.C.

    Adam minimizes c * max(confidence - margin, 0) + sum_i max(|delta_i| - tau, 0) in tanh space,
    delta in units of the input span. An adversarial point within tau lowers tau to
    `decrease_factor` times its Linf, and the descent goes on from it; `max_iter` steps without one
    multiply c by `const_factor`, and the sample ends once c exceeds `largest_const`. It also ends
    at `smallest_tau` (input units), where the authors' code stops at 1/256 of the span and
    distances of less than that are never found, and on a quantized input at a single step.

    Beyond the original: Adam's steps are at most STRIDE * tau (the original's stay at
    `learning_rate`, in w), c starts at 0.01 instead of 1e-5 (which only costs gradients), and
    `polish_steps` rounds bring the result down the boundary (`carlini.polish.polish`); 0 leaves
    them out. `smallest_tau=span / 256, polish_steps=0` gives perturbations of the published size,
    which transfer further.

    White-box, Linf. About max_iter * log2(largest_const / initial_const) gradients plus one to ten
    for each reduction of tau; a query for each nearer point; one of each a polish step.
    """

    knowledge = "white"
    norms = (np.inf,)

    confidence: float = setting(0.0, not_negative())
    learning_rate: float = setting(0.01, positive())
    max_iter: int = setting(10, integer())
    decrease_factor: float = setting(0.9, fraction())
    initial_const: float = setting(0.01, positive())
    largest_const: float = setting(20.0, positive())
    const_factor: float = setting(2.0, positive(), satisfies("> 1", lambda factor: factor > 1))
    smallest_tau: float = setting(0.0, not_negative())
    polish_steps: int = setting(20, integer(least=0))

    def _validate(self) -> None:
        if not self.initial_const <= self.largest_const:
            limits = {"initial_const": self.initial_const, "largest_const": self.largest_const}
            raise conflict("initial_const to be at most largest_const", **limits)
        if self.decrease_factor == 1:
            raise conflict("decrease_factor to be < 1", decrease_factor=1)

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        search = _Search(self, target)
        while len(search.rows):
            search.step()
            target.progress(len(target) - len(search.rows), len(target))
        polish(target, search.nearest, lp_plane(np.inf), self.polish_steps, self.confidence)


class _Search(Descent):
    """Descent of all samples, each at its own tau and c; one gradient each a step."""

    def __init__(self, attack: CarliniLinf, target: Target) -> None:
        nearest = Nearest(target, linf, attack.confidence)
        super().__init__(target, nearest, attack.initial_const, attack.const_factor)
        self._attack = attack
        self._tau = np.full(len(target), target.span, np.float32)
        step = 0.0 if target.grid is None else target.grid.scale
        self._floor = max(attack.smallest_tau, step * float(WITHIN))

    def step(self) -> None:
        """Judge where every sample stands, set its tau and c, and take one step of Adam."""
        attack, target = self._attack, self._target
        shaped, points, slope = self.points()
        margin, gradient = margin_gradient(target, shaped, self.rows)
        fooled = self.nearest.offer(self.rows, shaped, margin)
        points -= self.clean
        size = linf(points)
        solved = fooled & (size <= self._tau * WITHIN)
        lower = np.minimum(size, self._tau) * np.float32(attack.decrease_factor)
        self._tau[solved] = lower[solved]
        self.advance(solved, attack.max_iter)
        gradient *= column(np.where(fooled, 0, -self.const))
        gradient += np.sign(points) * (np.abs(points) > column(self._tau)) * self._unit
        gradient *= slope
        longest = STRIDE * self._tau / self.space.half
        self.adam.descend(self.w, gradient, np.minimum(attack.learning_rate, longest))
        going = (self.const <= attack.largest_const) & np.isfinite(margin)
        going &= self._tau > attack.smallest_tau
        going &= self.nearest.distance[self.rows] > self._floor
        self._tau = self._tau[going]
        self.keep(going)

    @property
    def _unit(self) -> float:
        return 1 / self._target.span


def linf(delta: Float) -> Float:
    """Linf norms (n,) of float32 (n, elements)."""
    return np.asarray(row_norm(delta, np.inf))
