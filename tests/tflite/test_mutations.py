"""The properties find every planted mistake, and none where there is none."""

from __future__ import annotations

import pytest

from tests.tflite.mutations import (
    MUTATIONS,
    Mutation,
    Property,
    bounds,
    examples_until_found,
    requantization,
)

pytest.importorskip("tflite_micro", reason="the oracle wheel tflite-micro is not installed")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_mutation_of_the_arithmetic_is_killed(mutation: Mutation) -> None:
    assert examples_until_found(mutation) is not None


@pytest.mark.parametrize("prove", [requantization, pytest.param(bounds, marks=pytest.mark.nightly)])
def test_the_arithmetic_as_it_is_passes(prove: Property) -> None:
    """And conformance: test_generated_graphs.py."""
    prove()
