"""Laws that only some quantizers claim: symmetry, rounding, scales, fit, nested buckets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.quantizers import probes
from pytest_qnnrobust.quantizers.base import QuantizerUnderTest, prepare, with_claims
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
    """The code of -x stands for the opposite of what the code of x stands for.

    It holds up to the nearer end of the range, and not for exact halves. A `narrow_range` claims
    besides that the two ends are opposites.
    """

    name = "symmetric"
    formula = "D(Q(-x)) = -D(Q(x)) for |w(x)| <= min(-D(minimum), D(maximum))"

    def excuse(self, tested: QuantizerUnderTest) -> str:
        if not tested.symmetric:
            return "not claimed"
        if tested.stochastic:
            return "stochastic: neighbours are drawn"
        return "the rounding is floor" if tested.rounding == "floor" else ""

    def violation(self, tested: QuantizerUnderTest, probe: Rows) -> Violation | None:
        (low, high), step = tested.ends(probe), tested.step(probe)
        at = first(np.abs(low + high) > tested.slack(high, step))
        if tested.narrow_range and at is not None:
            text = f"they stand for {real(low[at])} and {real(high[at])}"
            size = float(abs(low[at] + high[at]) / step[at])
            return Violation(f"q = {tested.minimum} and {tested.maximum}", text, size)
        w = tested.warped(probe)
        there, back = (tested.values(tested.codes(x)) for x in (probe, -probe))
        reach = np.minimum(-low, high)
        slack = tested.slack(w, step)
        # Both neighbours are right for a half: which one it gets is the law `Rounding`'s business.
        halfway = np.abs(np.abs(w - there) - np.abs(w - _beside(tested, probe, w))) <= 2 * slack
        wrong = (np.abs(w) <= reach) & ~halfway & (np.abs(there + back) > slack)
        at = first(wrong)
        if at is None:
            return None
        text = f"x stands for {real(there[at])}, -x for {real(back[at])}"
        size = abs(there[at] + back[at]) / step[at]
        return Violation(example(tested, probe, at, w), text, size)


class Rounding(Law):
    """An input exactly halfway between two codes goes to the side that the claimed rounding names.

    The two codes are those a quarter of a step below and above. A scale that float32 does not hold
    may be used in either precision.
    """

    name = "halves"
    formula = (
        "Q((k + 1/2) scale) = Q((k + 1/2 + d/4) scale), d = 1 or -1 as the rounding is claimed"
    )

    def excuse(self, tested: QuantizerUnderTest) -> str:
        if tested.stochastic:
            return "stochastic: neighbours are drawn"
        if tested.scale is None or tested.has_warp:
            return "no scale: there are no halves of it"
        return "" if tested.rounding else "no rounding of halves is claimed"

    def probes(self, tested: QuantizerUnderTest) -> Any:
        from hypothesis import strategies as st

        low, high = tested.minimum - tested.centre, tested.maximum - tested.centre
        return st.integers(low, high - 1)

    def violation(self, tested: QuantizerUnderTest, probe: int) -> Violation | None:
        assert tested.scale is not None
        n, half = tested.channels, probe + 0.5
        single = tested.scale.astype(np.float32).astype(np.float64)

        def at_ratio(ratio: float) -> Rows:
            return np.repeat(np.broadcast_to(ratio * single, (1, n)), n, axis=0).astype(np.float32)

        x = at_ratio(half)
        q, down, up = (tested.codes(at_ratio(half + part)) for part in (0, -0.25, 0.25))
        apart = tested.values(up) - tested.values(down)
        own = np.abs(apart - single) <= tested.slack(x.astype(np.float64), apart)
        judged = own & (x.astype(np.float64) == half * single) & (up == down + 1)
        rounded = ROUND[str(tested.rounding)]
        upwards = rounded(np.full(x.shape, half)) > half
        either = (rounded(x / tested.scale) > half) != upwards
        at = first(judged & ~either & (q != np.where(upwards, up, down)))
        if at is None:
            return None
        wanted = up[at] if upwards[at] else down[at]
        text = f"x / scale = {half:g} gets the code {q[at]}, by {tested.rounding} it is {wanted}"
        if not hasattr(tested.quantizer, "rounding"):
            text += " (half_away is what it claims without an attribute `rounding`)"
        return Violation(example(tested, x, at), text, abs(float(q[at] - wanted)), "codes")


class Scale(Law):
    """A code stands for the value that the claimed scale and zero point give."""

    name = "scale-and-zero-point"
    formula = "D(q) = scale (q - zero_point)"

    def excuse(self, tested: QuantizerUnderTest) -> str:
        if tested.scale is None:
            return "no scale is claimed"
        return "the scale is per axis" if tested.channels > 1 else ""

    def probes(self, tested: QuantizerUnderTest) -> Any:
        return probes.code_runs(tested)

    def violation(self, tested: QuantizerUnderTest, probe: NDArray[np.int64]) -> Violation | None:
        assert tested.scale is not None
        claimed = tested.scale * (probe - tested.zero_point)
        values = tested.values(probe)
        gap = np.broadcast_to(tested.scale, values.shape)
        error = np.abs(values - claimed)
        at = first(~(error <= tested.slack(claimed, gap)))
        if at is None:
            return None
        text = f"D(q) = {real(values[at])}, claimed {real(claimed[at])}"
        return Violation(f"q = {probe[at]}{in_channel(tested, at[1])}", text, error[at] / gap[at])


class PerAxis(Scale):
    """Each channel of the claimed axis has its own scale and zero point, in both directions.

    Inputs are the values themselves, or for the rounding "floor" a quarter of a step above them.
    Without a scale, a code stands for the same value at every place of a channel.
    """

    name = "per-axis"
    formula = "D(q)[c] = scale[c] (q[c] - zero_point[c]) = x[c]: Q(x) = q; c along the claimed axis"

    def excuse(self, tested: QuantizerUnderTest) -> str:
        return "" if tested.channels > 1 else "the scale is not per axis"

    def violation(self, tested: QuantizerUnderTest, probe: NDArray[np.int64]) -> Violation | None:
        if tested.scale is None:
            return _elsewhere(tested, probe)
        if violation := super().violation(tested, probe):
            return violation
        if tested.stochastic or tested.has_warp:
            return None
        part = 0.25 if tested.rounding == "floor" else 0.0
        x = (tested.scale * (probe - tested.zero_point + part)).astype(np.float32)
        q = tested.codes(x)
        at = first(q != probe)
        if at is None:
            return None
        text = f"x is {probe[at] + part:g} by its channel's scale, and gets the code {q[at]}"
        return Violation(example(tested, x, at), text, abs(float(q[at] - probe[at])), "codes")


def _elsewhere(tested: QuantizerUnderTest, codes: NDArray[np.int64]) -> Violation | None:
    values = tested.values(codes)
    other = np.flip(tested.values(np.flip(codes, 0)), 0)
    at = first(values != other)
    if at is None:
        return None
    text = f"D(q) = {real(values[at])} there, {real(other[at])} at another place of the channel"
    size = abs(values[at] - other[at]) / tested.step(codes)[at]
    return Violation(f"q = {codes[at]}{in_channel(tested, at[1])}", text, size)


class FitInvariant(Law):
    """A scale that is fitted to a tensor does not depend on the order of its elements.

    Every tensor, that of zeros too, gets a scale above 0 and finite values; where codes are drawn,
    only this is checked.
    """

    name = "fit"
    formula = "fit(x[p]).Q(x[p]) = fit(x).Q(x)[p]; D(Q(x)) finite"

    def excuse(self, tested: QuantizerUnderTest) -> str:
        return "not fitted to a tensor" if tested.fitter is None else ""

    def probes(self, tested: QuantizerUnderTest) -> Any:
        from hypothesis import strategies as st

        n = tested.channels if tested.channels > 1 else 4
        whole = st.integers(-64, 64)
        row = st.lists(whole, min_size=n * n, max_size=n * n)
        # Sixteenths are summed exactly, so that the order of the sum changes nothing.
        return row.map(lambda values: np.array(values, np.float32).reshape(n, n) / 16)

    def violation(self, tested: QuantizerUnderTest, probe: Rows) -> Violation | None:
        axis = 1 if tested.axis is not None and tested.axis % 2 == 0 else 0
        shown = f"x = np.array({probe.tolist()}, np.float32)"
        fitted = with_claims(tested.fitter.fit(probe))
        q = fitted.call(probe)
        back = np.asarray(fitted.quantizer.dequantize(q))
        if not np.isfinite(back).all():
            return Violation(shown, "D(Q(x)) is not finite", np.sum(~np.isfinite(back)), "values")
        if tested.stochastic:
            return None
        turned = np.flip(probe, axis).copy()
        other = np.flip(with_claims(tested.fitter.fit(turned)).call(turned), axis)
        size = np.abs(q.astype(np.int64) - other.astype(np.int64)).max()
        text = f"reversed along axis {axis}, other codes"
        return Violation(shown, text, float(size), "codes") if size else None


class OnePiece(Law):
    """The claimed `fake_quantize` is quantizing and back in one piece."""

    name = "fake-quantize"
    formula = "fake_quantize(x) = D(Q(x))"

    def excuse(self, tested: QuantizerUnderTest) -> str:
        if not hasattr(tested.quantizer, "fake_quantize"):
            return "no fake_quantize"
        return "stochastic: neighbours are drawn" if tested.stochastic else ""

    def violation(self, tested: QuantizerUnderTest, probe: Rows) -> Violation | None:
        whole = np.asarray(tested.quantizer.fake_quantize(tested.tensor(probe)))
        returned = tested.rows(whole, probe).astype(np.float64)
        wanted = tested.values(tested.codes(probe))
        error = np.abs(returned - wanted)
        at = first(~(error <= tested.slack(wanted, tested.step(probe))))
        if at is None:
            return None
        text = f"fake_quantize(x) = {real(returned[at])}, D(Q(x)) = {real(wanted[at])}"
        return Violation(example(tested, probe, at), text, error[at] / tested.step(probe)[at])


class Nested(Law):
    """A bucket of the quantizer is a union of buckets of `finer`.

    So inputs of equal fine codes have equal coarse codes. Scales nest where the coarse step is an
    odd number of fine steps (any whole number for "floor"): with an even one the coarse edges lie
    in the middle of fine buckets.
    """

    name = "nested"
    formula = "Qf(x) = Qf(y): Q(x) = Q(y), Qf the finer quantizer"

    def __init__(self, finer: Any = None) -> None:
        self._given = finer

    def excuse(self, tested: QuantizerUnderTest) -> str:
        finer = self._finer(tested)
        if finer is None:
            return "no finer quantizer is named"
        return nesting(tested, finer)

    def probes(self, tested: QuantizerUnderTest) -> Any:
        from hypothesis import strategies as st

        finer = self._finer(tested) or tested

        def beside_an_edge(codes: NDArray[np.int64], half: float, part: float) -> Rows:
            edge = probes.run(tested, codes, (0, half))
            return (edge + part * finer.step(edge)).astype(np.float32)

        halves = st.sampled_from((0.5, -0.5, 0.0))
        parts = st.one_of(st.sampled_from(BESIDE), st.floats(-1, 1, width=32))
        return st.builds(beside_an_edge, probes.code_runs(tested, 1), halves, parts)

    def violation(self, tested: QuantizerUnderTest, probe: Rows) -> Violation | None:
        finer = self._finer(tested)
        assert finer is not None
        codes = finer.codes(probe)
        middle = finer.values(codes).astype(np.float32)
        q, wanted = tested.codes(probe), tested.codes(middle)
        step = tested.step(probe)
        slack = tested.slack(np.where(np.isfinite(probe), probe, 0), step)
        edge = np.floor(probe / step) + (0 if tested.rounding == "floor" else 0.5)
        near = np.min([np.abs(probe / step - edge + k) for k in (-1, 0, 1)], axis=0) * step <= slack
        at = first((q != wanted) & ~near)
        if at is None:
            return None
        shown = example(tested, probe, at) + f", y = {number(middle[at])}"
        text = f"both have the fine code {codes[at]}, but Q(x) = {q[at]} and Q(y) = {wanted[at]}"
        return Violation(shown, text, abs(float(q[at] - wanted[at])), "codes")

    def _finer(self, tested: QuantizerUnderTest) -> QuantizerUnderTest | None:
        finer = self._given or getattr(tested.quantizer, "finer", None)
        return None if finer is None else prepare(finer)


def nesting(coarse: QuantizerUnderTest, fine: QuantizerUnderTest) -> str:
    """The reason why the buckets of two quantizers cannot nest; "" where their scales do."""
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


def _beside(tested: QuantizerUnderTest, x: Rows, w: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value next to that of the code of x, on the other side of w."""
    q = np.clip(tested.codes(x), tested.minimum, tested.maximum)
    v = tested.values(q)
    below, above = tested.gaps(q)
    return np.where(w >= v, v + above, v - below)
