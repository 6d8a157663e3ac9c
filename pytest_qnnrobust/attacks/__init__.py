"""Adversarial attacks: batched, graded by the harness, one random stream per sample."""

from __future__ import annotations

from pytest_qnnrobust.attacks.base import (
    Attack,
    FixedBudgetAttack,
    MinimalDistortionAttack,
    Progress,
)
from pytest_qnnrobust.attacks.boundary import BoundaryAttack
from pytest_qnnrobust.attacks.deepfool import DeepFool
from pytest_qnnrobust.attacks.fgsm import FGSM
from pytest_qnnrobust.attacks.noise import NoiseAttack
from pytest_qnnrobust.attacks.pgd import PGD
from pytest_qnnrobust.attacks.registry import NAMES, PROFILES, available, create, preset
from pytest_qnnrobust.attacks.result import AttackResult
from pytest_qnnrobust.attacks.square import SquareAttack
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import Target

__all__ = [
    "FGSM",
    "NAMES",
    "PGD",
    "PROFILES",
    "Attack",
    "AttackResult",
    "BoundaryAttack",
    "DeepFool",
    "FixedBudgetAttack",
    "MinimalDistortionAttack",
    "NoiseAttack",
    "Progress",
    "SquareAttack",
    "Streams",
    "Target",
    "available",
    "create",
    "preset",
]
