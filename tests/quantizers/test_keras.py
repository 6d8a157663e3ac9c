"""Keras 3's own quantizers, in the adapters: which laws they keep."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import pytest_qnnrobust as qnn
from pytest_qnnrobust.quantizers import Function, KerasAbsMax, KerasFakeQuant
from pytest_qnnrobust.quantizers.adapters import adapt

FEW = 12


@pytest.mark.parametrize("axis", [None, 0, (0, 1)])
def test_abs_max_keeps_the_laws_on_every_axis(axis: object) -> None:
    report = qnn.check_quantizer(adapt(keras.quantizers.AbsMaxQuantizer(axis)), max_examples=FEW)
    assert {"round-trip", "halves", "symmetric", "fit", "exact-zero"} <= set(report.held)
    assert ("per-axis" in report.held) == (axis != (0, 1))


def test_abs_max_never_gives_the_code_below_the_opposite_of_its_last() -> None:
    """-8 of int4's -8..7 stands for nothing: the scale maps the largest |x| to 7."""
    quantizer = keras.quantizers.AbsMaxQuantizer(axis=(0, 1), value_range=(-8, 7))
    x = np.linspace(-1, 1, 1001, dtype=np.float32)[:, None]
    codes = keras.ops.convert_to_numpy(quantizer(x)[0])
    assert (codes.min(), codes.max()) == (-7, 7)
    fitted = KerasAbsMax(quantizer).fit(x)
    assert (fitted.minimum, fitted.maximum) == (-7, 7)
    assert np.array_equal(fitted.quantize(x), codes)


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(-1, 1, 2), (0, 6, 8), (-0.3, 2.1, 8), (-1, 3, 16)]
)
def test_fake_quantization_keeps_the_laws(low: float, high: float, bits: int) -> None:
    """In these ranges halves go upwards, which the adapter does not claim for every range."""
    quantizer = KerasFakeQuant(low, high, bits)
    quantizer.rounding = "half_up"
    report = qnn.check_quantizer(quantizer, max_examples=FEW)
    laws = {"fake-quantize", "scale-and-zero-point", "round-trip", "halves", "exact-zero"}
    assert laws <= set(report.held)


@pytest.mark.parametrize(("low", "high", "bits"), [(-1, 2, 4), (-2.47, 1.8, 8)])
def test_fake_quantization_claims_no_rounding(low: float, high: float, bits: int) -> None:
    """In these ranges some halves go down; every other law holds."""
    quantizer = KerasFakeQuant(low, high, bits, narrow_range=True)
    report = qnn.check_quantizer(quantizer, max_examples=FEW)
    assert {"fake-quantize", "scale-and-zero-point", "round-trip", "exact-zero"} <= set(report.held)
    assert "halves" in report.skipped


@pytest.mark.parametrize(("low", "high", "code"), [(-1, 2, 0), (0, 2, 1)])
def test_fake_quantization_takes_a_half_either_way(low: float, high: float, code: int) -> None:
    quantizer = KerasFakeQuant(low, high, 4, narrow_range=True)
    half = np.float32(quantizer.scale) / 2
    assert quantizer.quantize(np.array([half])) - quantizer.zero_point == code


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_float8_goes_to_a_nearest_value_and_saturates(name: str) -> None:
    import ml_dtypes

    codes = np.arange(256).astype(np.uint8).view(getattr(ml_dtypes, name)).astype(np.float32)

    def there_and_back(x):
        scaled = keras.quantizers.quantize_and_dequantize(
            keras.ops.convert_to_tensor(x), 1.0, name, "float32"
        )
        return keras.ops.convert_to_numpy(scaled)

    values = np.unique(codes[np.isfinite(codes)])
    quantizer = Function(there_and_back, values=values, rounding=None, symmetric=True)
    report = qnn.check_quantizer(quantizer, max_examples=FEW)
    assert {"range-and-saturation", "round-trip", "symmetric", "monotone"} <= set(report.held)
