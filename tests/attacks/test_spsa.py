"""SPSA: what it flips on linear models, its probe on quantized inputs, the laws of all attacks."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.attacks.gradient.pgd import PGD
from pytest_qnnrobust.attacks.scores.spsa import SPSA
from tests.attacks import laws
from tests.attacks.linear import problem

QUICK = {"max_iter": 4, "samples": 8}


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0), (-7.0, 2.5)])
def test_it_flips_exactly_what_can_be_flipped(bounds):
    model, x, y = problem((5, 4, 1), 2, bounds, samples=50)
    span = bounds[1] - bounds[0]
    nearest = model.distance(x, np.inf)
    eps = float(np.median(nearest))
    attack = SPSA(eps=eps, max_iter=60, samples=32, delta=1e-3 * span, learning_rate=eps / 5)
    result = attack(model, x, y)
    clear = np.abs(nearest / eps - 1) > 0.02
    assert clear.sum() > 30
    np.testing.assert_array_equal(result.success[clear], (nearest < eps)[clear])


@pytest.mark.parametrize("shape", [(6, 6, 3), (40,)])
def test_it_is_about_as_strong_as_pgd(shape):
    """No other library has this attack; PGD sees the gradient that SPSA has to estimate."""
    model, x, y = problem(shape, 3, samples=30)
    eps = 1.1 * float(np.median(model.distance(x, np.inf)))
    pgd = PGD(eps=eps, step=eps / 5, restarts=1, loss="margin")(model, x, y)
    ours = SPSA(eps=eps, max_iter=80, samples=64, delta=1e-3, learning_rate=eps / 5)(model, x, y)
    assert ours.success.sum() >= pgd.success.sum() - 1


def test_without_early_stop_it_goes_on_to_a_larger_margin():
    model, x, y = problem((5, 4, 1), 2, samples=12)
    eps = 2 * float(model.distance(x, np.inf).max())
    settings = {"eps": eps, "max_iter": 20, "samples": 16, "delta": 1e-3}
    first = SPSA(**settings)(model, x, y)
    last = SPSA(**settings, early_stop=False)(model, x, y)
    assert first.success.all()
    assert last.success.all()
    assert (first.queries < last.queries).all()
    rows = np.arange(len(x))
    margins = [-np.diff(model.logits(r.x_adv))[rows, 0] * np.where(y, -1, 1) for r in (first, last)]
    assert (margins[1] <= margins[0]).all()
    assert (margins[1] < margins[0]).any()


def test_a_probe_is_at_least_one_step_of_a_quantized_input():
    model, x, y = laws.case("int8", (6, 6, 3), 3, (0.0, 1.0), samples=6)
    clean = model.grid.quantize(x)[1:]
    seen = []
    evaluate = model.evaluate
    model.evaluate = lambda points: seen.append(points) or evaluate(points)
    attack = SPSA(eps=0.1, max_iter=1, samples=8, delta=1e-6)
    attack(model, x, y)
    probes = next(points for points in seen if len(points) == 5 * 16)
    steps = model.grid.quantize(probes).astype(int) - np.repeat(clean, 16, axis=0)
    np.testing.assert_array_equal(np.abs(steps), 1)


@pytest.mark.parametrize("case", laws.CASES)
def test_results_are_honest(case):
    model, x, y = laws.case(*case)
    span = model.bounds[1] - model.bounds[0]
    lengths = {"eps": 0.2 * span, "delta": 0.01 * span, "learning_rate": 0.05 * span}
    laws.honest(SPSA(**QUICK, **lengths), model, x, y)


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("dtype", laws.DTYPES)
def test_the_same_result_in_any_batch_and_order(dtype, early_stop):
    laws.same_in_any_batch(SPSA(**QUICK, early_stop=early_stop), dtype)


def test_it_stops_at_its_query_budget():
    laws.stops_at_its_budget(SPSA(eps=1e-4, samples=8))
