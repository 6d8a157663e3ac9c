"""Direct attacks on DoReFa networks of 1 to 16 bits: Tables 6 and 7 of the second paper.

    python -m benchmarks.bit_widths --output DIR [--bits FP,clipped,1,...] [--samples N]
    python -m benchmarks.bit_widths --network resnet20 --data DIR --epochs 60 --output DIR
    python -m benchmarks.bit_widths --network mnist-a-cifar --data DIR --bits FP --output DIR

"On Adversarial Robustness of Quantized Neural Networks Against Direct Attacks": each width is
trained from scratch with the same settings and seed and attacked directly by FGSM, JSMA, UAP, C&W
and Boundary, at the settings of its Table 5 (the presets direct-mnist and direct-cifar10). Its
protocol: only images that the network classifies correctly are attacked; three runs, averaged; L2
and Linf are means over the images that were fooled. "clipped" is a control that the paper has not:
full precision with DoReFa-Net's clipped activations. Here the runs share the test images out among
them, so that no image counts twice, and `--samples` caps each. Table 7 is the mean L0 of JSMA.

`mnist-a` runs on the embedded digits (8x8), trained on the 1,200 that are not in digits.npz;
`resnet20` on `cifar10_train.npz` and `cifar10_test.npz` of `--data`; `mnist-a-cifar` is Mnist A on
those in grey and 8x8, so that it differs from `mnist-a` in nothing but the images. Networks and
outcomes are kept in DIR, so that an interrupted run goes on; DIR/NETWORK.md and DIR/NETWORK.csv are
written at the end of every width. The observations are those of `pytest_qnnrobust.observations`,
paired on the images that both networks classify correctly. Observation 2, of the data, is judged
once DIR has the outcomes of `mnist-a` as well: the distances of its examples against those of the
other network's, per element, and accuracies where the settings are the same.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from numpy.typing import NDArray

from benchmarks.dorefa_networks import BITS, NAMES, mnist_a, resnet20, width_name
from pytest_qnnrobust import attacks, metrics
from pytest_qnnrobust.attacks.registry import minimizes_distance
from pytest_qnnrobust.claims import observations
from pytest_qnnrobust.claims.verdicts import (
    Rule,
    Verdict,
    farther_where_both_fooled,
    tends_to_be_greater,
)
from pytest_qnnrobust.evaluation.cells import Cell, Outcome
from pytest_qnnrobust.evaluation.evaluator import Evaluator
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.load import load_model

KINDS = ("digits", "natural images")
FP = width_name(None)
ATTACKS = ("fgsm", "jsma", "uap", "cw-l2", "boundary")
RUNS = 3
SEED = 0
RULE = Rule()
COLUMNS = (
    "network",
    "bits",
    "attack",
    "run",
    "attacked",
    "adversarial_accuracy",
    "l0",
    "l2",
    "linf",
)

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
Split = tuple[tuple[Images, Labels], ...]
"""Training and test samples."""


@dataclass(frozen=True)
class Task:
    """A network, its data and its settings: `build(bits, shape)`, batches of `batch` images."""

    name: str
    preset: str
    epochs: int
    batch: int
    build: Any
    augment: bool


TASKS = {
    "mnist-a": Task("mnist-a", "direct-mnist", 60, 50, mnist_a, augment=False),
    "mnist-a-cifar": Task("mnist-a-cifar", "direct-mnist", 60, 50, mnist_a, augment=False),
    "resnet20": Task("resnet20", "direct-cifar10", 60, 128, resnet20, augment=True),
}
DIGITS = TASKS["mnist-a"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", choices=tuple(TASKS), default="mnist-a")
    parser.add_argument("--data", type=Path, help="folder of cifar10_train.npz, cifar10_test.npz")
    parser.add_argument("--bits", default=",".join(width_name(b) for b in BITS))
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--samples", type=int, default=1000, help="images of a run at most")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--output", type=Path, default=Path("bit-widths"))
    options = parser.parse_args()
    task = TASKS[options.network]
    if options.epochs:
        task = replace(task, epochs=options.epochs)
    if task.name != DIGITS.name and options.data is None:
        parser.error(f"--network {task.name} needs --data")
    data = loaded(task, options.data)
    options.output.mkdir(parents=True, exist_ok=True)
    widths: list[Cells] = []
    for width in options.bits.split(","):
        bits = {width_name(b): b for b in BITS}[width]
        widths.append(measured(task, bits, data, options))
        write(options.output, task, widths)
    if task.name != DIGITS.name and options.bits.startswith(FP):
        reference = measured(DIGITS, None, digits(), options)
        with (options.output / f"{task.name}.md").open("a") as file:
            file.writelines(f"- {verdict}\n" for verdict in of_data(reference, widths[0]))


def measured(task: Task, bits: int | None, data: Split, options: argparse.Namespace) -> Cells:
    """Train and attack the network of one width, or read what an earlier run stored of that."""
    (x, y), (x_test, y_test) = data
    model = trained(task, bits, x, y, options.output, options.seed)
    accuracy = float(np.mean(model.classify(x_test) == y_test))
    print(f"{model.name}: test accuracy {accuracy:.4f}", flush=True)
    runs = drawn(len(y_test), options.samples, options.seed)
    cells = {
        name: [
            attacked(task, model, name, (x_test[rows], y_test[rows]), run, options)
            for run, rows in enumerate(runs)
        ]
        for name in options.attacks.split(",")
    }
    return Cells(bits, accuracy, cells, int(x[0].size))


def loaded(task: Task, folder: Path | None) -> Split:
    if folder is None:
        return digits()
    return tuple((grey(x) if task.name == "mnist-a-cifar" else x, y) for x, y in cifar(folder))


def grey(x: Images) -> Images:
    """Images (n, 32, 32, 3) in grey and of 8x8: the mean of 4x4 pixels and of the colours."""
    n, height, width, channels = x.shape
    blocks = x.reshape(n, height // 4, 4, width // 4, 4, channels)
    return blocks.mean(axis=(2, 4, 5), dtype=np.float32)[..., None]


def digits() -> Split:
    """Training and test digits of fixtures/build_digits.py, in 0..1."""
    from fixtures.build_digits import split_digits, unit

    train, test = split_digits()
    return (unit(train[0]), train[1].astype(np.int64)), (unit(test[0]), test[1].astype(np.int64))


def cifar(folder: Path) -> Split:
    """Training and test images of cifar10_train.npz and cifar10_test.npz, in 0..1."""
    parts = []
    for name in ("cifar10_train.npz", "cifar10_test.npz"):
        with np.load(folder / name, allow_pickle=False) as data:
            x = (data["x"] / np.float32(255)).astype(np.float32)
            parts.append((x, data["y"].astype(np.int64)))
    return parts[0], parts[1]


def trained(task: Task, bits: int | None, x: Images, y: Labels, folder: Path, seed: int) -> Model:
    """The network of this width, trained once: Adam, a cosine from 0.002 to 0, cross-entropy."""
    path = folder / f"{task.name}-{width_name(bits)}-{task.epochs}-{seed}.keras"
    if not path.exists():
        import keras
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        started = time.perf_counter()
        keras.utils.set_random_seed(seed)
        network = task.build(bits, x.shape[1:])
        steps = task.epochs * (len(x) // task.batch)
        network.compile(
            keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        rng = np.random.default_rng(seed)
        for _ in range(task.epochs):
            order = rng.permutation(len(x))[: steps // task.epochs * task.batch]
            images = moved(x[order], rng) if task.augment else x[order]
            network.fit(images, y[order], batch_size=task.batch, shuffle=False, verbose=0)
        made = path.with_suffix(".part.keras")
        network.save(made)
        made.replace(path)
        print(f"{path.stem}: trained in {time.perf_counter() - started:.0f} s", flush=True)
    return load_model(path)


def moved(x: Images, rng: np.random.Generator) -> Images:
    """Each image mirrored or not, and moved by up to four pixels, zeros moving in."""
    size = x.shape[1]
    padded = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)))
    corners = rng.integers(0, 9, (len(x), 2))
    cropped = [p[i : i + size, j : j + size] for p, (i, j) in zip(padded, corners, strict=True)]
    shifted = np.stack(cropped)
    mirrored = rng.random(len(x)) < 0.5
    shifted[mirrored] = shifted[mirrored, :, ::-1]
    return shifted


def drawn(n: int, samples: int, seed: int) -> list[NDArray[np.int64]]:
    """Three random samples of the n test images that have no image in common."""
    order = np.random.default_rng(seed).permutation(n)
    size = min(samples, n // RUNS)
    return [order[run * size : (run + 1) * size] for run in range(RUNS)]


def attacked(
    task: Task,
    model: Model,
    name: str,
    data: tuple[Images, Labels],
    run: int,
    options: argparse.Namespace,
) -> Outcome:
    """The outcome of one run of one attack, computed once."""
    attack = attacks.preset(name, task.preset)
    path = options.output / f"{model.name}-{name}-{run}-{len(data[1])}.json"
    if path.exists():
        outcome = Outcome.from_json(json.loads(path.read_text()))
        if outcome.settings == repr(attack):
            return outcome
    outcome = Evaluator(*data, seed=options.seed + run).evaluate(Cell(model, attack))
    part = path.with_suffix(".part")
    part.write_text(json.dumps(outcome.to_json()))
    part.replace(path)
    print(f"{path.stem}: {outcome.seconds:.0f} s", flush=True)
    return outcome


@dataclass(frozen=True)
class Cells:
    """One width: its clean accuracy and the outcomes of every attack's runs."""

    bits: int | None
    accuracy: float
    runs: dict[str, list[Outcome]]
    elements: int
    """Elements of an input."""

    def accuracy_of(self, name: str) -> float:
        """Adversarial accuracy among the images attacked, averaged over runs."""
        return float(np.mean([adversarial_accuracy(o) for o in self.runs[name]]))

    def distance_of(self, name: str, norm: Any) -> float:
        """Mean distance of the fooled images of each run, averaged over the runs that have any."""
        means = [outcome.mean_distance(norm) for outcome in self.runs[name]]
        finite = [mean for mean in means if not np.isnan(mean)]
        return float(np.mean(finite)) if finite else float("nan")

    def pooled(self, name: str) -> Outcome:
        """The three runs as one outcome under the name of this width."""
        runs = self.runs[name]
        arrays = {
            key: np.concatenate([getattr(o, key) for o in runs])
            for key, value in vars(runs[0]).items()
            if isinstance(value, np.ndarray)
        }
        arrays["index"] = np.arange(len(arrays["label"]))
        kind = width_name(self.bits)
        return replace(runs[0], width=f"{kind} bits" if kind.isdecimal() else kind, **arrays)


