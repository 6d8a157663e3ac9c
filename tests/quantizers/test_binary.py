"""Binary, ternary and their stochastic kin against their papers' equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binomtest

from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.quantizers import (
    Binary,
    StochasticBinary,
    StochasticTernary,
    Ternary,
    create,
)

WEIGHTS = st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=30)
DRAWS = 20_000


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 0.2, shape).astype(np.float32)


class TestBinary:
    @given(WEIGHTS)
    def test_magnitude_minimizes_the_error(self, w: list[float]) -> None:
        """Rastegari et al.: the mean of |w| is the least-squares scale of the signs."""
        x = np.array(w, np.float32)
        fitted = Binary().fit(x)
        signs = np.where(x >= 0, 1.0, -1.0)
        best = float(np.dot(x.astype(np.float64), signs) / len(x))
        assert fitted.magnitude == pytest.approx(best, abs=1e-12)
        np.testing.assert_array_equal(
            fitted.dequantize(fitted.quantize(x)), (signs * fitted.magnitude).astype(np.float32)
        )

    def test_per_channel(self) -> None:
        w = np.array([[1.0, -2.0], [-3.0, 4.0]], np.float32)
        fitted = Binary(quantized_dimension=1).fit(w)
        assert fitted.dequantize(fitted.quantize(w)).tolist() == [[2.0, -3.0], [-2.0, 3.0]]

    def test_zero_is_positive(self) -> None:
        assert Binary(magnitude=1).quantize(np.array([0.0, -0.0, np.nan])).tolist() == [1, 1, 1]


class TestTernary:
    def test_by_hand(self) -> None:
        w = np.array([1.0, -2.0, 0.1, 0.0, -0.4], np.float32)
        fitted = Ternary().fit(w)
        assert fitted.threshold == pytest.approx(0.7 * 3.5 / 5)
        assert fitted.magnitude == pytest.approx(1.5)
        codes = fitted.quantize(w)
        assert codes.tolist() == [1, -1, 0, 0, 0]
        assert fitted.dequantize(codes).tolist() == [1.5, -1.5, 0.0, 0.0, 0.0]

    @given(WEIGHTS)
    def test_magnitude_is_the_least_squares_scale(self, w: list[float]) -> None:
        x = np.array(w, np.float32)
        fitted = Ternary().fit(x)
        codes = fitted.quantize(x).astype(np.float64)
        if codes.any():
            best = np.dot(x.astype(np.float64), codes) / np.dot(codes, codes)
            assert fitted.magnitude == pytest.approx(best)
        assert (fitted.quantize(-x) == -codes).all()

    @given(WEIGHTS)
    def test_warp_puts_the_threshold_in_the_middle(self, w: list[float]) -> None:
        x = np.array(w, np.float32)
        fitted = Ternary().fit(x)
        warped = fitted.warp(x)
        clear = np.abs(np.abs(warped) - fitted.magnitude / 2) > 1e-9
        nearest = np.sign(warped) * (np.abs(warped) > fitted.magnitude / 2)
        np.testing.assert_array_equal(fitted.quantize(x)[clear], nearest[clear])

    def test_per_channel_is_per_tensor_on_each_channel(self) -> None:
        w = normal(3, 3, 2, 4)
        codes = Ternary(quantized_dimension=-1).fit(w).quantize(w)
        for channel in range(4):
            np.testing.assert_array_equal(codes[..., channel], Ternary().quantize(w[..., channel]))


def frequencies(quantizer: Any, x: np.ndarray, code: int) -> np.ndarray:
    """How often `code` comes out of DRAWS draws, for every element."""
    rng = np.random.default_rng(0)
    repeated = np.broadcast_to(x, (DRAWS, *x.shape))
    return np.asarray((quantizer.quantize(repeated, rng) == code).sum(axis=0))


def assert_frequency(counts: np.ndarray, chances: np.ndarray) -> None:
    """No count is one of the rarest in a million (seeded, so it holds or does not)."""
    for count, chance in zip(counts.ravel(), chances.ravel(), strict=True):
        assert binomtest(int(count), DRAWS, float(chance)).pvalue > 1e-6


class TestStochastic:
    def test_binary_draws_with_the_logistic_of_the_standardized_value(self) -> None:
        w = normal(5, 2)
        fitted = StochasticBinary().fit(w)
        z = 6 * w.astype(np.float64) / (w.astype(np.float64).std(axis=0) + 1e-7)
        assert_frequency(frequencies(fitted, w, 1), expit(z))
        np.testing.assert_allclose(fitted.magnitude, np.abs(w).mean(axis=0), rtol=1e-5)

    def test_ternary_draws_twice(self) -> None:
        w = normal(6, 2)
        fitted = StochasticTernary().fit(w)
        spread = w.astype(np.float64).std(axis=0) + 1e-7
        upper = expit(8 * (w - fitted.magnitude / 2) / spread)
        lower = expit(8 * (w + fitted.magnitude / 2) / spread)
        assert_frequency(frequencies(fitted, w, 1), upper * lower)
        assert_frequency(frequencies(fitted, w, -1), (1 - upper) * (1 - lower))

    def test_ternary_magnitude_is_settled(self) -> None:
        """The unrolled magnitude is the least-squares scale of the codes that it decides."""
        w = normal(200, 3)
        fitted = StochasticTernary().fit(w)
        codes = fitted.quantize(w).astype(np.float64)
        best = (w * codes).sum(axis=0) / (codes * codes).sum(axis=0)
        np.testing.assert_allclose(fitted.magnitude, best, rtol=0.02)

    @pytest.mark.parametrize(
        "quantizer", [StochasticBinary.binary_connect(), StochasticTernary.ternary_connect()]
    )
    def test_the_connect_variants_are_unbiased(self, quantizer: Any) -> None:
        x = np.linspace(-1, 1, 9).astype(np.float32)
        rng = np.random.default_rng(1)
        drawn = quantizer.dequantize(quantizer.quantize(np.broadcast_to(x, (DRAWS, 9)), rng))
        error = drawn.mean(axis=0) - x
        assert (np.abs(error) <= 5 / np.sqrt(DRAWS)).all()

    def test_ternary_connect_draws_sign_or_zero(self) -> None:
        x = np.array([-0.7, -0.2, 0.4], np.float32)
        quantizer = StochasticTernary.ternary_connect()
        assert_frequency(frequencies(quantizer, x, 0), 1 - np.abs(x))
        assert frequencies(quantizer, x, 1)[0] == 0

    @pytest.mark.parametrize("quantizer", [StochasticBinary(), StochasticTernary()])
    def test_without_a_generator_nothing_is_drawn(self, quantizer: Any) -> None:
        w = normal(4, 4)
        first, second = quantizer.quantize(w), quantizer.quantize(w)
        np.testing.assert_array_equal(first, second)
        drawn = [quantizer.quantize(w, np.random.default_rng(7)) for _ in range(2)]
        np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize(
    "name", ["binary", "ternary", "stochastic-binary", "stochastic-ternary", "dorefa:1"]
)
@given(w=WEIGHTS)
def test_codes_are_legal(name: str, w: list[float]) -> None:
    x = np.array(w, np.float32)[:, None]
    quantizer = create(name).fit(x)
    codes = quantizer.quantize(x)
    assert codes.dtype == quantizer.dtype
    assert codes.shape == x.shape
    assert quantizer.minimum <= codes.min() <= codes.max() <= quantizer.maximum
    assert quantizer.dequantize(codes).dtype == np.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ternary(magnitude=1.0), "magnitude and threshold together, or neither"),
        (lambda: Binary(magnitude=-1.0), "magnitude >= 0"),
        (lambda: Binary().dequantize(np.zeros(2, np.uint8)), "a fitted quantizer"),
        (lambda: StochasticBinary(temperature=0), "temperature > 0"),
        (lambda: StochasticBinary(1.0), "magnitude, deviation together, or none"),
        (lambda: StochasticTernary(1.0, 0.5), "magnitude, threshold, deviation together, or none"),
        (lambda: StochasticTernary(sigmoid="soft"), "sigmoid to be one of logistic, hard"),  # type: ignore[arg-type]
        (lambda: create("dorefa"), r"a quantizer among binary, .*dorefa:1..16, affine:2..16"),
        (lambda: create("float"), "float quantizes nothing"),
        (lambda: create("ternary", activations=True), "activations to be affine, binary, dorefa"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(QnnRobustError, match=message):
        make()
