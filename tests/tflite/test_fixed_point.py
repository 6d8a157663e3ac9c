"""Fixed-point arithmetic against exact rational arithmetic in Python integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.tflite.fixed_point import (
    BLOCK,
    Requantization,
    activation_range,
    dequantize,
    multiply_by_quantized_multiplier,
    multiply_by_quantized_multiplier_int64,
    quantize,
    quantize_multiplier,
    reduce_multiplier,
    round_float32_half_away,
    round_half_away,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)

exact = settings(deadline=None, derandomize=True)
INT32 = st.integers(-(2**31), 2**31 - 1)
MULTIPLIERS = st.integers(2**30, 2**31 - 1)


def half_away(x: Fraction) -> int:
    size = (abs(x) + Fraction(1, 2)).__floor__()
    return size if x >= 0 else -size


def half_up(x: Fraction) -> int:
    return (x + Fraction(1, 2)).__floor__()


@exact
@given(st.floats(-1e15, 1e15))
def test_round_half_away_is_exact(x: float) -> None:
    assert int(round_half_away(x)) == half_away(Fraction(x))


@exact
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_float32_values_round_the_same(values: list[float]) -> None:
    x = np.array(values, np.float32)
    np.testing.assert_array_equal(round_float32_half_away(x), round_half_away(x))


def test_float32_halves_and_their_neighbours_round_the_same() -> None:
    halves = (np.arange(-(2**17), 2**17) + 0.5).astype(np.float32)
    for x in (halves, *(np.nextafter(halves, np.float32(end)) for end in (-np.inf, np.inf))):
        np.testing.assert_array_equal(round_float32_half_away(x), round_half_away(x))


def test_round_half_away_of_the_float_below_one_half_is_zero() -> None:
    assert round_half_away(np.nextafter(0.5, 0)) == 0


@exact
@given(INT32, INT32)
def test_srdhm_is_the_rounded_high_half_of_twice_the_product(a: int, b: int) -> None:
    exact = min(half_up(Fraction(a * b, 2**31)), 2**31 - 1)
    assert int(saturating_rounding_doubling_high_mul(a, b)) == exact


def test_srdhm_saturates_only_where_both_are_the_minimum() -> None:
    assert int(saturating_rounding_doubling_high_mul(-(2**31), -(2**31))) == 2**31 - 1


@exact
@given(INT32, st.integers(0, 31))
def test_rdpot_rounds_half_away_from_zero(x: int, exponent: int) -> None:
    assert int(rounding_divide_by_pot(x, exponent)) == half_away(Fraction(x, 2**exponent))


@exact
@given(st.integers(-(2**24), 2**24), MULTIPLIERS, st.integers(-31, 6))
def test_mbqm32_rounds_twice(x: int, multiplier: int, shift: int) -> None:
    high = half_up(Fraction(x * 2 ** max(shift, 0) * multiplier, 2**31))
    exact = half_away(Fraction(high, 2 ** max(-shift, 0)))
    assert multiply_by_quantized_multiplier(x, multiplier, shift) == exact


@exact
@given(st.integers(-(2**38), 2**38), MULTIPLIERS, st.integers(-31, -8))
def test_mbqm64_rounds_once_with_a_15_bit_multiplier(x: int, multiplier: int, shift: int) -> None:
    reduced = min((multiplier + 2**15) >> 16, 2**15 - 1)
    exact = half_up(Fraction(x * reduced, 2 ** (15 - shift)))
    assert multiply_by_quantized_multiplier_int64(x, multiplier, shift) == exact


@exact
@given(st.floats(1e-9, 1e6))
def test_quantize_multiplier_is_within_half_a_unit_of_the_last_place(d: float) -> None:
    multiplier, shift = quantize_multiplier(d)
    assert 2**30 <= multiplier[0] < 2**31
    unit = Fraction(2) ** (int(shift[0]) - 31)
    assert abs(int(multiplier[0]) * unit - Fraction(d)) <= unit / 2


@pytest.mark.parametrize("d", [0.0, 2.0**-33, 1e-30])
def test_quantize_multiplier_of_a_vanishing_scale_is_zero(d: float) -> None:
    multiplier, shift = quantize_multiplier(d)
    assert (multiplier[0], shift[0]) == (0, 0)


def test_quantize_multiplier_carries_into_the_shift() -> None:
    multiplier, shift = quantize_multiplier(np.nextafter(1.0, 0))
    assert (multiplier[0], shift[0]) == (2**30, 1)


@exact
@given(
    st.lists(st.integers(-(2**40), 2**40), min_size=2, max_size=20),
    MULTIPLIERS,
    st.integers(-31, 5),
    st.booleans(),
)
def test_requantization_does_not_decrease_where_it_is_safe(
    values: list[int], multiplier: int, shift: int, wide: bool
) -> None:
    requantization = Requantization(
        multiplier=np.array([multiplier]),
        shift=np.array([shift]),
        zero_point=-3,
        minimum=-32768,
        maximum=32767,
        dtype="int16",
        wide=wide,
    )
    safe = int(requantization.safe_magnitude[0])
    accumulators = np.sort(np.clip(np.array([*values, -safe, safe]), -safe, safe))
    assert (np.diff(requantization.apply(accumulators).astype(int)) >= 0).all()


@exact
@given(st.lists(st.floats(-1e4, 1e4, width=32)), st.floats(2.0**-12, 8.0, width=32))
def test_dequantized_values_quantize_to_themselves(x: list[float], scale: float) -> None:
    quantized = quantize(np.array(x, np.float32), scale, 7, np.int8)
    assert (quantize(dequantize(quantized, scale, 7), scale, 7, np.int8) == quantized).all()


def test_values_are_quantized_as_each_alone_however_many_there_are() -> None:
    x = np.random.default_rng(0).normal(0, 30, (3, BLOCK // 2)).astype(np.float32)
    x[0, 5], x[2, -1] = np.nan, np.inf
    whole = quantize(x, 0.25, 3, "int8")
    np.testing.assert_array_equal(whole[:, ::997], quantize(x[:, ::997].copy(), 0.25, 3, "int8"))
    np.testing.assert_array_equal(whole.T, quantize(x.T, 0.25, 3, "int8"))
    assert (whole[0, 5], whole[2, -1]) == (3, 127)


@pytest.mark.parametrize(
    ("x", "expected"),
    [(1e30, 127), (-1e30, -128), (np.inf, 127), (-np.inf, -128), (np.nan, 5), (0.5, 6), (-0.5, 4)],
)
def test_quantize_clips_before_it_casts(x: float, expected: int) -> None:
    assert quantize(np.float32(x), 1.0, 5, np.int8) == expected


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("NONE", (-128, 127)),
        ("RELU", (-10, 127)),
        ("RELU6", (-10, 50)),
        ("RELU_N1_TO_1", (-20, 0)),
    ],
)
def test_activation_range(function: str, expected: tuple[int, int]) -> None:
    assert activation_range(function, 0.1, -10, "int8") == expected


def test_activation_range_refuses_other_functions() -> None:
    with pytest.raises(QnnRobustError, match="activation='TANH'"):
        activation_range("TANH", 0.1, 0, "int8")


def test_reduced_multipliers_stay_in_15_bits() -> None:
    largest = [0x7FFEFFFF, 0x7FFF0000, 0x7FFF8000, 0x7FFFFFFF]
    assert reduce_multiplier(largest).tolist() == [0x7FFF] * 4
