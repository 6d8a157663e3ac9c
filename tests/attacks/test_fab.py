"""FAB finds the nearest boundary of linear models and beats DeepFool elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks import PGD, DeepFool
from pytest_qnnrobust.attacks.gradient.fab import FAB
from pytest_qnnrobust.metrics import norm_name
from tests.attacks.laws import DTYPES
from tests.attacks.linear import LinearModel, problem, quantized_problem

NORMS = [1, 2, np.inf]
KINDS = [False, True]


class CurvedModel(LinearModel):
    """A logit is w . x + b plus the square of another such form: curved boundaries."""

    def __init__(self, seed: int = 0, shape=(6, 5, 1), classes: int = 4) -> None:
        rng = np.random.default_rng(seed)
        size = int(np.prod(shape))
        super().__init__(rng.normal(size=(classes, size)), np.zeros(classes), shape)
        self.second = rng.normal(size=(classes, size))

    def _forms(self, x):
        return (x.reshape(len(x), -1).astype(np.float64) - 0.5) @ self.second.T

    def _logits(self, x):
        return (super()._logits(x) + self._forms(x) ** 2).astype(np.float32)

    def _jacobian(self, x, weights):
        slopes = self.weights + 2 * self._forms(x)[..., None] * self.second
        sums = weights.astype(np.float64) @ slopes
        return self._logits(x), sums.reshape(*sums.shape[:2], *self.input_shape).astype(np.float32)

    def _loss_gradient(self, x, y, rival, loss):
        from pytest_qnnrobust.attacks import score_losses
        from tests.attacks.linear import loss_slopes

        logits = self._logits(x)
        weights = loss_slopes(loss, logits.astype(np.float64), y, rival)
        gradient = self._jacobian(x, weights[:, None])[1][:, 0]
        return logits, score_losses.value(loss, logits, y, rival).astype(np.float32), gradient


def curved(samples: int = 30, seed: int = 0):
    model = CurvedModel(seed)
    x = np.random.default_rng(seed).uniform(0, 1, (samples, *model.input_shape))
    x = x.astype(np.float32)
    return model, x, model.classify(x)


def own_norm(result, norm):
    return getattr(result, norm_name(float(norm)))


@pytest.mark.parametrize("targeted", KINDS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-7.0, 2.5)])
@pytest.mark.parametrize(("shape", "classes"), [((8, 8, 3), 2), ((49, 10, 1), 12), ((25,), 12)])
def test_it_reaches_the_nearest_boundary(shape, classes, bounds, norm, targeted):
    model, x, y = problem(shape, classes, bounds)
    result = FAB(norm=norm, targeted=targeted, targets=11, max_iter=8)(model, x, y)
    assert result.success.all()
    ratio = own_norm(result, norm) / model.distance(x, float(norm))
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.01


@pytest.mark.parametrize("norm", [2, np.inf])
@pytest.mark.parametrize("shape", [(32, 32, 3), (96, 96, 3)])
def test_images_of_two_sizes(shape, norm):
    model, x, y = problem(shape, 2, samples=3)
    result = FAB(norm=norm, max_iter=4)(model, x, y)
    ratio = own_norm(result, norm) / model.distance(x, float(norm))
    np.testing.assert_allclose(ratio, 1, atol=0.01)


@pytest.mark.parametrize("norm", NORMS)
def test_samples_on_the_bounds_are_moved_inside_them(norm):
    model, x, _ = problem((20,), 2, samples=30)
    x = np.where(x > 0.5, 1.0, 0.0).astype(np.float32)
    y = model.classify(x)
    slope = model.weights[1 - y] - model.weights[y]
    gap = -((slope * x).sum(axis=1) + model.bias[1 - y] - model.bias[y])
    room = np.where(np.where(slope > 0, x < 1, x > 0), np.abs(slope), 0.0)
    reachable = room.sum(axis=1) > 1.05 * gap
    result = FAB(norm=norm, max_iter=10)(model, x, y)
    assert reachable.sum() > 20
    np.testing.assert_array_equal(result.success[reachable], True)
    if norm != 2:
        nearest = gap / room.max(axis=1) if norm == 1 else gap / room.sum(axis=1)
        single = reachable & (nearest <= 1)
        ratio = own_norm(result, norm)[single] / nearest[single]
        np.testing.assert_allclose(ratio, 1, atol=0.01)


@pytest.mark.parametrize("targeted", KINDS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_in_any_batch_and_order_on_a_quantized_model(dtype, norm, targeted):
    model, x, y = quantized_problem(dtype)
    attack = FAB(norm=norm, targeted=targeted, restarts=2, max_iter=5, targets=2)
    whole = attack(model, x, y, seed=4)
    assert whole.success.all()
    np.testing.assert_array_equal(model.grid.snap(whole.x_adv), whole.x_adv)
    np.testing.assert_array_equal(model.classify(whole.x_adv), whole.adv_label)
    for batch_size in (1, 7, 64):
        again = attack(model, x, y, seed=4, batch_size=batch_size)
        np.testing.assert_array_equal(again.x_adv, whole.x_adv)
        np.testing.assert_array_equal(again.queries, whole.queries)
        np.testing.assert_array_equal(again.gradients, whole.gradients)
    order = np.random.default_rng(1).permutation(len(x))
    again = attack(model, x[order], y[order], seed=4, index=order)
    np.testing.assert_array_equal(again.x_adv, whole.x_adv[order])


@pytest.mark.parametrize(("targeted", "queries", "gradients"), [(False, 15, 15), (True, 26, 15)])
def test_what_a_run_costs(targeted, queries, gradients):
    model, x, y = problem(classes=4)
    result = FAB(norm=2, max_iter=5, targeted=targeted)(model, x, y)
    assert (result.queries <= queries).all()
    assert result.queries.max() == queries
    assert (result.gradients == gradients).all()
    assert model.gradients == result.gradients.sum()


def test_the_query_budget_is_kept_and_what_was_found_stays():
    model, x, y = problem(classes=4)
    result = FAB(norm=2)(model, x, y, query_budget=37)
    assert (result.queries + result.gradients <= 37).all()
    assert result.exhausted.all()
    assert result.success.all()


def test_a_model_without_gradient_is_left_alone():
    model, x, y = problem(classes=3)
    model.weights[:] = 0
    model.bias[:] = [0, 1, 2]
    result = FAB()(model, x, np.full_like(y, 2))
    assert not result.success.any()
    assert (result.gradients == 2).all()
    assert not result.exhausted.any()


@pytest.mark.parametrize("targeted", KINDS)
def test_early_stop_takes_no_step_after_a_point_within_eps(targeted):
    model, x, y = curved()
    full = FAB(norm=2, targeted=targeted, restarts=2, max_iter=20)(model, x, y)
    eps = float(np.median(full.l2))
    quick = FAB(norm=2, targeted=targeted, restarts=2, max_iter=20, eps=eps, early_stop=True)
    result = quick(model, x, y)
    assert result.queries.sum() < full.queries.sum()
    assert result.success.all()
    assert ((result.l2 <= eps) | (full.l2 > 0.98 * eps)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_restarts_and_targets_only_bring_it_nearer(norm):
    model, x, y = curved()
    single = FAB(norm=norm, max_iter=30)(model, x, y)
    several = FAB(norm=norm, max_iter=30, restarts=4)(model, x, y)
    assert (own_norm(several, norm) <= own_norm(single, norm)).all()
    targeted = FAB(norm=norm, max_iter=30, targeted=True)(model, x, y)
    assert own_norm(targeted, norm).mean() <= 1.01 * own_norm(single, norm).mean()


def test_nearer_than_deepfool_in_l2():
    model, x, y = curved(60)
    ours, deepfool = FAB(norm=2)(model, x, y), DeepFool()(model, x, y)
    assert ours.success.all()
    assert deepfool.success.all()
    assert ours.l2.mean() < deepfool.l2.mean()
    assert (ours.l2 <= 1.001 * deepfool.l2).mean() > 0.9


@pytest.mark.parametrize("norm", NORMS)
def test_as_near_as_the_smallest_ball_in_which_pgd_succeeds(norm):
    model, x, y = curved(20)
    ours = own_norm(FAB(norm=norm, restarts=3)(model, x, y), norm)
    for row in range(4):
        eps = float(0.97 * ours[row])
        pgd = PGD(norm=norm, eps=eps, step=eps / 10, max_iter=25, restarts=2, loss="margin")
        assert not pgd(model, x[row : row + 1], y[row : row + 1]).success.any()
