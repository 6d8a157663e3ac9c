"""Relations of the second and the third paper, each from outcomes of the same samples.

The numbered observations are those of "On Adversarial Robustness of Quantized Neural Networks
Against Direct Attacks", section 7.2, which attacks every model directly and compares networks of
few bits with full precision (FP); `coarse` is the model of fewer bits, `fine` the other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.claims.verdicts import (
    Rule,
    Verdict,
    accuracy_at_least,
    farther_where_both_fooled,
    require_same_samples,
    share_at_most,
)
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.evaluation.cells import Outcome


def boundary_is_effective(outcome: Outcome, rule: Rule) -> Verdict:
    """Observation 1: the Boundary attack leaves no more than the margin of the samples right."""
    name = f"O1 Boundary fools {outcome.width}"
    return share_at_most(name, (f"{outcome.width} robust", outcome.robust), rule)


def boundary_is_more_distorted(coarse: Outcome, fine: Outcome, rule: Rule) -> Verdict:
    """Observation 1.1: Boundary's examples lie farther (L2) from their images at fewer bits.

    Compared on the samples on which it succeeded for both models.
    """
    return _is_farther("O1.1 Boundary is more distorted", coarse, fine, "l2", rule)


def true_class_comes_second(
    width: str, rank: NDArray[np.int64], distorted: NDArray[np.bool_], rule: Rule
) -> Verdict:
    """Observation 1.2: in images that Boundary left unrecognizable, the true class scores second.

    `rank` (N,) of the true class among the scores of the adversarial image, 0 the best;
    `distorted` (N,) marks the images. The claim: of those, more have rank 1 than another rank.
    """
    second = np.asarray(rank)[np.asarray(distorted, bool)] == 1
    name = f"O1.2 {width} distorted images keep their class second"
    pair = ("second", second), ("another rank", ~second)
    return accuracy_at_least(name, *pair, replace(rule, margin=0.0))


def gradient_attack_is_weaker(coarse: Outcome, fine: Outcome, rule: Rule) -> Verdict:
    """Observation 3: an attack on the loss gradient (FGSM, UAP) leaves a larger accuracy at fewer
    bits than in full precision.
    """
    _require_same_attack(coarse, fine)
    name = f"O3 {coarse.attack} is weaker on {coarse.width}"
    pair = (coarse.width, coarse.robust), (fine.width, fine.robust)
    return accuracy_at_least(name, *pair, replace(rule, margin=0.0))


def jsma_needs_more_features(coarse: Outcome, fine: Outcome, rule: Rule) -> Verdict:
    """Observation 4: JSMA changes more elements (L0) at fewer bits, where it fools both."""
    return _is_farther("O4 JSMA needs more features", coarse, fine, "l0", rule)


def regularized_loses_less(quantized: Outcome, parent: Outcome, rule: Rule) -> Verdict:
    """Ayaz et al., "Improving Robustness [...] with Deeply Quantized Neural Networks", section V: a
    quantized model trained with Jacobian regularization loses no more samples to an attack than
    its float parent.

    A sample is lost that was right before the attack and is wrong after it.
    """
    _require_same_attack(quantized, parent)
    trained = quantized.defense or "regularized"
    name = f"STQ {trained} {quantized.width} loses no more to {quantized.attack} than its parent"
    pair = (f"{quantized.width} not lost", ~quantized.fooled), ("parent not lost", ~parent.fooled)
    return accuracy_at_least(name, *pair, rule)


def _is_farther(
    claim: str, coarse: Outcome, fine: Outcome, norm: Literal["l0", "l2"], rule: Rule
) -> Verdict:
    _require_same_attack(coarse, fine)
    name, first, second = f"{claim} on {coarse.width}", (coarse.width, coarse), (fine.width, fine)
    return farther_where_both_fooled(name, first, second, replace(rule, margin=0.0), norm=norm)


def _require_same_attack(first: Outcome, second: Outcome) -> None:
    require_same_samples([first, second])
    if first.attack != second.attack:
        raise expected("outcomes of one attack", attacks=[first.attack, second.attack])
