"""The view that an attack has of its model: one batch of samples, counted and budgeted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.geometry import balls, grids
from pytest_qnnrobust.compute.batches import CHUNK
from pytest_qnnrobust.metrics import flat
from pytest_qnnrobust.models.base import Gradient, Model, Scores
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.types import Bounds, Float, Labels

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Answer = tuple[NDArray[Any], ...]
Weights = Callable[[slice], Float]
"""`weights(part)`: the weights (n, p, K) of the sums of logits in a part of them."""

SUMS = 16
"""Sums of the logits that are differentiated in one call: a thousand classes are many calls."""


class OutOfBudgetError(Exception):
    """End of a batch that may ask nothing more; the base class grades what was proposed so far."""


class OutOfTimeError(Exception):
    """End of the whole attack at its deadline; no part of an attack may catch it and go on."""


class Target:
    """A batch of correctly classified samples of one model.

    `x` float32 (B, *input_shape) is the clean batch as the model sees it (on the grid of a
    quantized input), `y` int64 (B,) its labels, `eps` the budget that is left once the grid is
    taken into account (Linf: whole input steps), infinite for a minimal-distortion attack.

    Every question names, in `rows`, the sample of the batch that each input belongs to (default:
    the whole batch in order); a sample may appear several times. Once a sample's budget is used
    up, its inputs are no longer evaluated: they come back with the label `y`, scores NaN and
    gradient 0, so that they read as "not adversarial, no better". When that holds for every input
    of a question, OutOfBudgetError ends the attack on this batch.

    A question goes to the model in calls of at most `CHUNK` inputs and `SUMS` gradients of each.
    Before every call, OutOfTimeError ends the attack if the time is up.

    `queries` and `gradients` count what was answered per sample, `model_seconds` the time the
    model took for it.
    """

    def __init__(
        self,
        model: Model,
        x: Float,
        y: Labels,
        *,
        norm: float = np.inf,
        eps: float = np.inf,
        query_budget: int | None = None,
        deadline: float | None = None,
    ) -> None:
        self._model = model
        self._deadline = deadline
        self.norm = norm
        self.query_budget = query_budget
        self.model_seconds = 0.0
        self.x = x
        self.y = y
        self.eps = eps
        self.on_progress: Callable[[float], None] | None = None
        self.queries = np.zeros(len(x), np.int64)
        self.gradients = np.zeros(len(x), np.int64)
        self.exhausted = np.zeros(len(x), bool)
        self.proposals = x.copy()

    def __len__(self) -> int:
        return len(self.x)

    @property
    def bounds(self) -> Bounds:
        return self._model.bounds

    @property
    def span(self) -> float:
        """The width of the input domain: high - low."""
        return self.bounds[1] - self.bounds[0]

    @property
    def classes(self) -> int:
        return self._model.classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._model.input_shape

    @property
    def grid(self) -> InputGrid | None:
        return self._model.grid

    @property
    def all_rows(self) -> Rows:
        return np.arange(len(self.x), dtype=np.int64)

    @cached_property
    def box(self) -> tuple[Float, Float]:
        """Lowest and highest value of every element within `eps` (Linf) and the bounds."""
        return balls.linf_box(self.x, self.eps, self.bounds)

    def evaluate(self, x: Float, rows: Rows | None = None) -> Scores:
        """Labels and logits of inputs (n, *input_shape); one query each."""
        rows = self.all_rows if rows is None else rows
        answered = self._affordable(rows, 1)
        if answered is None:
            return Scores(*self._ask(self._scores, rows, (self.queries, 1), x))
        scores = Scores(*self._ask(self._scores, rows[answered], (self.queries, 1), x[answered]))
        labels = self.y[rows]
        labels[answered] = scores.labels
        return Scores(labels, _spread(scores.logits, answered, np.nan))

    def loss_gradient(
        self,
        x: Float,
        rows: Rows | None = None,
        loss: str = "cross-entropy",
        rival: Labels | None = None,
    ) -> Gradient:
        """Loss against the samples' own labels and its input gradient; one gradient each.

        A targeted loss takes the class it wants for each input from `rival` (n,).
        Where a confident model's cross-entropy has no gradient left in float32, the gradient is
        that of the margin, which points the same way and does not saturate; one gradient more.
        """
        rows = self.all_rows if rows is None else rows
        answer = self._loss_gradient(x, rows, loss, rival)
        flat_rows = np.flatnonzero(~flat(answer.gradient).any(axis=1) & np.isfinite(answer.loss))
        if loss == "cross-entropy" and len(flat_rows):
            instead = self._loss_gradient(x[flat_rows], rows[flat_rows], "margin", None)
            answer.gradient[flat_rows] = instead.gradient
        return answer

    def _loss_gradient(self, x: Float, rows: Rows, loss: str, rival: Labels | None) -> Gradient:
        def ask(x: Float, y: Labels, wanted: Labels) -> Answer:
            answer = self._model.loss_gradient(x, y, loss, wanted)
            return answer.logits, answer.loss, answer.gradient

        y = self.y[rows]
        wanted = y if rival is None else rival
        charge = self._price(1)
        answered = self._affordable(rows, charge[1])
        if answered is None:
            return Gradient(*self._ask(ask, rows, charge, x, y, wanted))
        asked = (values[answered] for values in (x, y, wanted))
        part = Gradient(*self._ask(ask, rows[answered], charge, *asked))
        return Gradient(
            _spread(part.logits, answered, np.nan),
            _spread(part.loss, answered, np.nan),
            _spread(part.gradient, answered, 0.0),
        )

    def jacobian(
        self, x: Float, rows: Rows | None = None, weights: Float | None = None
    ) -> tuple[Float, Float]:
        """Logits (n, K) and Jacobian (n, K, *input_shape); K gradients each.

        With `weights` (n, m, K), the gradients of m weighted sums of the logits; m gradients each.
        """
        if weights is None:
            each = np.eye(self.classes, dtype=np.float32)
            weights = np.broadcast_to(each, (len(x), *each.shape))
        sums = weights
        parts = list(self.slopes(x, rows, sums.shape[1], lambda part: sums[:, part]))
        logits, slopes = parts[0]
        if len(parts) > 1:
            slopes = np.concatenate([part for _, part in parts], axis=1)
        return logits, slopes

    def slopes(
        self, x: Float, rows: Rows | None, number: int, weights: Weights
    ) -> Iterator[tuple[Float, Float]]:
        """The Jacobian of `number` weighted sums part by part, in order.

        Yields the logits (n, K) and gradients (n, p, *input_shape), p <= SUMS, so that an attack
        keeps of a thousand classes what it needs, and its time is up between two parts. A sample
        that cannot pay for all of them is not answered.
        """
        rows = self.all_rows if rows is None else rows
        answered = self._affordable(rows, self._price(number)[1])
        # Measured gradients of any number of sums cost the same queries, once.
        step = number if self._model.gradient_queries else SUMS
        for start in range(0, number, step):
            sums = weights(slice(start, start + step))
            charge = self._price(sums.shape[1])
            if answered is None:
                logits, slopes = self._ask(self._model.jacobian, rows, charge, x, sums)
            else:
                asked = (rows[answered], charge, x[answered], sums[answered])
                part, part_slopes = self._ask(self._model.jacobian, *asked)
                logits = _spread(part, answered, np.nan)
                slopes = _spread(part_slopes, answered, 0.0)
            yield logits, slopes

    def project(self, x: NDArray[Any], rows: Rows | None = None) -> Float:
        """Project into the eps ball around the clean samples and into the bounds; float32."""
        clean = self.x if rows is None else self.x[rows]
        if np.isinf(self.eps):
            return np.clip(np.asarray(x, np.float32), *balls.float32_bounds(self.bounds))
        if np.isinf(self.norm):
            low, high = self.box
            chosen = slice(None) if rows is None else rows
            return np.clip(np.asarray(x, np.float32), low[chosen], high[chosen])
        return balls.project(x, clean, self.norm, self.eps, self.bounds)

    def seal(self, x: NDArray[Any], rows: Rows | None = None) -> Float:
        """Project as grading does: `project`, then onto the grid of a quantized input."""
        if self.grid is None:
            return self.project(x, rows)
        if np.isinf(self.eps):
            return self._nearest(self.project(x, rows), self.grid)
        clean = self.x if rows is None else self.x[rows]
        bounds = self.bounds
        return grids.project_to_grid(x, clean, self.norm, self.eps, bounds, self.grid)

    def propose(self, rows: Rows, x_adv: NDArray[Any]) -> None:
        """Keep the best input found so far for each of these samples; NaN is not kept."""
        sound = np.isfinite(flat(x_adv)).all(axis=1)
        self.proposals[rows[sound]] = x_adv[sound]

    def part(self, rows: Rows) -> Target:
        """A target of samples `rows` only, numbered from 0, with what is left of their budgets.

        What it spends has to be brought back by `absorb`.
        """
        part = Target(
            self._model,
            self.x[rows],
            self.y[rows],
            norm=self.norm,
            eps=self.eps,
            query_budget=self.query_budget,
            deadline=self._deadline,
        )
        part.queries[:] = self.queries[rows]
        part.gradients[:] = self.gradients[rows]
        return part

    def alone(self, rows: Rows) -> Target:
        """A target of samples `rows` only, with what was proposed for them, to be graded."""
        if len(rows) == len(self):
            return self
        part = self.part(rows)
        part.proposals[:] = self.proposals[rows]
        part.exhausted[:] = self.exhausted[rows]
        return part

    def absorb(self, part: Target, rows: Rows) -> None:
        """Take over what `part`, made of samples `rows`, has spent; not what it proposes."""
        self.queries[rows] = part.queries
        self.gradients[rows] = part.gradients
        self.exhausted[rows] |= part.exhausted
        self.model_seconds += part.model_seconds

    def progress(self, step: int, steps: int) -> None:
        """Tell whoever watches that `step` of `steps` rounds on this batch are done."""
        if self.on_progress is not None:
            self.on_progress(step / steps)

    def _nearest(self, x: Float, grid: InputGrid) -> Float:
        low, high = grids.integer_bounds(self.bounds, grid)
        return grid.dequantize(np.clip(grid.quantize(x), low, high))

    def _scores(self, x: Float) -> Answer:
        scores = self._model.evaluate(x)
        return scores.labels, scores.logits

    def _ask(
        self,
        ask: Callable[..., Answer],
        rows: Rows,
        charge: tuple[Labels, int],
        *inputs: NDArray[Any],
    ) -> Answer:
        """Ask about inputs of samples `rows`, call by call until the time is up.

        `charge` is the counter of what is asked and the price of one input.
        """
        counter, price = charge
        size = max(1, CHUNK // price) if counter is self.queries else CHUNK
        answers = []
        for start in range(0, max(len(rows), 1), size):
            part = slice(start, start + size)
            self._check_time()
            counter += price * np.bincount(rows[part], minlength=len(counter))
            started = time.perf_counter()
            answers.append(ask(*(values[part] for values in inputs)))
            self.model_seconds += time.perf_counter() - started
        if len(answers) == 1:
            return answers[0]
        return tuple(map(np.concatenate, zip(*answers, strict=True)))

    def _price(self, number: int) -> tuple[Labels, int]:
        """The counter and the price of gradients at one input: queries, where they are measured."""
        measured = self._model.gradient_queries
        return (self.queries, measured) if measured else (self.gradients, number)

    def _affordable(self, rows: Rows, price: int) -> Mask | None:
        """What can be answered: a mask over `rows`, or None for all of them."""
        self._check_time()
        if self.query_budget is None:
            return None
        left = self.query_budget - self.queries - self.gradients
        answered = (_rank(rows) + 1) * price <= left[rows]
        self.exhausted[rows[~answered]] = True
        if len(rows) and not answered.any():
            raise OutOfBudgetError
        return answered

    def _check_time(self) -> None:
        """Raise OutOfTimeError if the time is up."""
        if self._deadline is not None and time.perf_counter() > self._deadline:
            self.exhausted[:] = True
            raise OutOfTimeError


def _rank(rows: Rows) -> Rows:
    """Number of times that the same row occurred before: [4, 2, 4, 4] -> [0, 0, 1, 2]."""
    order = np.argsort(rows, kind="stable")
    _, starts, counts = np.unique(rows[order], return_index=True, return_counts=True)
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows)) - np.repeat(starts, counts)
    return rank


def _spread(values: Float, mask: Mask, missing: float) -> Float:
    full = np.full((len(mask), *values.shape[1:]), missing, np.float32)
    full[mask] = values
    return full
