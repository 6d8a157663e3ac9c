"""What every attack keeps to, as checks that a test file applies to its own settings."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust import metrics
from pytest_qnnrobust.attacks import UAP, Attack, FixedBudgetAttack
from tests.attacks.linear import problem, quantized_problem

CASES = [
    (None, (32, 32, 3), 12, (0.0, 1.0)),
    (None, (96, 96, 3), 2, (0.0, 255.0)),
    (None, (49, 10, 1), 2, (-7.0, 2.5)),
    (None, (25,), 12, (0.0, 255.0)),
    (None, (1, 1, 1), 2, (0.0, 1.0)),
    ("int8", (32, 32, 3), 2, (-7.0, 2.5)),
    ("int8", (49, 10, 1), 12, (0.0, 255.0)),
    ("int16", (25,), 2, (0.0, 1.0)),
    ("int16", (6, 4), 12, (0.0, 255.0)),
]

NOTHING = "a law of an attack that does nothing says nothing"

DTYPES = ["int8", pytest.param("int16", marks=pytest.mark.nightly)]
"""The grids of an attack's variants: every attack is held to the laws on both as it is."""


def case(dtype, shape, classes, bounds, samples=3):
    """A linear model of this kind, its inputs and labels, the first one wrong already."""
    build = problem if dtype is None else lambda *a, **k: quantized_problem(dtype, *a, **k)
    model, x, y = build(shape, classes, bounds, samples=samples)
    y[0] = (y[0] + 1) % classes
    return model, x, y


def fooled(result, y):
    """The samples that were right before the attack, and are not behind it."""
    return result.success & (result.clean_label == y)


def honest(attack: Attack, model, x, y):
    """The result, after checking that it fools, inside bounds and budget, and is confirmed."""
    result = attack(model, x, y, seed=3)
    assert fooled(result, y).any(), NOTHING
    clean = x if model.grid is None else model.grid.snap(x)
    span = model.bounds[1] - model.bounds[0]
    np.testing.assert_array_equal(result.adv_label, model.classify(result.x_adv))
    np.testing.assert_array_equal(result.success, result.adv_label != y)
    wrong = result.clean_label != y
    np.testing.assert_array_equal(result.x_adv[wrong], x[wrong])
    changed = result.l0 > 0
    points = result.x_adv[changed]
    assert (points >= model.bounds[0]).all()
    assert (points <= model.bounds[1]).all()
    if model.grid is not None:
        np.testing.assert_array_equal(model.grid.snap(points), points)
    found = metrics.distances(points, clean[changed])
    np.testing.assert_allclose(result.l2[changed], found.l2, rtol=1e-4, atol=1e-6 * span)
    if isinstance(attack, FixedBudgetAttack):
        norm = getattr(result, metrics.norm_name(attack.norm))
        assert (norm <= attack.eps * (1 + 1e-6)).all()
    return result


def same_in_any_batch(attack: Attack, dtype: str) -> None:
    """Equal inputs and costs for batch sizes 1, 7 and 64, and in another order."""
    model, x, y = quantized_problem(dtype, (6, 6, 3), samples=20)
    batches_agree(attack, model, x, y)


def batches_agree(attack: Attack, model, x, y, sizes=(1, 7, 64), seed=5):
    """The result in one batch; other batches and another order must not change it.

    Batches of one are tried on eight of the samples: each costs as much as a batch of 64. An
    attack that makes one perturbation for all samples needs all of them.
    """
    whole = attack(model, x, y, seed=seed)
    assert fooled(whole, y).any(), NOTHING
    everything = np.arange(len(x))
    eighths = everything[:: max(1, len(x) // 8)]
    for batch_size in sizes:
        rows = eighths if batch_size == 1 and not isinstance(attack, UAP) else everything
        again = attack(model, x[rows], y[rows], seed=seed, index=rows, batch_size=batch_size)
        for name in ("x_adv", "queries", "gradients"):
            np.testing.assert_array_equal(getattr(again, name), getattr(whole, name)[rows])
    order = np.random.default_rng(1).permutation(len(x))
    again = attack(model, x[order], y[order], seed=seed, index=order)
    np.testing.assert_array_equal(again.x_adv, whole.x_adv[order])
    return whole


def stops_at_its_budget(attack: Attack, budget: int = 37) -> None:
    """No sample spends more than `budget`, those that needed more say so, none changes for it."""
    model, x, y = problem((8, 8, 3), 3, samples=6)
    result = attack(model, x, y, query_budget=budget)
    assert (result.queries + result.gradients <= budget).all()
    assert result.exhausted.all()
    assert np.isfinite(result.x_adv).all()


def every_sample_has_its_own_budget(attack: Attack, budget: int) -> None:
    """A sample comes out as if it were attacked alone, whatever the others have spent."""
    model, x, y = problem((4, 4, 1), 2, samples=8)
    whole = attack(model, x, y, query_budget=budget)
    assert ((whole.queries + whole.gradients > 0) | whole.exhausted).all(), NOTHING
    for batch_size in (1, 3):
        again = attack(model, x, y, query_budget=budget, batch_size=batch_size)
        np.testing.assert_array_equal(again.x_adv, whole.x_adv)
        np.testing.assert_array_equal(again.queries, whole.queries)
        np.testing.assert_array_equal(again.exhausted, whole.exhausted)
