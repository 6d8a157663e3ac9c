"""Examples that ours and ART's attacks make for the float ResNet-8, given to int16 and int8.

    python -m benchmarks.transfer --attacks cw-l2,cw-linf [--samples 50] [--profile goliath-cifar10]
        [--both max_iter=10 ...] [--ours polish_steps=20 ...] [--network cifar_sat]

Where a transferred accuracy differs from a published one, this says whether the code that was
published with differs from ours in the same way. Accuracies are over all images, distances means
over the images that the float network has wrong after the attack and right before it; `margin` is
how far, in logits, the attack went beyond the decision boundary.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.attacks import FILES, chosen, images, network_file, parser, peers, take_settings
from benchmarks.measure import Case, Images
from pytest_qnnrobust import attacks
from pytest_qnnrobust.attacks.score_losses import margin
from pytest_qnnrobust.metrics import distances
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.load import load_model


@dataclass(frozen=True)
class Row:
    """The effect of one library's examples: accuracy in % by width, means over the fooled."""

    attack: str
    library: str
    accuracy: dict[str, float]
    l1: float
    l2: float
    linf: float
    margin: float

    def __str__(self) -> str:
        left = " | ".join(f"{self.accuracy[width]:.1f}" for width in FILES)
        sizes = f"{self.l1:.2f} | {self.l2:.4f} | {self.linf:.4f} | {self.margin:.3f}"
        return f"| {self.attack} | {self.library} | {left} | {sizes} |"


def main() -> None:
    arguments = parser("examples of two libraries, transferred")
    arguments.set_defaults(samples=50, profile="goliath-cifar10")
    take_settings(arguments, "--both", "another setting for ours and for ART's")
    options = arguments.parse_args()
    models = {width: load_model(network_file(options, width)) for width in FILES}
    case = images(models["float32"], options)
    print(f"| attack | by | {' | '.join(FILES)} | L1 | L2 | Linf | margin |")
    print("|---" * 9 + "|")
    for name in chosen(options.attacks, attacks.NAMES):
        for row in compare(case, models, name, options):
            print(row, flush=True)


def compare(
    case: Case, models: dict[str, Model], name: str, options: argparse.Namespace
) -> list[Row]:
    attack = replace(attacks.preset(name, options.profile), **dict(options.both))
    ours = replace(attack, **dict(options.ours))(case.model, case.x, case.y, seed=case.seed).x_adv
    rows = [graded(case, models, name, "ours", ours)]
    if art := peers(case.model, name).get("ART"):
        np.random.seed(case.seed)
        right = case.correct
        theirs = case.x.copy()
        theirs[right] = art(attack).generate(case.x[right], case.y[right])
        rows.append(graded(case, models, name, "ART", theirs))
    return rows


def graded(case: Case, models: dict[str, Model], name: str, library: str, x_adv: Images) -> Row:
    accuracy = {
        width: 100 * float(np.mean((m.classify(case.x) == case.y) & (m.classify(x_adv) == case.y)))
        for width, m in models.items()
    }
    beyond = margin(case.model.logits(x_adv), case.y)
    fooled = case.correct & (beyond > 0)
    sizes = distances(x_adv, case.x)
    measures = (sizes.l1, sizes.l2, sizes.linf, beyond)
    means = [float(measure[fooled].mean()) for measure in measures]
    return Row(name, library, accuracy, *means)


if __name__ == "__main__":
    main()
