"""ZOO: the C&W objective descended coordinate by coordinate, with slopes measured by queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.attacks.base import MinimalDistortionAttack
from pytest_qnnrobust.attacks.score_losses import margin
from pytest_qnnrobust.attacks.scores.zoo_space import Space
from pytest_qnnrobust.attacks.search import Best, ConstantSearch, ElementwiseAdam
from pytest_qnnrobust.attacks.settings import (
    conflict,
    flag,
    integer,
    not_negative,
    positive,
    require,
    setting,
)
from pytest_qnnrobust.attacks.square.windows import image_shape
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Mask, Rows, Target
from pytest_qnnrobust.metrics import flat, lp_norm
from pytest_qnnrobust.types import Double, Float, Labels

PACE = 3.0
"""Factor of steps that were too short, until a search succeeds."""

FLAT = 0.1
"""Share of a sample's measured slopes that may be exactly zero before its step doubles."""

COARSEST = 0.4
"""Largest step of a quotient on a quantized input, in units of the input span."""

LONGEST = 0.5
"""Longest step of ADAM, in units of the input span."""

STALLED = 0.9999
"""A search whose objective stays above this share of the last one looked at has stalled."""

LOOKS = 10
"""Number of times that `abort_early` looks in a search."""

ELEMENTS = 1 << 24
"""Input elements that are probed at a time: bounds the memory of a round."""


