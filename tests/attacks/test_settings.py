"""Settings are checked at construction; ids, presets and `repr` build the same objects."""

from __future__ import annotations

import dataclasses
import inspect
import re

import numpy as np
import pytest

from pytest_qnnrobust import attacks
from pytest_qnnrobust.errors import AttackError, DataError
from tests.attacks.linear import LinearModel, problem, quantized_problem


def test_a_subclass_with_another_default_keeps_the_checks():
    @dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
    class Fewer(attacks.PGD):
        restarts: int = 1

    with pytest.raises(AttackError, match="expected restarts to be an integer >= 1"):
        Fewer(restarts=0)


def test_an_unknown_attack_lists_the_known_ones():
    listed = "attack to be one of " + ", ".join(attacks.NAMES)
    with pytest.raises(AttackError, match=re.escape(f"{listed}, got attack='pdg'")):
        attacks.create("pdg")


def test_an_unknown_setting_lists_the_known_ones():
    text = "a setting of deepfool (max_iter, overshoot), got setting='epsilon'"
    with pytest.raises(AttackError, match=re.escape(text)):
        attacks.create("deepfool", epsilon=1)


def test_an_unknown_profile_lists_the_known_ones():
    with pytest.raises(
        AttackError, match=r"smoke, standard, paper, goliath.*, got profile='quick'"
    ):
        attacks.preset("pgd", "quick")


@pytest.mark.parametrize(
    ("name", "profile"),
    [(n, p) for n in attacks.NAMES for p in ("smoke", "standard", "paper")]
    + [(n, p) for p, changes in attacks.PRESETS.items() for n in changes],
)
def test_repr_rebuilds_the_attack(name, profile):
    attack = attacks.preset(name, profile, span=255.0)
    rebuilt = eval(repr(attack), {"np": np} | vars(attacks))
    assert rebuilt == attack


GOLIATH = {
    "deepfool": {"max_iter": (100, 100, 100), "overshoot": (0.008, 0.008, 0.008)},
    "jsma": {"theta": (0.08, 0.08, 0.08), "gamma": (1.0, 1.0, 1.0)},
    "cw-l2": {
        "max_iter": (10, 10, 10),
        "binary_search_steps": (10, 10, 10),
        "initial_const": (0.01, 0.01, 0.01),
    },
    "cw-linf": {"max_iter": (10, 10, 10), "learning_rate": (0.01, 0.01, 0.01)},
    "pgd": {
        "eps": (0.0008, 0.0008, 0.0008),
        "step": (0.00008, 0.00008, 0.00008),
        "restarts": (20, 20, 20),
        "max_iter": (10, 10, 10),
    },
    "ead": {"binary_search_steps": (10, 10, 10), "initial_const": (0.01, 0.01, 0.01)},
    "autoattack": {"eps": (0.004, 0.004, 0.009)},
    "zoo": {
        "max_iter": (10, 50, 10),
        "binary_search_steps": (5, 1, 2),
        "initial_const": (0.01, 0.01, 0.01),
    },
    "square-l2": {
        "eps": (1.0, 2.0, 2.0),
        "max_iter": (2000, 1000, 2000),
        "p_init": (0.8, 0.8, 0.8),
    },
    "square-linf": {
        "eps": (0.015, 0.015, 0.015),
        "max_iter": (1000, 1000, 1000),
        "p_init": (0.05, 0.05, 0.05),
    },
    "boundary": {
        "epsilon": (1.0, 1.0, 1.0),
        "delta": (0.1, 0.1, 0.1),
        "init_size": (100, 500, 100),
        "max_iter": (500, 500, 500),
    },
    "geoda": {"bin_search_tol": (0.0001, 0.0001, 0.01), "sub_dim": (75, 75, 10)},
}
"""Table 14 of "David and Goliath": CIFAR-10, VWW, Coffee."""

DIRECT = {
    "fgsm": {"eps": (0.25, 0.05)},
    "jsma": {"theta": (1.0, 0.3), "gamma": (0.1, 0.05)},
    "uap": {"eps": (0.6, 0.1)},
    "cw-l2": {
        "confidence": (5.0, 5.0),
        "max_iter": (25, 25),
        "binary_search_steps": (20, 20),
        "initial_const": (0.01, 0.01),
    },
    "boundary": {"max_iter": (15, 12)},
}
"""Table 5 of the second paper: MNIST, CIFAR-10."""

