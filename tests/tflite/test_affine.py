"""Affine forms: equal to the integer function wherever they claim to be, refused elsewhere."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_qnnrobust.tflite.affine import fit_affine, prove_affine
from pytest_qnnrobust.tflite.fixed_point import Requantization, quantize_multiplier
from pytest_qnnrobust.tflite.lowering.forms import requantization_form

multipliers = st.floats(2.0**-20, 0.999, allow_nan=False)


@settings(deadline=None, max_examples=60)
@given(
    real=st.lists(multipliers, min_size=1, max_size=4),
    zero_point=st.integers(-128, 127),
    relu=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_proved_requantization_equals_the_integers_on_its_whole_range(
    real: list[float], zero_point: int, relu: bool, seed: int
) -> None:
    multiplier, shift = quantize_multiplier(np.array(real))
    minimum = zero_point if relu else -128
    requantization = Requantization(multiplier, shift, zero_point, minimum, 127, "int8")
    bound = np.full(len(real), 2**24)
    form = requantization_form(requantization, bound)
    if form is None:
        return
    rng = np.random.default_rng(seed)
    near_ties = np.round((np.arange(-300, 300)[:, None] + 0.5) / np.array(real))
    t = np.concatenate(
        [
            rng.integers(-(2**24), 2**24, (2000, len(real))),
            *(near_ties + offset for offset in (-1, 0, 1)),
        ]
    ).clip(-(2**24), 2**24)
    np.testing.assert_array_equal(form.apply(t), requantization.apply(t.astype(np.int64)))


@given(power=st.integers(1, 12))
def test_powers_of_two_are_provable_although_they_tie(power: int) -> None:
    multiplier, shift = quantize_multiplier(2.0**-power)
    requantization = Requantization(multiplier, shift, 0, -128, 127, "int8")
    form = requantization_form(requantization, np.array([2**20]))
    assert form is not None
    t = np.arange(-(2**20), 2**20 + 1, 7)[:, None]
    np.testing.assert_array_equal(form.apply(t), requantization.apply(t))


def test_a_function_that_is_no_line_is_refused() -> None:
    form = prove_affine(
        lambda t: np.sign(t) * np.sqrt(np.abs(t)).astype(np.int64),
        np.array([0.01]),
        np.array([-(10**4)]),
        np.array([10**4]),
        (-100, 100),
    )
    assert form is None


def test_fit_affine_refuses_one_value_that_is_off() -> None:
    values = np.arange(-50, 50)
    line = values * 1.0
    assert fit_affine(values, line, values < 0, (-1000, 1000)) is not None
    values[70] += 1
    assert fit_affine(values, line, values < 0, (-1000, 1000)) is None


def test_accumulators_that_would_wrap_are_left_to_the_kernel() -> None:
    multiplier, shift = quantize_multiplier(13.7)
    requantization = Requantization(multiplier, shift, 0, -128, 127, "int8")
    safe = requantization.safe_magnitude
    assert requantization_form(requantization, safe) is not None
    assert requantization_form(requantization, safe + 1) is None
