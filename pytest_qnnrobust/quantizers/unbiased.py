"""The laws of what is drawn, on average: what goes in comes out, by exact binomial tests, or, where
that is not claimed, more where more goes in.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.quantizers import probes
from pytest_qnnrobust.quantizers.base import Subject
from pytest_qnnrobust.quantizers.laws import Law, Violation, in_channel, number, real
from pytest_qnnrobust.statistics.paired import detectable_proportion, proportion_test

SHARES = (0.5, 0.25, 0.75, 0.1, 0.9, 0.4, 0.6, 0.02)
"""Where between two neighbours the points lie."""

NEAR = 100
"""Codes from that of 0 within which the points lie: far from it x / step has fewer digits."""

MOST_DRAWS = 2_000_000


RISES = 9
"""Inputs, from what the first code stands for to what the last one does, whose means must rise."""


@dataclass(frozen=True)
class Statistical(Law):
    """A law of `draws` equal inputs each: it refuses a quantizer that keeps it with probability
    `alpha` at most, whatever the `seed`."""

    alpha: float = 1e-6
    draws: int = 20_000
    seed: int = 0

    def probes(self, subject: Subject) -> Any:
        from hypothesis import strategies as st

        return st.just(self.points(subject))

    @abstractmethod
    def points(self, subject: Subject) -> NDArray[np.float32]:
        """The inputs, (points, channels)."""

    def drawn(self, subject: Subject, probe: NDArray[np.float32]) -> NDArray[np.int64]:
        """The codes of every input, (points, draws, channels); fewer draws for many channels."""
        n = max(1000, min(self.draws, MOST_DRAWS // probe.size))
        return np.stack(
            [
                subject.codes(np.repeat(x[None], n, axis=0), seed=self.seed + index)
                for index, x in enumerate(probe)
            ]
        )


@dataclass(frozen=True)
class Unbiased(Statistical):
    """Between two neighbours the upper one is taken as often as w(x) is near it: its count among
    `draws` equal inputs is binomial. One exact two-sided test a point, joined by Holm's method
    (1979).
    """

    name: ClassVar[str] = "unbiased"
    formula: ClassVar[str] = "E[D(Q(x))] = w(x) for D(minimum) <= w(x) <= D(maximum)"

    def excuse(self, subject: Subject) -> str:
        if not subject.stochastic:
            return "not stochastic"
        return "" if subject.unbiased else "biased, as it claims (unbiased = False)"

    def points(self, subject: Subject) -> NDArray[np.float32]:
        """One input for each of `SHARES`, the first about 0."""
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
        codes = self.drawn(subject, probe)
        found = [
            _point(subject, x, subject.warped(x[None])[0], q, channel)
            for x, q in zip(probe, codes, strict=True)
            for channel in range(subject.channels)
        ]
        order = sorted(found, key=lambda point: point.p)
        level = [self.alpha / (len(order) - rank) for rank in range(len(order))]
        held = [point.p > most for point, most in zip(order, level, strict=True)]
        refused = order[: held.index(True)] if True in held else order
        if not refused:
            return None
        worst = next(point for point in found if point in refused)
        text = f"{worst.text}; p = {worst.p:.2g} in one of {len(found)} tests, level {self.alpha:g}"
        if not hasattr(subject.quantizer, "unbiased"):
            text += " (unbiased is what it claims without an attribute `unbiased`)"
        return Violation(f"{worst.example}, {codes.shape[1]} times", text, worst.bias)


@dataclass(frozen=True)
class RisingMean(Statistical):
    """Where the mean need not be the input, it still follows it: it falls nowhere between two of
    `RISES` inputs, and from the first to the last it rises. Values are bounded, so that Hoeffding's
    inequality (1963) holds for the difference of two means, joined by Bonferroni's: P(off by
    t or more) <= exp(-draws t**2), t in parts of the range.
    """

    name: ClassVar[str] = "rising-mean"
    formula: ClassVar[str] = "x <= y: E[D(Q(x))] <= E[D(Q(y))], < from D(minimum) to D(maximum)"

    def excuse(self, subject: Subject) -> str:
        if not subject.stochastic:
            return "not stochastic"
        return "it claims more: unbiased" if subject.unbiased else ""

    def points(self, subject: Subject) -> NDArray[np.float32]:
        """Inputs in equal numbers of codes, in rising order."""
        square = np.ones((subject.channels, subject.channels), np.int64)
        places = np.linspace(subject.minimum, subject.maximum, RISES)
        rows = [
            probes.run(subject, square * int(place // 1), (0, place % 1))[0] for place in places
        ]
        return np.array(rows, np.float32)

    def margin(self, draws: int, channels: int = 1) -> float:
        """How far a difference of two means may be off, in parts of the range. A quantizer whose
        mean rises by twice that over the range keeps the law."""
        tests = channels * RISES * (RISES - 1) / 2
        return float(np.sqrt(np.log(tests / self.alpha) / draws))

    def violation(self, subject: Subject, probe: NDArray[np.float32]) -> Violation | None:
        codes = self.drawn(subject, probe)
        mean = np.stack([subject.values(q).mean(axis=0) for q in codes])
        low, high = (end[0] for end in subject.ends(probe[:1]))
        margin = self.margin(codes.shape[1], subject.channels)
        rise = (mean[None, :] - mean[:, None]) / (high - low)
        later = np.triu(np.ones(rise.shape[:2], bool), 1)[..., None]
        lacking = np.where(later, -rise - margin, -np.inf)
        lacking[0, -1] = margin - rise[0, -1]
        i, j, channel = np.unravel_index(int(np.argmax(lacking)), lacking.shape)
        if not lacking[i, j, channel] >= 0:
            return None
        x, y = (f"{name} = {number(probe[k, channel])}" for name, k in (("x", i), ("y", j)))
        text = f"the mean of D(Q(x)) is {real(mean[i, channel])}, that of D(Q(y)) "
        text += f"{real(mean[j, channel])}: it rises by {rise[i, j, channel]:.3f} of the range, "
        text += f"{margin:.3f} may be chance, level {self.alpha:g}"
        shown = f"{x}, {y}{in_channel(subject, int(channel))}, {codes.shape[1]} times each"
        return Violation(shown, text, float(lacking[i, j, channel]), "of the range")


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