def adversarial_accuracy(outcome: Outcome) -> float:
    labels = outcome.label, outcome.clean_label, outcome.adv_label
    return metrics.adversarial_accuracy(*labels, among="correct")


def write(folder: Path, task: Task, widths: list[Cells]) -> None:
    """The tables so far, as Markdown and CSV."""
    with (folder / f"{task.name}.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for cells in widths:
            for name, runs in cells.runs.items():
                for run, outcome in enumerate(runs):
                    values = (adversarial_accuracy(outcome), *_distances(outcome))
                    shown = [f"{value:.6g}" for value in values]
                    attacked_images = int(outcome.clean_correct.sum())
                    bits = width_name(cells.bits)
                    rows.writerow([task.name, bits, name, run, attacked_images, *shown])
    parts = [accuracy_table(widths), table_6(widths), table_7(widths), observed(widths)]
    (folder / f"{task.name}.md").write_text("\n".join(parts))


def _distances(outcome: Outcome) -> list[float]:
    return [outcome.mean_distance(norm) for norm in ("l0", "l2", "linf")]


def accuracy_table(widths: list[Cells]) -> str:
    lines = ["| bits | test accuracy |", "|---|---|"]
    rows = (f"| {width_name(c.bits)} | {c.accuracy:.3f} |" for c in widths)
    return "\n".join([*lines, *rows, ""])


def table_6(widths: list[Cells]) -> str:
    """Adversarial accuracy, L2 and Linf, laid out as in the paper: attack by attack."""
    lines = ["| attack | bits | adversarial accuracy | L2 | Linf |", "|---|---|---|---|---|"]
    for name in widths[0].runs:
        for cells in widths:
            l2, linf = cells.distance_of(name, "l2"), cells.distance_of(name, "linf")
            shown = f"{cells.accuracy_of(name):.3f} | {_number(l2)} | {_number(linf)}"
            lines.append(f"| {name} | {width_name(cells.bits)} | {shown} |")
    return "\n".join([*lines, ""])


def table_7(widths: list[Cells]) -> str:
    if "jsma" not in widths[0].runs:
        return ""
    lines = ["| bits | mean L0 of JSMA |", "|---|---|"]
    rows = (f"| {width_name(c.bits)} | {_number(c.distance_of('jsma', 'l0'))} |" for c in widths)
    return "\n".join([*lines, *rows, ""])


def observed(widths: list[Cells]) -> str:
    """The paper's observations as verdicts, each width against full precision and the control."""
    lines = [f"- {is_effective(cells)}" for cells in widths if "boundary" in cells.runs]
    for reference in (cells for cells in widths if cells.bits in NAMES):
        for cells in widths:
            if cells.bits is not None and cells is not reference:
                lines += [f"- {verdict}" for verdict in against(cells, reference)]
    return "\n".join([*lines, ""])


def is_effective(cells: Cells) -> Verdict:
    return observations.boundary_is_effective(cells.pooled("boundary"), RULE)


def against(cells: Cells, reference: Cells) -> list[Verdict]:
    claims = {
        "boundary": observations.boundary_is_more_distorted,
        "fgsm": observations.gradient_attack_is_weaker,
        "uap": observations.gradient_attack_is_weaker,
        "cw-l2": is_more_distorted,
        "jsma": observations.jsma_needs_more_features,
    }
    return [
        claim(*both_right(cells.pooled(name), reference.pooled(name)), RULE)
        for name, claim in claims.items()
        if name in cells.runs
    ]


def of_data(digits: Cells, natural: Cells) -> list[Verdict]:
    """Observation 2: natural images need less distortion than digits, on independent samples.

    Of the attacks that look for the nearest example, L2 per root of the number of elements; of the
    others, at the same settings, how many fewer of the correctly classified samples withstand.
    """
    verdicts = []
    for name in natural.runs:
        pair = digits.pooled(name), natural.pooled(name)
        claim = f"O2 {name} needs less on natural images"
        if minimizes_distance(pair[0].attack):
            labelled = [
                (kind, outcome.l2[outcome.fooled] / np.sqrt(cells.elements))
                for kind, outcome, cells in zip(KINDS, pair, (digits, natural), strict=True)
            ]
        elif pair[0].settings == pair[1].settings:
            labelled = [
                (kind, outcome.robust[outcome.clean_correct])
                for kind, outcome in zip(KINDS, pair, strict=True)
            ]
        else:
            continue
        verdicts.append(tends_to_be_greater(claim, *labelled, RULE))
    return verdicts


def is_more_distorted(coarse: Outcome, fine: Outcome, rule: Rule) -> Verdict:
    """Observation 3, of C&W: its examples lie further (L2) where it fooled both."""
    pair = (coarse.width, coarse), (fine.width, fine)
    name = f"O3 C&W is more distorted on {coarse.width}"
    return farther_where_both_fooled(name, *pair, replace(rule, margin=0.0), norm="l2")


def both_right(first: Outcome, second: Outcome) -> tuple[Outcome, Outcome]:
    """Both outcomes on the images that both networks classified correctly."""
    rows = np.flatnonzero(first.clean_correct & second.clean_correct)

    def selected(outcome: Outcome) -> Outcome:
        arrays = {k: v[rows] for k, v in vars(outcome).items() if isinstance(v, np.ndarray)}
        return replace(outcome, **arrays)

    return selected(first), selected(second)


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


if __name__ == "__main__":
    main()
