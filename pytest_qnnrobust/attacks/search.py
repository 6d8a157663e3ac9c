"""Parts of a search that attacks share: Adam, the search for a constant, the best so far."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks.target import Mask, Rows
from pytest_qnnrobust.types import Double, Float, Labels

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's constants, as its authors recommend them."""

WIDEN = 10
"""Factor of a constant until a descent succeeds (code of Carlini and Wagner)."""


class Adam:
    """Kingma and Ba (2015) on rows of float32 variables (n, elements), in place.

    Each row has its own step count, so that rows may start over at different times.
    """

    def __init__(self, like: Float) -> None:
        self._first = np.zeros_like(like)
        self._second = np.zeros_like(like)
        self._steps = np.zeros(len(like), np.int64)

    def descend(self, variables: Float, gradient: Float, rate: float | Float) -> None:
        """Take one step of `rate`, one number or (n,); overwrites `gradient`."""
        self._steps += 1
        self._first *= np.float32(BETA_1)
        self._first += np.float32(1 - BETA_1) * gradient
        self._second *= np.float32(BETA_2)
        np.square(gradient, out=gradient)
        gradient *= np.float32(1 - BETA_2)
        self._second += gradient
        np.multiply(self._second, column(1 / (1 - BETA_2**self._steps)), out=gradient)
        np.sqrt(gradient, out=gradient)
        gradient += np.float32(EPSILON)
        np.divide(self._first, gradient, out=gradient)
        gradient *= column(rate / (1 - BETA_1**self._steps))
        variables -= gradient

    def restart(self, rows: Rows | Mask) -> None:
        """Forget the past of these rows."""
        self._first[rows] = 0
        self._second[rows] = 0
        self._steps[rows] = 0

    def keep(self, rows: Rows | Mask) -> None:
        """Drop all other rows."""
        self._first = self._first[rows]
        self._second = self._second[rows]
        self._steps = self._steps[rows]


class _Moments:
    """Adam's running means of float64 gradients (B, ...) and of their squares."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._first = np.zeros(shape)
        self._second = np.zeros(shape)

    def _learn(self, rows: Rows, gradient: Double) -> tuple[Double, Double]:
        """The means of samples `rows` with `gradient` (n, ...) taken in; nothing is stored."""
        first = BETA_1 * self._first[rows] + (1 - BETA_1) * gradient
        second = BETA_2 * self._second[rows] + (1 - BETA_2) * gradient * gradient
        return first, second


class StepwiseAdam(_Moments):
    """Kingma and Ba (2015), algorithm 1, on samples that all began at the same time."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self._steps = 0

    def step(self, rows: Rows, gradient: Double, rate: float) -> Double:
        """The next step (n, ...) of samples `rows`, along their gradients; once per iteration."""
        self._steps += 1
        first, second = self._learn(rows, gradient)
        self._first[rows], self._second[rows] = first, second
        # Python's power of one number: NumPy's power of an array may differ in the last bit.
        first = first / (1 - BETA_1**self._steps)
        second = np.sqrt(second / (1 - BETA_2**self._steps))
        return np.asarray(rate * first / (second + EPSILON))


class ElementwiseAdam(_Moments):
    """ZOO's "ADAM by coordinates" (Chen et al. 2017, algorithm 2): an element counts its own steps.

    Corrects the bias as Kingma and Ba do at the end of their section 2: EPSILON is added before
    the correction, not after it, so that this is not the step of the other classes.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self._steps = np.zeros(shape, np.int64)

    def step(self, rows: Rows, gradient: Double, moving: Mask) -> Double:
        """The next step (n, elements) of rate 1 of the elements `moving`; the others' is void."""
        first, second = self._learn(rows, gradient)
        first = np.where(moving, first, self._first[rows])
        second = np.where(moving, second, self._second[rows])
        steps = self._steps[rows] + moving
        self._first[rows], self._second[rows], self._steps[rows] = first, second, steps
        # An element that has never moved divides zero by zero.
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = np.sqrt(1 - BETA_2**steps) / (1 - BETA_1**steps)
            return np.asarray(rate * first / (np.sqrt(second) + EPSILON))

    def restart(self, rows: Rows) -> None:
        """Forget the past of these samples."""
        for past in (self._first, self._second, self._steps):
            past[rows] = 0


class ConstantSearch:
    """Search for the constant c that weighs the loss against the distance, one for each sample.

    Multiplies c by ten until a descent succeeds, then bisects between the largest c that failed
    and the smallest that succeeded. c does not grow beyond `largest`.
    """

    def __init__(self, samples: int, initial: float, largest: float = np.inf) -> None:
        self.constant = np.full(samples, initial)
        self._largest = largest
        self._failed = np.zeros(samples)
        self._succeeded = np.full(samples, np.inf)

    @property
    def without_success(self) -> Mask:
        """The samples of which no descent has succeeded yet, (n,)."""
        return np.asarray(np.isinf(self._succeeded))

    def narrow(self, success: Mask) -> None:
        """Choose the next constants by whether the descents with the present ones succeeded."""
        constant = self.constant
        self._succeeded = np.where(success, np.minimum(self._succeeded, constant), self._succeeded)
        self._failed = np.where(success, self._failed, np.maximum(self._failed, constant))
        growing = self.without_success
        middle = (self._failed + np.where(growing, self._failed, self._succeeded)) / 2
        self.constant = np.where(growing, np.minimum(WIDEN * constant, self._largest), middle)

    def repeat_smallest_success(self) -> None:
        """Go back to the smallest constant that succeeded; without one, to the largest there is."""
        self.constant = np.minimum(self._succeeded, self._largest)


class Best:
    """The best point of every sample so far, by its cost: the lower, the better.

    A point of the preferred kind comes before all that are not, whatever they cost: misclassified
    ones in a search by loss, those that reach a wanted confidence in a search by distance.
    """

    def __init__(self, samples: int, dtype: type[np.floating[Any]] = np.float64) -> None:
        self.preferred = np.zeros(samples, bool)
        self.cost: NDArray[Any] = np.full(samples, np.inf, dtype)

    def beaten(self, rows: Rows, cost: NDArray[Any], preferred: Mask | bool = False) -> Mask:
        """True for the points (n,), one a sample, that are better than the samples' best."""
        held = self.preferred[rows]
        cheaper = (preferred == held) & (cost < self.cost[rows])
        return np.asarray((preferred & ~held) | cheaper)

    def update(self, rows: Rows, cost: NDArray[Any], preferred: Mask | bool = False) -> Mask:
        """Remember the points (n,) that are better than the samples' best; true for these.

        A cost of NaN is never better, unless the point is preferred and the best is not.
        """
        better = self.beaten(rows, cost, preferred)
        self.cost[rows[better]] = cost[better]
        self.preferred[rows[better]] = np.broadcast_to(preferred, better.shape)[better]
        return better


def rivals(y: Labels, classes: int) -> Labels:
    """All classes but the label, in their order, (n, classes - 1)."""
    places = np.arange(classes - 1)
    return places + (places >= y[:, None])


def column(values: Any) -> Float:
    """One number a row (n,) as float32 (n, 1)."""
    return np.asarray(values, np.float32).reshape(-1, 1)
