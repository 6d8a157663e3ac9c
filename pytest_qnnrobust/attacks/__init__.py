"""Adversarial attacks: batched, graded by the harness, one random stream per sample."""

from __future__ import annotations

from pytest_qnnrobust.attacks.apgd import APGD, APGDT
from pytest_qnnrobust.attacks.art import ArtAttack, ArtBudgetAttack
from pytest_qnnrobust.attacks.autoattack import AutoAttack
from pytest_qnnrobust.attacks.base import (
    Attack,
    FixedBudgetAttack,
    MinimalDistortionAttack,
    Progress,
)
from pytest_qnnrobust.attacks.boundary import BoundaryAttack
from pytest_qnnrobust.attacks.carlini_l0 import CarliniL0
from pytest_qnnrobust.attacks.carlini_l2 import CarliniL2
from pytest_qnnrobust.attacks.carlini_linf import CarliniLinf
from pytest_qnnrobust.attacks.deepfool import DeepFool
from pytest_qnnrobust.attacks.ead import EAD
from pytest_qnnrobust.attacks.fab import FAB
from pytest_qnnrobust.attacks.fgsm import FGSM
from pytest_qnnrobust.attacks.geoda import GeoDA
from pytest_qnnrobust.attacks.hopskipjump import HopSkipJump
from pytest_qnnrobust.attacks.jsma import JSMA
from pytest_qnnrobust.attacks.noise import NoiseAttack
from pytest_qnnrobust.attacks.pgd import BIM, PGD
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
from pytest_qnnrobust.attacks.spsa import SPSA
from pytest_qnnrobust.attacks.square import SquareAttack
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Target
from pytest_qnnrobust.attacks.uap import UAP
from pytest_qnnrobust.attacks.zoo import ZOO

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
