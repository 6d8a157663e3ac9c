"""Published relations as pure functions: outcomes of the same samples -> verdict.

A claim `first >= second` is judged against a margin: `holds` when a one-sided test at level alpha
excludes a loss of more than the margin, `violated` when one excludes a smaller loss, else
`inconclusive`. Tests are paired. A claim with several parts holds when every part does; it is
violated when one part is, at alpha divided by the number of parts (Bonferroni), so that a true
claim is called violated with probability alpha at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust import stats
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.evaluation import Outcome

Value = Literal["holds", "violated", "inconclusive"]
Unit = Literal["points", "in input units", "of gain"]
LADDER = ("int8", "int16", "float32")
"""The widths of a claim `int8 >= int16 >= float32`, in that order."""


@dataclass(frozen=True)
class Rule:
    """How verdicts are reached: level of the tests, and the loss that counts as none."""

    alpha: float = 0.05
    margin: float = 0.02

    @property
    def level(self) -> float:
        """Of the two-sided interval that goes with one-sided tests at alpha."""
        return 1 - 2 * self.alpha


@dataclass(frozen=True)
class Verdict:
    """`effect` and `interval` are in the unit of the claim (a fraction of samples, a distance).

    `p_value` is that of the decisive one-sided test; `detectable` the smallest effect that `n`
    paired samples show with a power of 0.8.
    """

    name: str
    value: Value
    statement: str
    effect: float
    interval: stats.Interval
    p_value: float
    detectable: float
    n: int
    unit: Unit = "points"

    @property
    def sensitivity(self) -> str:
        """What this sample could have shown, in words."""
        size = self.detectable * (100 if self.unit == "points" else 1)
        return f"{self.n} samples show a difference of {size:.3g} {self.unit} or more"

    def __str__(self) -> str:
        return f"{self.name} {self.value}: {self.statement}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Verdict:
        return cls(**{**values, "interval": stats.Interval(**values["interval"])})


def accuracy_at_least(
    name: str,
    first: tuple[str, NDArray[np.bool_]],
    second: tuple[str, NDArray[np.bool_]],
    rule: Rule,
    parts: int = 1,
) -> Verdict:
    """`first` is right on no smaller share of the same samples than `second`, margin aside.

    Each is a label and bool (N,), right or not. `parts`: of how many such claims this is one.
    """
    pairs = stats.discordance(first[1], second[1])
    holds = stats.paired_proportion_test(pairs, "greater", -rule.margin)
    violated = stats.paired_proportion_test(pairs, "less", -rule.margin)
    value = _value(holds, violated, rule, parts)
    p_value = violated if value == "violated" else holds
    interval = stats.difference_interval(pairs, rule.level)
    statement = (
        f"{first[0]} {_percent(first[1])} against {second[0]} {_percent(second[1])}, difference "
        f"{100 * pairs.difference:+.1f} points [{100 * interval.low:+.1f}, "
        f"{100 * interval.high:+.1f}] (paired, {p_text(p_value)}, n = {pairs.n})"
    )
    detectable = stats.detectable_difference(pairs.n, pairs.rate, rule.alpha)
    return Verdict(name, value, statement, pairs.difference, interval, p_value, detectable, pairs.n)


def distance_at_least(
    name: str,
    first: tuple[str, NDArray[np.float64]],
    second: tuple[str, NDArray[np.float64]],
    rule: Rule,
    parts: int = 1,
    unit: Unit = "in input units",
) -> Verdict:
    """Distances `first` (N,) are no smaller than `second` on the same samples, margin aside.

    The margin is relative: `first` is compared with (1 - margin) * second by Wilcoxon's test.
    """
    a, b = (np.asarray(pair[1], np.float64) for pair in (first, second))
    if a.shape != b.shape:
        raise expected("distances of the same samples", first=a.shape, second=b.shape)
    shifted = a - (1 - rule.margin) * b
    holds = stats.signed_rank_test(shifted, "greater")
    violated = stats.signed_rank_test(shifted, "less")
    value = _value(holds, violated, rule, parts)
    p_value = violated if value == "violated" else holds
    effect, interval = stats.location_interval(a - b, rule.level)
    statement = (
        f"{first[0]} {_median(a)} against {second[0]} {_median(b)} (medians), difference "
        f"{effect:+.3g} [{interval.low:+.3g}, {interval.high:+.3g}] "
        f"(paired, {p_text(p_value)}, n = {len(a)})"
    )
    detectable = stats.detectable_shift(a - b, rule.alpha)
    return Verdict(name, value, statement, effect, interval, p_value, detectable, len(a), unit)


def clean_parity(
    name: str,
    quantized: tuple[str, NDArray[np.bool_]],
    reference: tuple[str, NDArray[np.bool_]],
    rule: Rule,
) -> Verdict:
    """Quantization does not cost more clean accuracy than the margin."""
    return accuracy_at_least(name, quantized, reference, rule)


def transfer_accuracy(outcomes: Mapping[str, Outcome], rule: Rule) -> Verdict:
    """T1 (A5 of "David and Goliath"): DeepFool examples made for the float model.

    Accuracy int8 >= int16 >= float32; `outcomes` by width, at least two widths.
    """
    ladder = _ladder(outcomes)
    verdicts = [
        accuracy_at_least(
            "DeepFool transfer accuracy",
            (low, outcomes[low].robust),
            (high, outcomes[high].robust),
            rule,
            len(ladder),
        )
        for low, high in ladder
    ]
    return _join(f"T1 DeepFool transfer accuracy {_claim(ladder)}", verdicts)


def boundary_distance(outcomes: Mapping[str, Outcome], rule: Rule) -> Verdict:
    """T1 (A1 of "David and Goliath"): L2 distance to the boundary found by the Boundary attack.

    int8 >= int16 >= float32, each pair of widths on the samples that both models classify
    correctly and on both of which the attack succeeded.
    """
    ladder = _ladder(outcomes)
    verdicts = []
    for low, high in ladder:
        both = outcomes[low].fooled & outcomes[high].fooled
        verdicts.append(
            distance_at_least(
                "Boundary distance",
                (low, outcomes[low].l2[both]),
                (high, outcomes[high].l2[both]),
                rule,
                len(ladder),
            )
        )
    return _join(f"T1 Boundary distance {_claim(ladder)}", verdicts)


def noise_threshold(
    width: str, below: NDArray[np.float64], above: NDArray[np.float64], rule: Rule
) -> Verdict:
    """T3: the input quantizer attenuates noise below half a step and passes it above.

    `below` and `above` are gains per sample (N,), from `noise_gain.quantizer_gain`: less than 1
    below, and at least 1 - margin above.
    """
    no_margin = replace(rule, margin=0.0)
    one = ("unit gain", np.ones(len(below)))
    verdicts = [
        distance_at_least("", one, ("gain below half a step", below), no_margin, 2, "of gain"),
        distance_at_least("", ("gain above half a step", above), one, rule, 2, "of gain"),
    ]
    return _join(f"T3 {width} noise is attenuated below half a step and passed above", verdicts)


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _value(holds: float, violated: float, rule: Rule, parts: int) -> Value:
    if violated <= rule.alpha / parts:
        return "violated"
    return "holds" if holds <= rule.alpha else "inconclusive"


def _ladder(outcomes: Mapping[str, Outcome]) -> list[tuple[str, str]]:
    widths = [width for width in LADDER if width in outcomes]
    if len(widths) < 2:
        raise expected("outcomes of two widths or more", widths=widths)
    if len({tuple(outcomes[width].index) for width in widths}) > 1:
        raise expected("outcomes of the same samples", widths=widths)
    return list(pairwise(widths))


def _claim(ladder: Sequence[tuple[str, str]]) -> str:
    """Such as `int8 >= int16 >= float32`."""
    return " >= ".join([ladder[0][0], *(high for _, high in ladder)])


def _join(name: str, verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict from the parts of a claim, with the numbers of the part that decided it."""
    order: tuple[Value, ...] = ("violated", "inconclusive", "holds")
    value = next(v for v in order if any(part.value == v for part in verdicts))
    deciding = [part for part in verdicts if part.value == value]
    pick = min if value == "violated" else max
    chosen = pick(deciding, key=lambda part: part.p_value)
    shown = verdicts if value == "holds" else deciding
    return replace(
        chosen, name=name, value=value, statement="; ".join(part.statement for part in shown)
    )


def _percent(right: NDArray[np.bool_]) -> str:
    return f"{100 * float(np.mean(right)):.1f} %" if len(right) else "-"


def _median(values: NDArray[np.float64]) -> str:
    return f"{float(np.median(values)):.3g}" if len(values) else "-"
