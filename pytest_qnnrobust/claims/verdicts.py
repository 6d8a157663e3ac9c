"""Claims about paired samples, judged: holds, violated or inconclusive.

A claim `first >= second` is judged against a margin: `holds` when a one-sided test at level alpha
excludes a loss of more than the margin, `violated` when one excludes a smaller loss, else
`inconclusive`. Tests are paired. A claim with several parts holds when every part does; it is
violated when one part is, at alpha divided by the number of parts (Bonferroni), so that a true
claim is called violated with probability alpha at most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.statistics import paired
from pytest_qnnrobust.statistics.discordance import (
    difference_interval,
    discordance,
    paired_proportion_test,
)

Value = Literal["holds", "violated", "inconclusive"]
Unit = Literal[
    "points",
    "in input units",
    "of gain",
    "of zeros",
    "of cosine",
    "of probability",
    "of work",
    "in elements",
]


ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Relative size of a difference of two distances that is rounding."""
MAX_REPORTED_SAMPLES = 1_000_000
"""Largest number of samples that a verdict names as settling its claim."""


@dataclass(frozen=True)
class Rule:
    """The rule that verdicts are reached by: the level of its tests, and the losses it tolerates.

    `alpha` is the level of each one-sided test. `margin` is the loss that counts as none, a
    fraction of the samples or of a distance. `drop` is the loss of accuracy, a fraction, up to
    which a defence counts as successful ("David and Goliath", section 4: 20 points).
    """

    alpha: float = 0.05
    margin: float = 0.02
    drop: float = 0.2

    @property
    def level(self) -> float:
        """Level of the two-sided interval that goes with one-sided tests at `alpha`."""
        return 1 - 2 * self.alpha


@dataclass(frozen=True)
class Verdict:
    """A claim and whether it holds on `n` samples; `statement` has the numbers in words.

    `effect` and `interval` are in the unit of the claim: a fraction of the samples for "points",
    else what `unit` says. `p_value` is that of the decisive one-sided test; `detectable` the
    smallest effect that `n` paired samples show with a power of 0.8; `needed` about how many
    samples would settle the claim with that power, were the effect what it was here.
    """

    name: str
    value: Value
    statement: str
    effect: float
    interval: paired.Interval
    p_value: float
    detectable: float
    n: int
    unit: Unit = "points"
    needed: float = math.nan

    @property
    def sensitivity(self) -> str:
        """The smallest difference that this sample could have shown, in words, and `settling`."""
        size = self.detectable * (100 if self.unit == "points" else 1)
        shown = f"{self.n} samples show a difference of {size:.3g} {self.unit} or more"
        return "; ".join(filter(None, (shown, self.settling)))

    @property
    def settling(self) -> str:
        """Number of samples that would settle the claim, in words; "" where none can be named."""
        if math.isnan(self.needed) or self.needed <= self.n:
            return ""
        if self.needed > MAX_REPORTED_SAMPLES:
            return f"over {MAX_REPORTED_SAMPLES:,} would have to settle it"
        digits = 10 ** max(math.floor(math.log10(self.needed)) - 1, 0)
        return f"about {math.ceil(self.needed / digits) * digits:,} would settle it"

    def __str__(self) -> str:
        return f"{self.name} {self.value}: {self.statement}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Verdict:
        return cls(**{**values, "interval": paired.Interval(**values["interval"])})


def accuracy_at_least(
    name: str,
    first: tuple[str, NDArray[np.bool_]],
    second: tuple[str, NDArray[np.bool_]],
    rule: Rule,
    parts: int = 1,
) -> Verdict:
    """`first` is right on no smaller share of the same samples than `second`, margin aside.

    Each is a label and bool (N,), right or not. `parts` is the number of parts of the whole claim,
    of which this is one.
    """
    pairs = discordance(first[1], second[1])
    holds = paired_proportion_test(pairs, "greater", -rule.margin)
    violated = paired_proportion_test(pairs, "less", -rule.margin)
    value, p_value = _decide(holds, violated, rule, parts)
    interval = difference_interval(pairs, rule.level)
    statement = (
        f"{first[0]} {_percent(first[1])} against {second[0]} {_percent(second[1])}, difference "
        f"{100 * pairs.difference:+.1f} points [{100 * interval.low:+.1f}, "
        f"{100 * interval.high:+.1f}] (paired, {p_text(p_value)}, n = {pairs.n})"
    )
    effect = pairs.difference
    detectable = paired.detectable_difference(pairs.n, pairs.rate, rule.alpha)
    needed = paired.samples_to_settle(pairs.n, effect, interval, -rule.margin)
    return Verdict(
        name, value, statement, effect, interval, p_value, detectable, pairs.n, needed=needed
    )


