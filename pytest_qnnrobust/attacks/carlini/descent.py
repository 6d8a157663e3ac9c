"""Parts that the attacks of Carlini and Wagner and EAD share: tanh space, descents, best points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import score_losses
from pytest_qnnrobust.attacks.geometry.hyperplanes import row_dot
from pytest_qnnrobust.attacks.search import Adam, Best, ConstantSearch
from pytest_qnnrobust.attacks.target import Mask, OutOfBudgetError, Rows, Target
from pytest_qnnrobust.metrics import flat
from pytest_qnnrobust.types import Bounds, Double, Float

Distance = Callable[[Float], Float]
"""Perturbations float32 (n, elements), in input units, to their sizes (n,)."""

SMOOTHER = 0.999999
"""Factor that keeps arctanh finite for elements on a bound; the value of the authors' code."""

LARGEST_CONST = 1e10
"""Constant at which the authors' code stops growing."""

REPEATING_STEPS = 10
"""Least number of descents whose last one repeats the smallest constant that succeeded."""

PROGRESS = 0.9999
"""A loss above this share of the last one checked has not got on."""

MIN_CHECK = 5
"""Least steps between two checks: Adam needs a few before a loss that rose says anything."""

ROUNDING = 1e-5
"""Margin of a float model, as a share of its largest logit, that another batch may turn."""


class TanhSpace:
    """The change of variable of section V.B: x = middle + half * tanh(w), inside the bounds."""

    def __init__(self, bounds: Bounds) -> None:
        self.middle = np.float32((bounds[0] + bounds[1]) / 2)
        self.half = np.float32((bounds[1] - bounds[0]) / 2)

    def variables(self, x: Float) -> Float:
        """w of inputs in the bounds."""
        unit = (x - self.middle) / self.half
        np.clip(unit, -1, 1, out=unit)
        unit *= np.float32(SMOOTHER)
        return np.asarray(np.arctanh(unit, out=unit))

    def inputs(self, w: Float) -> tuple[Float, Float]:
        """The inputs of variables w, and their derivative half * (1 - tanh(w)^2)."""
        slope = np.tanh(w)
        x = slope * self.half
        x += self.middle
        slope *= slope
        np.subtract(1, slope, out=slope)
        slope *= self.half
        return x, slope


def search_constant(
    target: Target, descend: Callable[[Double], Mask], initial: float, steps: int
) -> None:
    """Descend `steps` times, with the constants (B,) that the descents before suggest.

    `descend` says which samples met an adversarial point. As in the authors' code, the last of
    `REPEATING_STEPS` or more descents takes the smallest constants that succeeded.
    """
    search = ConstantSearch(len(target), initial, LARGEST_CONST)
    for step in range(steps):
        if step == steps - 1 and steps >= REPEATING_STEPS:
            search.repeat_smallest_success()
        search.narrow(descend(search.constant))
        target.progress(step + 1, steps)


