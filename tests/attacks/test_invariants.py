"""What holds for every attack on every model: budget, bounds, grid, honest success."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_qnnrobust import attacks, metrics
from tests.attacks import laws
from tests.attacks.linear import problem, quantized_problem
from tests.helpers.examples import examples

SHAPES = [(6, 6, 3), (32, 32, 3), (96, 96, 3), (49, 10, 1), (12, 4), (25,), (1, 1, 1), (3, 1, 2)]
DOMAINS = [(0.0, 1.0), (0.0, 255.0), (-7.0, 2.5)]
QUICK = {
    "pgd": {"restarts": 2, "max_iter": 4},
    "square-linf": {"max_iter": 25},
    "square-l2": {"max_iter": 25},
    "square-l1": {"max_iter": 25},
    "boundary": {"max_iter": 4, "sample_size": 5, "num_trial": 3, "init_size": 6},
    "deepfool": {"max_iter": 5},
    "bim": {"max_iter": 4},
    "apgd-ce": {"max_iter": 6},
    "apgd-t": {"max_iter": 6, "targets": 2},
    "fab": {"max_iter": 4},
    "fab-t": {"max_iter": 4, "targets": 2},
    "jsma": {"max_iter": 20},
    "cw-l0": {"max_iter": 2, "polish_steps": 2},
    "cw-l2": {"max_iter": 4, "binary_search_steps": 3, "polish_steps": 3},
    "cw-linf": {"max_iter": 4, "polish_steps": 3},
    "ead": {"max_iter": 6, "binary_search_steps": 3, "polish_steps": 3},
    "uap": {"max_iter": 2},
    "zoo": {"max_iter": 3, "binary_search_steps": 2, "coordinates": 8},
    "spsa": {"max_iter": 3, "samples": 8},
    "geoda": {"max_iter": 120, "init_size": 6},
    "hopskipjump": {"max_iter": 2, "init_eval": 20, "init_size": 6},
}
ALL = (1, 2, np.inf)
NORMS = {"noise": ALL, "fgsm": ALL, "pgd": ALL, "bim": ALL, "apgd-ce": ALL, "apgd-t": ALL}
NORMS |= {"fab": ALL, "fab-t": ALL, "geoda": ALL, "hopskipjump": (2, np.inf), "uap": (2, np.inf)}
OTHERS = [
    ("ead", {"decision_rule": "L1"}),
    ("jsma", {"saliency": "logits"}),
    ("uap", {"inner": "pgd"}),
    ("uap", {"inner": "deepfool"}),
    ("zoo", {"use_resize": True, "use_importance": True}),
    ("zoo", {"symmetric": True}),
]
SLOW = ("autoattack",)
"""Too many questions for all models; test_autoattack.py holds it to the same laws."""

VARIANTS = [
    *((name, {"norm": norm}) for name, norms in NORMS.items() for norm in norms),
    *((name, {}) for name in attacks.NAMES if name not in (*NORMS, *SLOW)),
    *OTHERS,
]


@st.composite
def models(draw):
    """A linear model of any kind with four samples, and a share of the domain as a budget."""
    dtype = draw(st.sampled_from([None, "int8", "int16"]))
    shape = draw(st.sampled_from(SHAPES))
    bounds = draw(st.sampled_from(DOMAINS))
    classes = draw(st.sampled_from([2, 12]))
    seed = draw(st.integers(0, 50))
    build = problem if dtype is None else lambda *a, **k: quantized_problem(dtype, *a, **k)
    model, x, y = build(shape, classes, bounds, samples=4, seed=seed)
    y[0] = (y[0] + draw(st.integers(0, 1))) % classes
    return model, x, y, draw(st.sampled_from([1e-7, 0.001, 0.03, 0.4, 1.0]))


def variant(name, changes, shape, span, share):
    """A quick version of the attack, with a budget of this share of the largest distance."""
    chosen = QUICK.get(name, {}) | changes
    attack = attacks.preset(name, span=span, **chosen)
    if isinstance(attack, attacks.FixedBudgetAttack):
        size = 1.0 if np.isinf(attack.norm) else np.prod(shape) ** (1 / attack.norm)
        eps = float(share * size * span)
        chosen |= {"eps": eps} | ({"step": eps / 3} if name in ("bim", "pgd") else {})
        attack = attacks.preset(name, **chosen)
    return attack


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_results_are_inside_budget_and_bounds_and_confirmed(name, changes):
    fooled = []

    @settings(max_examples=examples(24))
    @given(case=models())
    @example(case=(*problem((12, 4), samples=4), 0.4))  # Every attack fools some of these.
    def law(case):
        model, x, y, share = case
        span = model.bounds[1] - model.bounds[0]
        attack = variant(name, changes, x.shape[1:], span, share)
        result = attack(model, x, y, seed=3)
        require_inside_and_confirmed(result, attack, model, x, y)
        fooled.append(laws.fooled(result, y).any())

    law()
    assert any(fooled), laws.NOTHING


def require_inside_and_confirmed(result, attack, model, x, y):
    span = model.bounds[1] - model.bounds[0]
    clean = x if model.grid is None else model.grid.snap(x)
    untouched = (result.clean_label != y) | (result.l0 == 0)

    assert result.x_adv.shape == x.shape
    assert result.x_adv.dtype == np.float32
    np.testing.assert_array_equal(result.x_adv[untouched], x[untouched])
    np.testing.assert_array_equal(result.clean_label, model.classify(x))
    np.testing.assert_array_equal(result.adv_label, model.classify(result.x_adv))
    np.testing.assert_array_equal(result.success, result.adv_label != y)
    assert result.success[result.clean_label != y].all()
    assert result.queries[result.clean_label != y].sum() == 0
    changed = result.x_adv[~untouched]
    assert (changed >= model.bounds[0]).all()
    assert (changed <= model.bounds[1]).all()
    if model.grid is not None:
        np.testing.assert_array_equal(model.grid.snap(changed), changed)
    found = metrics.distances(changed, clean[~untouched])
    np.testing.assert_allclose(result.linf[~untouched], found.linf, rtol=1e-4, atol=1e-6 * span)
    np.testing.assert_allclose(result.l2[~untouched], found.l2, rtol=1e-4, atol=1e-6 * span)
    if isinstance(attack, attacks.FixedBudgetAttack):
        norm = getattr(result, metrics.norm_name(attack.norm))
        slack = 0.0 if model.grid is None else 1e-6
        assert (norm <= attack.eps * (1 + slack)).all()
    else:
        assert (result.l0[~result.success] == 0).all()


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("name", [name for name in attacks.NAMES if name not in SLOW])
def test_the_same_result_in_any_batch_and_order(name, dtype):
    model, x, y = quantized_problem(dtype, (4, 4, 3), samples=65)
    attack = variant(name, {}, x.shape[1:], 1.0, 0.1 if name == "noise" else 0.02)
    laws.batches_agree(attack, model, x, y, (1, 64))


def test_another_seed_draws_other_noise():
    model, x, y = problem()
    noise = attacks.create("noise")
    first, second = noise(model, x, y, seed=0).x_adv, noise(model, x, y, seed=1).x_adv
    assert (first != second).mean() > 0.9


@pytest.mark.parametrize("name", attacks.NAMES)
def test_no_samples_at_all(name):
    model, x, y = problem()
    result = attacks.create(name)(model, x[:0], y[:0])
    assert len(result) == 0
    assert result.x_adv.shape == x[:0].shape


def test_a_budget_below_half_a_step_changes_nothing_on_a_quantized_input():
    model, x, y = quantized_problem("int8")
    result = attacks.create("square-linf", eps=0.0008)(model, x, y)
    assert not result.success.any()
    assert result.queries.sum() == 0
    np.testing.assert_array_equal(result.x_adv, x)


def test_a_budget_of_eight_pixel_steps_is_eight_steps():
    model, x, y = quantized_problem("int8", bounds=(0.0, 1.0))
    result = attacks.FGSM(eps=8 / 255, loss="margin")(model, x, y)
    moved = model.grid.quantize(result.x_adv).astype(int) - model.grid.quantize(x)
    assert np.abs(moved).max() == 8
    np.testing.assert_allclose(result.linf, 8 * model.grid.scale, rtol=1e-12)


@pytest.mark.parametrize("budget", [7, 60, pytest.param(400, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", [n for n in attacks.NAMES if n not in ("uap", *SLOW)])
def test_every_sample_has_its_own_budget(name, budget):
    laws.every_sample_has_its_own_budget(attacks.create(name, **QUICK.get(name, {})), budget)
