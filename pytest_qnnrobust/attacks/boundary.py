"""Boundary attack: walk along the decision boundary towards the clean image, on decisions alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import checks
from pytest_qnnrobust.attacks.base import MinimalDistortionAttack
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Float, Labels, Rows, Target
from pytest_qnnrobust.metrics import lp_norm

START_BLOCK = 5
"""Random images that a sample tries at a time while it looks for a start."""

TURNING, APPROACHING, DONE = range(3)


@dataclass(frozen=True, kw_only=True, repr=False)
class BoundaryAttack(MinimalDistortionAttack):
    """Brendel, Rauber, Bethge, "Decision-Based Adversarial Attacks" (2018), for L2.

    Starts at the first of `init_size` uniform random images that is misclassified; where all of
    them look like the label, at the first of as many random blends of such an image with the clean
    one (the original fails there, and reads as robustness). Each of
    `max_iter` iterations tries `sample_size` steps around the sphere about the clean image, of
    relative length delta, then lets those that stayed misclassified step towards it by a share
    epsilon, and keeps the nearest. delta and epsilon are divided by `step_adapt` where more than
    half of the candidates stay misclassified and multiplied by it where less than a fifth do; after
    `num_trial` rounds without any the sample ends. The settings are those of ART's BoundaryAttack.
    Black-box, up to 2 * init_size + 2 * sample_size * num_trial * max_iter queries, typically
    30 * max_iter.
    """

    knowledge = "black"
    norms = (2.0,)
    batch = 64

    delta: float = 0.1
    epsilon: float = 1.0
    step_adapt: float = 0.667
    max_iter: int = 500
    num_trial: int = 25
    sample_size: int = 20
    init_size: int = 100

    def _validate(self) -> None:
        checks.positive(delta=self.delta, epsilon=self.epsilon)
        if not 0 < self.step_adapt < 1:
            raise checks.conflict("step_adapt to be in (0, 1)", step_adapt=self.step_adapt)
        checks.count(max_iter=self.max_iter, num_trial=self.num_trial)
        checks.count(sample_size=self.sample_size, init_size=self.init_size)

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        rows = self._find_starts(target, streams)
        walk = _Walk(self, target, rows)
        while walk.unfinished:
            walk.round(streams)
            target.progress(walk.iteration, self.max_iter)

    def _find_starts(self, target: Target, streams: Streams) -> Rows:
        """Propose a misclassified random image for each sample; the samples that have one."""
        rows = target.all_rows
        found = np.zeros(len(target), bool)
        blocks = [START_BLOCK] * (self.init_size // START_BLOCK)
        blocks += [rest] if (rest := self.init_size % START_BLOCK) else []
        for number, block in enumerate(2 * blocks):
            tries = target.seal(_noise(target, rows, streams, block, number >= len(blocks)))
            labels = target.evaluate(_flat(tries), np.repeat(rows, block)).labels
            fooled = labels.reshape(-1, block) != target.y[rows][:, None]
            chosen = np.flatnonzero(fooled.any(axis=1))
            target.propose(rows[chosen], tries[chosen, fooled[chosen].argmax(axis=1)])
            found[rows[chosen]] = True
            rows = rows[~fooled.any(axis=1)]
            if not len(rows):
                break
        return np.flatnonzero(found)


class _Walk:
    """Where every sample of the batch stands; samples advance each at their own pace.

    One round gathers the candidates of all samples, whichever phase they are in, for one question.
    """

    def __init__(self, attack: BoundaryAttack, target: Target, rows: Rows) -> None:
        self._attack = attack
        self._target = target
        self._point = target.proposals.copy()
        self._phase = np.full(len(target), DONE)
        self._phase[rows] = TURNING
        self._delta = np.full(len(target), attack.delta)
        self._epsilon = np.full(len(target), attack.epsilon)
        self._trials = np.zeros(len(target), np.int64)
        self._iterations = np.zeros(len(target), np.int64)
        self._nearest = np.full(len(target), np.inf)
        self._held: dict[int, Float] = {}
        self._keep(rows)

    @property
    def unfinished(self) -> bool:
        return bool((self._phase != DONE).any())

    @property
    def iteration(self) -> int:
        """The iteration of the slowest sample."""
        left = self._iterations[self._phase != DONE]
        return int(left.min(initial=self._attack.max_iter))

    def round(self, streams: Streams) -> None:
        """One candidate set for every unfinished sample, one question, one update each."""
        rows = np.flatnonzero(self._phase != DONE)
        turning = self._phase[rows] == TURNING
        sets = [
            self._turn(row, streams) if turns else self._approach(row)
            for row, turns in zip(rows.tolist(), turning, strict=True)
        ]
        sizes = [len(candidates) for candidates in sets]
        owners = np.repeat(rows, sizes)
        labels = self._target.evaluate(np.concatenate(sets), owners).labels
        fooled = np.split(labels != self._target.y[owners], np.cumsum(sizes)[:-1])
        for row, turns, candidates, mask in zip(rows.tolist(), turning, sets, fooled, strict=True):
            (self._turned if turns else self._approached)(row, candidates, mask)
        self._keep(rows[~turning])

    def _turn(self, row: int, streams: Streams) -> Float:
        """Random steps of relative length delta along the sphere around the clean image."""
        point, clean = self._point[row].ravel(), self._target.x[row].ravel()
        towards = clean - point
        distance = np.sqrt(np.square(towards, dtype=np.float64).sum())
        towards /= np.float32(max(distance, np.finfo(np.float32).tiny))
        noise = streams.normal(np.array([row]), self._attack.sample_size, len(clean))[0]
        along = (noise * towards).sum(axis=1)
        length = np.sqrt(np.square(noise).sum(axis=1))
        stretch = np.hypot(1.0, self._delta[row])
        scale = (self._delta[row] * distance / stretch / length).astype(np.float32)
        back = np.float32((stretch - 1) / stretch * distance)
        noise *= scale[:, None]
        noise += (back - along * scale)[:, None] * towards
        noise += point
        return self._target.project(noise.reshape(-1, *self._target.input_shape))

    def _approach(self, row: int) -> Float:
        """A step from each held point towards the clean image."""
        held = self._held[row]
        step = np.float32(self._epsilon[row])
        return self._target.project(held + step * (self._target.x[row] - held))

    def _turned(self, row: int, candidates: Float, fooled: NDArray[np.bool_]) -> None:
        self._delta[row] = self._adapt(self._delta[row], fooled)
        if fooled.any():
            self._held[row] = candidates[fooled]
            self._enter(row, APPROACHING)
        else:
            self._try_again(row)

    def _approached(self, row: int, candidates: Float, fooled: NDArray[np.bool_]) -> None:
        self._epsilon[row] = self._adapt(self._epsilon[row], fooled)
        if fooled.any():
            self._point[row] = self._closest(row, candidates[fooled])
            self._iterations[row] += 1
            finished = self._iterations[row] >= self._attack.max_iter
            self._enter(row, DONE if finished else TURNING)
        else:
            self._try_again(row)
            if self._phase[row] == DONE:
                self._point[row] = self._closest(row, self._held[row])

    def _adapt(self, length: float, fooled: NDArray[np.bool_]) -> float:
        share = fooled.mean()
        if share < 0.2:
            return length * self._attack.step_adapt
        return length / self._attack.step_adapt if share > 0.5 else length

    def _enter(self, row: int, phase: int) -> None:
        self._phase[row] = phase
        self._trials[row] = 0

    def _try_again(self, row: int) -> None:
        self._trials[row] += 1
        if self._trials[row] >= self._attack.num_trial:
            self._phase[row] = DONE

    def _closest(self, row: int, points: Float) -> Float:
        distance = lp_norm(points - self._target.x[row], 2)
        return np.asarray(points[np.argmin(distance)])

    def _keep(self, rows: Rows) -> None:
        """Propose the points that are nearer than what was proposed, as they will be graded."""
        sealed = self._target.seal(self._point[rows], rows)
        distance = lp_norm(sealed - self._target.x[rows], 2)
        nearer = distance < self._nearest[rows]
        self._nearest[rows[nearer]] = distance[nearer]
        self._target.propose(rows[nearer], sealed[nearer])


def _noise(
    target: Target, rows: Rows, streams: Streams, block: int, blended: bool
) -> NDArray[np.float64]:
    """Uniform random images (n, block, *input_shape), each blended with the clean one or not."""
    shape = target.input_shape
    noise = target.bounds[0] + target.span * streams.uniform(rows, block, *shape)
    if blended:
        weight = streams.uniform(rows, block, *[1] * len(shape))
        noise += weight * (target.x[rows][:, None] - noise)
    return noise


def _flat(tries: Float) -> Float:
    return tries.reshape(-1, *tries.shape[2:])
