"""HopSkipJump: gradient direction at the boundary, a step, and back to the boundary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks.base import MinimalDistortionAttack
from pytest_qnnrobust.attacks.decisions.normals import (
    Draw,
    Gains,
    channel_noise,
    probe_normals,
    unit,
    visible,
)
from pytest_qnnrobust.attacks.decisions.starts import bisect, random_starts, step_out, to_boundary
from pytest_qnnrobust.attacks.settings import (
    fraction,
    integer,
    not_negative,
    require,
    satisfies,
    setting,
)
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Rows, Target
from pytest_qnnrobust.metrics import flat, lp_norm
from pytest_qnnrobust.types import Double, Float, Labels

OFFSET = 0.1
"""Distance left to the boundary, over the standard deviation of a probe across it."""

ANGLE = 0.003
"""Radians at which the search along the semicircle ends."""

MEMORY = 0.8
"""Share of the earlier estimates that a Linf gradient estimate keeps."""

HALVINGS = 20
"""Step lengths tried before a sample stays where it is for an iteration."""


@dataclass(frozen=True, kw_only=True, repr=False)
class HopSkipJump(MinimalDistortionAttack):
    """Chen, Jordan, Wainwright, "HopSkipJumpAttack" (2020), algorithm 2, for L2 and Linf.

    Each of `max_iter` iterations t, from a boundary point at distance r, estimates the gradient
    direction by min(init_eval * t**growth, max_eval) probes with their mean decision subtracted
    (equation 16), steps along it, and bisects back towards the clean image.

    For L2 the step has the length whose return ends nearest, found on the semicircle between the
    point and the clean image (Reza et al., "CGBA", 2023); probes stay at right angles to the way
    back, along which there is nothing to learn. For Linf it goes by r / sqrt(t) along the signs of
    the estimates, added up with a fading memory, and is halved until the point is misclassified.

    A probe has the length theta * r (L2; theta * r in every element for Linf), and on a quantized
    input at least one step per element. `correlation` is that of the L2 probes' noise between the
    channels of a pixel: gradients of image classifiers are mostly alike across colours. A sample
    ends once three iterations gain less than a share `tolerance` of its distance each; 0 runs all.
    The paper has growth=0.5, theta=0.01 and isotropic noise, correlation=0.

    Black-box, about (init_eval * max_iter**growth / (1 + growth) + 25) * max_iter queries (10,000
    by default), and up to 3 * init_size + 35 for the start.
    """

    knowledge = "black"
    norms = (2.0, np.inf)
    batch = 64

    norm: float = 2.0
    max_iter: int = setting(50, integer())
    init_eval: int = setting(100, integer())
    max_eval: int = 10000
    growth: float = setting(0.2, not_negative())
    init_size: int = setting(100, integer())
    theta: float = setting(0.1, fraction())
    correlation: float = setting(
        0.5, not_negative(), satisfies("in [0, 1)", lambda share: share < 1)
    )
    tolerance: float = setting(0.005, not_negative())

    def _validate(self) -> None:
        require(self.max_eval, "max_eval", integer(least=self.init_eval))

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        rows = random_starts(target, streams, self.init_size, self.norm)
        points = x.copy()
        points[rows] = self._return(target, rows, target.proposals[rows])
        memory = np.zeros_like(flat(x))
        gains = Gains(target, self.norm, self.tolerance)
        for step in range(1, self.max_iter + 1):
            if not len(rows):
                return
            count = min(int(self.init_eval * step**self.growth), self.max_eval)
            if self.norm == 2:
                moved = self._turn(target, rows, points[rows], streams, count)
            else:
                moved = self._step(target, rows, points[rows], streams, count, step, memory)
            points[rows] = self._return(target, rows, moved)
            rows = gains.still_worth(rows)
            target.progress(step, self.max_iter)

    def _turn(
        self, target: Target, rows: Rows, points: Float, streams: Streams, count: int
    ) -> Float:
        """Move along the semicircle towards the gradient, to where it leaves the far side (L2)."""
        arc = Arc(target, rows, points)
        sigma = self.theta * arc.distance / np.sqrt(flat(points).shape[1])
        noise = channel_noise(target, streams, self.correlation)
        draw = sideways(noise, rows, arc.outward)
        arc.bend(probe_normals(target, rows, points, visible(target, sigma), count, draw))
        low, high = np.zeros(len(rows)), np.full(len(rows), np.pi / 2)
        return bisect(target, rows, arc.at, low, high, points, ANGLE, 2.0)

    def _step(
        self,
        target: Target,
        rows: Rows,
        points: Float,
        streams: Streams,
        count: int,
        step: int,
        memory: Float,
    ) -> Float:
        """Step along the signs, halved until misclassified; else stay at the points (Linf)."""
        distance = lp_norm(points - target.x[rows], self.norm)
        sigma = visible(target, self.theta * distance)
        draw = channel_noise(target, streams, 0.0)
        memory[rows] *= np.float32(MEMORY)
        memory[rows] += probe_normals(target, rows, points, sigma, count, draw)
        signs = np.sign(memory[rows])
        reach = distance / np.sqrt(step)
        return step_out(target, rows, points, signs, reach, HALVINGS)

    def _return(self, target: Target, rows: Rows, points: Float) -> Float:
        """Return to the boundary, to within a tenth of what probes can tell apart."""
        distance = lp_norm(points - target.x[rows], self.norm)
        size = flat(points).shape[1]
        tolerance = OFFSET * self.theta * distance / np.sqrt(size)
        return to_boundary(target, rows, points, tolerance, self.norm)


class Arc:
    """Semicircles through boundary points (n, *input_shape) and their clean images.

    Their points are the feet of the clean image on the lines through the boundary point: on a flat
    boundary they leave its far side where the plane of the arc comes nearest to the clean image.
    """

    def __init__(self, target: Target, rows: Rows, points: Float) -> None:
        self._clean = target.x[rows]
        away = flat(points - self._clean)
        self.distance = lp_norm(away, 2.0)
        self.outward = unit(away, 2.0)
        self._bent = np.zeros_like(away)

    def bend(self, directions: Float) -> None:
        """Let the arcs start towards `directions` (n, elements), less their part outwards."""
        along = np.einsum("nd,nd->n", directions, self.outward)
        self._bent = unit(directions - along[:, None] * self.outward, 2.0)

    def at(self, chosen: Rows, closeness: Double) -> Float:
        """Points at the angle pi / 2 - closeness from the way out, seen from the clean image."""
        cosine, sine = np.sin(closeness), np.cos(closeness)
        out = (self.distance[chosen] * cosine * cosine).astype(np.float32)
        side = (self.distance[chosen] * cosine * sine).astype(np.float32)
        moved = out[:, None] * self.outward[chosen]
        moved += side[:, None] * self._bent[chosen]
        return np.asarray(moved.reshape(-1, *self._clean.shape[1:]) + self._clean[chosen])


def sideways(draw: Draw, rows: Rows, directions: Float) -> Draw:
    """Noise of `draw` without its part along the unit `directions` (n, elements) of `rows`."""

    def drawn(asked: Rows, count: int) -> Float:
        noise = draw(asked, count)
        along = directions[np.searchsorted(rows, asked)]
        vectors = noise.reshape(len(asked), count, -1)
        vectors -= (vectors @ along[:, :, None]) * along[:, None]
        return noise

    return drawn
