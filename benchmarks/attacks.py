"""Every attack beside ART's and Foolbox's: same images, same float logits, the paper's settings.

    python -m benchmarks.attacks [--attacks pgd,...] [--output DIR] [--peer-seconds 300]
        [--ours max_iter=100 ...] [--network cifar_sat]

Over the first 200 images of CIFAR-10's test set and the float ResNet-8 of ../shared, or one that
was trained to resist attacks (`--network`). Adversarial accuracy is over all images; distances are
means over the images that were fooled, and over all that were attacked ("all"); queries, gradients
and seconds are per attacked image, after a warm-up.
A peer that would take longer than `--peer-seconds` runs on fewer images (stated), and ours on the
same ones too. Every (attack, library) result is kept in DIR and reused, so that an interrupted
benchmark goes on where it stopped; `--fresh ours` measures ours again after a change.
DIR/attacks.md and DIR/attacks.json are written at the end.

GeoDA of ART 1.20 needs `np.mat`, which NumPy 2 dropped: this benchmark gives it back. ART's
AutoAttack imports the package `multiprocess`: `multiprocessing` stands in. Its JSMA aims at random
classes, because with labels it aims at the class that the image has already. It has no targeted DLR
loss: beside APGD-T stands its untargeted one. Foolbox's "queries" are its forward passes,
with or without gradient.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks import peers_art, peers_foolbox, table
from benchmarks.measure import (
    Case,
    Counter,
    Measurement,
    Peer,
    Store,
    one_line,
    run_ours,
    run_peer,
    say,
)
from benchmarks.table import Comparison
from pytest_qnnrobust import attacks
from pytest_qnnrobust.attacks import Attack, FixedBudgetAttack
from pytest_qnnrobust.metrics import norm_name
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.load import load_model

SHARED = Path(__file__).resolve().parents[2] / "shared"
NETWORKS = ("cifar_resnet", "cifar_adv_train", "cifar_distil", "cifar_ens_adv", "cifar_sat")
FILES = {"float32": "float.h5", "int16": "int16.tflite", "int8": "int8.tflite"}
OWN_NORMS = {"jsma": "l0", "cw-l0": "l0", "cw-linf": "linf", "ead": "l1", "uap": "linf"}
"""The norm that an attack minimizes, where it has no setting `norm`; otherwise L2."""

Peers = dict[str, Callable[[Attack], Peer]]
"""Library -> what runs its counterpart of an attack of ours."""


def main() -> None:
    options = parser("our attacks beside ART's and Foolbox's").parse_args()
    model = load_model(network_file(options, "float32"))
    case = images(model, options)
    store = Store(options.output / "attacks", options.fresh)
    comparisons = [
        compare(case, name, peers(model, name), store, options)
        for name in chosen(options.attacks, attacks.NAMES)
    ]
    write(options.output, "attacks", {f"float {options.network}": comparisons})


def parser(description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "--network", choices=NETWORKS, default=NETWORKS[0], help="of ../shared/models"
    )
    made.add_argument("--attacks", default="", help="ids, separated by commas (default: all)")
    made.add_argument("--samples", type=int, default=200)
    made.add_argument("--skip", type=int, default=0, help="leave out the first N images")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--profile", choices=attacks.PROFILES, default="paper", help="settings")
    take_settings(
        made, "--ours", "another setting for ours alone: what ours takes to do what the peer does"
    )
    made.add_argument("--output", type=Path, default=Path("benchmark-results"))
    made.add_argument("--peer-seconds", type=float, default=300.0, help="about, per attack")
    made.add_argument("--fresh", choices=("ours", "all"), default="", help="measure again")
    return made


def take_settings(made: argparse.ArgumentParser, flag: str, text: str) -> None:
    """`flag NAME=VALUE`, any number of times: a list of (name, value)."""
    made.add_argument(
        flag, action="append", default=[], type=setting, metavar="NAME=VALUE", help=text
    )


def network_file(options: argparse.Namespace, width: str) -> Path:
    return SHARED / "models" / f"{options.network}_{FILES[width]}"


def setting(text: str) -> tuple[str, Any]:
    """`max_iter=100` -> ("max_iter", 100)."""
    name, _, value = text.partition("=")
    return name, ast.literal_eval(value)


def chosen(wanted: str, available: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(wanted.split(",")) if wanted else available
    if unknown := [name for name in names if name not in available]:
        raise SystemExit(f"expected names among {', '.join(available)}, got {', '.join(unknown)}")
    return names


def images(model: Model, options: argparse.Namespace) -> Case:
    data = np.load(SHARED / "data" / "cifar10_test.npz")
    rows = slice(options.skip, options.skip + options.samples)
    x = data["x"][rows].astype(np.float32) / 255
    return Case(model, x, data["y"][rows].astype(np.int64), options.seed)


def peers(model: Model, name: str) -> Peers:
    """This attack in ART and Foolbox; their classifiers are made when they are needed."""

    def of(library: Any) -> Callable[[Attack], Peer]:
        def make(attack: Attack) -> Peer:
            counter = Counter()
            build = library.PEERS[counterpart(library.PEERS, name)]
            generate = build(library.keras_classifier(model, counter), attack)
            return Peer(generate, counter)

        return make

    libraries = {"ART": peers_art, "Foolbox": peers_foolbox}
    return {
        label: of(library)
        for label, library in libraries.items()
        if counterpart(library.PEERS, name)
    }


def counterpart(peers: Mapping[str, Any], name: str) -> str:
    """The key for an id, or for what its variants have in common (`pgd-l2`: `pgd`), or ""."""
    family = name.split("-")[0]
    return name if name in peers else (family if family in peers else "")


def compare(
    case: Case, name: str, rivals: Peers, store: Store, options: argparse.Namespace
) -> Comparison:
    """Ours on all images; each peer on those that it can afford, and ours on the same."""
    attack = attacks.preset(name, options.profile)
    ours = replace(attack, **dict(options.ours))
    limit = options.peer_seconds
    wanted: dict[str, Any] = {"attack": name, "settings": repr(attack), "seed": case.seed}
    wanted |= {"model": case.model.name, "images": len(case.x), "first": float(case.x[0].sum())}

    def blank(library: str) -> Measurement:
        return Measurement(name, library, repr(attack), case.seed)

    def our_run(of: Case, library: str) -> Measurement:
        def measure() -> Measurement:
            try:
                run = run_ours(of, name, ours, library)
                return run if of is not case else replace(run, stages=stages(of, ours))
            except Exception as error:
                return replace(blank(library), error=one_line(error))

        here = {"library": library, "settings": repr(ours), "images": len(of.x)}
        return store.get({**wanted, **here}, measure)

    everything = our_run(case, "ours")
    pairs = []
    for library, rival in rivals.items():
        run = partial(run_peer, case, blank(library), attack, rival, limit)
        peer = store.get({**wanted, "library": library, "limit": limit}, run)
        same = peer.error or peer.images == len(case.x)
        subset = case.first(peer.images)
        mine = everything if same else our_run(subset, f"ours-{peer.images}")
        pairs.append((peer, mine))
    norm = getattr(attack, "norm", None)
    own = OWN_NORMS.get(name, "l2") if norm is None else norm_name(norm)
    return Comparison(name, own, not isinstance(attack, FixedBudgetAttack), everything, pairs)


def stages(case: Case, attack: Attack) -> dict[str, float]:
    """The accuracy left after each stage of AutoAttack."""
    if not hasattr(attack, "stages"):
        return {}
    from pytest_qnnrobust.attacks.autoattack import stage_accuracies

    return stage_accuracies(attack, case.model, case.x, case.y, case.seed)  # type: ignore[arg-type]


def write(folder: Path, name: str, tables: dict[str, list[Comparison]]) -> None:
    """Print the tables and write them as Markdown and JSON."""
    text = "\n".join(f"## {title}\n\n{table.markdown(rows)}" for title, rows in tables.items())
    print(text)
    (folder / f"{name}.md").write_text(text)
    plain = {title: [finite(summary(row)) for row in rows] for title, rows in tables.items()}
    (folder / f"{name}.json").write_text(json.dumps(plain, indent=1, allow_nan=False))
    say(f"written: {folder / name}.md, {folder / name}.json")


def summary(row: Comparison) -> dict[str, Any]:
    """A comparison without the numbers of each image."""
    return {
        "attack": row.attack,
        "norm": row.norm,
        "accuracy_difference": row.accuracy_difference,
        "distortion_ratio": row.distortion(both=False),
        "distortion_ratio_both_fooled": row.distortion(both=True),
        "speed_up": row.speed_up,
        "outside_model": row.outside,
        "failures": row.failures,
        "measurements": list(measurements(row)),
    }


def finite(value: Any) -> Any:
    """The same with null for NaN, which JSON has not."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def measurements(row: Comparison) -> Iterator[dict[str, Any]]:
    # Ours stands beside every peer that ran on all images: it is listed once.
    unique = {id(run): run for run in (row.ours, *(run for pair in row.peers for run in pair))}
    for run in unique.values():
        plain = asdict(run)
        for per_image in ("correct", "fooled", "distances"):
            del plain[per_image]
        if not run.error:
            plain["accuracy"] = run.accuracy
            for over in ("successes", "all"):
                plain[f"mean_{over}"] = {norm: run.mean(norm, over) for norm in run.distances}
        yield plain


if __name__ == "__main__":
    main()
