"""DoReFa-Net: the equations of Zhou et al. 2016, written out again in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.quantizers import Binary, DoReFaActivations, DoReFaWeights, dorefa_weights

BITS = (1, 2, 4, 8, 12, 16)
UNIT = st.floats(-1, 2, width=32)


@given(x=UNIT, bits=st.sampled_from(BITS))
def test_activations_are_equation_11(x: float, bits: int) -> None:
    n = 2**bits - 1
    quantizer = DoReFaActivations(bits)
    code = quantizer.quantize(np.array([x], np.float32))
    expected = round(Fraction(min(max(x, 0.0), 1.0)) * n)
    assert code[0] == expected
    assert quantizer.dequantize(code)[0] == np.float32(expected / n)


@given(w=st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=20), bits=st.integers(2, 16))
def test_weights_are_equation_9(w: list[float], bits: int) -> None:
    n = 2**bits - 1
    peak = max(abs(math.tanh(v)) for v in w) or 1.0
    quantizer = DoReFaWeights(bits).fit(np.array(w, np.float32))
    codes = quantizer.quantize(np.array(w, np.float32))
    for value, code in zip(w, codes.tolist(), strict=True):
        unit = math.tanh(value) / (2 * peak) + 0.5
        assert abs(code - unit * n) <= 0.5 + 1e-9
    values = quantizer.dequantize(codes)
    np.testing.assert_array_equal(values, (2 * (codes / n) - 1).astype(np.float32))


def test_one_bit_is_equation_7() -> None:
    w = np.array([[-0.5, 0.25], [0.0, 1.25]], np.float32)
    quantizer = dorefa_weights(1)
    assert isinstance(quantizer, Binary)
    fitted = quantizer.fit(w)
    codes = fitted.quantize(w)
    assert codes.tolist() == [[0, 1], [1, 1]]
    assert fitted.dequantize(codes).tolist() == [[-0.5, 0.5], [0.5, 0.5]]


def test_halves_go_to_the_even_code() -> None:
    x = np.array([0.5 / 3, 1.5 / 3, 2.5 / 3])
    quantizer = DoReFaActivations(2)
    assert quantizer.quantize(x).tolist() == [0, 2, 2]
    assert quantizer.rounding == "half_even"


def test_two_bits_by_hand() -> None:
    w = np.arctanh(np.array([-0.8, -0.3, 0.1, 0.8])).astype(np.float32)
    quantizer = DoReFaWeights(2).fit(w)
    codes = quantizer.quantize(w)
    assert codes.tolist() == [0, 1, 2, 3]
    expected = np.array([-1, -1 / 3, 1 / 3, 1], np.float32)
    np.testing.assert_array_equal(quantizer.dequantize(codes), expected)


@given(w=st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=30), bits=st.sampled_from(BITS))
def test_codes_do_not_decrease_with_the_weight(w: list[float], bits: int) -> None:
    values = np.sort(np.array(w, np.float32))
    codes = dorefa_weights(bits).fit(values).quantize(values).astype(np.int64)
    assert (np.diff(codes) >= 0).all()
    assert codes.min() >= 0
    assert codes.max() <= 2**bits - 1


@given(w=st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=30), bits=st.integers(2, 16))
def test_warped_weights_are_rounded_within_half_a_step(w: list[float], bits: int) -> None:
    x = np.array(w, np.float32)
    quantizer = DoReFaWeights(bits).fit(x)
    step = 2 / (2**bits - 1)
    distance = np.abs(quantizer.dequantize(quantizer.quantize(x)) - quantizer.warp(x))
    assert (distance <= step / 2 + 1e-7).all()


def test_without_fit_the_tensor_is_its_own() -> None:
    w = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    quantizer = DoReFaWeights(4)
    np.testing.assert_array_equal(quantizer.quantize(w), quantizer.fit(w).quantize(w))
    order = np.random.default_rng(1).permutation(w.size)
    shuffled = w.ravel()[order]
    np.testing.assert_array_equal(
        quantizer.quantize(shuffled), quantizer.quantize(w).ravel()[order]
    )


def test_zeros_and_nan() -> None:
    zeros = np.zeros(3, np.float32)
    assert DoReFaWeights(2).fit(zeros).peak == 1
    assert DoReFaActivations(4).quantize(np.array([np.nan, np.inf, -np.inf])).tolist() == [0, 15, 0]


@pytest.mark.parametrize("bits", [0, 17])
def test_bad_bits(bits: int) -> None:
    with pytest.raises(QnnRobustError) as error:
        DoReFaActivations(bits)
    assert str(error.value) == f"expected bits from 1 to 16, got bits={bits}"
    with pytest.raises(QnnRobustError, match="bits from 2 to 16"):
        DoReFaWeights(1)
