"""PGD in every norm and shape, and the basic iterative method."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks import PGD
from pytest_qnnrobust.attacks.gradient.pgd import BIM
from tests.attacks import laws
from tests.attacks.linear import problem, quantized_problem


def test_bim_is_one_climb_from_the_clean_image_under_its_own_name():
    model, x, y = problem((6, 5, 1), 3)
    eps = float(np.median(model.distance(x, np.inf)))
    bim = BIM(eps=eps, step=eps / 5)
    twin = PGD(eps=eps, step=eps / 5, restarts=1, random_start=False)
    result = bim(model, x, y)
    np.testing.assert_array_equal(result.x_adv, twin(model, x, y).x_adv)
    assert (result.gradients == bim.max_iter).all()
    assert eval(repr(bim), {"np": np, "BIM": BIM}) == bim != twin


@pytest.mark.parametrize("dtype", laws.DTYPES)
@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_the_same_result_in_any_batch_and_order(norm, dtype):
    model, x, y = quantized_problem(dtype, samples=10)
    eps = {1: 4.0, 2: 0.5, np.inf: 0.03}[norm]
    attack = PGD(norm=norm, eps=eps, step=eps / 5, restarts=4, loss="margin")
    laws.batches_agree(attack, model, x, y, (1, 7, 64))


@pytest.mark.parametrize("shape", [(32, 32, 3), (96, 96, 3), (49, 10, 1), (300,)])
@pytest.mark.parametrize("classes", [2, 12])
@pytest.mark.parametrize("norm", [2, np.inf])
def test_it_flips_what_is_well_inside_the_ball(norm, classes, shape):
    model, x, y = problem(shape, classes, (-7.0, 2.5), samples=4)
    nearest = model.distance(x, float(norm))
    eps = 1.5 * float(nearest.max())
    result = PGD(norm=norm, eps=eps, step=eps / 4, restarts=2)(model, x, y)
    assert result.success.all()
    tiny = 0.5 * float(nearest.min())
    result = PGD(norm=norm, eps=tiny, step=tiny / 4, restarts=2)(model, x, y)
    assert not result.success.any()


def test_a_query_budget_is_kept():
    model, x, y = problem()
    result = PGD(eps=1e-4, step=1e-5)(model, x, y, query_budget=25)
    assert (result.queries + result.gradients <= 25).all()
    assert result.exhausted.all()
