"""Names of quantizers, as options, layers and tables write them: `dorefa:4`, `ternary`, `float`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.quantizers.affine import Affine
from pytest_qnnrobust.quantizers.binary import Binary, Ternary
from pytest_qnnrobust.quantizers.dorefa import DoReFaActivations, dorefa_weights
from pytest_qnnrobust.quantizers.stochastic import StochasticBinary, StochasticTernary

FULL_PRECISION = "float"
FIXED_BITS = {
    "binary": 1,
    "ternary": 2,
    "stochastic-binary": 1,
    "stochastic-ternary": 2,
    FULL_PRECISION: 32,
}
"""Bits of a code, for quantizers that have no choice of them."""

BITS_TO_CHOOSE = {"dorefa": (1, 16), "affine": (2, 16)}
"""The fewest and the most bits of a code, for quantizers that take them."""


@dataclass(frozen=True)
class Spec:
    """A quantizer's name and the bits of its codes."""

    name: str
    bits: int

    def __str__(self) -> str:
        return f"{self.name}:{self.bits}" if self.name in BITS_TO_CHOOSE else self.name

    @property
    def stochastic(self) -> bool:
        return self.name.startswith("stochastic-")


def parse(text: str) -> Spec:
    """Read `name` or `name:bits`. Raises QnnRobustError, listing them, for anything else."""
    name, _, bits = str(text).partition(":")
    if name in FIXED_BITS and not bits:
        return Spec(name, FIXED_BITS[name])
    if name in BITS_TO_CHOOSE and bits.isdecimal():
        least, most = BITS_TO_CHOOSE[name]
        if least <= int(bits) <= most:
            return Spec(name, int(bits))
    chosen = [f"{key}:{low}..{high}" for key, (low, high) in BITS_TO_CHOOSE.items()]
    raise expected(f"a quantizer among {', '.join([*FIXED_BITS, *chosen])}", quantizer=text)


def create(text: str, *, activations: bool = False) -> Any:
    """Make the NumPy quantizer of weights (or of activations) of this name, as in "dorefa:4".

    Affine weights are symmetric, of narrow range and per channel (the last axis), as the Keras
    layers have them. Raises QnnRobustError for `float` and for unknown names.
    """
    spec = parse(text)
    if spec.name == FULL_PRECISION:
        raise expected("a quantizer", quantizer=text, cure="float quantizes nothing")
    if activations:
        return _activations(spec)
    weights: dict[str, Callable[[], Any]] = {
        "affine": lambda: Affine(
            spec.bits, symmetric=True, narrow_range=True, quantized_dimension=-1
        ),
        "binary": Binary,
        "dorefa": lambda: dorefa_weights(spec.bits),
        "stochastic-binary": StochasticBinary,
        "stochastic-ternary": StochasticTernary,
        "ternary": Ternary,
    }
    return weights[spec.name]()


def _activations(spec: Spec) -> Any:
    kinds: dict[str, Callable[[], Any]] = {
        "affine": lambda: Affine(spec.bits),
        "binary": lambda: Binary(magnitude=1.0),
        "dorefa": lambda: DoReFaActivations(spec.bits),
    }
    if spec.name not in kinds:
        raise expected(f"activations to be {', '.join(kinds)}", quantizer=str(spec))
    return kinds[spec.name]()
