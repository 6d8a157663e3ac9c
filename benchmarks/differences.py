"""Experiments behind the differences that docs/reproduction.md explains, one line a result.

    python -m benchmarks.differences [--only edges,gradients,...]

`saturation`: how far the largest logit is above the second, and how many images have a
cross-entropy whose gradient is zero everywhere. `edges`: ART's Boundary over the int8 file of the
ensemble network: is its image still adversarial when it is rounded to the input grid? `gradients`:
zeros and cosines of input gradients, measured and as published. `steps`: Square-Linf aimed at int8
and given to it, at equal numbers of input steps. `squeezing`: images that are lost behind a median
window, with the attack and without one. `labels`: how many images that a network has wrong from the
start Boundary makes right when it is given the network's own decisions as labels.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from numpy.typing import NDArray

from benchmarks import peers_art
from benchmarks.attacks import FILES, NETWORKS, chosen, images, network_file
from benchmarks.measure import Case, Counter
from pytest_qnnrobust import attacks
from pytest_qnnrobust.attacks import FixedBudgetAttack
from pytest_qnnrobust.claims import gradient_metrics
from pytest_qnnrobust.defenses import Defended, FeatureSqueezing
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.load import load_model

PROFILE = "goliath-cifar10"


def file_of(name: str, width: str) -> Path:
    return network_file(argparse.Namespace(network=name), width)


def network(name: str, width: str) -> Model:
    return load_model(file_of(name, width), bounds=(0.0, 1.0))


def first(model: Model, samples: int) -> Case:
    return images(model, argparse.Namespace(skip=0, samples=samples, seed=0))


def saturation() -> None:
    for name in NETWORKS:
        case = first(network(name, "float32"), 200)
        right = case.correct
        logits = np.sort(case.model.logits(case.x), axis=1)
        above = float(np.median((logits[:, -1] - logits[:, -2])[right]))
        slopes = case.model.loss_gradient(case.x, case.y).gradient.reshape(len(case.x), -1)
        flat = 100 * float((~slopes.any(axis=1))[right].mean())
        say("saturation", name, logits_above_second=above, percent_without_gradient=flat)


def edges() -> None:
    name = "cifar_ens_adv"
    case = first(network(name, "int8"), 6)
    file = peers_art.TFLite(file_of(name, "int8").read_bytes(), Counter())
    classifier = peers_art.tflite_classifier(file, case.model)
    boundary = attacks.preset("boundary", PROFILE)
    generate = peers_art.PEERS["boundary"](classifier, boundary)
    unrounded = rounded = 0
    for i, label in enumerate(case.y):
        np.random.seed(i)
        x_adv = generate(case.x[i : i + 1], case.y[i : i + 1])
        unrounded += int(file.classify(x_adv)[0] != label)
        rounded += int(file.classify(case.seen(x_adv, case.x[i : i + 1], boundary))[0] != label)
    say("edges", f"{name} int8", images=len(case.x), adversarial=unrounded, rounded=rounded)


def gradients() -> None:
    plain = first(network(NETWORKS[0], "float32"), 200)
    exact = slopes(plain)
    for width in ("int16", "int8"):
        case = first(network(NETWORKS[0], width), 200)
        for source in ("straight-through", "surrogate"):
            gradient = slopes(replace(case, model=case.model.with_gradient(source)))
            say("gradients", f"{width} {source}", images=200, **compared(gradient, exact))
    for width in FILES:
        case = first(network(NETWORKS[0], width), 20)
        one_int8_step = {"float32": 1, "int16": 256, "int8": 1}[width]
        measured = case.model.with_gradient("finite-difference", one_int8_step)
        gradient = slopes(replace(case.first(10), model=measured))
        say("gradients", f"{width} by differences", images=10, **compared(gradient, exact))
        gradient = gradient_metrics.published_gradient(case.model, case.x, case.y)
        say("gradients", f"{width} as published", images=20, **compared(gradient, exact))


def slopes(case: Case) -> NDArray[Any]:
    return case.model.loss_gradient(case.x, case.y).gradient


def compared(gradient: NDArray[Any], exact: NDArray[Any]) -> dict[str, float]:
    """Medians over images; the cosine with the float network's gradient."""
    cosine = gradient_metrics.cosine_similarity(gradient, exact[: len(gradient)])
    zeros = gradient_metrics.zero_density(gradient)
    return {"percent_zero": 100 * float(np.median(zeros)), "cosine": float(np.nanmedian(cosine))}


def steps() -> None:
    int8 = first(network(NETWORKS[0], "int8"), 200)
    plain = replace(int8, model=network(NETWORKS[0], "float32"))
    square = cast(FixedBudgetAttack, attacks.preset("square-linf", PROFILE))
    step = float(np.asarray(cast(Any, int8.model.grid).scale))
    for wanted in (3, 4):
        # A hair more than the steps for int8, so that rounding loses none of them.
        direct = replace(square, eps=wanted * step * (1 + 1e-6))
        aimed = direct(int8.model, int8.x, int8.y).x_adv
        given = replace(square, eps=wanted * step)(plain.model, int8.x, int8.y).x_adv
        left = {
            name: 100 * float((int8.model.classify(x) == int8.y).mean())
            for name, x in (("direct", aimed), ("transferred", given))
        }
        say("steps", f"square-linf {wanted} steps on int8", images=200, **left)


def squeezing() -> None:
    plain = first(network(NETWORKS[0], "float32"), 400)
    result = attacks.preset("jsma", PROFILE)(plain.model, plain.x, plain.y)
    for width in FILES:
        fooled = result.success & (result.clean_label == plain.y)
        filtered = Defended(network(NETWORKS[0], width), FeatureSqueezing(None, 2))
        lost = fooled & (filtered.classify(result.x_adv) != plain.y)
        without = filtered.classify(plain.x) != plain.y
        say(
            "squeezing",
            f"jsma {width}",
            adversarial=int(fooled.sum()),
            lost=int(lost.sum()),
            of_them_wrong_without_attack=int((lost & without).sum()),
            median_l0_of_the_others=float(np.median(result.l0[lost & ~without])),
            median_l0_recovered=float(np.median(result.l0[fooled & ~lost])),
        )


def labels() -> None:
    boundary = attacks.preset("boundary", PROFILE)
    name = "cifar_sat"
    case = first(network(name, "float32"), 1000)
    wrong = np.flatnonzero(~case.correct)
    x, taken_for = case.x[wrong], case.model.classify(case.x[wrong])
    moved = boundary(case.model, x, taken_for)
    right = int((moved.adv_label == case.y[wrong]).sum())
    say("labels", f"boundary {name} float32", images=1000, wrong=len(wrong), made_right=right)


def say(experiment: str, what: str, **values: float) -> None:
    numbers = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
    print(f"{experiment}: {what}: {numbers}", flush=True)


EXPERIMENTS: dict[str, Callable[[], None]] = {
    experiment.__name__: experiment
    for experiment in (saturation, edges, gradients, steps, squeezing, labels)
}


def main() -> None:
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    made = argparse.ArgumentParser(description="the experiments behind docs/reproduction.md")
    made.add_argument("--only", default="", help=f"of {','.join(EXPERIMENTS)} (default: all)")
    for name in chosen(made.parse_args().only, tuple(EXPERIMENTS)):
        EXPERIMENTS[name]()


if __name__ == "__main__":
    main()
