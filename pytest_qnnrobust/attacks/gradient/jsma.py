"""JSMA: change the pair of features that the saliency map ranks first, again and again."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from pytest_qnnrobust.attacks.base import MinimalDistortionAttack
from pytest_qnnrobust.attacks.settings import (
    fraction,
    integer,
    is_number,
    one_of,
    optional,
    satisfies,
    setting,
)
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Mask, Rows, Target
from pytest_qnnrobust.metrics import flat
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.types import Double, Float, Labels

POLICIES = ("nearest", "random", "all")
SALIENCIES = ("probabilities", "logits")

PAIRS = 1 << 22
"""Pairs that are compared at a time: bounds the memory of the search."""


@dataclass(frozen=True, kw_only=True, repr=False)
class JSMA(MinimalDistortionAttack):
    """Papernot et al., "The Limitations of Deep Learning in Adversarial Settings" (2016), L0.

    Algorithms 2 and 3: in each of at most `max_iter` steps (None: as many as it takes), the pair of
    features that maximizes -alpha * beta, among those with alpha > 0 and beta < 0, moves by `theta`
    (input units; negative: features are lowered and the conditions swap signs). alpha is the pair's
    slope of the target class, beta that of the sum of all others. A feature at its bound leaves the
    search; once a share `gamma` of all features has changed, only these move on.

    `saliency` says what the slopes are of. "probabilities": they sum to one, so that beta is
    -alpha and the pair is the two features with the largest slopes; those of log p are used, which
    rank alike and do not vanish. "logits": the exact search over all pairs; where none is
    admissible, the published search has nothing to return, and the two features that raise
    alpha - beta most move instead. A sample ends where no feature rises.

    The published attack wants a target class. `target`: "nearest" is the runner-up of the clean
    logits, "random" any other class, "all" tries every other class and keeps the result with the
    fewest changed features. Any misclassification ends the search. On a quantized input a step is
    a whole number of input LSBs, at least one.
    White-box, per target class 1 query, and per step 1 query and 1 gradient (logits: 2).
    """

    knowledge = "white"
    norms = (0.0,)

    theta: float = setting(
        0.08, satisfies("a number other than 0", lambda step: is_number(step) and step != 0)
    )
    gamma: float = setting(1.0, fraction())
    target: str = setting("nearest", one_of(POLICIES))
    saliency: str = setting("probabilities", one_of(SALIENCIES))
    max_iter: int | None = setting(None, optional(integer()))

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        logits = target.evaluate(x).logits
        search = _Search(self, target, logits, *self._goals(target, logits, streams))
        started = len(search.rows)
        for _ in count() if self.max_iter is None else range(self.max_iter):
            search.advance()
            target.progress(started - len(search.rows), started)
            if not len(search.rows):
                return

    def _goals(self, target: Target, logits: Float, streams: Streams) -> tuple[Rows, Labels]:
        """The samples and target classes to search for, one entry for each search."""
        rows, y, others = target.all_rows, target.y, target.classes - 1
        if self.target == "random":
            goal = streams.integers(rows, others)
            return rows, goal + (goal >= y)
        if self.target == "nearest":
            rivals = np.nan_to_num(logits, nan=-np.inf)
            rivals[rows, y] = -np.inf
            return rows, np.argmax(rivals, axis=1)
        goal = np.tile(np.arange(others), len(rows))
        rows = np.repeat(rows, others)
        return rows, goal + (goal >= y[rows])


class _Search:
    """The points of all searches that go on: `rows` are their samples, `goals` their classes."""

    def __init__(
        self, attack: JSMA, target: Target, logits: Float, rows: Rows, goals: Labels
    ) -> None:
        self.rows = rows
        self._target = target
        self._pairs = attack.saliency == "logits"
        self._logits = logits[rows]
        self._goals = goals
        self._theta = whole_steps(attack.theta, target.grid)
        self._low, self._high = target.seal(np.array(target.bounds))
        self._point = flat(target.x)[rows]
        self._changed = np.zeros(self._point.shape, bool)
        self._most = max(2, int(attack.gamma * self._point.shape[1]))
        self._fewest = np.full(len(target), self._point.shape[1] + 1)

    def advance(self) -> None:
        """Move the best pair of every search; those that arrived or cannot go on are dropped."""
        pair = self._best_pairs() if self._pairs else self._best_features()
        moving = np.flatnonzero(pair[:, 0] >= 0)
        self._keep(moving)
        if len(self.rows):
            self._move(pair[moving])
            self._keep(np.flatnonzero(self._goes_on()))

    def _best_features(self) -> Rows:
        """The pair with the largest slopes of log p of the target class."""
        shares = np.exp(self._logits - self._logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        goals = np.eye(self._target.classes, dtype=np.float32)[self._goals]
        rise = self._slopes((goals - shares)[:, None])[:, 0]
        return steepest_pair(rise, self._allowed(rise))

    def _best_pairs(self) -> Rows:
        """The pair with the largest -alpha * beta of the logits."""
        goals = np.eye(self._target.classes, dtype=np.float32)[self._goals]
        slopes = self._slopes(np.stack([goals, goals - 1], axis=1))
        gain, relief = slopes[:, 0], slopes[:, 1]
        allowed = self._allowed(gain + relief)
        pair = best_pair(gain, relief, allowed)
        stuck = np.flatnonzero(pair[:, 0] < 0)
        pair[stuck] = steepest_pair(gain[stuck] + relief[stuck], allowed[stuck])
        return pair

    def _slopes(self, weights: Float) -> Double:
        """Slopes of weighted sums of the logits in the direction of theta, (n, m, features)."""
        _, slopes = self._target.jacobian(self._inputs(), self.rows, weights)
        flat_slopes = slopes.reshape(*weights.shape[:2], self._point.shape[1])
        return np.asarray(flat_slopes.astype(np.float64) * np.sign(self._theta))

    def _allowed(self, rise: Double) -> Mask:
        """The features that may move: not at their bound, and within the share `gamma`.

        Where one more may change, it is the one with the largest rise.
        """
        free = self._point < self._high if self._theta > 0 else self._point > self._low
        left = self._most - self._changed.sum(axis=1)
        short = np.flatnonzero(left < 2)
        fresh = np.where(free[short] & ~self._changed[short], rise[short], -np.inf).argmax(axis=1)
        last = free[short, fresh] & (left[short] == 1)
        free[short] &= self._changed[short]
        free[short, fresh] |= last
        return np.asarray(free)

    def _move(self, pair: Rows) -> None:
        searches = np.arange(len(pair))[:, None]
        moved = self._point[searches, pair] + self._theta
        self._point[searches, pair] = self._target.seal(moved)
        self._changed[searches, pair] = True

    def _goes_on(self) -> Mask:
        """Propose what is misclassified with fewer changes than before; the searches left."""
        x = self._inputs()
        scores = self._target.evaluate(x, self.rows)
        self._logits = scores.logits
        fooled = scores.labels != self._target.y[self.rows]
        changes = self._changed.sum(axis=1)
        for search in np.flatnonzero(fooled):
            row = self.rows[search : search + 1]
            if changes[search] < self._fewest[row]:
                self._fewest[row] = changes[search]
                self._target.propose(row, x[search : search + 1])
        return np.asarray(~fooled & (changes < self._fewest[self.rows]))

    def _keep(self, searches: Rows) -> None:
        if len(searches) == len(self.rows):
            return
        self.rows, self._goals = self.rows[searches], self._goals[searches]
        self._point, self._changed = self._point[searches], self._changed[searches]
        self._logits = self._logits[searches]

    def _inputs(self) -> Float:
        return self._point.reshape(-1, *self._target.input_shape)


def whole_steps(theta: float, grid: InputGrid | None) -> float:
    """`theta`, on a quantized input the nearest whole number of steps, at least one."""
    if grid is None:
        return float(theta)
    return float(np.sign(theta) * max(1, round(abs(theta) / grid.scale)) * grid.scale)


def best_pair(gain: Double, relief: Double, allowed: Mask) -> Rows:
    """The two features p, q, (n, 2), that maximize (gain_p + gain_q) * (relief_p + relief_q).

    Both sums have to be positive; -1, -1 where no pair of allowed features has that.

    Exact without visiting all pairs: take the features in order of falling gain. One whose relief
    two of its predecessors reach is dominated twice; in any admissible pair, one of these two is
    not its partner and can take its place, and neither sum falls. So the best pair lies among the
    features that are dominated at most once, a few dozen of thousands.
    """
    gain = np.where(allowed, gain, -np.inf)
    relief = np.where(allowed, relief, -np.inf)
    order = np.argsort(-gain, axis=1, kind="stable")
    sorted_relief = np.take_along_axis(relief, order, axis=1)
    chosen = sorted_relief > _second_largest_before(sorted_relief)
    pair = np.full((len(gain), 2), -1, np.int64)
    counts = chosen.sum(axis=1)
    for rows in _groups(counts):
        width = int(counts[rows[0]])
        if width < 2:
            break
        first = np.argsort(~chosen[rows], axis=1, kind="stable")[:, :width]
        candidates = np.take_along_axis(order[rows], first, axis=1)
        real = np.take_along_axis(chosen[rows], first, axis=1)
        sums = []
        for values in (gain[rows], relief[rows]):
            few = np.where(real, np.take_along_axis(values, candidates, axis=1), -np.inf)
            sums.append(few[:, :, None] + few[:, None, :])
        upper = np.triu(np.ones((width, width), bool), 1)
        admissible = upper & (sums[0] > 0) & (sums[1] > 0)
        with np.errstate(invalid="ignore"):
            score = np.where(admissible, sums[0] * sums[1], 0.0).reshape(len(rows), -1)
        best = score.argmax(axis=1)
        paired = np.flatnonzero(score[np.arange(len(rows)), best] > 0)
        places = np.stack(np.divmod(best[paired], width), axis=1)
        pair[rows[paired]] = np.take_along_axis(candidates[paired], places, axis=1)
    return pair


def steepest_pair(rise: Double, allowed: Mask) -> Rows:
    """The two allowed features with the largest rise, (n, 2); one twice where only one rises.

    -1, -1 where none does.
    """
    rise = np.where(allowed & (rise > 0), rise, 0.0)
    each = np.arange(len(rise))
    first = rise.argmax(axis=1)
    largest = rise[each, first]
    rise[each, first] = 0.0
    second = rise.argmax(axis=1)
    second = np.where(rise[each, second] > 0, second, first)
    return np.where(largest[:, None] > 0, np.stack([first, second], axis=1), -1)


def _second_largest_before(values: Double) -> Double:
    """The second largest value to the left of each column; -inf where there are not two."""
    second = np.full(values.shape, -np.inf)
    if values.shape[1] > 2:
        largest = np.maximum.accumulate(values, axis=1)
        lower = np.minimum(values[:, 1:-1], largest[:, :-2])
        np.maximum.accumulate(lower, axis=1, out=second[:, 2:])
    return second


def _groups(counts: Rows) -> list[Rows]:
    """Rows by falling count, cut so that no group compares more than about `PAIRS` pairs."""
    order = np.argsort(-counts, kind="stable")
    groups = []
    while len(order):
        size = max(1, PAIRS // max(int(counts[order[0]]) ** 2, 1))
        groups.append(order[:size])
        order = order[size:]
    return groups
