"""Planted regressions of ResNet-8 int8 against a recorded baseline, and what is none.

    python -m benchmarks.regressions [--samples 200] [--seeds 100] [--output DIR]

Every release is gated by pytest, as a pull request would be: converted from the float network as
the baseline was, with a calibration, a layer or a defence that went wrong; as it was; and with
other bytes that change nothing. Then the recorded run is repeated under many seeds, each compared
with the baseline of seed 0: what differs is the attacks' randomness, which must fail no gate.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.attacks import SHARED
from pytest_qnnrobust.compute.quiet import quiet
from pytest_qnnrobust.data.samples import load_data
from pytest_qnnrobust.gate.gate import HeldTo, judge
from pytest_qnnrobust.models.convert import convert
from pytest_qnnrobust.options import Options, from_command
from pytest_qnnrobust.results import document
from pytest_qnnrobust.run.session import Session

CALIBRATION = 100
DESCRIPTION = b"MLIR Converted."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--output", type=Path, default=Path("regressions"))
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    data = load_data(SHARED / "data" / "cifar10_train.npz", domain=(0.0, 1.0))
    for recorded, releases in PLANTED.items():
        baseline = chosen.output / f"{recorded}.json"
        released = model(chosen.output, recorded, data.x)
        print(f"{recorded}: recorded, exit {gate(released, baseline, chosen, '--qnn-update')[0]}")
        for name in releases:
            started = time.perf_counter()
            code, lines = gate(model(chosen.output, name, data.x), baseline, chosen)
            took = time.perf_counter() - started
            print(f"  {name}: exit {code}, {took:.0f} s", *lines, sep="\n    ", flush=True)
    released = model(chosen.output, "plain", data.x)
    passed = [
        same_model(seed, released, chosen.output / "plain.json", chosen.samples)
        for seed in range(1, chosen.seeds + 1)
    ]
    print(f"the same model under {len(passed)} other seeds: {sum(passed)} pass")


def gate(
    path: Path, baseline: Path, chosen: argparse.Namespace, *more: str
) -> tuple[int, list[str]]:
    """Exit code of the gate, and what it says of the baseline's cells."""
    data = SHARED / "data" / "cifar10_test.npz"
    report = chosen.output / "report"
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--qnn-int8={path}",
        f"--qnn-data={data}", f"--qnn-samples={chosen.samples}", f"--qnn-baseline={baseline}",
        f"--qnn-report={report}", *more,
    ]  # fmt: skip
    code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    compared = document.read(report / "results.json").comparison or ()
    return code, [f"{cell.status}: {cell.name}. {cell.text}" for cell in compared]


def same_model(seed: int, path: Path, baseline: Path, samples: int) -> bool:
    """Whether the run of another seed passes beside the baseline, as if that had the same seed."""
    given = {
        "int8": path, "data": str(SHARED / "data" / "cifar10_test.npz"), "samples": samples,
        "seed": seed, "baseline": baseline,
    }  # fmt: skip
    options: Options = from_command(given, Path.cwd())
    session = Session(options)
    with quiet():
        session.load()
    for name in session.attacks.runs:
        session.evaluate(
            session.cells.cell(session.subject("int8").model, session.attacks.attack(name))
        )
    before = document.read(baseline)
    results = session.document("")
    outcomes = tuple(replace(outcome, seed=0) for outcome in results.outcomes)
    held_to = HeldTo(before)
    verdict = judge(held_to, replace(results, outcomes=outcomes), options)
    return not verdict.problems


def model(folder: Path, name: str, x: np.ndarray) -> Path:
    """The int8 network of this release, made once."""
    path = folder / f"{name}.tflite"
    if not path.exists():
        path.write_bytes(MADE[name](folder, x[:CALIBRATION]))
    return path


def _converted(source: str, inputs: np.ndarray) -> bytes:
    return convert(SHARED / "models" / f"cifar_{source}_float.h5", "int8", inputs)


def _perturbed(folder: Path, inputs: np.ndarray, share: float) -> bytes:
    """One layer's weights with noise of a share of their spread."""
    import keras

    network = keras.saving.load_model(SHARED / "models" / "cifar_resnet_float.h5", compile=False)
    kernels = [w for w in network.trainable_weights if len(w.shape) == 4]
    kernel = kernels[len(kernels) // 2]
    values = np.asarray(kernel)
    noise = np.random.default_rng(0).normal(0, share * values.std(), values.shape)
    kernel.assign(values + noise.astype(np.float32))
    path = folder / "perturbed.keras"
    network.save(path)
    return convert(path, "int8", inputs)


def _other_bytes(folder: Path, inputs: np.ndarray) -> bytes:
    content = (folder / "plain.tflite").read_bytes()
    assert content.count(DESCRIPTION) == 1
    return content.replace(DESCRIPTION, DESCRIPTION[::-1])


MADE: dict[str, Callable[[Path, np.ndarray], bytes]] = {
    "plain": lambda _, x: _converted("resnet", x),
    "bad-calibration": lambda _, x: _converted("resnet", 0.3 * x),
    "perturbed-layer": lambda folder, x: _perturbed(folder, x, 0.5),
    "slightly-perturbed-layer": lambda folder, x: _perturbed(folder, x, 0.25),
    "other-bytes": _other_bytes,
    "defended": lambda _, x: _converted("adv_train", x),
    "defence-removed": lambda _, x: _converted("resnet", x),
}
PLANTED = {
    "plain": (
        "plain",
        "other-bytes",
        "bad-calibration",
        "perturbed-layer",
        "slightly-perturbed-layer",
    ),
    "defended": ("defended", "defence-removed"),
}
"""Recorded release -> the releases that follow it."""


if __name__ == "__main__":
    main()
