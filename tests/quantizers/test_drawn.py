"""What stochastic quantizers claim of their draws, and what that excuses them from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

import pytest_qnnrobust as qnn
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.quantizers import (
    Binary,
    DoReFaWeights,
    StochasticBinary,
    StochasticTernary,
    Ternary,
)
from pytest_qnnrobust.quantizers.base import prepare
from pytest_qnnrobust.quantizers.unbiased import RisingMean
from tests.quantizers.broken import BiasedStochastic, Stochastic
from tests.quantizers.failures import failures


class Claimed(BiasedStochastic):
    """Biased, and says so."""

    unbiased = False


class AnyCode(Stochastic):
    """Noise of three steps before rounding."""

    unbiased = neighbours = False

    def quantize(self, x, rng):
        code = np.floor(self.ratio(x) + rng.normal(0.5, 3, x.shape))
        return np.clip(code, self.minimum, self.maximum).astype(self.dtype)


class OnlyNeighbours(AnyCode):
    neighbours = True


def test_a_bias_is_excused_where_it_is_claimed_and_nothing_else() -> None:
    report = qnn.check_quantizer(Claimed(0.1, 3))
    assert report.skipped["unbiased"] == "biased, as it claims (unbiased = False)"
    kept = {"range-and-saturation", "round-trip", "idempotent", "exact-zero", "monotone"}
    assert kept | {"rising-mean", "scale-and-zero-point"} <= {*report.held}
    found = failures(BiasedStochastic(0.1, 3))
    assert set(found) == {"unbiased"}
    assert "what it claims without an attribute `unbiased`" in found["unbiased"].found


class WrapsAround(Claimed):
    def quantize(self, x, rng):
        code = np.nan_to_num(np.floor(self.ratio(x) + rng.random(x.shape)), posinf=0, neginf=0)
        return ((code + 128) % 256 - 128).astype(np.int8)


class OffByOne(Claimed):
    def quantize(self, x, rng):
        return np.minimum(super().quantize(x, rng), 126) + np.int8(1)


class Far(Claimed):
    def ratio(self, x):
        return 4 * np.floor(super().ratio(x) / 4 + 0.5)


class FallingValues(Claimed):
    def dequantize(self, q):
        return -super().dequantize(q)


class TwoCodes(Claimed):
    """Takes the upper one with the probabilities `chances` at x / scale = 0, 0.3, 0.6, 1."""

    minimum, maximum = 0, 1

    def __init__(self, *chances: float) -> None:
        super().__init__(0.1)
        self.chances = chances

    def quantize(self, x, rng):
        chance = np.interp(self.ratio(x), [0, 0.3, 0.6, 1], self.chances)
        return (rng.random(x.shape) < chance).astype(np.int8)


@pytest.mark.parametrize(
    ("quantizer", "law"),
    [
        (WrapsAround(0.1), "range-and-saturation"),
        (OffByOne(0.1), "idempotent"),
        (OffByOne(0.1), "exact-zero"),
        (Far(0.1), "round-trip"),
        (FallingValues(0.1), "monotone"),
        (TwoCodes(1, 0.7, 0.4, 0), "rising-mean"),
        (TwoCodes(0, 0.5, 0.4, 1), "rising-mean"),
        (TwoCodes(0.5, 0.5, 0.5, 0.5), "rising-mean"),
    ],
)
def test_a_claimed_bias_hides_no_other_mistake(quantizer: Any, law: str) -> None:
    assert law in failures(quantizer, laws=[law])


def test_without_a_scale_a_mean_that_falls_is_found_on_a_binary_one() -> None:
    class Inverted(StochasticBinary):
        def quantize(self, x, rng=None):
            return 1 - super().quantize(x, rng)

    assert set(failures(Inverted(quantized_dimension=None))) == {"rising-mean"}


def test_a_wrong_axis_is_found_without_a_scale() -> None:
    class Across(StochasticTernary):
        def dequantize(self, q):
            return (np.asarray(self.magnitude)[:, None] * q).astype(np.float32)

    found = failures(Across())
    assert "at another place of the channel" in found["per-axis"].found


def test_any_code_is_a_claim_of_its_own() -> None:
    assert {"round-trip", "idempotent"} <= set(failures(OnlyNeighbours(0.1)))
    report = qnn.check_quantizer(AnyCode(0.1))
    reason = "any code may be drawn, as it claims (neighbours = False)"
    excused = {law for law, why in report.skipped.items() if why == reason}
    assert excused == {"round-trip", "idempotent", "exact-zero"}


def test_an_unbiased_one_saturates() -> None:
    class Wrapping(Stochastic):
        def quantize(self, x, rng):
            return WrapsAround.quantize(self, x, rng)  # type: ignore[arg-type]

    assert set(failures(Wrapping(0.1))) == {"range-and-saturation"}


def test_the_level_of_the_rising_mean_is_kept() -> None:
    """At level 0.05 a mean that rises fails in no more of 200 runs than chance allows."""
    law = RisingMean(alpha=0.05, draws=1000)
    subject = prepare(TwoCodes(0.5, 0.5, 0.5, 1))
    points = law.points(subject)
    runs = [replace(law, seed=seed).violation(subject, points) for seed in range(200)]
    assert sum(found is not None for found in runs) <= binom.isf(1e-6, 200, 0.05)


def test_a_rise_of_twice_the_margin_is_enough() -> None:
    margin = RisingMean().margin(20_000)
    assert margin <= 0.03
    steepness = 4 * margin  # the logistic sigmoid's slope about 0 is 1/4, and it is left twice
    flat = StochasticBinary(1.0, 1.0, None, 1.02 * steepness)
    assert all(not failures(flat, laws=["rising-mean"], seed=seed) for seed in range(20))
    found = failures(StochasticBinary(1.0, 1.0, None, 0.1 * steepness), laws=["rising-mean"])
    assert found["rising-mean"].unit == "of the range"
    assert "level 1e-06" in found["rising-mean"].found
    strict = failures(StochasticBinary(1.0, 1.0, None, 1e-9), laws=["rising-mean"], alpha=1e-9)
    assert "level 1e-09" in strict["rising-mean"].found


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"neighbours": False}, "unbiased = False where any code may be drawn"),
        ({"scale": None, "quantized_dimension": 0}, "channels, a whole number above 0"),
        ({"scale": None, "quantized_dimension": 0, "channels": 1.5}, "got quantized_dimension=0, "),
    ],
)
def test_impossible_claims(changes: dict[str, Any], rule: str) -> None:
    quantizer = Stochastic()
    for name, value in changes.items():
        setattr(quantizer, name, value)
    with pytest.raises(QnnRobustError, match=rule):
        qnn.check_quantizer(quantizer)


class FittedAlready(Stochastic):
    fitted = True

    def fit(self, x):
        raise ValueError(f"no tensor of {x.ndim} axes")


def test_a_fitted_one_is_checked_as_it_is() -> None:
    assert failures(FittedAlready(0.1), laws=["round-trip", "unbiased"]) == {}
    with pytest.raises(QnnRobustError, match=r"fit\(x\) .* shape \(2,\), .*no tensor of 1 axes"):
        qnn.check_quantizer(FittedAlready(0.1), sample=np.zeros(2))


@pytest.mark.parametrize(
    "quantizer",
    [
        Binary(magnitude=1.0),
        Ternary(1.0, 0.5),
        DoReFaWeights(4, peak=0.5),
        StochasticBinary(1.0, 1.0, None),
        StochasticTernary.ternary_connect(),
    ],
    ids=lambda quantizer: type(quantizer).__name__,
)
def test_ours_say_when_they_are_fitted(quantizer: Any) -> None:
    assert prepare(quantizer).quantizer is quantizer


def test_a_stochastic_fit_to_zeros_is_named() -> None:
    class Dividing(Stochastic):
        def fit(self, x):
            return Stochastic(np.abs(x).max() / 127)

    assert "finite scales > 0" in failures(Dividing(), laws=["fit"])["fit"].found


@pytest.mark.parametrize(
    "connect", [StochasticBinary.binary_connect(), StochasticTernary.ternary_connect()]
)
def test_constants_are_not_fitted(connect: Any) -> None:
    assert connect.fit(np.full((2, 2), 7.0)) is connect


class Unfitted:
    minimum, maximum, stochastic = -1, 1, True

    def quantize(self, x, rng):
        return StochasticTernary().quantize(x, rng)

    def dequantize(self, q):
        return StochasticTernary().dequantize(q)


class FitsInPlace(Unfitted):
    def fit(self, x):
        pass


@pytest.mark.parametrize(
    ("quantizer", "line"),
    [
        (Unfitted(), "a quantizer that can be used as it is, got type='Unfitted', .*; fit it"),
        (FitsInPlace(), r"fit\(x\) to return the quantizer of a tensor x .*NoneType"),
    ],
)
def test_what_needs_fit_is_refused_in_one_line(quantizer: Any, line: str) -> None:
    with pytest.raises(QnnRobustError, match=line):
        qnn.check_quantizer(quantizer)


def test_an_exception_while_inputs_are_made_is_a_failure() -> None:
    class ShortTable:
        minimum, maximum = 0, 4

        def quantize(self, x):
            return np.clip(np.floor(x + 0.5), 0, 4).astype(np.int8)

        def dequantize(self, q):
            return np.arange(4, dtype=np.float32)[q]

    found = failures(ShortTable(), laws=["monotone"])["monotone"]
    assert found.found == "raised IndexError: index 4 is out of bounds for axis 0 with size 4"
