"""Zero density and alignment of gradients, measured rightly and as published."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_qnnrobust.claims.gradient_metrics import (
    cosine_similarity,
    published_gradient,
    zero_density,
)
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.models.grid import InputGrid
from tests.attacks.linear import LinearModel

GRID = InputGrid(1 / 255, -128, "int8")


def test_the_density_counts_exact_zeros():
    gradient = np.array([[[0.0, -0.0], [1.0, 1e-45]], [[0.0, 0.0], [0.0, 0.0]]], np.float32)
    np.testing.assert_array_equal(zero_density(gradient), [0.5, 1.0])


@given(st.integers(0, 10_000), st.floats(1e-6, 1e6))
def test_the_cosine_has_the_laws_of_an_angle(seed, factor):
    a, b = np.random.default_rng(seed).normal(size=(2, 5, 3, 4))
    cosine = cosine_similarity(a, b)
    assert (np.abs(cosine) <= 1 + 1e-12).all()
    np.testing.assert_allclose(cosine_similarity(a, a), 1)
    np.testing.assert_allclose(cosine_similarity(a, -a), -1)
    np.testing.assert_allclose(cosine_similarity(b, a), cosine)
    np.testing.assert_allclose(cosine_similarity(factor * a, b), cosine)


def test_a_gradient_of_zeros_has_no_direction():
    a, b = np.zeros((2, 3)), np.array([[1.0, 0, 0], [0, 1, 0]])
    assert np.isnan(cosine_similarity(a, b)).all()
    np.testing.assert_array_equal(cosine_similarity(b, b[::-1]), [0, 0])


def test_gradients_of_two_shapes_are_refused():
    with pytest.raises(QnnRobustError, match=r"expected two gradients of one shape, got first="):
        cosine_similarity(np.ones((2, 3)), np.ones((2, 4)))


def test_the_published_step_moves_integers_towards_zero():
    """Cut off towards zero, q + 1e-5 and q - 1e-5 differ by one step unless q is 0."""
    weights = np.array([[0.05, 0.05, 0.05], [0, 0, 0]])
    model = LinearModel(weights, np.zeros(2), (3,), (0.0, 1.0), GRID)
    x = GRID.dequantize(np.array([[-100, 0, 50]], np.int8))
    y = np.array([0])
    found = published_gradient(model, x, y)
    assert found.shape == (1, 3)
    assert found[0, 0] != 0
    assert found[0, 1] == 0
    assert found[0, 2] != 0
    assert zero_density(found)[0] == pytest.approx(1 / 3)


def test_float32_losses_lose_a_step_that_the_network_sees():
    weights = np.array([[1e-4, 1.0], [0.0, 0.0]])
    model = LinearModel(weights, np.array([0.5, 0.0]), (2,))
    x, y = np.full((1, 2), 0.5, np.float32), np.array([0])
    found = published_gradient(model, x, y)
    assert zero_density(found)[0] == 0.5
    assert zero_density(model.loss_gradient(x, y).gradient)[0] == 0.0
    assert zero_density(model.with_gradient("finite-difference").loss_gradient(x, y).gradient) == 0
