"""The properties find every planted mistake, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.tflite.mutations import MUTATIONS, PROPERTIES, Mutation, killer

pytest.importorskip("tflite_micro", reason="the oracle wheel tflite-micro is not installed")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_mutation_of_the_arithmetic_is_killed(mutation: Mutation) -> None:
    assert killer(mutation) is not None


@pytest.mark.parametrize("prove", PROPERTIES, ids=lambda prove: prove.__name__)
def test_the_arithmetic_as_it_is_passes(prove: Callable[[], None]) -> None:
    prove()
