"""Fitted, warped, stochastic and nested quantizers; what is refused before any law."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

import pytest_qnnrobust as qnn
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.quantizers import AffineQuantizer, QuantizerLawError, check_nested
from pytest_qnnrobust.quantizers.base import prepare
from pytest_qnnrobust.quantizers.unbiased import Unbiased
from tests.quantizers.broken import Affine, BiasedStochastic, Stochastic
from tests.quantizers.failures import failures


class DoReFaWeights:
    """`2 round((2**k - 1) (w + 1) / 2) / (2**k - 1) - 1`, w = tanh(x) / max |tanh|; DoReFa-Net."""

    minimum, dtype, symmetric, rounding = 0, "int32", True, None

    def __init__(self, bits: int, largest: float = 0.0) -> None:
        self.maximum = 2**bits - 1
        self.bits, self.largest = bits, largest

    def warp(self, x):
        return np.clip(np.tanh(x.astype(np.float64)) / self.largest, -1, 1)

    def quantize(self, x):
        return np.round(self.maximum * (self.warp(x) + 1) / 2).astype(np.int32)

    def dequantize(self, q):
        return (2 * q.astype(np.float64) / self.maximum - 1).astype(np.float32)


class Fitting:
    def __init__(self, bits: int, floor: float = 1e-7) -> None:
        self.bits, self.floor = bits, floor

    def fit(self, x):
        return DoReFaWeights(self.bits, max(float(np.abs(np.tanh(x)).max()), self.floor))


class FittingToTheFirst(Fitting):
    """The scale of the first row alone, so that the order of the tensor counts."""

    def fit(self, x):
        return DoReFaWeights(self.bits, max(float(np.abs(np.tanh(x[0])).max()), 1e-7))


class FittingWithoutFloor:
    """Divides by the largest |x|, also where it is 0."""

    def fit(self, x):
        return Affine(np.abs(x).max() / 127)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_dorefa_weights_keep_the_laws_in_their_warped_domain(bits: int) -> None:
    report = qnn.check_quantizer(Fitting(bits), max_examples=40)
    assert {"round-trip", "monotone", "symmetric", "fit", "range-and-saturation"} <= {*report.held}
    assert "warped" in report.skipped["idempotent"]
    assert "no scale" in report.skipped["scale-and-zero-point"]


def test_a_wrong_warp_is_seen() -> None:
    class WithoutTanh(DoReFaWeights):
        def quantize(self, x):
            w = np.clip(x / np.arctanh(self.largest), -1, 1)
            return np.round(self.maximum * (w + 1) / 2).astype(np.int32)

    assert set(failures(WithoutTanh(8, 0.9), max_examples=40)) == {"round-trip"}


def test_a_fit_that_depends_on_the_order_is_named() -> None:
    found = failures(FittingToTheFirst(8), laws=["fit"])
    assert "reversed along axis 0" in found["fit"].found


def test_a_fit_to_zeros_is_named() -> None:
    found = failures(FittingWithoutFloor(), laws=["fit"])
    assert found["fit"].example == f"x = np.array({np.zeros((4, 4)).tolist()}, np.float32)"
    assert "finite scales > 0" in found["fit"].found


class Sign:
    minimum, maximum, symmetric = 0, 1, True

    def quantize(self, x):
        return (x >= 0).astype(np.int8)

    def dequantize(self, q):
        return (2 * q - 1).astype(np.float32)


def test_a_sign_keeps_what_applies_to_it() -> None:
    report = qnn.check_quantizer(Sign())
    assert {"round-trip", "idempotent", "symmetric", "monotone"} <= set(report.held)
    assert report.skipped["exact-zero"] == "no code stands for 0"


def test_buckets_nest_where_the_ratio_of_the_scales_is_odd() -> None:
    fine = AffineQuantizer(2.0**-15, bits=16)

    class Nesting(AffineQuantizer):
        finer = fine

    coarse = Nesting(257 * 2.0**-15)
    assert check_nested(coarse, fine).held == ("nested",)
    assert "nested" in qnn.check_quantizer(coarse, laws=["nested"]).held


@pytest.mark.parametrize(("ratio", "reason"), [(256, "256, is even"), (258.007, "is 258.007")])
def test_scales_that_do_not_nest_are_refused(ratio: float, reason: str) -> None:
    fine = AffineQuantizer(2.0**-15, bits=16)
    with pytest.raises(QnnRobustError, match=reason):
        check_nested(AffineQuantizer(ratio * 2.0**-15), fine)


def test_even_ratios_do_not_nest_indeed() -> None:
    """The middle of a fine bucket is the edge of a coarse one."""
    fine, coarse = AffineQuantizer(1.0, bits=16), AffineQuantizer(256.0)
    x = np.array([127.75, 128.25], np.float32)
    assert np.ptp(fine.quantize(x)) == 0
    assert np.ptp(coarse.quantize(x)) == 1


def test_a_bucket_that_is_no_union_is_found() -> None:
    class Shifted(Affine):
        def ratio(self, x):
            return super().ratio(x) + np.float32(0.1 / 257)

    fine = Affine(2.0**-7)
    fine.minimum, fine.maximum, fine.dtype = -32768, 32767, "int16"
    with pytest.raises(QuantizerLawError, match="both have the fine code"):
        check_nested(Shifted(257 * 2.0**-7), fine)
    assert check_nested(Affine(257 * 2.0**-7), fine).held == ("nested",)


def test_the_level_of_unbiasedness_is_kept() -> None:
    """At level 0.05 an unbiased quantizer fails in no more of 200 runs than chance allows."""
    law, subject = Unbiased(alpha=0.05, draws=400), prepare(Stochastic(0.25))
    points = law.points(subject)
    runs = [replace(law, seed=seed).violation(subject, points) for seed in range(200)]
    assert sum(found is not None for found in runs) <= binom.isf(1e-6, 200, 0.05)


def test_a_bias_of_the_stated_size_is_found() -> None:
    law = Unbiased()
    assert law.detectable(power=0.999) <= 0.031

    class Shifted(Stochastic):
        def ratio(self, x):
            return super().ratio(x) + np.float32(0.031)

    subject = prepare(Shifted(0.25))
    points = law.points(subject)[:1]
    runs = [replace(law, seed=seed).violation(subject, points) for seed in range(20)]
    assert all(found is not None for found in runs)


def test_per_channel_stochastic_rounding() -> None:
    class PerChannel(Stochastic):
        quantized_dimension = 1

    assert failures(PerChannel(np.array([0.1, 0.3])), laws=["unbiased", "per-axis"]) == {}

    class Biased(BiasedStochastic):
        quantized_dimension = 1

    found = failures(Biased(np.array([0.1, 0.3])), laws=["unbiased"])
    assert "in channel 0 of axis 1" in found["unbiased"].example


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"maximum": -128}, "whole numbers minimum < maximum"),
        ({"minimum": -300}, "codes that int8 holds"),
        ({"scale": 0.0}, "finite scales > 0"),
        ({"scale": [0.1, 0.2]}, "quantized_dimension where there is a scale for each channel"),
        ({"rounding": "up"}, "half_away, half_even, half_up, floor"),
    ],
)
def test_impossible_claims_are_refused(changes: dict[str, Any], rule: str) -> None:
    quantizer = Affine(0.1)
    for name, value in changes.items():
        setattr(quantizer, name, value)
    with pytest.raises(QnnRobustError, match=rule):
        qnn.check_quantizer(quantizer)


def test_what_is_no_quantizer_is_refused() -> None:
    with pytest.raises(QnnRobustError, match="missing='quantize, dequantize, minimum, maximum'"):
        qnn.check_quantizer(object())
    with pytest.raises(QnnRobustError, match="laws among shape-and-dtype"):
        qnn.check_quantizer(Affine(0.1), laws=["magic"])
