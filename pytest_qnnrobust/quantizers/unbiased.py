"""The law of stochastic rounding: on average what goes in comes out, by exact binomial tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.quantizers import probes
from pytest_qnnrobust.quantizers.base import Subject
from pytest_qnnrobust.quantizers.laws import Law, Violation, in_channel, number
from pytest_qnnrobust.stats import detectable_proportion, proportion_test

SHARES = (0.5, 0.25, 0.75, 0.1, 0.9, 0.4, 0.6, 0.02)
"""Where between two neighbours the points lie."""

NEAR = 100
"""Codes from that of 0 within which the points lie: far from it x / step has fewer digits."""

MOST_DRAWS = 2_000_000


@dataclass(frozen=True)
class Unbiased(Law):
    """Between two neighbours the upper one is taken as often as w(x) is near it: its count among
    `draws` equal inputs is binomial. One exact two-sided test a point, joined by Holm's method
    (1979): a quantizer that keeps the law fails with probability `alpha` at most.
    """

    alpha: float = 1e-6
    draws: int = 20_000
    seed: int = 0

    name: ClassVar[str] = "unbiased"
    formula: ClassVar[str] = "E[D(Q(x))] = w(x) for D(minimum) <= w(x) <= D(maximum)"

    def excuse(self, subject: Subject) -> str:
        return "" if subject.stochastic else "not stochastic"

    def probes(self, subject: Subject) -> Any:
        from hypothesis import strategies as st

        return st.just(self.points(subject))

    def points(self, subject: Subject) -> NDArray[np.float32]:
        """The inputs, (points, channels): one for each of `SHARES`, the first about 0."""
        low = max(subject.minimum, subject.centre - NEAR)
        high = min(subject.maximum - 1, subject.centre + NEAR)
        chosen = np.random.default_rng(self.seed).integers(low, high + 1, len(SHARES))
        chosen[0] = min(subject.centre, high)
        square = np.ones((subject.channels, subject.channels), np.int64)
        rows = [
            probes.run(subject, square * code, (0, share))[0]
            for code, share in zip(chosen, SHARES, strict=True)
        ]
        return np.array(rows, np.float32)

    def detectable(self, power: float = 0.999, tests: int = len(SHARES)) -> float:
        """The bias half-way between two values that is found with probability `power`, in steps."""
        return detectable_proportion(self.draws, 0.5, self.alpha / (2 * tests), power)

    def violation(self, subject: Subject, probe: NDArray[np.float32]) -> Violation | None:
        n = max(1000, min(self.draws, MOST_DRAWS // probe.size))
        found = []
        for index, x in enumerate(probe):
            rows = np.repeat(x[None], n, axis=0)
            q = subject.codes(rows, seed=self.seed + index)
            w = subject.warped(rows)[0]
            found += [_point(subject, x, w, q, c) for c in range(subject.channels)]
        order = sorted(found, key=lambda point: point.p)
        level = [self.alpha / (len(order) - rank) for rank in range(len(order))]
        held = [point.p > most for point, most in zip(order, level, strict=True)]
        refused = order[: held.index(True)] if True in held else order
        if not refused:
            return None
        worst = next(point for point in found if point in refused)
        text = f"{worst.text}; p = {worst.p:.2g} in one of {len(found)} tests, level {self.alpha:g}"
        return Violation(f"{worst.example}, {n} times", text, worst.bias)


@dataclass(frozen=True)
class _Point:
    """What `draws` equal inputs gave, and the p-value of its being unbiased."""

    p: float
    example: str
    text: str
    bias: float


def _point(
    subject: Subject,
    x: NDArray[np.float32],
    w: NDArray[np.float64],
    q: NDArray[np.int64],
    channel: int,
) -> _Point:
    example = f"x = {number(x[channel])}{in_channel(subject, channel)}"
    codes = np.arange(subject.minimum, subject.maximum + 1)
    codes = codes[np.abs(codes - subject.centre) <= NEAR + 1]
    values = subject.values(np.repeat(codes[:, None], subject.channels, axis=1))[:, channel]
    lower = int(np.clip(np.searchsorted(values, w[channel], "right") - 1, 0, len(codes) - 2))
    gap = values[lower + 1] - values[lower]
    share = float(np.clip((w[channel] - values[lower]) / gap, 0, 1))
    taken = q[:, channel]
    upper, n = int(np.sum(taken == codes[lower + 1])), len(taken)
    others = taken[(taken != codes[lower]) & (taken != codes[lower + 1])]
    if others.size:
        away = abs(float(others[0] - codes[lower]))
        text = f"Q(x) = {others[0]}, neither {codes[lower]} nor {codes[lower + 1]}"
        return _Point(0.0, example, text, away)
    tails = [proportion_test(upper, n, share, side) for side in ("greater", "less")]
    text = f"{upper} of {n} go to {codes[lower + 1]}, the others to {codes[lower]}: "
    text += f"{upper / n:.4f} where {share:.4f} is unbiased"
    return _Point(min(1.0, 2 * min(tails)), example, text, abs(upper / n - share))
