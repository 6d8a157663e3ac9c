"""Gain of gradients of the integer graph over transferred examples, on the quantized ResNet-8.

    python -m benchmarks.gradients [--widths int8,int16] [--samples 200] [--probed 20]

Each attack is aimed at the float network and its images given to the integer model ("transfer"),
and at the integer model itself with each source of gradients. Accuracy is the integer model's over
all images; distances are means over the images that were fooled and, where every source fooled it,
over the images that all did. Finite differences cost two questions per input element and gradient:
they run on the first `--probed` images, and every other source on the same ones beside.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks import SHARED, chosen, images
from benchmarks.measure import Case, say
from benchmarks.table import number, table
from pytest_qnnrobust import attacks, metrics
from pytest_qnnrobust.attacks import Attack
from pytest_qnnrobust.models.base import REDIRECTIONS
from pytest_qnnrobust.models.load import load_model

WIDTHS = ("int8", "int16")
ATTACKS: dict[str, dict[str, object]] = {
    "fgsm": {"eps": 0.004},
    "pgd": {"eps": 0.004, "step": 0.001, "restarts": 2},
    "apgd-ce": {"eps": 0.004, "max_iter": 20},
    "apgd-t": {"eps": 0.004, "max_iter": 20, "targets": 3},
    "deepfool": {"max_iter": 20},
    "cw-l2": {"binary_search_steps": 4},
}
"""Fixed budgets of about one input LSB of int8, and two minimal-distortion attacks."""

PROBED = ("fgsm", "pgd", "apgd-ce")
"""Attacks that run with finite differences as well: they need few gradients an image."""

HEADER = ["width", "attack", "gradient", "images", "adv. accuracy", "L2", "Linf", "L2 all fooled"]
HEADER += ["s/image"]


@dataclass(frozen=True)
class Run:
    """The outcome of one source of gradients on the integer model, of images it had right."""

    source: str
    fooled: NDArray[np.bool_]
    accuracy: float
    distances: metrics.Distances
    seconds: float


def main() -> None:
    made = argparse.ArgumentParser(description="gradients of the integer graph against transfer")
    made.add_argument("--widths", default=",".join(WIDTHS))
    made.add_argument("--attacks", default="")
    made.add_argument("--samples", type=int, default=200)
    made.add_argument("--probed", type=int, default=20)
    made.add_argument("--skip", type=int, default=0)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--output", type=Path, default=Path("benchmark-results"))
    options = made.parse_args()
    parent = load_model(SHARED / "models" / "cifar_resnet_float.h5")
    rows = []
    for width in chosen(options.widths, WIDTHS):
        path = SHARED / "models" / f"cifar_resnet_{width}.tflite"
        case = images(load_model(path, bounds=(0.0, 1.0)), options)
        for name in chosen(options.attacks, tuple(ATTACKS)):
            attack = attacks.create(name, **ATTACKS[name])
            say(f"{width} {name} ...")
            runs = list(measured(case, images(parent, options), attack, REDIRECTIONS[:2]))
            rows += [[width, name, *cells] for cells in described(runs)]
            if name in PROBED and options.probed:
                few = images(parent, options).first(options.probed)
                runs = list(measured(case.first(options.probed), few, attack, REDIRECTIONS))
                rows += [[width, name, *cells] for cells in described(runs)]
    text = table(HEADER, rows)
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "gradients.md").write_text(text + "\n")


def measured(case: Case, parent: Case, attack: Attack, sources: tuple[str, ...]) -> Iterator[Run]:
    for source in ("transfer", *sources):
        attacked = parent.model if source == "transfer" else case.model
        settings = {} if source == "transfer" else {"gradient": source}
        attack(attacked, case.x[:8], case.y[:8], seed=case.seed, query_budget=20, **settings)
        started = time.perf_counter()
        result = attack(attacked, case.x, case.y, seed=case.seed, **settings)
        seconds = time.perf_counter() - started
        right = case.correct
        fooled = right & (case.model.classify(result.x_adv) != case.y)
        distances = metrics.distances(result.x_adv, case.x)
        accuracy = float((right & ~fooled).mean())
        yield Run(source, fooled, accuracy, distances, seconds / len(case.x))


def described(runs: list[Run]) -> Iterator[list[str]]:
    everywhere = np.logical_and.reduce([run.fooled for run in runs])
    for run in runs:
        l2, linf = run.distances.l2, run.distances.linf
        means = [mean(l2, run.fooled), mean(linf, run.fooled), mean(l2, everywhere)]
        shown = [number(value) for value in means]
        count = str(len(run.fooled))
        yield [run.source, count, f"{run.accuracy:.1%}", *shown, f"{run.seconds:.4f}"]


def mean(values: NDArray[np.floating], rows: NDArray[np.bool_]) -> float:
    return float(values[rows].mean()) if rows.any() else float("nan")


if __name__ == "__main__":
    main()
