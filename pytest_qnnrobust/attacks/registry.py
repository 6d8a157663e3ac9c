"""Attack ids, as options, reports and tables name them, and the settings behind each."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from pytest_qnnrobust.attacks.base import Attack
from pytest_qnnrobust.attacks.boundary import BoundaryAttack
from pytest_qnnrobust.attacks.deepfool import DeepFool
from pytest_qnnrobust.attacks.fgsm import FGSM
from pytest_qnnrobust.attacks.noise import NoiseAttack
from pytest_qnnrobust.attacks.pgd import PGD
from pytest_qnnrobust.attacks.square import SquareAttack
from pytest_qnnrobust.errors import AttackError, expected

Profile = Literal["smoke", "standard", "paper"]
Settings = dict[str, Any]

PROFILES: tuple[Profile, ...] = ("smoke", "standard", "paper")


@dataclass(frozen=True)
class Entry:
    """An attack class under an id.

    `paper` holds the settings of the source for inputs of span 1.0; `smoke` and `standard` what
    they change of it; `lengths` the settings that are input units and scale with the span.
    """

    attack: type[Attack]
    paper: Settings
    standard: Settings = field(default_factory=dict)
    smoke: Settings = field(default_factory=dict)
    lengths: tuple[str, ...] = ()

    def settings(self, profile: Profile, span: float) -> Settings:
        chosen = dict(self.paper)
        if profile != "paper":
            chosen |= getattr(self, profile)
        return {k: v * span if k in self.lengths else v for k, v in chosen.items()}


# "David and Goliath", Table 14, CIFAR-10 column. Not in that table: FGSM, given PGD's largest
# epsilon, and noise, given that of Square-Linf. The table has no epsilon for Square-L2 either:
# 1.0 is what the mean L2 of its Table 5 points to.
ENTRIES: dict[str, Entry] = {
    "noise": Entry(NoiseAttack, {"norm": np.inf, "eps": 0.015, "repeats": 1}, lengths=("eps",)),
    "fgsm": Entry(FGSM, {"norm": np.inf, "eps": 0.0008}, lengths=("eps",)),
    "pgd": Entry(
        PGD,
        {"norm": np.inf, "eps": 0.0008, "step": 0.00008, "restarts": 20, "max_iter": 10},
        standard={"restarts": 5},
        smoke={"restarts": 1},
        lengths=("eps", "step"),
    ),
    "deepfool": Entry(
        DeepFool,
        {"max_iter": 100, "overshoot": 0.008},
        standard={"max_iter": 50},
        smoke={"max_iter": 20},
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
}

NAMES: tuple[str, ...] = tuple(ENTRIES)


def available() -> tuple[str, ...]:
    """The ids of all attacks."""
    return NAMES


def create(name: str, **overrides: Any) -> Attack:
    """The attack of this id with the paper's settings for inputs in 0..1, and `overrides`."""
    return preset(name, "paper", **overrides)


def preset(name: str, profile: Profile = "paper", span: float = 1.0, **overrides: Any) -> Attack:
    """The attack of this id at a profile's budget, for a model whose inputs span `span`.

    `span` is high - low of the model's bounds; epsilons and step sizes scale with it. `overrides`
    are taken as they are, in model input units.
    Raises AttackError for an unknown id, profile or setting, listing the known ones.
    """
    entry = _entry(name)
    if profile not in PROFILES:
        raise expected(
            f"profile to be one of {_listed(PROFILES)}", profile=profile, error=AttackError
        )
    known = tuple(f.name for f in fields(entry.attack))
    for setting in overrides:
        if setting not in known:
            rule = f"a setting of {name} ({_listed(known)})"
            raise expected(rule, setting=setting, error=AttackError)
    return entry.attack(**(entry.settings(profile, span) | overrides))


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise expected(f"attack to be one of {_listed(NAMES)}", attack=name, error=AttackError)
    return ENTRIES[name]


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)
