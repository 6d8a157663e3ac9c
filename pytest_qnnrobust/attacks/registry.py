"""Attack ids, as options, reports and tables name them, and the settings behind each."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from pytest_qnnrobust.attacks.art import wrapper
from pytest_qnnrobust.attacks.art.wrapper import ArtAttack, ArtBudgetAttack
from pytest_qnnrobust.attacks.autoattack import AutoAttack
from pytest_qnnrobust.attacks.base import Attack, MinimalDistortionAttack
from pytest_qnnrobust.attacks.carlini.ead import EAD
from pytest_qnnrobust.attacks.carlini.l0 import CarliniL0
from pytest_qnnrobust.attacks.carlini.l2 import CarliniL2
from pytest_qnnrobust.attacks.carlini.linf import CarliniLinf
from pytest_qnnrobust.attacks.decisions.boundary import BoundaryAttack
from pytest_qnnrobust.attacks.decisions.geoda import GeoDA
from pytest_qnnrobust.attacks.decisions.hopskipjump import HopSkipJump
from pytest_qnnrobust.attacks.gradient.apgd import APGD, APGDT
from pytest_qnnrobust.attacks.gradient.deepfool import DeepFool
from pytest_qnnrobust.attacks.gradient.fab import FAB
from pytest_qnnrobust.attacks.gradient.fgsm import FGSM
from pytest_qnnrobust.attacks.gradient.jsma import JSMA
from pytest_qnnrobust.attacks.gradient.pgd import BIM, PGD
from pytest_qnnrobust.attacks.gradient.uap import UAP
from pytest_qnnrobust.attacks.noise import NoiseAttack
from pytest_qnnrobust.attacks.presets import GOLIATH, PRESETS, Settings
from pytest_qnnrobust.attacks.scores.spsa import SPSA
from pytest_qnnrobust.attacks.scores.zoo import ZOO
from pytest_qnnrobust.attacks.square.attack import SquareAttack
from pytest_qnnrobust.errors import AttackError, expected

BUDGETS = ("smoke", "standard", "paper")
PROFILES: tuple[str, ...] = (*BUDGETS, *PRESETS)


@dataclass(frozen=True)
class Entry:
    """An attack class under an id.

    `paper` holds the settings of the source for inputs of span 1.0; `smoke` and `standard` what
    they change of it; `lengths` the settings that are input units and scale with the span. What a
    published preset changes is in PRESETS.
    """

    attack: type[Attack]
    paper: Settings
    standard: Settings = field(default_factory=dict)
    smoke: Settings = field(default_factory=dict)
    lengths: tuple[str, ...] = ()

    def settings(self, changes: Settings, span: float) -> Settings:
        """The paper's settings with these `changes`, for inputs of this span."""
        chosen = self.paper | changes
        return {k: v * span if k in self.lengths else v for k, v in chosen.items()}