def share_at_most(name: str, mask: tuple[str, NDArray[np.bool_]], rule: Rule) -> Verdict:
    """The share of samples that `mask` marks is no larger than the margin; exact binomial tests.

    `mask` is a label and bool (N,).
    """
    marked = np.asarray(mask[1], bool)
    holds, violated = (
        paired.proportion_test(int(marked.sum()), len(marked), rule.margin, side)
        for side in ("less", "greater")
    )
    value, p_value = _decide(holds, violated, rule)
    interval = paired.proportion_interval(int(marked.sum()), len(marked), rule.level)
    statement = (
        f"{mask[0]} {_percent(marked)} [{100 * interval.low:.1f}, {100 * interval.high:.1f}], at "
        f"most {100 * rule.margin:g} % ({p_text(p_value)}, n = {len(marked)})"
    )
    effect = float(marked.mean()) if len(marked) else 0.0
    n = len(marked)
    detectable = paired.detectable_proportion(n, rule.margin, rule.alpha)
    needed = paired.samples_to_settle(n, effect, interval, rule.margin)
    return Verdict(name, value, statement, effect, interval, p_value, detectable, n, needed=needed)


def distance_at_least(
    name: str,
    first: tuple[str, NDArray[np.float64]],
    second: tuple[str, NDArray[np.float64]],
    rule: Rule,
    parts: int = 1,
    unit: Unit = "in input units",
) -> Verdict:
    """Distances `first` (N,) are no smaller than `second` on the same samples, margin aside.

    Each is a label and distances. The margin is relative: `first` is compared with
    (1 - margin) * `second` by Wilcoxon's test. Raises QnnRobustError for two shapes.
    """
    a, b = (np.asarray(pair[1], np.float64) for pair in (first, second))
    if a.shape != b.shape:
        raise expected("distances of the same samples", first=a.shape, second=b.shape)
    shifted = a - (1 - rule.margin) * b
    # Norms of float32 inputs: what differs by less than their rounding is equal.
    shifted[np.abs(shifted) <= ROUNDING * np.maximum(np.abs(a), np.abs(b))] = 0.0
    holds = paired.signed_rank_test(shifted, "greater")
    violated = paired.signed_rank_test(shifted, "less")
    value, p_value = _decide(holds, violated, rule, parts)
    effect, interval = paired.location_interval(a - b, rule.level)
    statement = (
        f"{first[0]} {_median(a)} against {second[0]} {_median(b)} (medians), difference "
        f"{effect:+.3g} [{interval.low:+.3g}, {interval.high:+.3g}] "
        f"(paired, {p_text(p_value)}, n = {len(a)})"
    )
    n = len(a)
    detectable = paired.detectable_shift(a - b, rule.alpha)
    needed = paired.samples_to_settle(n, *paired.location_interval(shifted, rule.level))
    return Verdict(name, value, statement, effect, interval, p_value, detectable, n, unit, needed)


def farther_where_both_fooled(
    name: str,
    first: tuple[str, Outcome],
    second: tuple[str, Outcome],
    rule: Rule,
    parts: int = 1,
    norm: Literal["l0", "l2"] = "l2",
) -> Verdict:
    """`distance_at_least` of two labelled outcomes, on the samples on which both were fooled."""
    require_same_samples([first[1], second[1]])
    both = first[1].fooled & second[1].fooled
    a, b = ((label, getattr(outcome, norm)[both]) for label, outcome in (first, second))
    unit: Unit = "in elements" if norm == "l0" else "in input units"
    return distance_at_least(name, a, b, rule, parts, unit)


def require_same_samples(outcomes: Sequence[Outcome]) -> None:
    """Raise QnnRobustError for outcomes that cannot be compared sample by sample."""
    if len({tuple(outcome.index) for outcome in outcomes}) > 1:
        raise expected("outcomes of the same samples", cells=[o.id for o in outcomes])


def tends_to_be_greater(
    name: str,
    first: tuple[str, NDArray[Any]],
    second: tuple[str, NDArray[Any]],
    rule: Rule,
) -> Verdict:
    """A value of `first` (n,) is more often greater than one of `second` (m,) than smaller.

    Independent samples, by Mann and Whitney's test; the effect is P(first > second) - 1/2, ties
    counting half.
    """
    a, b = (np.asarray(pair[1], np.float64) for pair in (first, second))
    holds, violated = (paired.rank_sum_test(a, b, side) for side in ("greater", "less"))
    value, p_value = _decide(holds, violated, rule)
    share, interval = paired.superiority(a, b, rule.level)
    statement = (
        f"{first[0]} {_median(a)} against {second[0]} {_median(b)} (medians), greater in "
        f"{100 * share:.0f} % [{100 * interval.low:.0f}, {100 * interval.high:.0f}] of pairs "
        f"({p_text(p_value)}, n = {len(a)} and {len(b)})"
    )
    centred = paired.Interval(interval.low - 0.5, interval.high - 0.5, interval.level)
    detectable = paired.detectable_superiority(len(a), len(b), rule.alpha)
    n = len(a) + len(b)
    needed = paired.samples_to_settle(n, share - 0.5, centred)
    return Verdict(
        name, value, statement, share - 0.5, centred, p_value, detectable, n, "of probability",
        needed,
    )  # fmt: skip


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _decide(holds: float, violated: float, rule: Rule, parts: int = 1) -> tuple[Value, float]:
    """The verdict of two one-sided tests, given by their p-values, and the one that decided it."""
    if violated <= rule.alpha / parts:
        return "violated", violated
    return "holds" if holds <= rule.alpha else "inconclusive", holds


def join(name: str, verdicts: Sequence[Verdict]) -> Verdict:
    """Join the parts of a claim into one verdict, with the numbers of the part that decided it."""
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
