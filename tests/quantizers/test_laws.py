"""The laws on quantizers that keep them, and on such as break one: which, where, by how much."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import pytest_qnnrobust as qnn
from pytest_qnnrobust.quantizers import AffineQuantizer, Function, QuantizerLawError
from tests.helpers.examples import examples
from tests.quantizers import broken
from tests.quantizers.broken import Affine, Stochastic
from tests.quantizers.failures import failures

SCALES = np.array([0.1, 0.02, 1.5, 7e-4])
AFFINE = [
    AffineQuantizer(0.1, 3),
    AffineQuantizer(2.0**-7, symmetric=True),
    AffineQuantizer(1.3e-9, -128),
    AffineQuantizer(0.3, 0, bits=4, symmetric=True, narrow_range=True),
    AffineQuantizer(1 / 32768, bits=16, symmetric=True),
    AffineQuantizer(SCALES, [0, 1, -5, 100], quantized_dimension=1),
    AffineQuantizer(SCALES[:3], [0, 0, 0], 16, quantized_dimension=0),
    AffineQuantizer(SCALES, quantized_dimension=3, symmetric=True),
    AffineQuantizer(SCALES, quantized_dimension=-1),
]


@pytest.mark.parametrize("quantizer", AFFINE, ids=str)
def test_our_arithmetic_keeps_every_law_that_applies(quantizer: AffineQuantizer) -> None:
    report = qnn.check_quantizer(quantizer, max_examples=examples(50))
    assert len(report.held) >= 10
    assert ("per-axis" in report.held) == (quantizer.quantized_dimension is not None)
    assert ("symmetric" in report.held) == quantizer.symmetric


BROKEN = [
    (broken.Truncating(0.1), ["round-trip"], (0.05, 0.1), (0.25, 0.5)),
    (
        broken.WrappingAround(0.1),
        ["range-and-saturation", "monotone"],
        (12.75, 12.8),
        (255, 255),
    ),
    (
        broken.OffByOneZeroPoint(0.1, 3),
        ["exact-zero", "range-and-saturation", "round-trip", "idempotent"],
        (0.0, 0.0),
        (1, 1),
    ),
    (broken.BankersRounding(0.1), ["halves"], (0.05, 0.05), (1, 1)),
    (
        broken.WrongAxis([0.1, 0.2, 0.4]),
        ["per-axis", "permutation-and-batch"],
        "q = 1 in channel ",
        (0.4, 1.1),
    ),
    (broken.BiasedStochastic(0.1), ["unbiased"], (0.05, 0.05), (0.035, 0.045)),
]
"""A quantizer, the law that says what is wrong and those that follow from it, its smallest
counter-example (the range of x), and the size of its violation."""


@pytest.mark.parametrize(
    ("quantizer", "laws", "example", "size"),
    BROKEN,
    ids=[type(row[0]).__name__ for row in BROKEN],
)
def test_broken_quantizer_is_named_by_the_laws_it_breaks(
    quantizer: Any, laws: list[str], example: Any, size: tuple[float, float]
) -> None:
    found = failures(quantizer)
    assert set(found) == set(laws)
    violation = found[laws[0]]
    if isinstance(example, str):
        assert violation.example.startswith(example)
    else:
        x = re.search(r"np\.float32\(([-.\d]+)\)", violation.example)
        assert x
        assert np.float32(example[0]) <= np.float32(x[1]) <= np.float32(example[1])
    assert size[0] <= violation.size <= size[1]


@pytest.mark.parametrize("quantizer", [Affine(0.1, 3), Stochastic(0.1, 3)])
def test_the_same_without_the_mistake_keeps_them(quantizer: Affine) -> None:
    assert failures(quantizer, max_examples=examples(50)) == {}


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("half_even", np.round),
        ("half_up", lambda x: np.floor(x.astype(np.float64) + 0.5)),
        ("floor", np.floor),
    ],
)
def test_a_rounding_holds_where_it_is_claimed(name: str, function: Any) -> None:
    quantizer = Affine(0.25, 3)
    quantizer.round = function  # type: ignore[method-assign]
    wrong = "round-trip" if name == "floor" else "halves"
    assert set(failures(quantizer, max_examples=40)) == {wrong}
    quantizer.rounding = name  # type: ignore[attr-defined]
    assert failures(quantizer, max_examples=examples(40)) == {}
    quantizer.rounding = None  # type: ignore[attr-defined]
    assert set(failures(quantizer, max_examples=40)) == ({wrong} if name == "floor" else set())


def test_the_message_is_the_law_the_example_and_the_size() -> None:
    with pytest.raises(QuantizerLawError) as caught:
        qnn.check_quantizer(broken.BankersRounding(0.1))
    assert str(caught.value).splitlines() == [
        "1 of 10 laws do not hold",
        "halves: Q((k + 1/2) scale) = Q((k + 1/2 + d/4) scale), "
        "d = 1 or -1 as the rounding is claimed",
        "  x = np.float32(0.05)",
        "  x / scale = 0.5 gets the code 0, by half_away it is 1",
        "  off by 1 codes",
    ]


def test_the_example_is_a_counter_example() -> None:
    x = np.array([np.float32(0.05)])
    assert broken.BankersRounding(0.1).quantize(x) == 0
    assert Affine(0.1).quantize(x) == 1


def test_a_seed_gives_the_same_examples_again() -> None:
    def texts(seed: int) -> list[str]:
        with pytest.raises(QuantizerLawError) as caught:
            qnn.check_quantizer(broken.OffByOneZeroPoint(0.1, 3), seed=seed, max_examples=30)
        return [str(failure) for failure in caught.value.failures]

    assert texts(1) == texts(1)


@pytest.mark.parametrize("seed", range(3))
def test_a_single_wrong_code_is_found(seed: int) -> None:
    class OneWrong(Affine):
        def quantize(self, x):
            q = super().quantize(x)
            return np.where(q == 101, 100, q).astype(np.int8)

    found = failures(OneWrong(0.1), seed=seed, laws=["round-trip", "idempotent"])
    assert found["idempotent"].example == "q = 101"
    assert found["idempotent"].size == 1
    assert "round-trip" in found


class Stateful(Affine):
    """An observer that never stops: what it saw before moves the scale."""

    seen = 1.0

    def quantize(self, x):
        self.seen = max(self.seen, float(np.abs(x[np.isfinite(x)]).max(initial=0)))
        return np.clip(self.round(x / np.float32(self.seen / 127)), -128, 127).astype(np.int8)


class Random(Affine):
    def quantize(self, x):
        noise = np.random.default_rng().random(x.shape)
        return np.clip(np.floor(x / 0.1 + noise), -128, 127).astype(np.int8)


class ByBatch(Affine):
    """The scale of the batch itself, in a quantizer that says it is a fixed one."""

    def quantize(self, x):
        largest = np.abs(np.where(np.isfinite(x), x, 0)).max(initial=0.1)
        return np.clip(np.round(x / largest * 127), -128, 127).astype(np.int8)


@pytest.mark.parametrize(
    ("quantizer", "law"),
    [
        (Stateful(), "deterministic"),
        (Random(), "deterministic"),
        (ByBatch(), "permutation-and-batch"),
    ],
)
def test_what_is_no_function_of_the_input_is_named(quantizer: Any, law: str) -> None:
    assert law in failures(quantizer, laws=[law])


class InPlace(Affine):
    def quantize(self, x):
        x[np.isnan(x)] = 0
        x += 0.5
        return np.floor(np.clip(x, -100, 100)).astype(np.int8)


class FloatCodes(Affine):
    def quantize(self, x):
        return super().quantize(x).astype(np.float32)


class Flat(Affine):
    def quantize(self, x):
        return super().quantize(x).ravel()


class Int8Subtraction(Affine):
    """q - zero_point in int8, which wraps around."""

    def dequantize(self, q):
        return np.float32(self.scale) * (q - np.int8(self.zero_point)).astype(np.float32)


@pytest.mark.parametrize(
    ("quantizer", "law", "text"),
    [
        (InPlace(), "shape-and-dtype", "writes into x"),
        (FloatCodes(), "shape-and-dtype", "quantize returns float32, not int8"),
        (Flat(), "shape-and-dtype", "quantize returns the shape (1,)"),
        (Int8Subtraction(0.1, 100), "scale-and-zero-point", "D(q) ="),
    ],
)
def test_mistakes_of_the_interface(quantizer: Any, law: str, text: str) -> None:
    assert text in failures(quantizer, laws=[law])[law].found


def test_symmetry_is_checked_where_it_is_claimed() -> None:
    class Leaning(Affine):
        symmetric = True

        def ratio(self, x):
            return super().ratio(x) + np.float32(0.3)

    assert failures(Leaning(0.1), laws=["symmetric"])["symmetric"].size == pytest.approx(1)
    narrow = Affine(0.1)
    narrow.symmetric = narrow.narrow_range = True  # type: ignore[attr-defined]
    found = failures(narrow, laws=["symmetric"])
    assert found["symmetric"].example == "q = -128 and 127"
    narrow.minimum = -127
    assert failures(narrow, max_examples=30) == {}


def test_a_function_is_held_to_its_declared_step() -> None:
    def rounded(x):
        return np.clip(np.trunc(x / 0.25 + np.copysign(0.5, x)), -8, 7) * np.float32(0.25)

    declared = {"scale": 0.25, "minimum": -8, "maximum": 7}
    report = qnn.check_quantizer(Function(rounded, **declared), max_examples=30)
    assert {"fake-quantize", "round-trip", "halves"} <= set(report.held)
    found = failures(Function(rounded, **{**declared, "scale": 0.5}), laws=["fake-quantize"])
    assert "fake-quantize" in found


def test_values_need_not_be_equally_far_apart() -> None:
    values = np.array([-1, -0.25, 0, 0.25, 1], np.float32)

    def nearest(x):
        return values[np.searchsorted((values[1:] + values[:-1]) / 2, x)]

    quantizer = Function(nearest, values=values, rounding=None, symmetric=True)
    report = qnn.check_quantizer(quantizer, max_examples=30)
    assert {"round-trip", "exact-zero", "symmetric", "fake-quantize"} <= set(report.held)
    assert "no scale" in report.skipped["halves"]