# "David and Goliath", Table 14, CIFAR-10 column, where the table has the attack. Two of its rows
# stand a line too high: the epsilons under EAD (0.004, 0.004, 0.009) are AutoAttack's, which has no
# other row, those under ZOO (1, 2, 2) Square-L2's, whose mean L2 in Table 5 is 0.87, 1.80 and 1.80.
# FGSM, BIM and APGD have PGD's largest epsilon, noise and SPSA that of Square-Linf; the
# rest are their authors' defaults, or those of ART, which the paper used.
ENTRIES: dict[str, Entry] = {
    "noise": Entry(NoiseAttack, {"norm": np.inf, "eps": 0.015, "repeats": 1}, lengths=("eps",)),
    "fgsm": Entry(FGSM, {"norm": np.inf, "eps": 0.0008}, lengths=("eps",)),
    "bim": Entry(
        BIM,
        {"norm": np.inf, "eps": 0.0008, "step": 0.00008, "max_iter": 10},
        lengths=("eps", "step"),
    ),
    "pgd": Entry(
        PGD,
        {"norm": np.inf, "eps": 0.0008, "step": 0.00008, "restarts": 20, "max_iter": 10},
        standard={"restarts": 5},
        smoke={"restarts": 1},
        lengths=("eps", "step"),
    ),
    "apgd-ce": Entry(
        APGD,
        {"norm": np.inf, "eps": 0.0008, "max_iter": 100},
        standard={"max_iter": 50},
        smoke={"max_iter": 20},
        lengths=("eps",),
    ),
    "apgd-t": Entry(
        APGDT,
        {"norm": np.inf, "eps": 0.0008, "max_iter": 100, "targets": 9},
        standard={"max_iter": 50, "targets": 4},
        smoke={"max_iter": 20, "targets": 2},
        lengths=("eps",),
    ),
    "fab": Entry(
        FAB,
        {"norm": np.inf, "max_iter": 100},
        standard={"max_iter": 30},
        smoke={"max_iter": 10},
    ),
    "fab-t": Entry(
        FAB,
        {"norm": np.inf, "max_iter": 100, "targeted": True, "targets": 9},
        standard={"max_iter": 50, "targets": 4},
        smoke={"max_iter": 20, "targets": 2},
    ),
    "deepfool": Entry(
        DeepFool,
        {"max_iter": 100, "overshoot": 0.008},
        standard={"max_iter": 50},
        smoke={"max_iter": 20},
    ),
    "jsma": Entry(
        JSMA,
        {"theta": 0.08, "gamma": 1.0},
        lengths=("theta",),
    ),
    "cw-l0": Entry(
        CarliniL0,
        {"max_iter": 10, "learning_rate": 0.01, "initial_const": 0.01},
    ),
    "cw-l2": Entry(
        CarliniL2,
        {"max_iter": 10, "binary_search_steps": 10, "initial_const": 0.01},
        standard={"binary_search_steps": 6},
        smoke={"binary_search_steps": 4},
    ),
    "cw-linf": Entry(
        CarliniLinf, {"max_iter": 10, "learning_rate": 0.01}, lengths=("smallest_tau",)
    ),
    "ead": Entry(
        EAD,
        {"max_iter": 100, "binary_search_steps": 10, "initial_const": 0.01, "learning_rate": 0.01},
        standard={"max_iter": 50, "binary_search_steps": 6},
        smoke={"max_iter": 20, "binary_search_steps": 4},
    ),
    "uap": Entry(
        UAP, {"norm": np.inf, "eps": 0.1, "inner_eps": 0.01}, lengths=("eps", "inner_eps")
    ),
    "autoattack": Entry(
        AutoAttack, {"norm": np.inf, "eps": 0.004, "version": "standard"}, lengths=("eps",)
    ),
    "zoo": Entry(
        ZOO,
        {
            "max_iter": 10,
            "binary_search_steps": 5,
            "initial_const": 0.01,
            "h": 1e-4,
            "quantized_h": 0.1,
            "learning_rate": 0.01,
        },
        lengths=("h", "quantized_h", "learning_rate"),
    ),
    "spsa": Entry(
        SPSA,
        {"norm": np.inf, "eps": 0.015, "max_iter": 100, "delta": 0.01, "learning_rate": 0.01},
        standard={"max_iter": 30, "samples": 64},
        smoke={"max_iter": 10, "samples": 32},
        lengths=("eps", "delta", "learning_rate"),
    ),
    "square-l1": Entry(
        SquareAttack,
        {"norm": 1.0, "eps": 12.0, "max_iter": 5000, "p_init": 0.8},
        standard={"max_iter": 500},
        smoke={"max_iter": 100},
        lengths=("eps",),
    ),
    "square-l2": Entry(
        SquareAttack,
        {"norm": 2.0, "eps": 1.0, "max_iter": 2000, "p_init": 0.8},
        standard={"max_iter": 500},
        smoke={"max_iter": 100},
        lengths=("eps",),
    ),
    "square-linf": Entry(
        SquareAttack,
        {"norm": np.inf, "eps": 0.015, "max_iter": 1000, "p_init": 0.05},
        standard={"max_iter": 300},
        smoke={"max_iter": 100},
        lengths=("eps",),
    ),
    "boundary": Entry(
        BoundaryAttack,
        {"delta": 0.1, "epsilon": 1.0, "init_size": 100, "max_iter": 500},
        standard={"max_iter": 100},
        smoke={"max_iter": 20},
    ),
    "geoda": Entry(
        GeoDA,
        {"bin_search_tol": 0.0001, "sub_dim": 75, "max_iter": 4000},
        standard={"max_iter": 1000},
        smoke={"max_iter": 500},
    ),
    "hopskipjump": Entry(
        HopSkipJump,
        {"norm": 2.0, "max_iter": 50},
        standard={"max_iter": 20},
        smoke={"max_iter": 5},
    ),
}

