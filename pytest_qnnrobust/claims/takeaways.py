"""Published relations as pure functions: outcomes of the same samples -> verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.claims.verdicts import (
    Rule,
    Value,
    Verdict,
    accuracy_at_least,
    distance_at_least,
    farther_where_both_fooled,
    join,
    require_same_samples,
    tends_to_be_greater,
)
from pytest_qnnrobust.defenses import Cost
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.statistics import paired
from pytest_qnnrobust.tflite.workload import Workload

LADDER = ("int8", "int16", "float32")
"""The widths of a claim `int8 >= int16 >= float32`, in that order."""


def clean_parity(
    name: str,
    quantized: tuple[str, NDArray[np.bool_]],
    reference: tuple[str, NDArray[np.bool_]],
    rule: Rule,
) -> Verdict:
    """Quantization does not cost more clean accuracy than the margin.

    Each is a label and bool (N,), whether the model is right on each clean sample.
    """
    return accuracy_at_least(name, quantized, reference, rule)


def transfer_accuracy(outcomes: Mapping[str, Outcome], rule: Rule) -> Verdict:
    """T1 (A5 of "David and Goliath"): accuracy under DeepFool examples made for the float model.

    int8 >= int16 >= float32; `outcomes` by width, at least two widths.
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
    return join(f"T1 DeepFool transfer accuracy {_claim(ladder)}", verdicts)


def boundary_distance(outcomes: Mapping[str, Outcome], rule: Rule) -> Verdict:
    """T1 (A1 of "David and Goliath"): L2 distance to the boundary found by the Boundary attack.

    int8 >= int16 >= float32, each pair of widths on the samples that both models classify
    correctly and on both of which the attack succeeded.
    """
    ladder = _ladder(outcomes)
    verdicts = [
        farther_where_both_fooled(
            "Boundary distance", (low, outcomes[low]), (high, outcomes[high]), rule, len(ladder)
        )
        for low, high in ladder
    ]
    return join(f"T1 Boundary distance {_claim(ladder)}", verdicts)


def zero_gradients(densities: Mapping[str, NDArray[np.float64]], rule: Rule) -> Verdict:
    """T2: the share of zeros in a sample's measured gradient, int8 >= int16 >= float32.

    `densities` (N,) by width, from `gradient_metrics.zero_density` over the same samples.
    """
    ladder = list(pairwise(_ordered(densities)))
    parts = [
        distance_at_least(
            "", (low, densities[low]), (high, densities[high]), rule, len(ladder), "of zeros"
        )
        for low, high in ladder
    ]
    return join(f"T2 zeros in the gradient {_claim(ladder)}", parts)


def masked_gradients(direct: Outcome, transfer: Outcome, rule: Rule) -> Verdict:
    """T2 (A2): examples made for the float model fool no fewer than an attack on the model itself.

    What "David and Goliath" calls a sign of gradient masking: the direct attack, which has more to
    go by, leaves no smaller accuracy than the transferred one.
    """
    require_same_samples([direct, transfer])
    name = f"T2 {direct.width} {direct.attack} is masked: direct accuracy >= transfer accuracy"
    return accuracy_at_least(name, ("direct", direct.robust), ("transfer", transfer.robust), rule)


def gradient_misalignment(
    width: str, cosine: NDArray[np.float64], rule: Rule, aligned: float = 0.5
) -> Verdict:
    """T4: the gradient of a quantized model points elsewhere than that of the float model.

    `cosine` (N,) from `gradient_metrics.cosine_similarity`, NaN (no gradient) left out; the claim
    is that its median is at most `aligned` (0.5: an angle of 60 degrees).
    """
    defined = cosine[np.isfinite(cosine)]
    return distance_at_least(
        f"T4 {width} gradient misaligned with float32",
        ("aligned from", np.full(len(defined), aligned)),
        ("cosine similarity", defined),
        rule,
        unit="of cosine",
    )


