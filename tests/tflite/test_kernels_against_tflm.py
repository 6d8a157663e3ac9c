"""Every operator and width: one-operator graphs, equal to TFLM's interpreter value by value."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.tflite.kernels import KERNELS, Settings
from tests.tflite.cases import CASES, PRECISE
from tests.tflite.run_case import one_operator, run_kernel
from tests.tflite.tflm import run_tflm


@pytest.mark.parametrize("name", CASES)
def test_kernel_equals_tflm(name: str) -> None:
    model, graph, batches = one_operator(name, CASES[name])
    ours = run_kernel(graph, batches)
    theirs = run_tflm(model, batches)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("operator", ["FULLY_CONNECTED", "RELU", "LEAKY_RELU", "SUB"])
def test_float_scale_arithmetic_gives_other_integers(operator: str) -> None:
    differing = 0
    for name, build in PRECISE.items():
        if name.startswith(operator + " "):
            _, graph, batches = one_operator(name, build)
            double, single = (
                run_kernel(graph, batches, Settings(arithmetic)).astype(int)
                for arithmetic in ("double", "float")
            )
            assert abs(double - single).max() <= 1
            differing += int((double != single).sum())
    assert differing > 0


@pytest.mark.parametrize("name", CASES)
def test_samples_do_not_depend_on_their_batch(name: str) -> None:
    _, graph, batches = one_operator(name, CASES[name])
    whole = run_kernel(graph, batches)
    alone = [run_kernel(graph, [batch[i : i + 1] for batch in batches]) for i in (0, 3)]
    np.testing.assert_array_equal(np.concatenate(alone), whole[[0, 3]])
    empty = run_kernel(graph, [batch[:0] for batch in batches])
    assert (empty.shape, empty.dtype) == ((0, *whole.shape[1:]), whole.dtype)


def test_every_kernel_has_a_case() -> None:
    covered = {name.split()[0] for name in CASES}
    assert set(KERNELS) - covered == {"SHAPE"}
