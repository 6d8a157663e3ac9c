"""Laws of what a quantizer claims: symmetry, rounding, scales, a tensor's fit, nested buckets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.quantizers import probes
from pytest_qnnrobust.quantizers.base import Subject, claimed, prepare
from pytest_qnnrobust.quantizers.laws import (
    Law,
    Violation,
    example,
    first,
    in_channel,
    number,
    real,
)
from pytest_qnnrobust.quantizers.probes import Rows

BESIDE = (0.25, -0.25, 0.45, -0.45, 0.1, -0.1, 0.05, -0.05, 0.02, -0.02)
"""Parts of a fine step beside a coarse edge at which nested buckets are probed."""


class Symmetric(Law):
    """Where it is claimed: -x stands for the opposite of x, up to the nearer end of the range and
    but for exact halves; with `narrow_range`, which says that the ends are opposites, to the end.
    """

    name = "symmetric"
    formula = "D(Q(-x)) = -D(Q(x)) for |w(x)| <= min(-D(minimum), D(maximum))"

    def excuse(self, subject: Subject) -> str:
        if not subject.symmetric:
            return "not claimed"
        if subject.stochastic:
            return "stochastic: neighbours are drawn"
        return "the rounding is floor" if subject.rounding == "floor" else ""

    def violation(self, subject: Subject, probe: Rows) -> Violation | None:
        (low, high), step = subject.ends(probe), subject.step(probe)
        at = first(np.abs(low + high) > subject.slack(high, step))
        if subject.narrow_range and at is not None:
            text = f"they stand for {real(low[at])} and {real(high[at])}"
            size = float(abs(low[at] + high[at]) / step[at])
            return Violation(f"q = {subject.minimum} and {subject.maximum}", text, size)
        w = subject.warped(probe)
        there, back = (subject.values(subject.codes(x)) for x in (probe, -probe))
        reach = np.minimum(-low, high)
        slack = subject.slack(w, step)
        halfway = np.abs(np.abs(w - there) - np.abs(w - _beside(subject, probe, w))) <= 2 * slack
        wrong = (np.abs(w) <= reach) & ~halfway & (np.abs(there + back) > slack)
        at = first(wrong)
        if at is None:
            return None
        text = f"x stands for {real(there[at])}, -x for {real(back[at])}"
        size = abs(there[at] + back[at]) / step[at]
        return Violation(example(subject, probe, at, w), text, size)


class Rounding(Law):
    """Exact halves of x / scale go to that neighbour to which the claimed rounding puts them; the
    neighbours are the codes a quarter of a step below and above. A scale that is no float32 number
    may be used in either precision."""

    name = "halves"
    formula = (
        "Q((k + 1/2) scale) = Q((k + 1/2 + d/4) scale), d = 1 or -1 as the rounding is claimed"
    )

    def excuse(self, subject: Subject) -> str:
        if subject.stochastic:
            return "stochastic: neighbours are drawn"
        if subject.scale is None or subject.has_warp:
            return "no scale: there are no halves of it"
        return "" if subject.rounding else "no rounding of halves is claimed"

    def probes(self, subject: Subject) -> Any:
        from hypothesis import strategies as st

        low, high = subject.minimum - subject.centre, subject.maximum - subject.centre
        return st.integers(low, high - 1)

    def violation(self, subject: Subject, probe: int) -> Violation | None:
        assert subject.scale is not None
        n, half = subject.channels, probe + 0.5
        single = subject.scale.astype(np.float32).astype(np.float64)

        def at_ratio(ratio: float) -> Rows:
            return np.repeat(np.broadcast_to(ratio * single, (1, n)), n, axis=0).astype(np.float32)

        x = at_ratio(half)
        q, down, up = (subject.codes(at_ratio(half + part)) for part in (0, -0.25, 0.25))
        apart = subject.values(up) - subject.values(down)
        own = np.abs(apart - single) <= subject.slack(x.astype(np.float64), apart)
        judged = own & (x.astype(np.float64) == half * single) & (up == down + 1)
        rounded = ROUND[str(subject.rounding)]
        upwards = rounded(np.full(x.shape, half)) > half
        either = (rounded(x / subject.scale) > half) != upwards
        at = first(judged & ~either & (q != np.where(upwards, up, down)))
        if at is None:
            return None
        wanted = up[at] if upwards[at] else down[at]
        text = f"x / scale = {half:g} gets the code {q[at]}, by {subject.rounding} it is {wanted}"
        if not hasattr(subject.quantizer, "rounding"):
            text += " (half_away is what it claims without an attribute `rounding`)"
        return Violation(example(subject, x, at), text, abs(float(q[at] - wanted)), "codes")


class Scale(Law):
    """Codes stand for what the claimed scale and zero point say."""

    name = "scale-and-zero-point"
    formula = "D(q) = scale (q - zero_point)"

    def excuse(self, subject: Subject) -> str:
        if subject.scale is None:
            return "no scale is claimed"
        return "the scale is per axis" if subject.channels > 1 else ""

    def probes(self, subject: Subject) -> Any:
        return probes.code_runs(subject)

    def violation(self, subject: Subject, probe: NDArray[np.int64]) -> Violation | None:
        assert subject.scale is not None
        claimed = subject.scale * (probe - subject.zero_point)
        found = subject.values(probe)
        gap = np.broadcast_to(subject.scale, found.shape)
        error = np.abs(found - claimed)
        at = first(~(error <= subject.slack(claimed, gap)))
        if at is None:
            return None
        text = f"D(q) = {real(found[at])}, claimed {real(claimed[at])}"
        return Violation(f"q = {probe[at]}{in_channel(subject, at[1])}", text, error[at] / gap[at])


class PerAxis(Scale):
    """Each channel of the claimed axis has its own scale and zero point, and no other's, in both
    directions; for the rounding "floor" a quarter of a step above the values. Without a scale a
    code stands for the same at every place of a channel."""

    name = "per-axis"
    formula = "D(q)[c] = scale[c] (q[c] - zero_point[c]) = x[c]: Q(x) = q; c along the claimed axis"

    def excuse(self, subject: Subject) -> str:
        return "" if subject.channels > 1 else "the scale is not per axis"

    def violation(self, subject: Subject, probe: NDArray[np.int64]) -> Violation | None:
        if subject.scale is None:
            return _elsewhere(subject, probe)
        if found := super().violation(subject, probe):
            return found
        if subject.stochastic or subject.has_warp:
            return None
        part = 0.25 if subject.rounding == "floor" else 0.0
        x = (subject.scale * (probe - subject.zero_point + part)).astype(np.float32)
        q = subject.codes(x)
        at = first(q != probe)
        if at is None:
            return None
        text = f"x is {probe[at] + part:g} by its channel's scale, and gets the code {q[at]}"
        return Violation(example(subject, x, at), text, abs(float(q[at] - probe[at])), "codes")


def _elsewhere(subject: Subject, codes: NDArray[np.int64]) -> Violation | None:
    found = subject.values(codes)
    other = np.flip(subject.values(np.flip(codes, 0)), 0)
    at = first(found != other)
    if at is None:
        return None
    text = f"D(q) = {real(found[at])} there, {real(other[at])} at another place of the channel"
    size = abs(found[at] - other[at]) / subject.step(codes)[at]
    return Violation(f"q = {codes[at]}{in_channel(subject, at[1])}", text, size)


class FitInvariant(Law):
    """Where the scale depends on the tensor: the order of the tensor changes nothing, and every
    tensor, that of zeros too, has a scale above 0 and finite values. Where codes are drawn, only
    the latter."""

    name = "fit"
    formula = "fit(x[p]).Q(x[p]) = fit(x).Q(x)[p]; D(Q(x)) finite"

    def excuse(self, subject: Subject) -> str:
        return "not fitted to a tensor" if subject.source is None else ""

    def probes(self, subject: Subject) -> Any:
        from hypothesis import strategies as st

        n = subject.channels if subject.channels > 1 else 4
        whole = st.integers(-64, 64)
        row = st.lists(whole, min_size=n * n, max_size=n * n)
        return row.map(lambda values: np.array(values, np.float32).reshape(n, n) / 16)

    def violation(self, subject: Subject, probe: Rows) -> Violation | None:
        axis = 1 if subject.axis is not None and subject.axis % 2 == 0 else 0
        shown = f"x = np.array({probe.tolist()}, np.float32)"
        fitted = claimed(subject.source.fit(probe))
        q = fitted.call(probe)
        back = np.asarray(fitted.quantizer.dequantize(q))
        if not np.isfinite(back).all():
            return Violation(shown, "D(Q(x)) is not finite", np.sum(~np.isfinite(back)), "values")
        if subject.stochastic:
            return None
        turned = np.flip(probe, axis).copy()
        other = np.flip(claimed(subject.source.fit(turned)).call(turned), axis)
        size = np.abs(q.astype(np.int64) - other.astype(np.int64)).max()
        text = f"reversed along axis {axis}, other codes"
        return Violation(shown, text, float(size), "codes") if size else None


class OnePiece(Law):
    """Where there is a `fake_quantize`, it is quantizing and back."""

    name = "fake-quantize"
    formula = "fake_quantize(x) = D(Q(x))"

    def excuse(self, subject: Subject) -> str:
        if not hasattr(subject.quantizer, "fake_quantize"):
            return "no fake_quantize"
        return "stochastic: neighbours are drawn" if subject.stochastic else ""

    def violation(self, subject: Subject, probe: Rows) -> Violation | None:
        whole = np.asarray(subject.quantizer.fake_quantize(subject.tensor(probe)))
        found = subject.rows(whole, probe).astype(np.float64)
        wanted = subject.values(subject.codes(probe))
        error = np.abs(found - wanted)
        at = first(~(error <= subject.slack(wanted, subject.step(probe))))
        if at is None:
            return None
        text = f"fake_quantize(x) = {real(found[at])}, D(Q(x)) = {real(wanted[at])}"
        return Violation(example(subject, probe, at), text, error[at] / subject.step(probe)[at])


class Nested(Law):
    """A bucket of the quantizer is a union of buckets of `finer`: equal fine codes have equal
    coarse ones. Scales nest where the coarse step is an odd number of fine steps (any whole number
    for "floor"): with an even one the coarse edges lie in the middle of fine buckets."""

    name = "nested"
    formula = "Qf(x) = Qf(y): Q(x) = Q(y), Qf the finer quantizer"

    def __init__(self, finer: Any = None) -> None:
        self._given = finer

    def excuse(self, subject: Subject) -> str:
        finer = self._finer(subject)
        if finer is None:
            return "no finer quantizer is named"
        return nesting(subject, finer)

    def probes(self, subject: Subject) -> Any:
        from hypothesis import strategies as st

        finer = self._finer(subject) or subject

        def beside_an_edge(codes: NDArray[np.int64], half: float, part: float) -> Rows:
            edge = probes.run(subject, codes, (0, half))
            return (edge + part * finer.step(edge)).astype(np.float32)

        halves = st.sampled_from((0.5, -0.5, 0.0))
        parts = st.one_of(st.sampled_from(BESIDE), st.floats(-1, 1, width=32))
        return st.builds(beside_an_edge, probes.code_runs(subject, 1), halves, parts)

    def violation(self, subject: Subject, probe: Rows) -> Violation | None:
        finer = self._finer(subject)
        assert finer is not None
        codes = finer.codes(probe)
        middle = finer.values(codes).astype(np.float32)
        q, wanted = subject.codes(probe), subject.codes(middle)
        step = subject.step(probe)
        slack = subject.slack(np.where(np.isfinite(probe), probe, 0), step)
        edge = np.floor(probe / step) + (0 if subject.rounding == "floor" else 0.5)
        near = np.min([np.abs(probe / step - edge + k) for k in (-1, 0, 1)], axis=0) * step <= slack
        at = first((q != wanted) & ~near)
        if at is None:
            return None
        shown = example(subject, probe, at) + f", y = {number(middle[at])}"
        text = f"both have the fine code {codes[at]}, but Q(x) = {q[at]} and Q(y) = {wanted[at]}"
        return Violation(shown, text, abs(float(q[at] - wanted[at])), "codes")

    def _finer(self, subject: Subject) -> Subject | None:
        finer = self._given or getattr(subject.quantizer, "finer", None)
        return None if finer is None else prepare(finer)


def nesting(coarse: Subject, fine: Subject) -> str:
    """Why the buckets of two quantizers cannot nest; "" where their scales do."""
    if coarse.scale is None or fine.scale is None:
        return "the scales are not known"
    if coarse.stochastic or fine.stochastic:
        return "stochastic: neighbours are drawn"
    if coarse.rounding != fine.rounding:
        return f"the roundings differ: {coarse.rounding} and {fine.rounding}"
    ratio = coarse.scale / fine.scale
    whole = np.round(ratio)
    if np.any(np.abs(ratio - whole) > 1e-6 * ratio) or np.any(whole < 1):
        return f"the scales do not nest: their ratio is {ratio[0]:g}"
    if coarse.rounding != "floor" and np.any(whole % 2 == 0):
        return f"the scales do not nest: their ratio, {whole[0]:g}, is even"
    return ""


def _half_away(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


ROUND: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "half_away": _half_away,
    "half_even": np.round,
    "half_up": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
}


def _beside(subject: Subject, x: Rows, w: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value on the other side of w than that of its code."""
    q = np.clip(subject.codes(x), subject.minimum, subject.maximum)
    v = subject.values(q)
    below, above = subject.gaps(q)
    return np.where(w >= v, v + above, v - below)
