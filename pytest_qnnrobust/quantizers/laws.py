"""The laws that every quantizer must keep: one class each, with its formula.

Q is `quantize`, D is `dequantize`, w(x) the real value that is rounded (x, or `warp(x)`). A code q
stands for the value v = D(q), and a step is the distance from one v to the next. Laws judge codes
by the values that they stand for; only `Scale` and `PerAxis` judge those by the claimed scale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.quantizers import probes
from pytest_qnnrobust.quantizers.base import QuantizerUnderTest
from pytest_qnnrobust.quantizers.probes import Rows

ANY_CODE = "any code may be drawn, as it claims (neighbours = False)"

ENUMERABLE = 1 << 17
"""The most codes that are searched for one that stands for 0, where there is no scale."""


@dataclass(frozen=True)
class Violation:
    """A counter-example, what was found there, and how far off that is."""

    example: str
    found: str
    size: float
    unit: str = "of a step"


class Law(ABC):
    """One law: when it applies, what probes it, and what it finds wrong."""

    name: ClassVar[str]
    formula: ClassVar[str]

    def excuse(self, tested: QuantizerUnderTest) -> str:
        """The reason why the law does not apply to this quantizer; "" where it does."""
        return ""

    def applies(self, tested: QuantizerUnderTest) -> bool:
        return not self.excuse(tested)

    def probes(self, tested: QuantizerUnderTest) -> Any:
        """Hypothesis strategy of what `violation` takes."""
        return probes.probing_rows(tested)

    @abstractmethod
    def violation(self, tested: QuantizerUnderTest, probe: Any) -> Violation | None:
        """The violation of the law at this probe; None where it holds there."""


class ShapeAndDtype(Law):
    """Codes are integers of the shape of x and of the claimed dtype; their values are float32.

    Quantizing leaves x as it was. Ranks 1 to 4 are tried where the scale is per tensor.
    """

    name = "shape-and-dtype"
    formula = "shape(Q(x)) = shape(x) = shape(D(Q(x))), Q(x) integers, D(Q(x)) float32"

    def probes(self, tested: QuantizerUnderTest) -> Any:
        from hypothesis import strategies as st

        if tested.axis is None:
            shapes = st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple)
            return shapes.map(lambda shape: np.zeros(shape, np.float32))
        rows = np.zeros((max(tested.channels, 2), tested.channels), np.float32)
        return st.just(tested.tensor(rows))

    def violation(self, tested: QuantizerUnderTest, probe: NDArray[np.float32]) -> Violation | None:
        x = probe.copy()
        q = tested.call(x)
        kind = tested.dtype
        problems = []
        if not np.array_equal(x, probe):
            problems.append("quantize writes into x")
        if q.shape != x.shape:
            problems.append(f"quantize returns the shape {q.shape}")
        if q.dtype.kind not in "iu" or (kind is not None and q.dtype != kind):
            problems.append(f"quantize returns {q.dtype}, not {kind or 'integers'}")
        if not problems:
            real = np.asarray(tested.quantizer.dequantize(q))
            if real.shape != x.shape:
                problems.append(f"dequantize returns the shape {real.shape}")
            if real.dtype != np.float32:
                problems.append(f"dequantize returns {real.dtype}, not float32")
        if not problems:
            return None
        shown = f"x = np.zeros({x.shape}, np.float32)"
        return Violation(shown, ", ".join(problems), len(problems), "problems")


class Range(Law):
    """Every input gets a code of the range, and one beyond the last value gets the last code.

    That is, even an infinite input saturates and does not wrap around.
    """

    name = "range-and-saturation"
    formula = "minimum <= Q(x) <= maximum; w(x) >= D(maximum): Q(x) = maximum, and so below"

    def violation(self, tested: QuantizerUnderTest, probe: Rows) -> Violation | None:
        q, w = tested.codes(probe), tested.warped(probe)
        low, high = tested.ends(probe)
        wanted = np.clip(q, tested.minimum, tested.maximum)
        slack = tested.slack(np.where(np.isfinite(w), w, 0), tested.step(probe))
        if tested.neighbours:
            wanted = np.where(w >= high + slack, tested.maximum, wanted)
            wanted = np.where(w <= low - slack, tested.minimum, wanted)
        at = first(q != wanted)
        if at is None:
            return None
        text = f"Q(x) = {q[at]}, expected {wanted[at]} of the codes {_codes(tested)}"
        return Violation(example(tested, probe, at), text, abs(int(q[at] - wanted[at])), "codes")


class RoundTrip(Law):
    """Quantizing and back moves an x between the first and the last value by half a step at most.

    The limit is a whole step, downwards, for the rounding "floor", and a whole step for a
    stochastic quantizer, which takes one of the two neighbours.
    """

    name = "round-trip"
    formula = "|w(x) - D(Q(x))| <= step / 2 for D(minimum) <= w(x) <= D(maximum)"

    def excuse(self, tested: QuantizerUnderTest) -> str:
        return "" if tested.neighbours else ANY_CODE

    def violation(self, tested: QuantizerUnderTest, probe: Rows) -> Violation | None:
        q, w = tested.codes(probe), tested.warped(probe)
        low, high = tested.ends(probe)
        legal = np.clip(q, tested.minimum, tested.maximum)
        below, above = tested.gaps(legal)
        error = w - tested.values(legal)
        gap = np.where(error >= 0, above, below)
        part = np.full(gap.shape, 1.0 if tested.stochastic else 0.5)
        if tested.rounding == "floor" and not tested.stochastic:
            part = np.where(error >= 0, 1.0, 0.0)
        slack = tested.slack(w, gap)
        inside = (w >= low) & (w <= high) & (q == legal)
        at = first(inside & (np.abs(error) > part * gap + slack))
        if at is None:
            return None
        away = abs(error[at]) / gap[at]
        text = f"Q(x) = {q[at]}, which stands for {real(w[at] - error[at])}: {away:.3g} of a step"
        text += f" away, {part[at]:.3g} allowed"
        return Violation(example(tested, probe, at, w), text, away - part[at])


class Monotone(Law):
    """A larger input never gets a smaller code, and a larger code stands for a larger value.

    Where codes are drawn, only the latter is checked.
    """

    name = "monotone"
    formula = "x <= y: Q(x) <= Q(y); p < q: D(p) < D(q)"

    def probes(self, tested: QuantizerUnderTest) -> Any:
        return probes.probing_rows(tested, least=2)

    def violation(self, tested: QuantizerUnderTest, probe: Rows) -> Violation | None:
        other = np.roll(probe, -1, axis=0)
        q, beside = tested.codes(probe), tested.codes(other)
        at = first((probe <= other) & (q > beside))
        if at is not None and not tested.stochastic:
            shown = f"x = {number(probe[at])}, y = {number(other[at])}{in_channel(tested, at[1])}"
            text = f"x <= y, but Q(x) = {q[at]} > Q(y) = {beside[at]}"
            return Violation(shown, text, float(q[at] - beside[at]), "codes")
        code = np.clip(q, tested.minimum, tested.maximum - 1)
        rise = tested.values(code + 1) - tested.values(code)
        at = first(~(rise > 0))
        if at is None:
            return None
        text = f"D({code[at]}) >= D({code[at] + 1})"
        return Violation(f"q = {code[at]}{in_channel(tested, at[1])}", text, -rise[at], "in D")


class Idempotent(Law):
    """Quantizing a dequantized code returns that code."""

    name = "idempotent"
    formula = "Q(D(q)) = q for every code q"

    def excuse(self, tested: QuantizerUnderTest) -> str:
        if tested.has_warp:
            return "what is rounded is warped: D does not undo it"
        return "" if tested.neighbours else ANY_CODE

    def probes(self, tested: QuantizerUnderTest) -> Any:
        return probes.code_runs(tested)

    def violation(self, tested: QuantizerUnderTest, probe: NDArray[np.int64]) -> Violation | None:
        x = tested.values(probe).astype(np.float32)
        q = tested.codes(x)
        at = first(q != probe)
        if at is None:
            return None
        text = f"D({probe[at]}) = {real(x[at])} gets the code {q[at]}"
        shown = f"q = {probe[at]}{in_channel(tested, at[1])}"
        return Violation(shown, text, abs(float(q[at] - probe[at])), "codes")


class ExactZero(Law):
    """A zero of either sign stays exactly zero, and the zero point stands for it.

    Padding and rectified activations depend on it.
    """

    name = "exact-zero"
    formula = "D(Q(0)) = D(Q(-0)) = 0 and D(zero_point) = 0"

    def excuse(self, tested: QuantizerUnderTest) -> str:
        if tested.scale is not None:
            z = tested.zero_point
            if not ((tested.minimum <= z) & (z <= tested.maximum)).all():
                return "the zero point is not a legal code"
        elif tested.maximum - tested.minimum > ENUMERABLE:
            return "no scale, and too many codes to look for a 0"
        else:
            codes = np.arange(tested.minimum, tested.maximum + 1)[:, None]
            if not np.any(tested.values(np.repeat(codes, tested.channels, axis=1)) == 0):
                return "no code stands for 0"
        return "" if tested.neighbours else ANY_CODE

    def probes(self, tested: QuantizerUnderTest) -> Any:
        from hypothesis import strategies as st

        n = tested.channels
        return st.sampled_from([np.full((n, n), zero, np.float32) for zero in (0.0, -0.0)])

    def violation(self, tested: QuantizerUnderTest, probe: Rows) -> Violation | None:
        q = tested.codes(probe)
        values = tested.values(q)
        at = first(values != 0)
        if at is not None:
            size = abs(values[at]) / tested.step(probe)[at]
            text = f"Q(x) = {q[at]}, which stands for {real(values[at])}"
            return Violation(example(tested, probe, at), text, size)
        if tested.scale is None:
            return None
        q = np.broadcast_to(tested.zero_point, probe.shape)
        values = tested.values(q)
        at = first(values != 0)
        if at is None:
            return None
        size = abs(values[at]) / tested.step(probe)[at]
        text = f"D(q) = {real(values[at])}, not 0"
        return Violation(f"q = zero_point = {q[at]}{in_channel(tested, at[1])}", text, size)


class Invariant(Law):
    """A code depends on its input alone, not on the order of the inputs nor on the batch."""

    name = "permutation-and-batch"
    formula = "Q(x[p]) = Q(x)[p] for every order p; Q(x[i:i+1]) = Q(x)[i:i+1]"

    def excuse(self, tested: QuantizerUnderTest) -> str:
        return "stochastic: neighbours are drawn" if tested.stochastic else ""

    def probes(self, tested: QuantizerUnderTest) -> Any:
        from hypothesis import strategies as st

        return st.tuples(probes.probing_rows(tested, least=2), st.integers(0, 1 << 16))

    def violation(self, tested: QuantizerUnderTest, probe: tuple[Rows, int]) -> Violation | None:
        x, seed = probe
        n = len(x)
        q = tested.codes(x)
        order = np.random.default_rng(seed).permutation(n) if seed else np.arange(n)[::-1]
        shuffled = np.empty_like(q)
        shuffled[order] = tested.codes(x[order])
        try:
            alone = np.concatenate([tested.codes(x[i : i + 1]) for i in range(min(n, 4))])
        except QnnRobustError as error:
            return Violation(example(tested, x, (0, 0)), f"as a batch of one: {error}", 1, "shape")
        for other, how in ((shuffled, "in another order"), (alone, "alone")):
            at = first(other != q[: len(other)])
            if at is not None:
                text = f"Q(x) = {q[at]} beside {n - 1} other inputs, {other[at]} {how}"
                size = abs(float(other[at] - q[at]))
                return Violation(example(tested, x, at), text, size, "codes")
        return None


class Deterministic(Law):
    """The same tensor gets the same codes again, after another tensor and in another memory layout.

    A stochastic quantizer gets an equal generator.
    """

    name = "deterministic"
    formula = "Q(x) = Q(x), and Q(x, rng(s)) = Q(x, rng(s)) where Q is stochastic"

    def violation(self, tested: QuantizerUnderTest, probe: Rows) -> Violation | None:
        x = tested.tensor(probe)
        first = tested.call(x)
        tested.call(-2 * x + 1)
        strided = np.repeat(x, 2, axis=-1)[..., ::2]
        for again, how in ((x.copy(), "again"), (strided, "from a strided view")):
            q = tested.call(again)
            differ = q != first
            if np.any(differ):
                at = tuple(int(i[0]) for i in np.nonzero(differ))
                text = f"Q(x) = {first[at]}, {how} {q[at]}"
                size = abs(float(q[at]) - float(first[at]))
                return Violation(f"x = {number(x[at])}", text, size, "codes")
        return None


def first(wrong: NDArray[np.bool_]) -> tuple[int, int] | None:
    """The first place (row, channel) that is wrong, None where none is."""
    if not wrong.any():
        return None
    row, channel = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return int(row), int(channel)


def number(x: Any) -> str:
    """A float32 number as Python that can be pasted."""
    text = str(np.float32(x))
    return f"np.float32({text})" if np.isfinite(x) else f"np.float32('{text}')"


def example(
    tested: QuantizerUnderTest, x: Rows, at: tuple[int, int], w: NDArray[np.float64] | None = None
) -> str:
    text = f"x = {number(x[at])}{in_channel(tested, at[1])}"
    return f"{text}, w(x) = {real(w[at])}" if w is not None and tested.has_warp else text


def in_channel(tested: QuantizerUnderTest, channel: int) -> str:
    return f" in channel {channel} of axis {tested.axis}" if tested.channels > 1 else ""


def _codes(tested: QuantizerUnderTest) -> str:
    return f"{tested.minimum}..{tested.maximum}"


def real(value: Any) -> str:
    return f"{float(value):.6g}"
