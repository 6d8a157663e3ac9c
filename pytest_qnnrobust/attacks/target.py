"""The view that an attack has of its model: one batch of samples, counted and budgeted."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.geometry import balls, grids
from pytest_qnnrobust.metrics import flat
from pytest_qnnrobust.models.base import Gradient, Model, Scores
from pytest_qnnrobust.models.grid import InputGrid
from pytest_qnnrobust.types import Bounds, Float, Labels

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Answer = TypeVar("Answer")


class OutOfBudgetError(Exception):
    """End of a batch that may ask nothing more; the base class grades what was proposed so far."""


class Target:
    """A batch of correctly classified samples of one model.

    `x` float32 (B, *input_shape) is the clean batch as the model sees it (on the grid of a
    quantized input), `y` int64 (B,) its labels, `eps` the budget that is left once the grid is
    taken into account (Linf: whole input steps), infinite for a minimal-distortion attack.

    Every question names, in `rows`, the sample of the batch that each input belongs to (default:
    the whole batch in order); a sample may appear several times. Once a sample's budget is used
    up, its inputs are no longer evaluated: they come back with the label `y`, scores NaN and
    gradient 0, so that they read as "not adversarial, no better". When that holds for every input
    of a question, or the time is up, OutOfBudgetError ends the attack on this batch.

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
        answered = self._charge(self.queries, rows, 1)
        if answered is None:
            return self._timed(self._model.evaluate, x)
        scores = self._timed(self._model.evaluate, x[answered])
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
        y = self.y[rows]
        wanted = y if rival is None else rival
        answered = self._charge_gradients(rows, 1)
        if answered is None:
            return self._timed(self._model.loss_gradient, x, y, loss, wanted)
        part = self._timed(
            self._model.loss_gradient, x[answered], y[answered], loss, wanted[answered]
        )
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
        rows = self.all_rows if rows is None else rows
        cost = self.classes if weights is None else weights.shape[1]
        answered = self._charge_gradients(rows, cost)
        if answered is None:
            return self._timed(self._model.jacobian, x, weights)
        chosen = None if weights is None else weights[answered]
        logits, jacobian = self._timed(self._model.jacobian, x[answered], chosen)
        return _spread(logits, answered, np.nan), _spread(jacobian, answered, 0.0)

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

    def _timed(self, ask: Callable[..., Answer], *arguments: Any) -> Answer:
        started = time.perf_counter()
        answer = ask(*arguments)
        self.model_seconds += time.perf_counter() - started
        return answer

    def _charge_gradients(self, rows: Rows, number: int) -> Mask | None:
        """Count gradients as `_charge` does; as queries, where the model measures them."""
        if self._model.gradient_queries:
            return self._charge(self.queries, rows, self._model.gradient_queries)
        return self._charge(self.gradients, rows, number)

    def _charge(self, counter: Labels, rows: Rows, cost: int) -> Mask | None:
        """Count what can be answered: a mask over `rows`, or None for all of them."""
        if self._deadline is not None and time.perf_counter() > self._deadline:
            self.exhausted[:] = True
            raise OutOfBudgetError
        if self.query_budget is None:
            counter += cost * np.bincount(rows, minlength=len(counter))
            return None
        left = self.query_budget - self.queries - self.gradients
        answered = (_rank(rows) + 1) * cost <= left[rows]
        counter += cost * np.bincount(rows[answered], minlength=len(counter))
        self.exhausted[rows[~answered]] = True
        if len(rows) and not answered.any():
            raise OutOfBudgetError
        return answered


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