STQ = {
    "fgsm": {"norm": (1.0,), "eps": (0.6,)},
    "pgd": {"norm": (1.0,), "eps": (0.6,), "step": (0.1,)},
    "square-linf": {"eps": (0.6,)},
    "cw-l2": {"max_iter": (10,)},
    "zoo": {"max_iter": (10,), "binary_search_steps": (10,)},
}
"""Section IV of the third paper."""

PUBLISHED = {
    **{f"goliath-{name}": (GOLIATH, i) for i, name in enumerate(("cifar10", "vww", "coffee"))},
    **{f"direct-{name}": (DIRECT, i) for i, name in enumerate(("mnist", "cifar10"))},
    "stq": (STQ, 0),
}


@pytest.mark.parametrize("profile", PUBLISHED)
def test_settings_of_the_papers(profile):
    table, column = PUBLISHED[profile]
    for name, settings in table.items():
        attack = dataclasses.asdict(attacks.preset(name, profile))
        wanted = {key: values[column] for key, values in settings.items()}
        assert {key: attack[key] for key in wanted} == wanted, name
    assert set(attacks.PRESETS[profile]) >= set(table)


def test_the_paper_profile_is_the_cifar10_column():
    for name, settings in GOLIATH.items():
        attack = dataclasses.asdict(attacks.create(name))
        wanted = {key: values[0] for key, values in settings.items()}
        assert {key: attack[key] for key in wanted} == wanted, name


@pytest.mark.parametrize(
    ("profile", "name", "arts", "left_open"),
    [
        ("direct-mnist", "boundary", "BoundaryAttack", ("delta", "epsilon", "init_size")),
        ("direct-cifar10", "boundary", "BoundaryAttack", ("delta", "epsilon", "init_size")),
        ("stq", "boundary", "BoundaryAttack", ("delta", "init_size", "max_iter")),
        ("stq", "pgd", "ProjectedGradientDescent", ("max_iter",)),
        ("stq", "square-linf", "SquareAttack", ("max_iter", "p_init")),
        ("stq", "cw-l2", "CarliniL2Method", ("binary_search_steps", "initial_const")),
        ("stq", "zoo", "ZooAttack", ("initial_const", "learning_rate")),
        ("stq-strength", "square-linf", "SquareAttack", ("p_init",)),
        ("stq-strength", "square-l2", "SquareAttack", ("p_init",)),
    ],
)
def test_what_those_papers_leave_open_is_what_art_they_used_does(profile, name, arts, left_open):
    evasion = pytest.importorskip("art.attacks.evasion")
    defaults = inspect.signature(getattr(evasion, arts).__init__).parameters
    ours = dataclasses.asdict(attacks.preset(name, profile))
    assert {key: ours[key] for key in left_open} == {
        key: defaults[key].default for key in left_open
    }


def test_published_runs_keep_the_size_of_their_examples():
    published = attacks.preset("cw-linf", "goliath-cifar10", span=255.0)
    assert (published.polish_steps, published.smallest_tau) == (0, pytest.approx(255 * 0.009))
    assert attacks.create("cw-linf").polish_steps > 0
    for name in ("goliath-cifar10", "goliath-vww", "goliath-coffee"):
        assert not attacks.preset("autoattack", name).early_stop
        assert attacks.preset("ead", name).max_iter == attacks.preset("cw-l2", name).max_iter == 10


def test_an_attack_that_a_published_preset_does_not_have():
    with pytest.raises(AttackError, match=r"an attack of direct-mnist .fgsm, jsma.*attack='geoda'"):
        attacks.preset("geoda", "direct-mnist")


def test_default_lists():
    assert set(attacks.default("smoke")) < set(attacks.default("standard"))
    knowledge = {attacks.create(name).knowledge for name in attacks.default("smoke")}
    assert {"white", "gray"} <= knowledge
    assert set(attacks.PRESETS["goliath-cifar10"]) < set(attacks.default("paper"))
    assert attacks.default("stq") == tuple(attacks.PRESETS["stq"])


def test_ids_follow_the_class_and_what_tells_two_ids_apart():
    assert attacks.attack_id(attacks.create("fab-t", norm=2.0)) == "fab-t"
    assert attacks.attack_id(attacks.create("fab", norm=1.0)) == "fab"
    assert attacks.attack_id(attacks.create("pgd", norm=2.0)) == "pgd"
    assert attacks.attack_id(attacks.create("square-linf", norm=2.0)) == "square-l2"
    assert attacks.attack_id(attacks.create("apgd-ce", loss="dlr")) == "apgd"


