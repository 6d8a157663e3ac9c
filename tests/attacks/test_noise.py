"""The random-noise control in every norm."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks import NoiseAttack
from tests.attacks.linear import problem


@pytest.mark.parametrize("norm", [1, 2])
def test_noise_has_the_length_of_the_budget(norm):
    model, x, y = problem((8, 8, 3))
    result = NoiseAttack(norm=norm, eps=0.5)(model, x, y)
    np.testing.assert_allclose(getattr(result, f"l{norm}"), 0.5, rtol=1e-4)


def test_linf_noise_is_uniform():
    model, x, y = problem((32, 32, 3))
    noise = (NoiseAttack(eps=0.01)(model, x, y).x_adv - x) / 0.01
    assert np.abs(noise).max() <= 1 + 1e-5
    assert noise.std() == pytest.approx(1 / np.sqrt(3), rel=0.01)


def test_l1_noise_goes_in_every_direction_of_the_sphere():
    """A share of the L1 length falls on each element: exponential, so std = mean, either sign."""
    model, x, y = problem((32, 32, 3))
    noise = NoiseAttack(norm=1, eps=1.0)(model, x, y).x_adv - x
    size = np.abs(noise)
    assert size.std() == pytest.approx(size.mean(), rel=0.03)
    assert (noise > 0).mean() == pytest.approx(0.5, abs=0.02)
