"""Verdicts on planted outcomes: held, broken, too small to tell, and the error rates."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_qnnrobust.claims import takeaways, verdicts
from pytest_qnnrobust.claims.verdicts import Rule, Verdict
from pytest_qnnrobust.defenses import FeatureSqueezing
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.tflite.workload import Workload
from tests.helpers.outcomes import outcome, share

RULE = Rule(alpha=0.05, margin=0.02)


def ladder(n: int, **accuracy: float) -> dict[str, Outcome]:
    return {w: outcome(w, share(n, a, i)) for i, (w, a) in enumerate(accuracy.items())}


def test_transfer_accuracy_holds_with_the_published_figures() -> None:
    # "David and Goliath", Table 6, DeepFool on CIFAR-10: 78.4, 46.1 and 6.6 % of 1,000.
    verdict = takeaways.transfer_accuracy(
        ladder(1000, int8=0.784, int16=0.461, float32=0.066), RULE
    )
    assert verdict.value == "holds"
    assert verdict.p_value < 0.001
    assert verdict.name == "T1 DeepFool transfer accuracy int8 >= int16 >= float32"
    assert "int8" in verdict.statement
    assert "int16" in verdict.statement


@pytest.mark.parametrize(
    "accuracy",
    [
        {"int8": 0.3, "int16": 0.5, "float32": 0.1},
        {"int8": 0.7, "int16": 0.1, "float32": 0.4},
        {"int8": 0.2, "float32": 0.5},
    ],
)
def test_planted_violation_of_transfer_accuracy(accuracy: dict[str, float]) -> None:
    verdict = takeaways.transfer_accuracy(ladder(200, **accuracy), RULE)
    assert verdict.value == "violated"
    assert verdict.interval.high < 0


def test_too_few_samples_are_inconclusive() -> None:
    verdict = takeaways.transfer_accuracy(ladder(20, int8=0.5, int16=0.5, float32=0.5), RULE)
    assert verdict.value == "inconclusive"
    assert verdict.detectable > 0.1
    assert "20 samples show a difference of" in verdict.sensitivity


def test_equal_decisions_hold_once_the_sample_is_large_enough() -> None:
    right = share(400, 0.8, 0)
    verdict = takeaways.clean_parity("parity", ("int8", right), ("float32", right), RULE)
    assert (verdict.value, verdict.effect) == ("holds", 0.0)


def test_order_of_the_outcomes_does_not_matter() -> None:
    found = ladder(200, int8=0.7, int16=0.5, float32=0.1)
    turned = dict(reversed(found.items()))
    assert takeaways.transfer_accuracy(found, RULE) == takeaways.transfer_accuracy(turned, RULE)


def test_one_width_is_no_comparison() -> None:
    with pytest.raises(QnnRobustError, match="two widths"):
        takeaways.transfer_accuracy(ladder(10, int8=0.5), RULE)


def test_other_samples_are_no_comparison() -> None:
    outcomes = {
        "int8": outcome("int8", share(9, 0.5, 0)),
        "int16": outcome("int16", share(8, 0, 0)),
    }
    with pytest.raises(QnnRobustError, match="same samples"):
        takeaways.transfer_accuracy(outcomes, RULE)


def distances(n: int, **scale: float) -> dict[str, Outcome]:
    base = np.random.default_rng(5).gamma(4.0, 0.1, n)
    fooled = np.zeros(n, bool)
    noise = np.random.default_rng(6)
    return {w: outcome(w, fooled, s * base * noise.normal(1, 0.1, n)) for w, s in scale.items()}


@pytest.mark.parametrize(
    ("scale", "value"),
    [
        ({"int8": 1.3, "int16": 1.1, "float32": 1.0}, "holds"),
        ({"int8": 0.7, "int16": 1.0, "float32": 1.0}, "violated"),
        ({"int8": 1.3, "int16": 0.8, "float32": 1.0}, "violated"),
    ],
)
def test_boundary_distance(scale: dict[str, float], value: str) -> None:
    assert takeaways.boundary_distance(distances(150, **scale), RULE).value == value


def test_boundary_distance_of_a_handful_is_inconclusive() -> None:
    verdict = takeaways.boundary_distance(distances(4, int8=2.0, float32=1.0), RULE)
    assert verdict.value == "inconclusive"


def test_distances_count_only_where_both_were_fooled() -> None:
    found = distances(50, int8=1.0, int16=1.0)
    robust = np.arange(50) < 30
    found["int8"] = outcome("int8", robust, found["int8"].l2)
    assert takeaways.boundary_distance(found, RULE).n == 20


def test_noise_threshold() -> None:
    below, above = np.zeros(30), np.full(30, 1.2)
    assert takeaways.noise_threshold("int8", below, above, RULE).value == "holds"
    assert takeaways.noise_threshold("int8", above, above, RULE).value == "violated"
    assert takeaways.noise_threshold("int8", below, below, RULE).value == "violated"
    assert takeaways.noise_threshold("int8", below[:3], above[:3], RULE).value == "inconclusive"


def densities(n: int, **mean: float) -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(2)
    return {w: np.clip(rng.normal(m, 0.1, n), 0, 1) for w, m in mean.items()}


@pytest.mark.parametrize(
    ("mean", "n", "value"),
    [
        ({"int8": 0.88, "int16": 0.73, "float32": 0.7}, 200, "holds"),
        ({"int8": 0.12, "int16": 0.22, "float32": 0.0}, 200, "violated"),
        ({"int8": 0.7, "int16": 0.7}, 8, "inconclusive"),
    ],
)
def test_zero_gradients(mean: dict[str, float], n: int, value: str) -> None:
    assert takeaways.zero_gradients(densities(n, **mean), RULE).value == value


@pytest.mark.parametrize(
    ("direct", "transfer", "n", "value"),
    [
        # Square-Linf on int8 CIFAR-10: 82.3 % directly, 29.9 % by transfer (Tables 5 and 6).
        (0.823, 0.299, 1000, "holds"),
        (0.05, 0.299, 200, "violated"),
        (0.3, 0.3, 20, "inconclusive"),
    ],
)
def test_masked_gradients(direct: float, transfer: float, n: int, value: str) -> None:
    outcomes = outcome("int8", share(n, direct, 0)), outcome("int8", share(n, transfer, 1))
    assert takeaways.masked_gradients(*outcomes, RULE).value == value


@pytest.mark.parametrize(
    ("centre", "n", "value"),
    [(0.1, 60, "holds"), (0.99, 60, "violated"), (0.5, 10, "inconclusive")],
)
def test_gradient_misalignment(centre: float, n: int, value: str) -> None:
    cosine = np.clip(np.random.default_rng(3).normal(centre, 0.05, n), -1, 1)
    cosine = np.append(cosine, np.nan)
    verdict = takeaways.gradient_misalignment("int8", cosine, RULE)
    assert (verdict.value, verdict.n) == (value, n)


@pytest.mark.parametrize(
    ("gain", "n", "value"),
    [
        (1.5, 80, "holds"),
        (0.7, 80, "violated"),
        (1.0, 80, "inconclusive"),
        (1.5, 3, "inconclusive"),
    ],
)
def test_a_defence_that_increases_the_distance(gain: float, n: int, value: str) -> None:
    plain = distances(n, int8=1.0, int16=1.0, float32=1.0)
    rng = np.random.default_rng(8)
    defended = {
        w: outcome(w, np.zeros(n, bool), gain * o.l2 * rng.normal(1, 0.1, n))
        for w, o in plain.items()
    }
    assert takeaways.larger_distance("sat", plain, defended, RULE).value == value


@pytest.mark.parametrize(
    ("accuracy", "n", "value"),
    [
        ({"int8": 0.2, "int16": 0.1}, 300, "holds"),
        ({"int8": 0.6, "int16": 0.1}, 300, "violated"),
        ({"int8": 0.25}, 15, "inconclusive"),
    ],
)
def test_examples_that_transfer(accuracy: dict[str, float], n: int, value: str) -> None:
    source = outcome("float32", share(n, 0.1, 9))
    verdict = takeaways.transfer_survives("distil", source, ladder(n, **accuracy), RULE)
    assert verdict.value == value


@pytest.mark.parametrize(
    ("accuracy", "n", "value", "said"),
    [
        ({"float32": 0.85, "int16": 0.83, "int8": 0.8}, 400, "holds", "under attack"),
        ({"float32": 0.85, "int16": 0.83, "int8": 0.3}, 400, "violated", "int8 under attack"),
        ({"float32": 0.2, "int8": 0.9}, 400, "inconclusive", "fails for float32"),
        ({"float32": 0.85, "int8": 0.8}, 12, "inconclusive", "12"),
    ],
)
def test_a_defence_that_carries_over(
    accuracy: dict[str, float], n: int, value: str, said: str
) -> None:
    clean = {w: share(n, 0.9, 20) for w in accuracy}
    verdict = takeaways.defense_carries_over("sat", clean, ladder(n, **accuracy), RULE)
    assert verdict.value == value
    assert said in verdict.statement


def test_what_a_defence_may_lose_is_an_option() -> None:
    clean, attacked = share(400, 0.9, 0), outcome("int8", share(400, 0.6, 1))
    strict, lax = (
        takeaways.defense_succeeds("d", clean, attacked, Rule(drop=drop)) for drop in (0.2, 0.4)
    )
    assert (strict.value, lax.value) == ("violated", "holds")


@pytest.mark.parametrize(
    ("shift", "n", "value"),
    [(40, 100, "holds"), (-40, 100, "violated"), (0, 10, "inconclusive")],
)
def test_squeezing_and_extent(shift: float, n: int, value: str) -> None:
    rng = np.random.default_rng(6)
    recovered = rng.random(n) < 0.5
    l0 = np.round(rng.normal(200, 30, n) - shift * recovered)
    verdict = takeaways.squeezing_and_extent("int8", l0, recovered, RULE)
    assert (verdict.value, verdict.n) == (value, n)
    assert verdict.interval.low <= verdict.effect <= verdict.interval.high


@pytest.mark.parametrize("recovered", [True, False])
def test_where_all_or_nothing_is_recovered_extent_says_nothing(recovered: bool) -> None:
    verdict = takeaways.squeezing_and_extent("int8", np.ones(9), np.full(9, recovered), RULE)
    assert (verdict.value, verdict.detectable) == ("inconclusive", 0.5)


@pytest.mark.parametrize(
    ("first", "second", "n", "value"),
    [
        # "David and Goliath", Tables 11 and 12, AutoAttack on int8: 70.6 % against 55.2 %.
        (0.706, 0.552, 1000, "holds"),
        (0.3, 0.7, 100, "violated"),
        (0.5, 0.5, 6, "inconclusive"),
    ],
)
def test_a_defence_that_denoises_more(first: float, second: float, n: int, value: str) -> None:
    pair = ("squeezing", share(n, first, 4)), ("rival", share(n, second, 5))
    assert takeaways.denoises_more("T8", *pair, RULE).value == value


def test_equal_defences_denoise_no_more_than_each_other() -> None:
    right = share(1000, 0.6, 4)
    verdict = takeaways.denoises_more("T8", ("a", right), ("b", right), RULE)
    assert verdict.value == "inconclusive"


def test_a_defence_that_runs_beside_the_network() -> None:
    cost = FeatureSqueezing().cost((32, 32, 3), "int8")
    light = takeaways.runs_beside(Workload(12_500_000, 17, 80_000), cost, RULE)
    assert (light.value, light.effect) == ("holds", pytest.approx(21_504 / 12_500_000))
    heavy = takeaways.runs_beside(Workload(100_000, 3, 800), cost, RULE)
    assert heavy.value == "violated"
    assert "22 % of 100,000 multiply-accumulates" in heavy.statement


def test_computation_that_a_defence_adds() -> None:
    plain = Workload(12_500_000, 17, 80_000)
    assert takeaways.no_extra_computation("sat", plain, plain, RULE).value == "holds"
    larger = replace(plain, multiply_accumulates=13_000_000)
    verdict = takeaways.no_extra_computation("wide", plain, larger, RULE)
    assert (verdict.value, verdict.effect) == ("violated", pytest.approx(0.04))
    cost = FeatureSqueezing().cost((32, 32, 3), "int8")
    squeezed = takeaways.no_extra_computation("squeezing", plain, plain, RULE, cost)
    assert squeezed.value == "violated"
    assert "21,504 operations" in squeezed.statement


def test_verdict_survives_json() -> None:
    verdict = takeaways.transfer_accuracy(ladder(50, int8=0.7, int16=0.5), RULE)
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_true_claim_is_called_violated_at_most_at_the_stated_level(loss: float) -> None:
    # Both parts of the claim true, at the worst by exactly the margin; 3 standard errors of 0.05
    # over 600 repeats are 0.027.
    rng = np.random.default_rng(0)
    violated = 0
    for _ in range(600):
        draw = rng.random(150)
        found = {}
        for i, width in enumerate(("float32", "int16", "int8")):
            flip = rng.random(150) < 0.1
            right = np.where(flip, rng.random(150) < 0.5, draw < 0.5)
            found[width] = outcome(width, right & (rng.random(150) >= 2 * loss * i))
        violated += takeaways.transfer_accuracy(found, RULE).value == "violated"
    assert violated / 600 <= 0.05 + 0.027


def test_distance_claim_at_its_margin_errs_at_most_at_the_stated_level() -> None:
    rng = np.random.default_rng(1)
    violated = 0
    for _ in range(600):
        second = rng.gamma(4.0, 0.1, 60)
        first = 0.98 * second + rng.normal(0, 0.05, 60)
        verdict = verdicts.distance_at_least("d", ("a", first), ("b", second), RULE)
        violated += verdict.value == "violated"
    assert violated / 600 <= 0.05 + 0.027
