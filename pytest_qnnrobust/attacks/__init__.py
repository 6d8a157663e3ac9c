"""Adversarial attacks: batched, graded by the harness, one random stream per sample."""

from __future__ import annotations

from pytest_qnnrobust.attacks.art.wrapper import ArtAttack, ArtBudgetAttack
from pytest_qnnrobust.attacks.autoattack import AutoAttack
from pytest_qnnrobust.attacks.base import (
    Attack,
    FixedBudgetAttack,
    MinimalDistortionAttack,
    Progress,
)
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
from pytest_qnnrobust.attacks.presets import PRESETS
from pytest_qnnrobust.attacks.registry import (
    NAMES,
    PROFILES,
    attack_id,
    available,
    create,
    default,
    is_known,
    preset,
)
from pytest_qnnrobust.attacks.result import AttackResult
from pytest_qnnrobust.attacks.scores.spsa import SPSA
from pytest_qnnrobust.attacks.scores.zoo import ZOO
from pytest_qnnrobust.attacks.square.attack import SquareAttack
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Target

__all__ = [
    "APGD",
    "APGDT",
    "BIM",
    "EAD",
    "FAB",
    "FGSM",
    "JSMA",
    "NAMES",
    "PGD",
    "PRESETS",
    "PROFILES",
    "SPSA",
    "UAP",
    "ZOO",
    "ArtAttack",
    "ArtBudgetAttack",
    "Attack",
    "AttackResult",
    "AutoAttack",
    "BoundaryAttack",
    "CarliniL0",
    "CarliniL2",
    "CarliniLinf",
    "DeepFool",
    "FixedBudgetAttack",
    "GeoDA",
    "HopSkipJump",
    "MinimalDistortionAttack",
    "NoiseAttack",
    "Progress",
    "SquareAttack",
    "Streams",
    "Target",
    "attack_id",
    "available",
    "create",
    "default",
    "is_known",
    "preset",
]