class Stagnation:
    """Stopping rule of descents side by side.

    With `abort_early`, a descent stops when a tenth of `max_iter`, at least `MIN_CHECK` steps,
    lowered its loss by less than 0.01 %. A sample without budget, whose loss is NaN, stops at once.
    """

    def __init__(self, samples: int, max_iter: int, abort_early: bool) -> None:
        self._abort_early = abort_early
        self._every = max(MIN_CHECK, -(-max_iter // 10))
        self._before = np.full(samples, np.inf)

    def going(self, iteration: int, loss: NDArray[Any]) -> Mask:
        """True for those descents, of the ones that went on last time, that go on; by loss (n,)."""
        going: Mask = np.isfinite(loss)
        if self._abort_early and iteration % self._every == 0:
            going &= loss <= PROGRESS * self._before
            self._before = loss
        self._before = self._before[going]
        return going


class Nearest:
    """The nearest misclassified point of every sample, over everything that was visited.

    With a `confidence`, points whose margin reaches it come before all that do not. A point is
    judged as graded: sealed, and classified by the target.
    """

    def __init__(self, target: Target, distance: Distance, confidence: float) -> None:
        self._target = target
        self._measure = distance
        self._confidence = confidence
        self._best = Best(len(target), np.float32)

    @property
    def distance(self) -> Float:
        """The distance of each sample's point, (B,) float32; infinite where there is none."""
        return self._best.cost

    @property
    def fooled_rows(self) -> Rows:
        """The samples that have a misclassified point."""
        return np.flatnonzero(np.isfinite(self.distance))

    def offer(self, rows: Rows, points: Float, margin: Float) -> Mask:
        """Keep what is nearer; true where the point (n, *input_shape) counts as adversarial.

        `margin` (n,) is the margin that the model gave at the points: those it calls adversarial
        and that would be an improvement are asked again, sealed, for one query.
        """
        fooled = margin >= self._confidence
        promising = np.flatnonzero(margin >= 0)
        if not len(promising):
            return fooled
        sealed = self._target.seal(points[promising], rows[promising])
        size = self.sizes(rows[promising], sealed)
        nearer = self._best.beaten(rows[promising], size, fooled[promising])
        promising = promising[nearer]
        if len(promising):
            fooled[promising] = self.judge(rows[promising], sealed[nearer])[0]
        return fooled

    def judge(self, rows: Rows, sealed: Float) -> tuple[Mask, Float]:
        """Ask the target about sealed points, one query each, and keep what is nearer.

        Returns whether they are adversarial with the wanted confidence, and their margins.
        """
        try:
            scores = self._target.evaluate(sealed, rows)
        except OutOfBudgetError:
            _raise_if_over(self._target)
            return np.zeros(len(rows), bool), np.full(len(rows), np.nan, np.float32)
        y = self._target.y[rows]
        margin = score_losses.margin(scores.logits, y).astype(np.float32)
        fooled = scores.labels != y
        if self._target.grid is None:
            fooled &= margin > ROUNDING * np.abs(scores.logits).max(axis=1)
        sure = fooled & (margin >= self._confidence) if self._confidence else fooled
        size = self.sizes(rows, sealed)
        asked = np.flatnonzero(fooled)
        better = asked[self._best.update(rows[asked], size[asked], sure[asked])]
        self._target.propose(rows[better], sealed[better])
        return sure, margin

    def sizes(self, rows: Rows, points: Float) -> Float:
        """The distances of points (n, *input_shape) from their clean images."""
        return self._measure(flat(points) - flat(self._target.x)[rows])


class Descent:
    """Samples that descend in tanh space side by side, each at its own stage.

    A stage that is solved is followed by one with a harder problem and the same constant; a stage
    that used up its iterations, by one with the same problem and a larger constant. Either goes on
    from the present point.
    The arrays are those of `rows`: variables `w` and `clean` inputs (n, elements), `const` (n,).
    """

    def __init__(self, target: Target, nearest: Nearest, const: float, factor: float) -> None:
        self._target = target
        self._factor = np.float32(factor)
        self._iteration = np.zeros(len(target), np.int64)
        self.nearest = nearest
        self.space = TanhSpace(target.bounds)
        self.rows = target.all_rows
        self.clean = flat(target.x)
        self.w = self.space.variables(self.clean)
        self.adam = Adam(self.w)
        self.const = np.full(len(target), const, np.float32)

    def points(self) -> tuple[Float, Float, Float]:
        """The present inputs, as the model takes them and flat, and their derivative by w."""
        points, slope = self.space.inputs(self.w)
        return points.reshape(-1, *self._target.input_shape), points, slope

    def advance(self, solved: Mask, iterations: int) -> None:
        """Begin new stages where the last one was solved, or has had its iterations."""
        self._iteration[solved] = 0
        self.adam.restart(solved)
        spent = self._iteration >= iterations
        self.const[spent] *= self._factor
        self._iteration[spent] = 0
        self._iteration += 1

    def keep(self, going: Mask) -> None:
        """Drop the samples that are done."""
        if going.all():
            return
        self.rows, self.clean, self.w = self.rows[going], self.clean[going], self.w[going]
        self.const, self._iteration = self.const[going], self._iteration[going]
        self.adam.keep(going)


def margin_gradient(target: Target, points: Float, rows: Rows) -> tuple[Float, Float]:
    """The margin (n,) at points and its gradient (n, elements); one gradient each."""
    try:
        answer = target.loss_gradient(points, rows, loss="margin")
    except OutOfBudgetError:
        _raise_if_over(target)
        return np.full(len(rows), np.nan, np.float32), np.zeros_like(flat(points))
    return answer.loss, flat(answer.gradient)


def _raise_if_over(target: Target) -> None:
    """End the batch if all of its samples are out of budget; else the others go on."""
    if target.exhausted.all():
        raise OutOfBudgetError


def squared_length(delta: Float) -> Float:
    """Squared L2 norms (n,) of float32 (n, elements)."""
    return row_dot(delta, delta)