QUICK = ("noise", "fgsm", "pgd", "apgd-t", "deepfool", "square-linf")
"""Attacks that a gate runs in a minute: the strongest of each kind, the usual ones, the control."""

STANDARD = (*QUICK, "square-l2", "boundary")
"""Those of a merge: also an L2 budget, and an attack that sees decisions alone."""

IDENTITY = ("norm", "targeted", "loss")
"""The settings that an id stands for."""

BY_NORM = (SquareAttack,)
"""Classes with an id for each norm."""

NAMES: tuple[str, ...] = tuple(ENTRIES)

ART = "art:"
"""Start of the id of an attack of ART."""


def available() -> tuple[str, ...]:
    """The ids of all attacks that are written here; `art:NAME` is an attack of ART."""
    return NAMES


def default(profile: str) -> tuple[str, ...]:
    """The ids that a run at this profile attacks with unless it is told which."""
    if profile in PRESETS:
        return tuple(PRESETS[profile])
    gates = {"smoke": QUICK, "standard": STANDARD}
    return gates.get(profile, ("noise", "fgsm", *GOLIATH))


def is_known(name: str) -> bool:
    """True if `create` has an attack of this id."""
    if not name.startswith(ART):
        return name in ENTRIES
    try:
        create(name)
    except AttackError:
        return False
    return True


def minimizes_distance(name: str) -> bool:
    """True if the attack of this id looks for the nearest example, not for one in a budget."""
    return name in ENTRIES and issubclass(ENTRIES[name].attack, MinimalDistortionAttack)


def attack_id(attack: Attack) -> str:
    """The id that the attack's class and traits stand for, else the class name."""
    if isinstance(attack, (ArtAttack, ArtBudgetAttack)):
        return attack.id
    traits = {k: getattr(attack, k) for k in IDENTITY if hasattr(attack, k)}
    for name, entry in ENTRIES.items():
        if entry.attack is type(attack):
            own = {k: entry.paper.get(k, _field_default(entry.attack, k)) for k in traits}
            same_norm = own.get("norm") == traits.get("norm") or type(attack) not in BY_NORM
            if same_norm and all(own[k] == v for k, v in traits.items() if k != "norm"):
                return name
    return type(attack).__name__.lower()


def create(name: str, **overrides: Any) -> Attack:
    """The attack of this id with the paper's settings for inputs in 0..1, and `overrides`.

    `art:NewtonFool` is ART's NewtonFool, and `overrides` its keyword arguments.
    """
    return preset(name, "paper", **overrides)


def preset(name: str, profile: str = "paper", span: float = 1.0, **overrides: Any) -> Attack:
    """The attack of this id at a profile's budget, for a model whose inputs span `span`.

    A profile is smoke, standard, paper or a published preset such as goliath-vww. `span` is
    high - low of the model's bounds; epsilons and step sizes scale with it. `overrides` are taken
    as they are, in model input units.
    Raises AttackError for an unknown id, profile or setting, listing the known ones, and for an
    attack that a published preset does not have.
    """
    if profile not in PROFILES:
        raise expected(
            f"profile to be one of {_listed(PROFILES)}", profile=profile, error=AttackError
        )
    if name.startswith(ART):
        return wrapper.create(name.removeprefix(ART), **overrides)
    entry = _entry(name)
    settings = tuple(f.name for f in fields(entry.attack))
    for setting in overrides:
        if setting not in settings:
            rule = f"a setting of {name} ({_listed(settings)})"
            raise expected(rule, setting=setting, error=AttackError)
    return entry.attack(**(entry.settings(_changes(name, entry, profile), span) | overrides))


def _changes(name: str, entry: Entry, profile: str) -> Settings:
    """Settings of the entry that the profile changes."""
    if profile == "paper":
        return {}
    if profile in BUDGETS:
        changes: Settings = getattr(entry, profile)
        return changes
    if name not in PRESETS[profile]:
        rule = f"an attack of {profile} ({_listed(tuple(PRESETS[profile]))})"
        raise expected(rule, attack=name, error=AttackError)
    return PRESETS[profile][name]


def _field_default(attack: type[Attack], name: str) -> Any:
    return next(field.default for field in fields(attack) if field.name == name)


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise expected(f"attack to be one of {_listed(NAMES)}", attack=name, error=AttackError)
    return ENTRIES[name]


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)
