"""Boundary attack: walk along the decision boundary towards the clean image, on decisions alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks.base import MinimalDistortionAttack
from pytest_qnnrobust.attacks.decisions import starts
from pytest_qnnrobust.attacks.decisions.normals import channel_noise
from pytest_qnnrobust.attacks.geometry.hyperplanes import row_dot, row_norm
from pytest_qnnrobust.attacks.settings import integer, not_negative, positive, satisfies, setting
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Rows, Target
from pytest_qnnrobust.metrics import flat
from pytest_qnnrobust.types import Float, Labels

TARGET_RATE = 0.25
"""Share of candidates that are to stay misclassified; delta grows above it and shrinks below."""

WINDOW = 8
"""Candidates over which a change of delta by one `step_adapt` is spread."""

LONGEST = 1.0
"""Largest delta: a step sideways by 45 degrees."""


@dataclass(frozen=True, kw_only=True, repr=False)
class BoundaryAttack(MinimalDistortionAttack):
    """Brendel, Rauber, Bethge, "Decision-Based Adversarial Attacks" (2018), for L2.

    Starts at a misclassified random image (`starts.random_starts`, `init_size`), bisected to the
    boundary. Every query is one candidate, as in the paper's figure 2: a random step sideways on
    the sphere around the clean image, delta times its radius long, and a step towards the image;
    it becomes the new point if it is misclassified and nearer. The opposite of a direction that
    failed is tried next (mirrored sampling: Brockhoff et al. 2010). The step towards the image is
    delta**2 / 2 of the distance, at most `epsilon` and one half. delta starts at `delta` and moves
    by powers of `step_adapt` so that one candidate in four succeeds.

    The channels of an image (height, width, channels) step sideways with a `channel_correlation`:
    networks look at brightness more than at colour, so that such steps find the boundary's slope
    in fewer queries (biased sampling: Brunner et al., "Guessing Smart", 2019); 0 draws all
    elements alike.

    A sample ends after `max_iter` iterations of `sample_size` candidates, or after `num_trial`
    iterations in a row without a new point. Black-box, max_iter * sample_size queries plus
    about 40 for the start, at most 3 * init_size more where starts are hard to find.
    """

    knowledge = "black"
    norms = (2.0,)

    delta: float = setting(0.1, positive())
    epsilon: float = setting(1.0, positive())
    step_adapt: float = setting(0.667, satisfies("in (0, 1)", lambda factor: 0 < factor < 1))
    max_iter: int = setting(500, integer())
    num_trial: int = setting(25, integer())
    sample_size: int = setting(8, integer())
    init_size: int = setting(100, integer())
    channel_correlation: float = setting(
        0.5, not_negative(), satisfies("in [0, 1)", lambda share: share < 1)
    )

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        rows = starts.random_starts(target, streams, self.init_size, 2.0)
        walk = _Walk(self, target, rows, target.proposals[rows])
        for iteration in range(self.max_iter):
            for _ in range(self.sample_size):
                walk.step(streams)
            if not walk.keep_going():
                break
            target.progress(iteration + 1, self.max_iter)


class _Walk:
    """State of the samples that still walk: one row each in every array."""

    def __init__(self, attack: BoundaryAttack, target: Target, rows: Rows, points: Float) -> None:
        self._attack = attack
        self._target = target
        self._rows = rows
        self._clean = flat(target.x[rows])
        self._offset = flat(points) - self._clean
        self._length = row_norm(self._offset, 2)
        self._sideways = np.zeros_like(self._offset)
        self._mirrored = np.zeros(len(rows), bool)
        self._delta = np.full(len(rows), min(attack.delta, LONGEST))
        self._failures = np.zeros(len(rows), np.int64)

    def step(self, streams: Streams) -> None:
        """One candidate for every sample, one question, one update."""
        if not len(self._rows):
            return
        self._turn(streams)
        candidates = self._candidates()
        labels = self._target.evaluate(candidates, self._rows).labels
        moved = np.flatnonzero(labels != self._target.y[self._rows])
        offset = flat(candidates[moved]) - self._clean[moved]
        length = row_norm(offset, 2)
        nearer = length < self._length[moved]
        moved = moved[nearer]
        self._offset[moved], self._length[moved] = offset[nearer], length[nearer]
        self._adapt(moved)
        sealed = self._target.seal(candidates[moved], self._rows[moved])
        starts.propose_nearer(self._target, self._rows[moved], sealed, 2.0)

    def keep_going(self) -> bool:
        """Drop the samples that are stuck; true while there are others."""
        attack = self._attack
        walking = self._failures < attack.num_trial * attack.sample_size
        if not walking.all():
            self._rows, self._clean = self._rows[walking], self._clean[walking]
            self._offset, self._length = self._offset[walking], self._length[walking]
            self._sideways, self._mirrored = self._sideways[walking], self._mirrored[walking]
            self._delta, self._failures = self._delta[walking], self._failures[walking]
        return bool(walking.any())

    def _turn(self, streams: Streams) -> None:
        """Choose a new direction at right angles to the offset, or the opposite of the last one."""
        fresh = ~self._mirrored
        self._sideways[self._mirrored] *= -1
        draw = channel_noise(self._target, streams, self._attack.channel_correlation)
        drawn = flat(draw(self._rows[fresh], 1))
        offset = self._offset[fresh]
        drawn -= (row_dot(drawn, offset) / row_dot(offset, offset))[:, None] * offset
        drawn /= np.maximum(row_norm(drawn, 2), np.finfo(np.float32).tiny)[:, None]
        self._sideways[fresh] = drawn

    def _candidates(self) -> Float:
        towards = 1 - np.minimum(self._delta**2 / 2, min(self._attack.epsilon, 0.5))
        radius = towards / np.hypot(1.0, self._delta)
        points = self._offset * radius.astype(np.float32)[:, None]
        points += self._sideways * (radius * self._delta * self._length).astype(np.float32)[:, None]
        points += self._clean
        return self._target.project(points.reshape(-1, *self._target.input_shape))

    def _adapt(self, moved: Rows) -> None:
        """Adapt delta, and what comes next, to whether each candidate became the new point."""
        new = np.zeros(len(self._rows), bool)
        new[moved] = True
        self._delta *= self._attack.step_adapt ** ((TARGET_RATE - new) / WINDOW)
        np.minimum(self._delta, LONGEST, out=self._delta)
        self._mirrored = ~(new | self._mirrored)
        self._failures = np.where(new, 0, self._failures + 1)