def noise_threshold(
    width: str, below: NDArray[np.float64], above: NDArray[np.float64], rule: Rule
) -> Verdict:
    """T3: the input quantizer attenuates noise below half a step and passes it above.

    `below` and `above` are gains per sample (N,), from `noise_gain.quantizer_gain`: less than 1
    below, and at least 1 - margin above.
    """
    no_margin = replace(rule, margin=0.0)
    unit = ("unit gain", np.ones(len(below)))
    verdicts = [
        distance_at_least("", unit, ("gain below half a step", below), no_margin, 2, "of gain"),
        distance_at_least("", ("gain above half a step", above), unit, rule, 2, "of gain"),
    ]
    return join(f"T3 {width} noise is attenuated below half a step and passed above", verdicts)


def larger_distance(
    defense: str, plain: Mapping[str, Outcome], defended: Mapping[str, Outcome], rule: Rule
) -> Verdict:
    """T5: a train-based defence increases the distance to the boundary, at every width.

    Minimal-distortion outcomes of both models by width; L2, on the samples that both classify
    correctly and on which the attack succeeded for both. Increases: no margin.
    """
    widths = [width for width in _ordered(plain) if width in defended]
    increase = replace(rule, margin=0.0)
    parts = [
        farther_where_both_fooled(
            "",
            (f"{defense} {width}", defended[width]),
            (f"plain {width}", plain[width]),
            increase,
            len(widths),
        )
        for width in widths
    ]
    return join(f"T5 {defense} increases the distance to the boundary", parts)


def transfer_survives(
    defense: str, source: Outcome, transferred: Mapping[str, Outcome], rule: Rule
) -> Verdict:
    """T6: a train-based defence does not keep examples of its float model from its quantized ones.

    `source`: the attack on the defended float model; `transferred`: its examples on the quantized
    ones, by width. No width may be right on `rule.drop` more samples than the float model.
    """
    parts = []
    for width in _ordered(transferred, least=1):
        require_same_samples([source, transferred[width]])
        first, second = ("float32", source.robust), (width, transferred[width].robust)
        limit = replace(rule, margin=rule.drop)
        parts.append(accuracy_at_least("", first, second, limit, len(transferred)))
    return join(f"T6 {source.attack} examples transfer despite {defense}", parts)


def defense_succeeds(
    name: str, clean: NDArray[np.bool_], attacked: Outcome, rule: Rule, parts: int = 1
) -> Verdict:
    """A defence succeeds where less than `rule.drop` of the accuracy is lost under attack.

    `clean` (N,): whether the plain model of this width is right on the clean samples, the
    baseline of "David and Goliath"; `attacked`: the attack on the defended one.
    """
    first, second = (f"{attacked.width} under attack", attacked.robust), ("plain, clean", clean)
    return accuracy_at_least(name, first, second, replace(rule, margin=rule.drop), parts)


def defense_holds(
    defense: str,
    clean: Mapping[str, NDArray[np.bool_]],
    attacked: Mapping[str, Outcome],
    rule: Rule,
) -> Verdict:
    """A defence succeeds against an attack at every width; arguments of `defense_succeeds`."""
    widths = _ordered(attacked, least=1)
    parts = [defense_succeeds("", clean[w], attacked[w], rule, len(widths)) for w in widths]
    lost = f"loses less than {100 * rule.drop:g} points"
    return join(f"{defense} {lost} to {attacked[widths[0]].attack}", parts)


def defense_carries_over(
    defense: str,
    clean: Mapping[str, NDArray[np.bool_]],
    attacked: Mapping[str, Outcome],
    rule: Rule,
) -> Verdict:
    """T7: where a defence succeeds for the float model, it does for the quantized ones.

    Arguments of `defense_succeeds` by width. Where it does not succeed for the float model, there
    is nothing to carry over, and the verdict is inconclusive.
    """
    quantized = [width for width in _ordered(attacked) if width != "float32"]
    if "float32" not in attacked:
        raise expected("an outcome of the float32 model", widths=list(attacked))
    name = f"T7 {defense} against {attacked['float32'].attack} carries over to quantized models"
    source = defense_succeeds(name, clean["float32"], attacked["float32"], rule)
    if source.value != "holds":
        reason = "fails" if source.value == "violated" else "is not seen to succeed"
        statement = f"the defence {reason} for float32: {source.statement}"
        return replace(source, value="inconclusive", statement=statement)
    parts = [defense_succeeds("", clean[w], attacked[w], rule, len(quantized)) for w in quantized]
    return join(name, parts)


