"""How often each claim is judged wrongly, and how often it sees what it says it can, by simulation.

Every claim is drawn at its boundary, where it is true by exactly the margin and calling it either
way is an error, and then moved by the difference that its verdict calls detectable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_qnnrobust.claims import observations, takeaways
from pytest_qnnrobust.claims.verdicts import Rule, Verdict
from pytest_qnnrobust.evaluation.cells import Outcome
from tests.helpers.outcomes import outcome

Draw = Callable[[np.random.Generator, float], Verdict]
Mask = NDArray[np.bool_]

REPEATS = [100, pytest.param(2000, marks=pytest.mark.nightly)]
"""Few on a pull request: test_stats.py counts the levels of the tests themselves exactly."""

N = 150
RULE = Rule(alpha=0.05, margin=0.02, drop=0.2)
WIDTHS = ("float32", "int16", "int8")
DISCORDANT = 0.3
"""Share of the samples on which two models differ."""


def slack(share: float, repeats: int) -> float:
    """Three standard errors of a share seen in this many repeats."""
    return float(3 * np.sqrt(share * (1 - share) / repeats))


def pair(rng: np.random.Generator, difference: float, n: int = N) -> tuple[Mask, Mask]:
    """Right or not, of two models whose accuracies differ by `difference` on the same samples."""
    draw = rng.random(n)
    first_only = (DISCORDANT + difference) / 2
    first = draw < first_only
    second = (draw >= first_only) & (draw < DISCORDANT)
    common = (draw >= DISCORDANT) & (rng.random(n) < 0.5)
    return first | common, second | common


def chain(rng: np.random.Generator, difference: float) -> dict[str, Outcome]:
    """float32, int16 and int8, each better than the one before by `difference`."""
    right = rng.random(N) < 0.5
    found = {}
    for width in WIDTHS:
        found[width] = outcome(width, right)
        gain, loss = ((0.2 + sign * difference) / 2 for sign in (1, -1))
        share = right.mean()
        lost = right & (rng.random(N) < loss / max(share, 1e-9))
        won = ~right & (rng.random(N) < gain / max(1 - share, 1e-9))
        right = (right & ~lost) | won
    return found


def farther(rng: np.random.Generator, second: NDArray[Any], margin: float, shift: float) -> Any:
    return (1 - margin) * second + rng.normal(shift, 0.05, len(second))


def fooled(width: str, l2: NDArray[Any]) -> Outcome:
    made = outcome(width, np.zeros(len(l2), bool), l2)
    return replace(made, l0=l2)


def distances(rng: np.random.Generator, shift: float, margin: float) -> tuple[Outcome, Outcome]:
    second = rng.gamma(9.0, 0.1, N)
    return fooled("int8", farther(rng, second, margin, shift)), fooled("float32", second)


def accuracies(
    claim: Callable[[Outcome, Outcome, Rule], Verdict], margin: float = RULE.margin
) -> Draw:
    def draw(rng: np.random.Generator, shift: float) -> Verdict:
        first, second = pair(rng, shift - margin)
        return claim(outcome("int8", first), outcome("int8", second), RULE)

    return draw


def of_distances(claim: Callable[..., Verdict], margin: float = RULE.margin) -> Draw:
    return lambda rng, shift: claim(*distances(rng, shift, margin), RULE)


def misalignment(rng: np.random.Generator, shift: float) -> Verdict:
    cosine = (0.5 - rng.normal(shift, 0.05, N)) / (1 - RULE.margin)
    return takeaways.gradient_misalignment("int8", cosine, RULE)


def zeros(rng: np.random.Generator, shift: float) -> Verdict:
    coarse, fine = distances(rng, shift, RULE.margin)
    return takeaways.zero_gradients({"int8": coarse.l2, "float32": fine.l2}, RULE)


def increase(rng: np.random.Generator, shift: float) -> Verdict:
    defended, plain = {}, {}
    for width in ("int8", "float32"):
        defended[width], plain[width] = distances(rng, shift, 0.0)
    return takeaways.larger_distance("pgd", plain, defended, RULE)


def extent(rng: np.random.Generator, shift: float) -> Verdict:
    recovered = np.arange(N) < N // 2
    # P(x + d > y) of two normal numbers is Phi(d / sqrt(2)).
    from scipy.special import ndtri

    l0 = rng.normal(0, 1, N) - np.sqrt(2) * ndtri(0.5 + shift) * recovered
    return takeaways.squeezing_and_extent("int8", l0, recovered, RULE)


def holds_everywhere(rng: np.random.Generator, shift: float) -> Verdict:
    clean, attacked = {}, {}
    for width in WIDTHS:
        first, clean[width] = pair(rng, shift - RULE.drop)
        attacked[width] = outcome(width, first)
    return takeaways.defense_holds("pgd", clean, attacked, RULE)


def carries_over(rng: np.random.Generator, shift: float) -> Verdict:
    first, second = pair(rng, shift - RULE.drop)
    clean = {"float32": np.ones(N, bool), "int8": second}
    attacked = {"float32": outcome("float32", np.ones(N, bool)), "int8": outcome("int8", first)}
    return takeaways.defense_carries_over("pgd", clean, attacked, RULE)


def transfers(rng: np.random.Generator, shift: float) -> Verdict:
    source, transferred = pair(rng, shift - RULE.drop)
    return takeaways.transfer_survives(
        "pgd", outcome("float32", source), {"int8": outcome("int8", transferred)}, RULE
    )


def effective(rng: np.random.Generator, shift: float) -> Verdict:
    robust = rng.random(N) < max(RULE.margin - shift, 0)
    return observations.boundary_is_effective(outcome("int8", robust), RULE)


def second_class(rng: np.random.Generator, shift: float) -> Verdict:
    rank = np.where(rng.random(N) < 0.5 + shift / 2, 1, 2)
    return observations.true_class_comes_second("int8", rank, np.ones(N, bool), RULE)


def noise(rng: np.random.Generator, shift: float) -> Verdict:
    below, above = np.zeros(N), 1 - RULE.margin + rng.normal(shift, 0.05, N)
    return takeaways.noise_threshold("int8", below, above, RULE)


SINGLE: dict[str, Draw] = {
    "T1 distance": of_distances(
        lambda a, b, rule: takeaways.boundary_distance({"int8": a, "float32": b}, rule)
    ),
    "T2 zeros": zeros,
    "T2 masked": accuracies(takeaways.masked_gradients),
    "T3": noise,
    "T4": misalignment,
    "T6": transfers,
    "T7": carries_over,
    "T8": lambda rng, shift: takeaways.denoises_more(
        "T8", *zip(("a", "b"), pair(rng, shift), strict=True), RULE
    ),
    "T9": extent,
    "O1": effective,
    "O1.1": of_distances(observations.boundary_is_more_distorted, 0.0),
    "O1.2": second_class,
    "O3": accuracies(observations.gradient_attack_is_weaker, 0.0),
    "O4": of_distances(observations.jsma_needs_more_features, 0.0),
    "STQ": accuracies(observations.regularized_loses_less),
}
JOINT: dict[str, Draw] = {
    "T1 three widths": lambda rng, shift: takeaways.transfer_accuracy(
        chain(rng, shift - RULE.margin), RULE
    ),
    "T5 two widths": increase,
    "a defence that holds at three widths": holds_everywhere,
}


def shares(draw: Draw, shift: float, repeats: int) -> dict[str, float]:
    rng = np.random.default_rng(17)
    values = [draw(rng, shift).value for _ in range(repeats)]
    return {value: values.count(value) / repeats for value in ("holds", "violated")}  # type: ignore[arg-type]


@pytest.mark.parametrize("repeats", REPEATS)
@pytest.mark.parametrize("name", [*SINGLE, *JOINT])
def test_false_alarms_stay_at_the_stated_level(name: str, repeats: int) -> None:
    called = shares((SINGLE | JOINT)[name], 0.0, repeats)
    assert called["violated"] <= RULE.alpha + slack(RULE.alpha, repeats)
    assert called["holds"] <= RULE.alpha + slack(RULE.alpha, repeats)


ONE_SIDED = ("T3", "O1")
"""Claims at the edge of what there is: none can be broken, or kept, by as much as is detectable."""


@pytest.mark.parametrize("repeats", [60, pytest.param(500, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", [name for name in SINGLE if name not in ONE_SIDED])
def test_the_detectable_difference_is_seen_four_times_out_of_five(name: str, repeats: int) -> None:
    detectable = SINGLE[name](np.random.default_rng(3), 0.0).detectable
    least = 0.8 - slack(0.8, repeats)
    assert shares(SINGLE[name], detectable, repeats)["holds"] >= least
    assert shares(SINGLE[name], -detectable, repeats)["violated"] >= least


@pytest.mark.parametrize("repeats", [41, pytest.param(101, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", [name for name in SINGLE if name not in ONE_SIDED])
def test_as_many_samples_settle_an_effect_as_detect_it(name: str, repeats: int) -> None:
    detectable = SINGLE[name](np.random.default_rng(3), 0.0).detectable
    for shift in (detectable, -detectable):
        rng = np.random.default_rng(5)
        verdicts = [SINGLE[name](rng, shift) for _ in range(repeats)]
        assert 0.7 <= np.median([verdict.needed / verdict.n for verdict in verdicts]) <= 1.4
