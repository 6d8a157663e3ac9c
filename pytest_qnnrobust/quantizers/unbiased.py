"""Laws of the mean of a stochastic quantizer: it is the input, or else it rises with the input."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.quantizers import probes
from pytest_qnnrobust.quantizers.base import QuantizerUnderTest
from pytest_qnnrobust.quantizers.laws import Law, Violation, in_channel, number, real
from pytest_qnnrobust.statistics.paired import detectable_proportion, proportion_test

SHARES = (0.5, 0.25, 0.75, 0.1, 0.9, 0.4, 0.6, 0.02)
"""Places of the tested inputs between two neighbours, in steps above the lower one."""

NEAR = 100
"""Codes from that of 0 within which the inputs lie: far from it x / step has fewer digits."""

MOST_DRAWS = 2_000_000
"""Codes that are drawn at once, so that many channels do not fill the memory."""

RISES = 9
"""Inputs, from the value of the first code to that of the last one, whose means must rise."""


@dataclass(frozen=True)
class Statistical(Law):
    """A law that is tested on `draws` equal inputs at each point.

    It refuses a quantizer that keeps it with probability `alpha` at most, whatever the `seed`.
    """

    alpha: float = 1e-6
    draws: int = 20_000
    seed: int = 0

    def probes(self, tested: QuantizerUnderTest) -> Any:
        from hypothesis import strategies as st

        return st.just(self.points(tested))

    @abstractmethod
    def points(self, tested: QuantizerUnderTest) -> NDArray[np.float32]:
        """The inputs, (points, channels)."""

    def drawn(self, tested: QuantizerUnderTest, probe: NDArray[np.float32]) -> NDArray[np.int64]:
        """The codes of every input, (points, draws, channels); fewer draws for many channels."""
        n = max(1000, min(self.draws, MOST_DRAWS // probe.size))
        # Each input has draws of its own: with common ones, the points would err together.
        return np.stack(
            [
                tested.codes(np.repeat(x[None], n, axis=0), seed=self.seed + index)
                for index, x in enumerate(probe)
            ]
        )


@dataclass(frozen=True)
class Unbiased(Statistical):
    """The mean of what is drawn is the input.

    Between two neighbours the upper one has to be drawn with the probability that makes w(x) the
    mean, so that its count among `draws` equal inputs is binomial. Each point has one exact
    two-sided test; Holm's method (1979) joins them.
    """

    name: ClassVar[str] = "unbiased"
    formula: ClassVar[str] = "E[D(Q(x))] = w(x) for D(minimum) <= w(x) <= D(maximum)"

    def excuse(self, tested: QuantizerUnderTest) -> str:
        if not tested.stochastic:
            return "not stochastic"
        return "" if tested.unbiased else "biased, as it claims (unbiased = False)"

    def points(self, tested: QuantizerUnderTest) -> NDArray[np.float32]:
        """One input for each of `SHARES`, the first about 0."""
        low = max(tested.minimum, tested.centre - NEAR)
        high = min(tested.maximum - 1, tested.centre + NEAR)
        chosen = np.random.default_rng(self.seed).integers(low, high + 1, len(SHARES))
        chosen[0] = min(tested.centre, high)
        square = np.ones((tested.channels, tested.channels), np.int64)
        rows = [
            probes.run(tested, square * code, (0, share))[0]
            for code, share in zip(chosen, SHARES, strict=True)
        ]
        return np.array(rows, np.float32)

    def detectable(self, power: float = 0.999, tests: int = len(SHARES)) -> float:
        """The bias half-way between two values that is found with probability `power`, in steps."""
        return detectable_proportion(self.draws, 0.5, self.alpha / (2 * tests), power)

    def violation(self, tested: QuantizerUnderTest, probe: NDArray[np.float32]) -> Violation | None:
        codes = self.drawn(tested, probe)
        points = [
            _point(tested, x, tested.warped(x[None])[0], q, channel)
            for x, q in zip(probe, codes, strict=True)
            for channel in range(tested.channels)
        ]
        order = sorted(points, key=lambda point: point.p)
        level = [self.alpha / (len(order) - rank) for rank in range(len(order))]
        held = [point.p > most for point, most in zip(order, level, strict=True)]
        refused = order[: held.index(True)] if True in held else order
        if not refused:
            return None
        worst = next(point for point in points if point in refused)
        tests = f"one of {len(points)} tests, level {self.alpha:g}"
        text = f"{worst.text}; p = {worst.p:.2g} in {tests}"
        if not hasattr(tested.quantizer, "unbiased"):
            text += " (unbiased is what it claims without an attribute `unbiased`)"
        return Violation(f"{worst.example}, {codes.shape[1]} times", text, worst.bias)


@dataclass(frozen=True)
class RisingMean(Statistical):
    """The mean of what is drawn follows the input, where it does not claim to be the input.

    It falls nowhere between two of `RISES` inputs, and from the first to the last it rises. Values
    are bounded, so that Hoeffding's inequality (1963) holds for the difference of two means, joined
    by Bonferroni's: P(off by t or more) <= exp(-draws t**2), t in parts of the range.
    """

    name: ClassVar[str] = "rising-mean"
    formula: ClassVar[str] = "x <= y: E[D(Q(x))] <= E[D(Q(y))], < from D(minimum) to D(maximum)"

    def excuse(self, tested: QuantizerUnderTest) -> str:
        if not tested.stochastic:
            return "not stochastic"
        return "it claims more: unbiased" if tested.unbiased else ""

    def points(self, tested: QuantizerUnderTest) -> NDArray[np.float32]:
        """Inputs in equal numbers of codes, in rising order."""
        square = np.ones((tested.channels, tested.channels), np.int64)
        places = np.linspace(tested.minimum, tested.maximum, RISES)
        rows = [probes.run(tested, square * int(place // 1), (0, place % 1))[0] for place in places]
        return np.array(rows, np.float32)

    def margin(self, draws: int, channels: int = 1) -> float:
        """The error that a difference of two means may have, in parts of the range.

        A quantizer whose mean rises by twice that over the range keeps the law.
        """
        tests = channels * RISES * (RISES - 1) / 2
        return float(np.sqrt(np.log(tests / self.alpha) / draws))

    def violation(self, tested: QuantizerUnderTest, probe: NDArray[np.float32]) -> Violation | None:
        codes = self.drawn(tested, probe)
        mean = np.stack([tested.values(q).mean(axis=0) for q in codes])
        low, high = (end[0] for end in tested.ends(probe[:1]))
        margin = self.margin(codes.shape[1], tested.channels)
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
        shown = f"{x}, {y}{in_channel(tested, int(channel))}, {codes.shape[1]} times each"
        return Violation(shown, text, float(lacking[i, j, channel]), "of the range")


@dataclass(frozen=True)
class _Point:
    """The codes that equal inputs got, in words, and the p-value of their being unbiased."""

    p: float
    example: str
    text: str
    bias: float


def _point(
    tested: QuantizerUnderTest,
    x: NDArray[np.float32],
    w: NDArray[np.float64],
    q: NDArray[np.int64],
    channel: int,
) -> _Point:
    example = f"x = {number(x[channel])}{in_channel(tested, channel)}"
    codes = np.arange(tested.minimum, tested.maximum + 1)
    codes = codes[np.abs(codes - tested.centre) <= NEAR + 1]
    values = tested.values(np.repeat(codes[:, None], tested.channels, axis=1))[:, channel]
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