def no_extra_computation(
    defense: str, plain: Workload, defended: Workload, rule: Rule, before: Cost | None = None
) -> Verdict:
    """T10: a train-based defence adds no computation to inference, unlike a pre-processing one.

    Counted, not sampled: the verdict is certain. `before` is what runs ahead of the network.
    """
    first = defended.multiply_accumulates + (before.operations if before else 0)
    extra = first / max(plain.multiply_accumulates, 1) - 1
    statement = f"{defended} against {plain}" + (f", and {before} ahead of it" if before else "")
    name = f"T10 {defense} adds no computation"
    same = paired.Interval(extra, extra, rule.level)
    value: Value = "holds" if extra <= 0 else "violated"
    return Verdict(name, value, statement, extra, same, 0.0, 0.0, 1, "of work")


def denoises_more(
    name: str,
    first: tuple[str, NDArray[np.bool_]],
    second: tuple[str, NDArray[np.bool_]],
    rule: Rule,
) -> Verdict:
    """T8: one input defence brings back a larger share of the examples than another; no margin.

    Each is a name and whether the network behind it is right, bool (N,), on the same adversarial
    examples of the plain network. The paper compares feature squeezing with Pixel Defend.
    """
    return accuracy_at_least(name, first, second, replace(rule, margin=0.0))


def runs_beside(network: Workload, defense: Cost, rule: Rule, share: float = 0.1) -> Verdict:
    """T8: feature squeezing is light enough for a microcontroller.

    Counted, not sampled. The paper gives no number: here it holds where the defence asks for at
    most `share` of the network's multiply-accumulates in operations of its own.
    """
    part = defense.operations / max(network.multiply_accumulates, 1)
    statement = f"{defense}, {100 * part:.2g} % of {network} (at most {100 * share:g} %)"
    exact = paired.Interval(part, part, rule.level)
    value: Value = "holds" if part <= share else "violated"
    name = "T8 feature squeezing runs beside the network"
    return Verdict(name, value, statement, part, exact, 0.0, 0.0, 1, "of work")


def squeezing_and_extent(
    width: str, l0: NDArray[np.float64], recovered: NDArray[np.bool_], rule: Rule
) -> Verdict:
    """T9: feature squeezing falls short as more pixels are perturbed.

    `l0` (N,) and whether the defended model is right, `recovered` (N,), of the adversarial examples
    of one attack on the plain one: those that stay adversarial tend to have changed more elements.
    """
    pair = ("lost", l0[~recovered]), ("recovered", l0[recovered])
    return tends_to_be_greater(f"T9 {width} squeezing recovers the smaller L0", *pair, rule)


def _ladder(outcomes: Mapping[str, Outcome]) -> list[tuple[str, str]]:
    """The neighbouring widths, as (coarse, fine), of outcomes of the same samples."""
    widths = _ordered(outcomes)
    require_same_samples([outcomes[width] for width in widths])
    return list(pairwise(widths))


def _ordered(by_width: Mapping[str, object], least: int = 2) -> list[str]:
    """The widths that there are, from coarse to fine; QnnRobustError for fewer than `least`."""
    widths = [width for width in LADDER if width in by_width]
    if len(widths) < least:
        number = "two widths" if least == 2 else "one width"
        raise expected(f"outcomes of {number} or more", widths=widths)
    return widths


def _claim(ladder: Sequence[tuple[str, str]]) -> str:
    """The claim about a ladder, such as `int8 >= int16 >= float32`."""
    return " >= ".join([ladder[0][0], *(high for _, high in ladder)])