LENGTHS = "learning_rate, h and quantized_h are in model input units"
"""Cure in the errors of these settings."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ZOO(MinimalDistortionAttack):
    """Chen et al., "ZOO: Zeroth Order Optimization Based Black-box Attacks" (2017), L2.

    Minimizes |delta|_2^2 + c * max(z_y - max z_other + confidence, 0), delta in units of the input
    span, with ADAM by coordinates (algorithms 1 and 2), `binary_search_steps` times over c. Each
    iteration measures the slope of the margin (a difference of log-probabilities is one of logits)
    at `coordinates` random elements with steps of `h`: from the point, whose margin is known, or,
    if `symmetric`, from one side of it to the other (eq. 6), for twice the queries and, at the
    published `h`, the same slopes.

    Until a search succeeds, one that still descended at its end is followed by one with three times
    longer steps: the published ones reach no further than `max_iter` times `learning_rate`.
    `memory` keeps each measured slope and moves every element measured so far, with the exact slope
    of the distance; without it, an iteration moves the elements it measured, as published. Where
    the hinge is inactive, its slope is known to be zero and nothing is measured. Each search ends
    with `refine` bisections of its result towards the clean image.

    On a quantized input `h` is raised to `quantized_h` and at least an input LSB, and doubled while
    most slopes of a sample measure zero: what one LSB in one element does to the logits is rounding
    noise, if they notice at all, and reads as robustness. Steps that long are always `symmetric`.

    `use_resize`: the noise starts at `initial_size` pixels per side (section 3.3), doubled at the
    iterations `resize_at` (3.4). `use_importance`: elements are drawn by the noise around them
    (3.5). `abort_early` ends a search that has stalled.
    Gray-box, up to binary_search_steps * (max_iter * (coordinates + 1) + refine) + 1 queries,
    2 * coordinates if symmetric.
    """

    knowledge = "gray"
    norms = (2.0,)
    batch = 16

    max_iter: int = setting(10, integer())
    binary_search_steps: int = setting(5, integer())
    initial_const: float = setting(0.01, positive())
    learning_rate: float = setting(0.01, positive(LENGTHS))
    confidence: float = setting(0.0, not_negative())
    coordinates: int = setting(128, integer())
    h: float = setting(1e-4, positive(LENGTHS))
    quantized_h: float = setting(0.1, positive(LENGTHS))
    symmetric: bool = setting(False, flag())
    memory: bool = setting(True, flag())
    refine: int = setting(8, integer(least=0))
    abort_early: bool = setting(True, flag())
    use_importance: bool = setting(False, flag())
    use_resize: bool = setting(False, flag())
    initial_size: int = setting(32, integer())
    resize_at: tuple[int, ...] = (2000, 10000)

    def _validate(self) -> None:
        if not isinstance(self.resize_at, (tuple, list)):
            raise conflict("resize_at to be a tuple of iterations", resize_at=self.resize_at)
        for iteration in self.resize_at:
            require(iteration, "resize_at", integer())
        object.__setattr__(self, "resize_at", tuple(self.resize_at))

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        image = image_shape(target.input_shape)
        size = self.initial_size if self.use_resize else None
        slopes = Slopes(len(target), Space(image, size))
        constants = ConstantSearch(len(target), self.initial_const)
        pace = np.full(len(target), self.learning_rate / target.span)
        probe = np.full(len(target), self._first_probe(target))
        best = Best(len(target))
        clean = margin(target.evaluate(x).logits, y)
        for step in range(self.binary_search_steps):
            constant = constants.constant
            search = _Search(self, target, streams, constant, pace, probe, slopes, best, clean)
            for iteration in range(self.max_iter):
                search.advance(iteration)
                target.progress(step * self.max_iter + iteration + 1, self._rounds)
                if not len(search.rows):
                    break
            search.refine()
            constants.narrow(search.success)
            # The samples still descending at the end were on their way, but with steps too short.
            slow = search.rows[constants.without_success[search.rows]]
            pace[slow] = np.maximum(pace[slow], np.minimum(pace[slow] * PACE, LONGEST))

    def _first_probe(self, target: Target) -> float:
        """The step of the first difference quotients, in input units."""
        if target.grid is None:
            return self.h
        return max(self.h, min(self.quantized_h, COARSEST * target.span), target.grid.scale)

    @property
    def _rounds(self) -> int:
        return self.binary_search_steps * self.max_iter


class Slopes:
    """The slope of the margin loss last measured at each coordinate of a space, (B, size)."""

    def __init__(self, n: int, space: Space) -> None:
        self.space = space
        self.value = np.zeros((n, space.size))
        self.seen = np.zeros((n, space.size), bool)


class _Search:
    """One descent from the clean images, with one constant per sample.

    `noise` (B, space.size) is in units of the input span; `rows` are the samples still descending.
    """

    def __init__(
        self,
        attack: ZOO,
        target: Target,
        streams: Streams,
        constant: Double,
        pace: Double,
        probe: Double,
        slopes: Slopes,
        best: Best,
        margins: Double,
    ) -> None:
        n = len(target)
        self.rows = target.all_rows
        self._attack, self._target, self._streams = attack, target, streams
        self._constant, self._pace, self._best = constant, pace, best
        self._clean = flat(target.x).astype(np.float64)
        self._probe = probe
        self._start(slopes, np.zeros((n, slopes.space.size)))
        self._hinge = np.full(n, np.inf)
        self._margin = margins.copy()
        self._both_sides = attack.symmetric or target.grid is not None
        self._previous = np.full(n, np.inf)
        self._nearest = Best(n)
        self._result = np.zeros(self._clean.shape)

    def _start(self, slopes: Slopes, noise: Double) -> None:
        self._slopes = slopes
        self.noise = noise
        self._adam = ElementwiseAdam(noise.shape)

    @property
    def success(self) -> Mask:
        """True for the samples that were misclassified on the way, (B,)."""
        return np.asarray(np.isfinite(self._nearest.cost))

    def advance(self, iteration: int) -> None:
        """Measure, move and ask; drop the samples that have stalled."""
        if self._attack.use_resize and iteration in self._attack.resize_at:
            self._double()
        probing = self.rows[self._hinge[self.rows] > 0]
        moving = np.zeros((len(self.rows), self._slopes.space.size), bool)
        if len(probing):
            coordinates = self._draw(probing)
            self._measure(probing, coordinates)
            sampled = np.zeros((len(self._target), moving.shape[1]), bool)
            sampled[probing[:, None], coordinates] = True
            moving = sampled[self.rows]
        resting = self._hinge[self.rows] <= 0
        if self._attack.memory:
            moving = self._slopes.seen[self.rows]
        else:
            moving[resting] = self.noise[self.rows[resting]] != 0
        self._descend(moving)
        self._ask()
        self._stop_stalled(iteration)

    def refine(self) -> None:
        """Bisect the result of this search towards the clean image, where it succeeded."""
        rows = np.flatnonzero(self.success)
        near, far = np.zeros(len(rows)), np.ones(len(rows))
        for _ in range(self._attack.refine if len(rows) else 0):
            middle = (near + far) / 2
            x = self._inputs(self._result[rows] * middle[:, None], rows)
            fooled = self._target.evaluate(x, rows).labels != self._target.y[rows]
            self._offer(rows[fooled], x[fooled])
            near, far = np.where(fooled, near, middle), np.where(fooled, middle, far)

    def _draw(self, rows: Rows) -> Rows:
        """Distinct coordinates for each sample, uniform or by importance (n, coordinates)."""
        size = self._slopes.space.size
        if self._attack.coordinates >= size:
            return np.broadcast_to(np.arange(size), (len(rows), size))
        keys = self._streams.uniform(rows, size)
        if self._attack.use_importance:
            # The smallest of exponential variables with rates w: drawn with weights w.
            keys = -np.log1p(-keys) / self._slopes.space.importance(self.noise[rows])
        count = self._attack.coordinates
        return np.argpartition(keys, count, axis=1)[:, :count].astype(np.int64)

    def _measure(self, rows: Rows, coordinates: Rows) -> None:
        """The difference quotient of the margin at each coordinate (n, coordinates)."""
        count = coordinates.shape[1]
        for part in self._parts(rows, 2 * count):
            chosen, chosen_rows = coordinates[part], rows[part]
            inputs, moved = self._probes(chosen_rows, chosen)
            owners = np.repeat(chosen_rows, count * moved.shape[2])
            logits = self._target.evaluate(inputs, owners).logits
            loss = margin(logits, self._target.y[owners]).reshape(moved.shape)
            if self._both_sides:
                rise, width = loss[:, :, 1] - loss[:, :, 0], moved[:, :, 1] - moved[:, :, 0]
            else:
                rise, width = loss[:, :, 0] - self._margin[chosen_rows][:, None], moved[:, :, 0]
            measured = np.isfinite(rise) & (width != 0)
            slope = np.divide(rise, width, out=np.zeros_like(width), where=measured)
            here = chosen_rows[:, None], chosen
            self._slopes.value[here] = np.where(measured, slope, self._slopes.value[here])
            self._slopes.seen[here] |= measured
            if self._target.grid is not None:
                self._coarsen(chosen_rows[((slope == 0) & measured).mean(axis=1) > FLAT])

    def _coarsen(self, rows: Rows) -> None:
        """Measure these samples with steps twice as long from now on; forget slopes of zero."""
        longest = np.maximum(COARSEST * self._target.span, self._probe[rows])
        self._probe[rows] = np.minimum(2 * self._probe[rows], longest)
        self._slopes.seen[rows] &= self._slopes.value[rows] != 0

    def _probes(self, rows: Rows, coordinates: Rows) -> tuple[Float, Double]:
        """Inputs on one or both sides of each coordinate, (n * sides, *input_shape), and how far
        they are displaced, in units of the span (len(rows), coordinates, sides).
        """
        target, count = self._target, coordinates.shape[1]
        base, h = self._moved(rows), self._probe[rows][:, None, None]
        if not self._slopes.space.whole:
            steps = np.broadcast_to(h * self._sides(), (len(rows), count, len(self._sides())))
            basis = self._slopes.space.basis(coordinates.reshape(-1))
            step = basis.reshape(len(rows), count, 1, -1) * steps[..., None]
            inputs = target.seal(base[:, None, None, :] + step)
            return inputs.reshape(-1, *target.input_shape), steps / target.span
        sealed = target.seal(base)
        each = np.arange(len(rows))[:, None], coordinates
        start = sealed[each][:, :, None].astype(np.float64)
        inwards = np.where(start + h > target.bounds[1], -1.0, 1.0)
        ends = target.seal(start + h * (self._sides() if self._both_sides else inwards))
        sides = ends.shape[2]
        inputs = np.repeat(sealed, count * sides, axis=0).reshape(len(rows), count, sides, -1)
        row, place = each[0][..., None], np.arange(count)[:, None]
        inputs[row, place, np.arange(sides), coordinates[..., None]] = ends
        return inputs.reshape(-1, *target.input_shape), (ends - start) / target.span

    def _sides(self) -> Double:
        return np.array([-1.0, 1.0]) if self._both_sides else np.ones(1)

    def _descend(self, moving: Mask) -> None:
        """One step of ADAM at the coordinates `moving` of the samples that go on."""
        rows = self.rows
        active = (self._hinge[rows] > 0) * self._constant[rows]
        noise = self.noise[rows]
        slope = 2 * noise - active[:, None] * self._slopes.value[rows]
        step = self._adam.step(rows, slope, moving)
        noise = np.where(moving, noise - self._pace[rows, None] * step, noise)
        if self._slopes.space.whole:
            low, high = self._target.bounds
            room = self._clean[rows]
            span = self._target.span
            noise = np.clip(noise, (low - room) / span, (high - room) / span)
        self.noise[rows] = noise

    def _ask(self) -> None:
        """Score the points; keep those that are misclassified and nearer than any before."""
        rows = self.rows
        x = self._inputs(self._slopes.space.expand(self.noise[rows]), rows)
        scores = self._target.evaluate(x, rows)
        loss = margin(scores.logits, self._target.y[rows])
        fooled = scores.labels != self._target.y[rows]
        self._margin[rows] = loss
        hinge = np.maximum(self._attack.confidence - loss, 0.0)
        arrived = (self._hinge[rows] > 0) & (hinge <= 0) & ~self.success[rows]
        self._adam.restart(rows[arrived])
        self._hinge[rows] = np.where(np.isnan(hinge), np.inf, hinge)
        rows, x = rows[fooled], x[fooled]
        self._offer(rows, x)
        nearer = rows[self._nearest.update(rows, self._length(rows, x))]
        self._result[nearer] = self._slopes.space.expand(self.noise[nearer])

    def _offer(self, rows: Rows, x: Float) -> None:
        """Propose misclassified inputs that are nearer than all before."""
        better = self._best.update(rows, self._length(rows, x))
        self._target.propose(rows[better], x[better])

    def _stop_stalled(self, iteration: int) -> None:
        every = max(1, self._attack.max_iter // LOOKS)
        if not self._attack.abort_early or (iteration + 1) % every:
            return
        rows = self.rows
        noise = self._slopes.space.expand(self.noise[rows])
        value = (noise * noise).sum(axis=1) + self._constant[rows] * self._hinge[rows]
        self.rows = rows[value <= STALLED * self._previous[rows]]
        self._previous[rows] = value

    def _double(self) -> None:
        """Go on in the next larger space, without ADAM's moments and the slopes."""
        small = self._slopes.space
        image = image_shape(self._target.input_shape)
        space = Space(image, 2 * max(small.rows, small.columns))
        self._start(Slopes(len(self._target), space), small.resized(self.noise, space))
        x = self._inputs(self._slopes.space.expand(self.noise[self.rows]), self.rows)
        logits = self._target.evaluate(x, self.rows).logits
        self._margin[self.rows] = margin(logits, self._target.y[self.rows])

    def _moved(self, rows: Rows) -> Double:
        return self._clean[rows] + self._target.span * self._slopes.space.expand(self.noise[rows])

    def _inputs(self, noise: Double, rows: Rows) -> Float:
        """The inputs (n, *input_shape) at this noise (n, elements), as they will be graded."""
        moved = self._clean[rows] + self._target.span * noise
        return self._target.seal(moved.reshape(-1, *self._target.input_shape), rows)

    def _length(self, rows: Rows, x: Float) -> Double:
        return lp_norm(x.astype(np.float64) - self._target.x[rows], 2)

    def _parts(self, rows: Rows, inputs: int) -> Iterator[slice]:
        size = max(1, ELEMENTS // (inputs * self._clean.shape[1]))
        for start in range(0, len(rows), size):
            yield slice(start, start + size)