def test_attacks_of_art_have_ids():
    attack = attacks.create("art:NewtonFool", max_iter=5)
    assert attacks.attack_id(attack) == "art:NewtonFool"
    assert attacks.is_known("art:NewtonFool")
    assert not attacks.is_known("art:NoSuchAttack")
    assert not attacks.is_known("nosuch")


def test_presets_scale_lengths_with_the_span_and_nothing_else():
    unit, wide = attacks.preset("pgd"), attacks.preset("pgd", span=255.0)
    assert wide == dataclasses.replace(unit, eps=unit.eps * 255.0, step=unit.step * 255.0)
    assert attacks.preset("boundary", span=255.0) == attacks.preset("boundary")


def test_overrides_are_in_model_units():
    assert attacks.preset("pgd", "smoke", span=255.0, eps=2.0).eps == 2.0


def test_norms_have_names():
    assert attacks.FGSM(norm="linf") == attacks.FGSM(norm=np.inf) == attacks.FGSM(norm="inf")
    assert attacks.FGSM(norm="L2") == attacks.FGSM(norm=2)


BAD_CALLS = [
    ({"x": np.zeros((2, 5), np.float32)}, DataError, r"x of shape \(N, 4\), got shape=\(2, 5\)"),
    ({"x": np.zeros((2, 4), np.uint8)}, DataError, "x of floats, got dtype='uint8'"),
    ({"x": np.full((2, 4), np.nan)}, DataError, "x without NaN"),
    ({"x": np.full((2, 4), 255.0)}, DataError, r"x in \[0, 1\].*with_bounds"),
    ({"y": np.zeros(3, int)}, DataError, r"y of shape \(2,\), got shape=\(3,\)"),
    ({"y": np.zeros(2)}, DataError, "y of integers, got dtype='float64'"),
    ({"y": np.array([0, 2])}, DataError, r"labels in 0\.\.1, got smallest=0, largest=2"),
    ({"index": np.array([0])}, DataError, r"index of shape \(2,\)"),
    ({"index": np.array([0, -1])}, DataError, "index >= 0"),
    ({"seed": -1}, AttackError, "seed to be an integer >= 0"),
    ({"batch_size": 0}, AttackError, "batch_size to be an integer >= 1"),
    ({"query_budget": 0}, AttackError, "query_budget to be an integer >= 1"),
    ({"time_budget": -1}, AttackError, "time_budget to be a number > 0"),
]


@pytest.mark.parametrize(("change", "error", "text"), BAD_CALLS)
def test_a_call_that_does_not_fit_the_model_is_one_clear_line(change, error, text):
    model, x, y = problem((4,), samples=2)
    arguments = {"x": x, "y": y} | change
    with pytest.raises(error, match=text) as caught:
        attacks.FGSM()(model, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [255.0, 1e30, -1.5])
def test_pixels_for_a_quantized_model_of_another_domain_are_refused(value):
    model, x, y = quantized_problem("int8", (4,), bounds=(-1.0, 1.0), samples=2)
    with pytest.raises(DataError, match=r"x in \[.*with_bounds"):
        attacks.FGSM()(model, np.full_like(x, value), y)


def test_a_budget_beyond_the_domain_is_refused():
    model, x, y = problem((4,))
    with pytest.raises(AttackError, match=r"eps to be in \(0, 1\], got eps=8; eps is in model"):
        attacks.FGSM(eps=8)(model, x, y)


def test_a_white_box_attack_needs_gradients():
    model, x, y = problem((4,))
    model.differentiable = False
    with pytest.raises(AttackError, match=r"differentiable model for PGD.*surrogate"):
        attacks.create("pgd")(model, x, y)


def test_a_model_on_a_coarse_grid_accepts_data_between_its_steps():
    from tests.attacks.linear import grid_for

    bounds = (-40.0, 108.0)
    grid = grid_for("int8", bounds)
    model = LinearModel(np.ones((2, 4)), np.array([0.0, 1.0]), (4,), grid.range, grid)
    result = attacks.create("noise")(model, np.full((2, 4), 0.2, np.float32), np.ones(2, int))
    np.testing.assert_array_equal(result.clean_label, [1, 1])
