"""Carlini and Wagner's attack for L0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks.base import MinimalDistortionAttack
from pytest_qnnrobust.attacks.carlini.descent import Descent, Nearest, margin_gradient
from pytest_qnnrobust.attacks.carlini.polish import l0_plane, polish
from pytest_qnnrobust.attacks.search import column
from pytest_qnnrobust.attacks.settings import (
    conflict,
    flag,
    integer,
    not_negative,
    positive,
    satisfies,
    setting,
)
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Mask, Target
from pytest_qnnrobust.types import Float, Labels

PIXEL_RANK = 3
"""Inputs of this many axes are images whose last axis holds the channels of a pixel."""


@dataclass(frozen=True, kw_only=True, repr=False)
class CarliniL0(MinimalDistortionAttack):
    """Carlini, Wagner, "Towards Evaluating the Robustness of Neural Networks" (2017), section VI.B.

    The L2 attack over and over on a shrinking set of pixels: once it has an adversarial point,
    the `drop_rate` * sqrt(pixels left) pixels with the least |g_i * delta_i|, g the gradient of f6
    there, go back to their clean value for good, and the descent goes on from that point.
    `max_iter` steps without an adversarial point multiply c by `const_factor`; the sample ends
    once c exceeds `largest_const`, with the fewest pixels that worked. c weighs f6 against
    |delta|^2 in units of the input span; the authors' code takes up to 1,000 steps of 0.01 and c
    from 1e-3 to 2e6, which is no stronger and costs more.

    A pixel is all channels of a place, and is dropped whole; with `independent_channels`, and for
    inputs that are no images, it is an element. The reported `l0` counts elements either way.
    `polish_steps` rounds (`carlini.polish.polish`) then try still fewer elements, moved all the
    way to a bound; 0 leaves them out, as the original does.

    White-box, L0. For 32x32 pixels some 300 gradients until the last pixels, then at most
    max_iter * log2(largest_const / initial_const); one query for each smaller set; one of each a
    polish step.
    """

    knowledge = "white"
    norms = (0.0,)

    confidence: float = setting(0.0, not_negative())
    learning_rate: float = setting(0.05, positive())
    max_iter: int = setting(10, integer())
    initial_const: float = setting(0.1, positive())
    largest_const: float = setting(1e3, positive())
    const_factor: float = setting(2.0, positive(), satisfies("> 1", lambda factor: factor > 1))
    drop_rate: float = setting(0.3, positive())
    independent_channels: bool = setting(False, flag())
    polish_steps: int = setting(20, integer(least=0))

    def _validate(self) -> None:
        if not self.initial_const <= self.largest_const:
            limits = {"initial_const": self.initial_const, "largest_const": self.largest_const}
            raise conflict("initial_const to be at most largest_const", **limits)

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        search = _Search(self, target)
        while len(search.rows):
            search.step()
            target.progress(len(target) - len(search.rows), len(target))
        polish(target, search.nearest, l0_plane, self.polish_steps, self.confidence)


class _Search(Descent):
    """Descent of all samples, each with its own pixels and c; one gradient each a step."""

    def __init__(self, attack: CarliniL0, target: Target) -> None:
        nearest = Nearest(target, changed, attack.confidence)
        super().__init__(target, nearest, attack.initial_const, attack.const_factor)
        self._attack = attack
        images = len(target.input_shape) == PIXEL_RANK and not attack.independent_channels
        self._channels = target.input_shape[-1] if images else 1
        self._open = np.ones((len(target), self.clean.shape[1] // self._channels), bool)

    def step(self) -> None:
        """Judge where every sample stands, set its pixels and c, and take one step of Adam."""
        attack, target = self._attack, self._target
        _, points, slope = self.points()
        closed = ~np.repeat(self._open, self._channels, axis=1)
        np.copyto(points, self.clean, where=closed)
        shaped = points.reshape(-1, *target.input_shape)
        margin, gradient = margin_gradient(target, shaped, self.rows)
        fooled = self.nearest.offer(self.rows, shaped, margin)
        points -= self.clean
        if fooled.any():
            self._drop(fooled, np.abs(points[fooled] * gradient[fooled]))
        self.advance(fooled, attack.max_iter)
        gradient *= column(np.where(fooled, 0, -self.const))
        points *= np.float32(2 / target.span**2)
        gradient += points
        gradient *= slope
        gradient *= np.repeat(self._open, self._channels, axis=1)
        self.adam.descend(self.w, gradient, attack.learning_rate)
        going = (self.const <= attack.largest_const) & np.isfinite(margin) & self._open.any(axis=1)
        self._open = self._open[going]
        self.keep(going)

    def _drop(self, solved: Mask, effect: Float) -> None:
        """Close the pixels of least effect, and all of no effect, in these samples."""
        pixels = self._open[solved]
        effect = effect.reshape(*pixels.shape, self._channels).sum(axis=2)
        effect[~pixels] = np.inf
        quota = np.ceil(self._attack.drop_rate * np.sqrt(pixels.sum(axis=1))).astype(np.int64)
        most = min(int(quota.max()), effect.shape[1])
        least = np.sort(np.partition(effect, most - 1, axis=1)[:, :most], axis=1)
        limit = least[np.arange(len(quota)), np.minimum(quota, most) - 1]
        self._open[solved] = pixels & (effect > limit[:, None])


def changed(delta: Float) -> Float:
    """L0 norms (n,) of float32 (n, elements)."""
    return np.asarray(np.count_nonzero(delta, axis=1), np.float32)
