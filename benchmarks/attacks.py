"""Our attacks beside ART's: same images, same float ResNet-8 logits, the paper's settings.

    python benchmarks/attacks.py [--attacks pgd,...] [--samples 200] [--slow-samples 20] [--skip 0]

Prints a Markdown table: adversarial accuracy over all images, distances over the images that were
fooled (clean errors left out) and over all, queries or gradients per attacked image, seconds,
and the ratios to ART. Needs ../shared and adversarial-robustness-toolbox.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust import attacks, metrics
from pytest_qnnrobust.models import Model, load_model

SHARED = Path(__file__).resolve().parents[2] / "shared"
SLOW = ("boundary",)
"""Attacks for which ART takes seconds per image: `--slow-samples` images only."""

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """One attack by one library over the same images."""

    attack: str
    library: str
    accuracy: float
    l2: float
    linf: float
    l2_all: float
    linf_all: float
    cost: str
    seconds: float

    def cells(self, samples: int) -> list[str]:
        distances = (self.l2, self.linf, self.l2_all, self.linf_all)
        accuracy = f"{100 * self.accuracy:.1f} %"
        numbers = [f"{value:.4f}" for value in distances]
        return [self.attack, self.library, str(samples), accuracy, *numbers, self.cost]


HEADER = ["attack", "library", "images", "adv. accuracy", "L2", "Linf", "L2 all", "Linf all"]
HEADER += ["cost per image", "seconds", "speed-up", "accuracy diff", "distortion ratio"]


def main() -> None:
    options = parse()
    model = load_model(SHARED / "models" / "cifar_resnet_float.h5")
    data = np.load(SHARED / "data" / "cifar10_test.npz")
    print("| " + " | ".join(HEADER) + " |")
    print("|" + " --- |" * len(HEADER))
    for name in options.attacks.split(","):
        samples = options.slow_samples if name in SLOW else options.samples
        images = slice(options.skip, options.skip + samples)
        x = data["x"][images].astype(np.float32) / 255
        y = data["y"][images].astype(np.int64)
        compare(model, name, x, y, options.seed)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="our attacks beside ART's")
    parser.add_argument("--attacks", default=",".join(PEERS), help="ids, separated by commas")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--skip", type=int, default=0, help="leave out the first N images")
    parser.add_argument("--slow-samples", type=int, default=20, help=f"for {', '.join(SLOW)}")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def compare(model: Model, name: str, x: Images, y: Labels, seed: int) -> None:
    """Run one attack in both libraries and print its two rows."""
    ours, theirs = run_ours(model, name, x, y, seed), run_art(model, name, x, y, seed)
    ratios = [
        f"{theirs.seconds / ours.seconds:.1f}x faster",
        f"{100 * (ours.accuracy - theirs.accuracy):+.1f} points",
        distortion_ratio(name, ours, theirs),
    ]
    for row, more in ((ours, ratios), (theirs, ["", "", ""])):
        cells = [*row.cells(len(x)), f"{row.seconds:.1f}", *more]
        print("| " + " | ".join(cells) + " |", flush=True)


def distortion_ratio(name: str, ours: Row, theirs: Row) -> str:
    """Mean distortion over the fooled images, ours over ART's, in the attack's own norm."""
    if np.isinf(getattr(attacks.create(name), "norm", 2)):
        return f"{ours.linf / theirs.linf:.3f} (Linf)"
    return f"{ours.l2 / theirs.l2:.3f} (L2)"


def run_ours(model: Model, name: str, x: Images, y: Labels, seed: int) -> Row:
    attack = attacks.preset(name, "paper")
    warm_up(model, x, y, attack.knowledge == "white")
    result = attack(model, x, y, seed=seed)
    attacked = max(int((result.clean_label == y).sum()), 1)
    queries, gradients = result.queries.sum() / attacked, result.gradients.sum() / attacked
    cost = f"{queries:.0f} queries, {gradients:.0f} gradients"
    return graded(model, name, "ours", x, y, result.x_adv, result.seconds, cost)


def run_art(model: Model, name: str, x: Images, y: Labels, seed: int) -> Row:
    classifier = art_classifier(model)
    np.random.seed(seed)
    generate = PEERS[name](classifier)
    # ART attacks what the model predicts; the labels keep clean errors out as ours does.
    correct = model.classify(x) == y
    x_adv = x.copy()
    started = time.perf_counter()
    x_adv[correct] = generate(x[correct], y[correct])
    seconds = time.perf_counter() - started
    return graded(model, name, "ART", x, y, x_adv, seconds, "")


def graded(
    model: Model,
    name: str,
    library: str,
    x: Images,
    y: Labels,
    x_adv: Images,
    seconds: float,
    cost: str,
) -> Row:
    """The same grading for both: distances of what the model, asked again, misclassifies."""
    clean, label = model.classify(x), model.classify(x_adv)
    fooled = (clean == y) & (label != y)
    found = metrics.distances(x_adv, x)
    return Row(
        attack=name,
        library=library,
        accuracy=metrics.adversarial_accuracy(y, clean, label),
        l2=metrics.mean_distance(found.l2, fooled),
        linf=metrics.mean_distance(found.linf, fooled),
        l2_all=metrics.mean_distance(found.l2, fooled, over="all"),
        linf_all=metrics.mean_distance(found.linf, fooled, over="all"),
        cost=cost,
        seconds=seconds,
    )


def warm_up(model: Model, x: Images, y: Labels, gradients: bool) -> None:
    """Let TensorFlow trace and compile before the clock runs."""
    model.evaluate(x)
    if gradients:
        model.loss_gradient(x, y)
        model.jacobian(x)


def art_classifier(model: Any) -> Any:
    """The same Keras network, its logits, as ART sees it."""
    import tensorflow as tf
    from art.estimators.classification import TensorFlowV2Classifier

    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True)
    return TensorFlowV2Classifier(
        model=tf.function(lambda x, training=False: model.network(x, training=False)),
        nb_classes=model.classes,
        input_shape=model.input_shape,
        loss_object=loss,
        clip_values=model.bounds,
    )


Generate = Callable[[Images, Labels], Images]


def art_pgd(classifier: Any) -> Generate:
    from art.attacks.evasion import ProjectedGradientDescentNumpy

    attack = ProjectedGradientDescentNumpy(
        classifier,
        norm=np.inf,
        eps=0.0008,
        eps_step=0.00008,
        max_iter=10,
        num_random_init=20,
        batch_size=256,
        verbose=False,
    )
    return lambda x, y: attack.generate(x, y)


def art_deepfool(classifier: Any) -> Generate:
    from art.attacks.evasion import DeepFool

    attack = DeepFool(classifier, max_iter=100, epsilon=0.008, batch_size=256, verbose=False)
    return lambda x, y: attack.generate(x)


def art_square(norm: float, eps: float, max_iter: int, p_init: float) -> Callable[[Any], Generate]:
    def build(classifier: Any) -> Generate:
        from art.attacks.evasion import SquareAttack

        attack = SquareAttack(
            classifier,
            norm=norm,
            eps=eps,
            max_iter=max_iter,
            p_init=p_init,
            batch_size=256,
            verbose=False,
        )
        return lambda x, y: attack.generate(x, y)

    return build


def art_boundary(classifier: Any) -> Generate:
    from art.attacks.evasion import BoundaryAttack

    attack = BoundaryAttack(
        classifier,
        targeted=False,
        delta=0.1,
        epsilon=1.0,
        init_size=100,
        max_iter=500,
        batch_size=256,
        verbose=False,
    )
    return lambda x, y: attack.generate(x, y)


PEERS: dict[str, Callable[[Any], Generate]] = {
    "square-linf": art_square(np.inf, 0.015, 1000, 0.05),
    "square-l2": art_square(2, 1.0, 2000, 0.8),
    "pgd": art_pgd,
    "deepfool": art_deepfool,
    "boundary": art_boundary,
}


if __name__ == "__main__":
    main()
