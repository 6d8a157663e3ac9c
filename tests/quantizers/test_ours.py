"""Every quantizer of the package keeps every law that applies to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pytest_qnnrobust as qnn
from pytest_qnnrobust import quantizers
from pytest_qnnrobust.quantizers import (
    Affine,
    AffineQuantizer,
    Binary,
    DoReFaActivations,
    StochasticBinary,
    StochasticTernary,
    Ternary,
    create,
    dorefa_weights,
)
from tests.helpers.examples import examples

BITS = (1, 2, 4, 8, 12, 16)
ADAPTERS = {"Function", "KerasAbsMax", "KerasFakeQuant"}
WEIGHTS = np.random.default_rng(5).normal(0, 0.2, (3, 3, 2, 4)).astype(np.float32)

ALWAYS = {"shape-and-dtype", "range-and-saturation", "monotone", "deterministic"}
FIXED = ALWAYS | {"round-trip", "permutation-and-batch"}
GRID = FIXED | {"idempotent", "halves"}

DETERMINISTIC: dict[str, tuple[Any, set[str]]] = {
    "affine": (Affine(), GRID | {"fit", "exact-zero", "scale-and-zero-point"}),
    "affine-symmetric": (Affine(symmetric=True), GRID | {"fit", "symmetric"}),
    "affine-narrow": (Affine(symmetric=True, narrow_range=True), GRID | {"fit", "symmetric"}),
    "affine-narrow-asymmetric": (Affine(narrow_range=True), GRID | {"fit", "exact-zero"}),
    "affine-per-axis": (Affine(quantized_dimension=0), GRID | {"fit", "per-axis"}),
    "affine-int16": (Affine(16, symmetric=True), GRID | {"fit", "symmetric"}),
    "affine-two-bits": (Affine(2), GRID | {"fit", "exact-zero"}),
    "affine-of-weights": (create("affine:8").fit(WEIGHTS), GRID | {"per-axis", "symmetric"}),
    "affine-parameters": (AffineQuantizer(0.05, -3), GRID | {"scale-and-zero-point"}),
    "binary": (Binary(), FIXED | {"idempotent", "fit"}),
    "binary-sign": (Binary(magnitude=1.0), FIXED | {"idempotent"}),
    "binary-per-axis": (Binary(quantized_dimension=-1), FIXED | {"idempotent", "fit", "per-axis"}),
    "ternary": (Ternary(), FIXED | {"symmetric", "exact-zero", "fit"}),
    "ternary-per-axis": (Ternary(quantized_dimension=0), FIXED | {"symmetric", "fit", "per-axis"}),
    "ternary-of-weights": (Ternary(quantized_dimension=-1).fit(WEIGHTS), FIXED | {"per-axis"}),
    **{f"dorefa-weights-{bits}": (dorefa_weights(bits), FIXED | {"fit"}) for bits in BITS},
    **{f"dorefa-activations-{bits}": (DoReFaActivations(bits), GRID) for bits in BITS},
}

DRAWN = ALWAYS | {"fit", "rising-mean"}
CONNECT = ALWAYS | {"fit", "round-trip", "idempotent", "unbiased"}

STOCHASTIC: dict[str, tuple[Any, set[str]]] = {
    "binary": (StochasticBinary(), DRAWN | {"per-axis"}),
    "binary-per-tensor": (StochasticBinary(quantized_dimension=None), DRAWN),
    "binary-of-weights": (StochasticBinary().fit(WEIGHTS), DRAWN | {"per-axis"}),
    "binary-hard": (
        StochasticBinary(quantized_dimension=None, sigmoid="hard"),
        DRAWN | {"round-trip", "idempotent"},
    ),
    "binary-hard-warm": (
        StochasticBinary(quantized_dimension=None, temperature=0.5, sigmoid="hard"),
        DRAWN,
    ),
    "ternary": (StochasticTernary(), DRAWN | {"per-axis"}),
    "ternary-first-axis": (StochasticTernary(quantized_dimension=0), DRAWN | {"per-axis"}),
    "ternary-of-weights": (StochasticTernary().fit(WEIGHTS), DRAWN | {"per-axis"}),
    "ternary-warm": (StochasticTernary(quantized_dimension=None, temperature=1.0), DRAWN),
    "binary-connect": (StochasticBinary.binary_connect(), CONNECT),
    "binary-connect-scaled": (StochasticBinary(0.3, 0.1, None, 1 / 3, "hard"), CONNECT),
    "ternary-connect": (StochasticTernary.ternary_connect(), CONNECT | {"exact-zero"}),
    "ternary-connect-per-axis": (
        StochasticTernary([0.3, 0.5], [0.15, 0.25], [0.3, 0.5], -1, 2.0, "hard"),
        CONNECT | {"exact-zero", "per-axis"},
    ),
    "ternary-steep": (
        StochasticTernary(1.0, 0.5, 1.0, None, 4.0, "hard"),
        CONNECT - {"unbiased"} | {"exact-zero", "rising-mean"},
    ),
}


@pytest.mark.parametrize(("quantizer", "laws"), DETERMINISTIC.values(), ids=DETERMINISTIC)
def test_deterministic(quantizer: Any, laws: set[str]) -> None:
    assert laws <= {*qnn.check_quantizer(quantizer, max_examples=examples(25)).held}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("quantizer", "laws"), STOCHASTIC.values(), ids=STOCHASTIC)
def test_stochastic(quantizer: Any, laws: set[str], seed: int) -> None:
    """Those that are biased by design do not pass for unbiased, and miss no other law."""
    report = qnn.check_quantizer(quantizer, max_examples=examples(25), seed=seed)
    assert {*report.held} == laws
    if "unbiased" not in laws:
        assert report.skipped["unbiased"] == "biased, as it claims (unbiased = False)"


def test_none_is_missing() -> None:
    listed = {type(quantizer) for quantizer, _ in (DETERMINISTIC | STOCHASTIC).values()}
    exported = {getattr(quantizers, name) for name in {*quantizers.__all__} - ADAPTERS}
    able = {kind for kind in exported if isinstance(kind, type) and hasattr(kind, "dequantize")}
    assert able - {quantizers.Quantizer} == listed
