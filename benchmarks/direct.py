"""Gray- and black-box attacks aimed at the int8 and int16 ResNet-8, beside ART over TFLite.

    python -m benchmarks.direct [--attacks square-linf,...] [--widths int8,int16]
        [--network cifar_sat] [--output DIR]

Ours attacks the integers of the microcontroller (TFLM). ART attacks the same file as a black box,
BlackBoxClassifierNeuralNetwork over TFLite without delegates, which returns the output tensor; its
images are rounded to the input grid as the device rounds them, its Linf budget is a whole number
of steps. Each is graded by the runtime that it attacked, in whole input steps within the budget;
what ART's images do on TFLM stands beside. Columns and options are those of benchmarks.attacks.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks import peers_art
from benchmarks.attacks import Peers, chosen, compare, images, network_file, parser, write
from benchmarks.measure import Counter, Peer, Store
from pytest_qnnrobust import attacks
from pytest_qnnrobust.attacks import Attack, FixedBudgetAttack
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.load import load_model

ATTACKS = ("square-linf", "square-l2", "boundary", "geoda", "zoo")
WIDTHS = ("int8", "int16")


def main() -> None:
    made = parser("direct attacks on the quantized models, beside ART over TFLite")
    made.add_argument("--widths", default=",".join(WIDTHS))
    options = made.parse_args()
    names = chosen(options.attacks, tuple(n for n in ATTACKS if n in attacks.NAMES))
    comparisons = {}
    for width in chosen(options.widths, WIDTHS):
        path = network_file(options, width)
        model = load_model(path, bounds=(0.0, 1.0))
        case = images(model, options)
        store = Store(options.output / f"direct-{width}", options.fresh)
        comparisons[f"{width} {options.network}"] = [
            compare(case, name, peers(path, model, name), store, options) for name in names
        ]
    write(options.output, "direct", comparisons)


def peers(path: Path, model: Model, name: str) -> Peers:
    def make(given: Attack) -> Peer:
        fixed = isinstance(given, FixedBudgetAttack)
        attack = replace(given, eps=given.ball(model)[1]) if fixed else given
        counter = Counter()
        runtime = peers_art.TFLite(path.read_bytes(), counter, model.grid)
        classifier = peers_art.tflite_classifier(runtime, model)
        return Peer(peers_art.PEERS[name](classifier, attack), counter, runtime.classify)

    return {"ART": make}


if __name__ == "__main__":
    main()
