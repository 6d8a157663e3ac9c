"""Defences that run before the network: they clean its input, or refuse it."""

from pytest_qnnrobust.defenses.cost import Cost
from pytest_qnnrobust.defenses.defended import Defended
from pytest_qnnrobust.defenses.detector import SqueezingDetector
from pytest_qnnrobust.defenses.feature_squeezing import FeatureSqueezing

__all__ = ["Cost", "Defended", "FeatureSqueezing", "SqueezingDetector"]
