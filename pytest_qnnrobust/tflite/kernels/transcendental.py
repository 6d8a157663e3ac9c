"""gemmlowp's fixed-point exp, reciprocal, logistic and tanh (`fixedpoint/fixedpoint.h`).

Values are int64 arrays of raw 32-bit numbers; Qi.f has i integer and f fractional bits.
"""

from __future__ import annotations

import numpy as np

from pytest_qnnrobust.tflite.fixed_point import (
    INT32_MAX,
    Integers,
    int32,
    rounding_divide_by_pot,
    saturating_left_shift,
    saturating_rounding_doubling_high_mul,
)

EXP_OF_MINUS_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp(-2**e) in Q0.31 for e = -2 .. 4."""
EXP_MINUS_EIGHTH = 1895147668
ONE_THIRD = 715827883
FORTY_EIGHT_OVER_17 = 1515870810
"""48/17 in Q2.29; with -32/17 the first guess of Newton's division."""
MINUS_32_OVER_17 = -1010580540
ONE_Q2 = 1 << 29


def exp_on_negative_values(a: Integers, integer_bits: int) -> Integers:
    """exp(a) in Q0.31 for a <= 0 in Q(integer_bits).(31 - integer_bits)."""
    fractional_bits = 31 - integer_bits
    quarter = 1 << (fractional_bits - 2)
    low = (a & (quarter - 1)) - quarter
    result = _exp_between_minus_quarter_and_0(saturating_left_shift(low, integer_bits))
    remainder = low - a
    for j, factor in enumerate(EXP_OF_MINUS_POWERS[: integer_bits + 2]):
        scaled = saturating_rounding_doubling_high_mul(result, factor)
        result = np.where(remainder & (1 << (fractional_bits - 2 + j)), scaled, result)
    return np.where(a == 0, INT32_MAX, result)


def _exp_between_minus_quarter_and_0(a: Integers) -> Integers:
    """exp(a), Q0.31 to Q0.31, by a Taylor polynomial around -1/8."""
    multiply = saturating_rounding_doubling_high_mul
    x = a + (1 << 28)
    x2 = multiply(x, x)
    x3 = multiply(x2, x)
    x4_over_4 = rounding_divide_by_pot(multiply(x2, x2), 2)
    inner = multiply(x4_over_4 + x3, ONE_THIRD) + x2
    polynomial = rounding_divide_by_pot(inner, 1)
    return EXP_MINUS_EIGHTH + multiply(EXP_MINUS_EIGHTH, x + polynomial)


def _reciprocal_of_half_sum(a: Integers) -> Integers:
    """2 / (1 + a) in Q2.29, a in Q0.31 of [0, 1]: three Newton steps."""
    multiply = saturating_rounding_doubling_high_mul
    half_denominator = (a + (1 << 31)) >> 1
    x = FORTY_EIGHT_OVER_17 + multiply(half_denominator, MINUS_32_OVER_17)
    for _ in range(3):
        error = ONE_Q2 - multiply(half_denominator, x)
        x = int32(x + saturating_left_shift(multiply(x, error), 2))
    return x


def one_over_one_plus_x(a: Integers) -> Integers:
    """1 / (1 + a), Q0.31 to Q0.31, a in [0, 1]."""
    return saturating_left_shift(_reciprocal_of_half_sum(a), 1)


def one_minus_x_over_one_plus_x(a: Integers) -> Integers:
    """(1 - a) / (1 + a), Q0.31 to Q0.31, a in [0, 1]."""
    return saturating_left_shift(_reciprocal_of_half_sum(a) - ONE_Q2, 2)


def logistic(a: Integers, integer_bits: int) -> Integers:
    """1 / (1 + exp(-a)) in Q0.31."""
    positive = one_over_one_plus_x(exp_on_negative_values(-np.abs(a), integer_bits))
    signed = np.where(a > 0, positive, INT32_MAX - positive)
    return np.where(a == 0, 1 << 30, signed)


def tanh(a: Integers, integer_bits: int) -> Integers:
    """tanh(a) in Q0.31; exp(-2|a|) is the same raw number with one more integer bit."""
    size = one_minus_x_over_one_plus_x(exp_on_negative_values(-np.abs(a), integer_bits + 1))
    return np.sign(a) * size
