"""On a linear classifier the minimal distance is known in every norm."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks import FGSM, PGD, BoundaryAttack, DeepFool, SquareAttack
from tests.attacks.linear import problem

SHAPES = [(8, 8, 3), (49, 10, 1), (30,)]


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-3.5, 1.25)])
@pytest.mark.parametrize("classes", [2, 12])
@pytest.mark.parametrize("shape", SHAPES)
def test_deepfool_reaches_the_nearest_boundary(shape, classes, bounds):
    model, x, y = problem(shape, classes, bounds)
    result = DeepFool()(model, x, y)
    assert result.success.all()
    ratio = result.l2 / model.distance(x, 2.0)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.01


@pytest.mark.parametrize("shape", [(3, 2, 1), (6,)])
def test_boundary_reaches_the_nearest_boundary(shape):
    model, x, y = problem(shape, samples=6)
    result = BoundaryAttack(max_iter=300)(model, x, y)
    assert result.success.all()
    ratio = result.l2 / model.distance(x, 2.0)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.01


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-3.5, 1.25)])
@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("kind", ["fgsm", "pgd-cross-entropy", "pgd-margin"])
def test_gradient_attacks_flip_exactly_what_can_be_flipped(kind, norm, bounds):
    model, x, y = problem((6, 5, 1), 2, bounds, samples=60)
    nearest = model.distance(x, float(norm))
    eps = float(np.median(nearest))
    attack = FGSM(norm=norm, eps=eps)
    if kind != "fgsm":
        loss = kind.removeprefix("pgd-")
        attack = PGD(norm=norm, eps=eps, step=eps / 5, max_iter=80, restarts=1, loss=loss)
    result = attack(model, x, y)
    clear = np.abs(nearest / eps - 1) > (1e-3 if kind == "fgsm" else 0.02)
    assert clear.sum() > 30
    np.testing.assert_array_equal(result.success[clear], (nearest < eps)[clear])


def test_square_linf_flips_exactly_what_can_be_flipped():
    model, x, y = problem((4, 4, 1), 2, samples=40)
    nearest = model.distance(x, np.inf)
    eps = float(np.median(nearest))
    result = SquareAttack(norm=np.inf, eps=eps, max_iter=1000, p_init=0.3)(model, x, y)
    clear = np.abs(nearest / eps - 1) > 1e-3
    np.testing.assert_array_equal(result.success[clear], (nearest < eps)[clear])


@pytest.mark.parametrize("shape", [(10, 10, 1), (40,)])
def test_square_l2_flips_what_it_can_and_nothing_else(shape):
    model, x, y = problem(shape, 2, samples=40)
    nearest = model.distance(x, 2.0)
    eps = 2 * float(np.median(nearest))
    result = SquareAttack(norm=2, eps=eps, max_iter=1000, p_init=0.3)(model, x, y)
    assert not result.success[nearest > eps].any()
    assert result.success[nearest < 0.4 * eps].all()


def test_the_bounds_limit_what_a_single_step_can_reach():
    """With every element at a bound, half of the L1 and Linf moves are closed."""
    model, x, y = problem((20,), 2, samples=30)
    x = np.where(x > 0.5, 1.0, 0.0).astype(np.float32)
    y = model.classify(x)
    slope = (model.weights[1 - y] - model.weights[y]).astype(np.float64)
    gap = ((x.astype(np.float64) * -slope).sum(axis=1)) + model.bias[y] - model.bias[1 - y]
    reach = np.where(np.where(slope > 0, x < 1, x > 0), np.abs(slope), 0.0).sum(axis=1)
    eps = 0.3
    result = FGSM(norm=np.inf, eps=eps)(model, x, y)
    np.testing.assert_array_equal(result.success, reach * eps > gap)


def test_a_confident_model_does_not_hide_behind_its_cross_entropy():
    """Logits so far apart that the float32 gradient of the cross-entropy is exactly zero."""
    model, x, y = problem((6, 5, 1), 2, samples=20)
    eps = 1.5 * float(model.distance(x, np.inf).max())
    model.weights *= 1e6
    model.bias *= 1e6
    sure = np.ptp(model.logits(x), axis=1) > 1000
    assert sure.any()
    assert not model.loss_gradient(x, y).gradient[sure].any()
    assert FGSM(eps=eps)(model, x, y).success.all()
