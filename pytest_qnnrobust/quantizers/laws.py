"""The laws that every quantizer must keep: one class each, with its formula.

Q is `quantize`, D is `dequantize`, w(x) the real value that is rounded (x, or `warp(x)`); v = D(q)
is what a code stands for, and a step is the distance from one v to the next: laws judge the codes
by what they stand for, only `Scale` and `PerAxis` judge that by the claimed scale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.quantizers import probes
from pytest_qnnrobust.quantizers.base import Subject
from pytest_qnnrobust.quantizers.probes import Rows

ANY_CODE = "any code may be drawn, as it claims (neighbours = False)"

ENUMERABLE = 1 << 17
"""Codes of which a quantizer without a scale may have that many to be searched for a 0."""


@dataclass(frozen=True)
class Violation:
    """A counter-example, what it gave, and how far off that is."""

    example: str
    found: str
    size: float
    unit: str = "of a step"


class Law(ABC):
    """One law: when it applies, what probes it, and what it finds wrong."""

    name: ClassVar[str]
    formula: ClassVar[str]

    def excuse(self, subject: Subject) -> str:
        """Why the law says nothing of this quantizer; "" where it does."""
        return ""

    def applies(self, subject: Subject) -> bool:
        return not self.excuse(subject)

    def probes(self, subject: Subject) -> Any:
        """Hypothesis strategy of what `violation` takes."""
        return probes.probing_rows(subject)

    @abstractmethod
    def violation(self, subject: Subject, probe: Any) -> Violation | None:
        """What is wrong at this probe."""


class ShapeAndDtype(Law):
    """Codes are integers of the shape of x and of the claimed dtype, what they stand for is
    float32, and x is as it was. Ranks 1 to 4 where the scale is per tensor."""

    name = "shape-and-dtype"
    formula = "shape(Q(x)) = shape(x) = shape(D(Q(x))), Q(x) integers, D(Q(x)) float32"

    def probes(self, subject: Subject) -> Any:
        from hypothesis import strategies as st

        if subject.axis is None:
            shapes = st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple)
            return shapes.map(lambda shape: np.zeros(shape, np.float32))
        rows = np.zeros((max(subject.channels, 2), subject.channels), np.float32)
        return st.just(subject.tensor(rows))

    def violation(self, subject: Subject, probe: NDArray[np.float32]) -> Violation | None:
        x = probe.copy()
        q = subject.call(x)
        kind = subject.dtype
        problems = []
        if not np.array_equal(x, probe):
            problems.append("quantize writes into x")
        if q.shape != x.shape:
            problems.append(f"quantize returns the shape {q.shape}")
        if q.dtype.kind not in "iu" or (kind is not None and q.dtype != kind):
            problems.append(f"quantize returns {q.dtype}, not {kind or 'integers'}")
        if not problems:
            real = np.asarray(subject.quantizer.dequantize(q))
            if real.shape != x.shape:
                problems.append(f"dequantize returns the shape {real.shape}")
            if real.dtype != np.float32:
                problems.append(f"dequantize returns {real.dtype}, not float32")
        if not problems:
            return None
        shown = f"x = np.zeros({x.shape}, np.float32)"
        return Violation(shown, ", ".join(problems), len(problems), "problems")


class Range(Law):
    """No input, not even an infinite one, gets a code out of the range, and one beyond the last
    value gets the last code: it saturates, it does not wrap around."""

    name = "range-and-saturation"
    formula = "minimum <= Q(x) <= maximum; w(x) >= D(maximum): Q(x) = maximum, and so below"

    def violation(self, subject: Subject, probe: Rows) -> Violation | None:
        q, w = subject.codes(probe), subject.warped(probe)
        low, high = subject.ends(probe)
        wanted = np.clip(q, subject.minimum, subject.maximum)
        slack = subject.slack(np.where(np.isfinite(w), w, 0), subject.step(probe))
        if subject.neighbours:
            wanted = np.where(w >= high + slack, subject.maximum, wanted)
            wanted = np.where(w <= low - slack, subject.minimum, wanted)
        at = first(q != wanted)
        if at is None:
            return None
        found = f"Q(x) = {q[at]}, expected {wanted[at]} of the codes {_codes(subject)}"
        return Violation(example(subject, probe, at), found, abs(int(q[at] - wanted[at])), "codes")


class RoundTrip(Law):
    """Between the first and the last value, quantizing and back moves x by half a step at most: it
    gets a nearest code. A whole step, downwards, for the rounding "floor"; a whole step for a
    stochastic quantizer, which takes one of the two neighbours."""

    name = "round-trip"
    formula = "|w(x) - D(Q(x))| <= step / 2 for D(minimum) <= w(x) <= D(maximum)"

    def excuse(self, subject: Subject) -> str:
        return "" if subject.neighbours else ANY_CODE

    def violation(self, subject: Subject, probe: Rows) -> Violation | None:
        q, w = subject.codes(probe), subject.warped(probe)
        low, high = subject.ends(probe)
        legal = np.clip(q, subject.minimum, subject.maximum)
        below, above = subject.gaps(legal)
        error = w - subject.values(legal)
        gap = np.where(error >= 0, above, below)
        part = np.full(gap.shape, 1.0 if subject.stochastic else 0.5)
        if subject.rounding == "floor" and not subject.stochastic:
            part = np.where(error >= 0, 1.0, 0.0)
        slack = subject.slack(w, gap)
        inside = (w >= low) & (w <= high) & (q == legal)
        at = first(inside & (np.abs(error) > part * gap + slack))
        if at is None:
            return None
        away = abs(error[at]) / gap[at]
        found = f"Q(x) = {q[at]}, which stands for {real(w[at] - error[at])}: {away:.3g} of a step"
        found += f" away, {part[at]:.3g} allowed"
        return Violation(example(subject, probe, at, w), found, away - part[at])


class Monotone(Law):
    """A larger input never gets a smaller code, unless codes are drawn; a larger code stands for
    more."""

    name = "monotone"
    formula = "x <= y: Q(x) <= Q(y); p < q: D(p) < D(q)"

    def probes(self, subject: Subject) -> Any:
        return probes.probing_rows(subject, least=2)

    def violation(self, subject: Subject, probe: Rows) -> Violation | None:
        other = np.roll(probe, -1, axis=0)
        q, beside = subject.codes(probe), subject.codes(other)
        at = first((probe <= other) & (q > beside))
        if at is not None and not subject.stochastic:
            shown = f"x = {number(probe[at])}, y = {number(other[at])}{in_channel(subject, at[1])}"
            found = f"x <= y, but Q(x) = {q[at]} > Q(y) = {beside[at]}"
            return Violation(shown, found, float(q[at] - beside[at]), "codes")
        code = np.clip(q, subject.minimum, subject.maximum - 1)
        rise = subject.values(code + 1) - subject.values(code)
        at = first(~(rise > 0))
        if at is None:
            return None
        found = f"D({code[at]}) >= D({code[at] + 1})"
        return Violation(f"q = {code[at]}{in_channel(subject, at[1])}", found, -rise[at], "in D")


class Idempotent(Law):
    """What a code stands for gets that code: quantizing twice is quantizing once."""

    name = "idempotent"
    formula = "Q(D(q)) = q for every code q"

    def excuse(self, subject: Subject) -> str:
        if subject.has_warp:
            return "what is rounded is warped: D does not undo it"
        return "" if subject.neighbours else ANY_CODE

    def probes(self, subject: Subject) -> Any:
        return probes.code_runs(subject)

    def violation(self, subject: Subject, probe: NDArray[np.int64]) -> Violation | None:
        x = subject.values(probe).astype(np.float32)
        q = subject.codes(x)
        at = first(q != probe)
        if at is None:
            return None
        found = f"D({probe[at]}) = {real(x[at])} gets the code {q[at]}"
        shown = f"q = {probe[at]}{in_channel(subject, at[1])}"
        return Violation(shown, found, abs(float(q[at] - probe[at])), "codes")


class ExactZero(Law):
    """A zero, of either sign, stays exactly zero, and the zero point stands for it: padding and
    rectified activations depend on it."""

    name = "exact-zero"
    formula = "D(Q(0)) = D(Q(-0)) = 0 and D(zero_point) = 0"

    def excuse(self, subject: Subject) -> str:
        if subject.scale is not None:
            z = subject.zero_point
            if not ((subject.minimum <= z) & (z <= subject.maximum)).all():
                return "the zero point is not a legal code"
        elif subject.maximum - subject.minimum > ENUMERABLE:
            return "no scale, and too many codes to look for a 0"
        else:
            codes = np.arange(subject.minimum, subject.maximum + 1)[:, None]
            if not np.any(subject.values(np.repeat(codes, subject.channels, axis=1)) == 0):
                return "no code stands for 0"
        return "" if subject.neighbours else ANY_CODE

    def probes(self, subject: Subject) -> Any:
        from hypothesis import strategies as st

        n = subject.channels
        return st.sampled_from([np.full((n, n), zero, np.float32) for zero in (0.0, -0.0)])

    def violation(self, subject: Subject, probe: Rows) -> Violation | None:
        q = subject.codes(probe)
        found = subject.values(q)
        at = first(found != 0)
        if at is not None:
            size = abs(found[at]) / subject.step(probe)[at]
            text = f"Q(x) = {q[at]}, which stands for {real(found[at])}"
            return Violation(example(subject, probe, at), text, size)
        if subject.scale is None:
            return None
        q = np.broadcast_to(subject.zero_point, probe.shape)
        found = subject.values(q)
        at = first(found != 0)
        if at is None:
            return None
        size = abs(found[at]) / subject.step(probe)[at]
        text = f"D(q) = {real(found[at])}, not 0"
        return Violation(f"q = zero_point = {q[at]}{in_channel(subject, at[1])}", text, size)


class Invariant(Law):
    """A code depends on its input and on nothing beside it: not on the order, not on the batch."""

    name = "permutation-and-batch"
    formula = "Q(x[p]) = Q(x)[p] for every order p; Q(x[i:i+1]) = Q(x)[i:i+1]"

    def excuse(self, subject: Subject) -> str:
        return "stochastic: neighbours are drawn" if subject.stochastic else ""

    def probes(self, subject: Subject) -> Any:
        from hypothesis import strategies as st

        return st.tuples(probes.probing_rows(subject, least=2), st.integers(0, 1 << 16))

    def violation(self, subject: Subject, probe: tuple[Rows, int]) -> Violation | None:
        x, seed = probe
        n = len(x)
        q = subject.codes(x)
        order = np.random.default_rng(seed).permutation(n) if seed else np.arange(n)[::-1]
        shuffled = np.empty_like(q)
        shuffled[order] = subject.codes(x[order])
        try:
            alone = np.concatenate([subject.codes(x[i : i + 1]) for i in range(min(n, 4))])
        except QnnRobustError as error:
            return Violation(example(subject, x, (0, 0)), f"as a batch of one: {error}", 1, "shape")
        for other, how in ((shuffled, "in another order"), (alone, "alone")):
            at = first(other != q[: len(other)])
            if at is not None:
                text = f"Q(x) = {q[at]} beside {n - 1} other inputs, {other[at]} {how}"
                size = abs(float(other[at] - q[at]))
                return Violation(example(subject, x, at), text, size, "codes")
        return None


class Deterministic(Law):
    """The same tensor gets the same codes again, after another tensor and from another layout in
    memory; from a stochastic quantizer with an equal generator."""

    name = "deterministic"
    formula = "Q(x) = Q(x), and Q(x, rng(s)) = Q(x, rng(s)) where Q is stochastic"

    def violation(self, subject: Subject, probe: Rows) -> Violation | None:
        x = subject.tensor(probe)
        first = subject.call(x)
        subject.call(-2 * x + 1)
        strided = np.repeat(x, 2, axis=-1)[..., ::2]
        for again, how in ((x.copy(), "again"), (strided, "from a strided view")):
            q = subject.call(again)
            differ = q != first
            if np.any(differ):
                at = tuple(int(i[0]) for i in np.nonzero(differ))
                text = f"Q(x) = {first[at]}, {how} {q[at]}"
                size = abs(float(q[at]) - float(first[at]))
                return Violation(f"x = {number(x[at])}", text, size, "codes")
        return None


def first(wrong: NDArray[np.bool_]) -> tuple[int, int] | None:
    if not wrong.any():
        return None
    row, channel = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return int(row), int(channel)


def number(x: Any) -> str:
    """A float32 number as one can paste it."""
    text = str(np.float32(x))
    return f"np.float32({text})" if np.isfinite(x) else f"np.float32('{text}')"


def example(
    subject: Subject, x: Rows, at: tuple[int, int], w: NDArray[np.float64] | None = None
) -> str:
    text = f"x = {number(x[at])}{in_channel(subject, at[1])}"
    return f"{text}, w(x) = {real(w[at])}" if w is not None and subject.has_warp else text


def in_channel(subject: Subject, channel: int) -> str:
    return f" in channel {channel} of axis {subject.axis}" if subject.channels > 1 else ""


def _codes(subject: Subject) -> str:
    return f"{subject.minimum}..{subject.maximum}"


def real(value: Any) -> str:
    return f"{float(value):.6g}"
