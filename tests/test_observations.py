"""Relations of the second and third paper on planted outcomes: held, broken, too small to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pytest_qnnrobust.claims import observations
from pytest_qnnrobust.claims.verdicts import Rule, Verdict
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.evaluation.cells import Outcome
from tests.helpers.outcomes import outcome, share

RULE = Rule()
TWO = (
    observations.boundary_is_more_distorted,
    observations.gradient_attack_is_weaker,
    observations.jsma_needs_more_features,
    observations.regularized_loses_less,
)


def moved(width: str, n: int, distance: float, seed: int) -> Outcome:
    size = np.random.default_rng(seed).gamma(9.0, distance / 9, n)
    made = outcome(width, np.zeros(n, bool), size)
    return replace(made, l0=np.ceil(100 * size))


@pytest.mark.parametrize(
    ("robust", "n", "value"),
    [(0.0, 300, "holds"), (0.2, 300, "violated"), (0.0, 20, "inconclusive")],
)
def test_boundary_is_effective(robust: float, n: int, value: str) -> None:
    found = outcome("int8", share(n, robust, 0))
    assert observations.boundary_is_effective(found, RULE).value == value


@pytest.mark.parametrize("claim", [TWO[0], TWO[2]])
@pytest.mark.parametrize(
    ("coarse", "n", "value"),
    [(1.4, 100, "holds"), (0.6, 100, "violated"), (1.0, 5, "inconclusive")],
)
def test_distances(claim: Callable[..., Verdict], coarse: float, n: int, value: str) -> None:
    verdict = claim(moved("int8", n, coarse, 0), moved("float32", n, 1.0, 1), RULE)
    assert verdict.value == value


@pytest.mark.parametrize("claim", [TWO[1], TWO[3]])
@pytest.mark.parametrize(
    ("coarse", "n", "value"),
    [(0.7, 200, "holds"), (0.2, 200, "violated"), (0.45, 10, "inconclusive")],
)
def test_accuracies(claim: Callable[..., Verdict], coarse: float, n: int, value: str) -> None:
    verdict = claim(
        outcome("int8", share(n, coarse, 2)), outcome("float32", share(n, 0.45, 3)), RULE
    )
    assert verdict.value == value


def test_a_sample_that_was_wrong_already_is_not_lost() -> None:
    parent = outcome("float32", share(200, 0.5, 4))
    wrong = replace(parent, width="int8", clean_label=np.ones(200, int))
    verdict = observations.regularized_loses_less(wrong, parent, RULE)
    assert verdict.value == "holds"


@pytest.mark.parametrize(
    ("second", "n", "value"),
    [(0.9, 60, "holds"), (0.1, 60, "violated"), (0.5, 6, "inconclusive")],
)
def test_true_class_comes_second(second: float, n: int, value: str) -> None:
    rank = np.where(share(2 * n, second, 5), 1, 4)
    distorted = np.arange(2 * n) < n
    verdict = observations.true_class_comes_second("int8", rank, distorted, RULE)
    assert (verdict.value, verdict.n) == (value, n)


@pytest.mark.parametrize("claim", TWO)
def test_other_samples_or_another_attack_are_no_comparison(claim: Callable[..., Verdict]) -> None:
    one = outcome("int8", share(9, 0.5, 0))
    with pytest.raises(QnnRobustError, match="outcomes of the same samples"):
        claim(one, outcome("float32", share(8, 0.5, 0)), RULE)
    with pytest.raises(QnnRobustError, match="outcomes of one attack"):
        claim(one, replace(one, attack="y"), RULE)
