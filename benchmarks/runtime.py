"""Images per second of the exact runtime beside TFLM and TFLite, in one run.

    python -m benchmarks.runtime ../shared/models/cifar_resnet_int8.tflite [more.tflite ...]

Each runtime is timed in turn, several rounds, and the median is printed with its ratio to ours.
Outputs are compared with ours on the same inputs.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.interpreter import Interpreter

Run = Callable[[np.ndarray], np.ndarray]
Resolver = tf.lite.experimental.OpResolverType
BATCH = 256


def tflm(data: bytes) -> Run:
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(data, arena_size=4_000_000)

    def run(q: np.ndarray) -> np.ndarray:
        outputs = []
        for sample in q:
            interpreter.set_input(sample[None], 0)
            interpreter.invoke()
            outputs.append(interpreter.get_output(0)[0])
        return np.array(outputs)

    return run


def tflite(data: bytes, resolver: Resolver, batch: int) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(
            model_content=data, experimental_op_resolver_type=resolver, num_threads=2
        )
    entry = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(entry["index"], [batch, *entry["shape"][1:]])
    interpreter.allocate_tensors()
    result = interpreter.get_output_details()[0]["index"]

    def run(q: np.ndarray) -> np.ndarray:
        outputs = []
        for start in range(0, len(q), batch):
            interpreter.set_tensor(entry["index"], q[start : start + batch])
            interpreter.invoke()
            outputs.append(interpreter.get_tensor(result))
        return np.concatenate(outputs)

    return run


def runtimes(data: bytes) -> dict[str, tuple[Run, int]]:
    """Name -> (function of a batch, images per round)."""
    ours = Interpreter(read_graph(data))
    table: dict[str, tuple[Run, int]] = {
        "pytest-qnnrobust": (ours.invoke, 4 * BATCH),
        "TFLite BUILTIN_REF": (tflite(data, Resolver.BUILTIN_REF, 64), 64),
        "TFLite, no delegate": (tflite(data, Resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES, 64), 256),
        "TFLite default": (tflite(data, Resolver.AUTO, BATCH), 2 * BATCH),
    }
    try:
        table["TFLM interpreter"] = (tflm(data), 32)
    except ImportError:
        print("TFLM interpreter: not measured, the wheel tflite-micro is not installed")
    return table


def measure(path: Path, rounds: int) -> None:
    data = path.read_bytes()
    table = runtimes(data)
    tensor = read_graph(data).input
    q = np.random.default_rng(0).integers(
        np.iinfo(tensor.dtype).min,
        np.iinfo(tensor.dtype).max + 1,
        (4 * BATCH, *tensor.shape[1:]),
        dtype=tensor.dtype,
    )
    exact = table["pytest-qnnrobust"][0](q)
    speeds: dict[str, list[float]] = {name: [] for name in table}
    equal = {}
    for _ in range(rounds):
        for name, (run, count) in table.items():
            start = time.perf_counter()
            outputs = run(q[:count])
            speeds[name].append(count / (time.perf_counter() - start))
            equal[name] = float((outputs == exact[:count]).all(axis=1).mean())
    ours = statistics.median(speeds["pytest-qnnrobust"])
    print(f"\n{path.name}: batch {BATCH}, median of {rounds} rounds, random inputs")
    print(f"{'runtime':<22}{'images/s':>10}{'ours / it':>11}{'equal outputs':>15}")
    for name, values in speeds.items():
        speed = statistics.median(values)
        print(f"{name:<22}{speed:>10.0f}{ours / speed:>10.1f}x{equal[name]:>15.1%}")


def memory(path: Path) -> None:
    """Peak memory after 1,024 and after 16,384 samples."""
    interpreter = Interpreter(read_graph(path.read_bytes()))
    tensor = interpreter.plan.input
    q = np.zeros((1024, *interpreter.input_shape), tensor.dtype)
    for repeats in (1, 15):
        for _ in range(repeats):
            interpreter.invoke(q)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory after {1024 * (1 if repeats == 1 else 16):>6} samples: {peak:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    for path in arguments.models:
        measure(path, arguments.rounds)
    memory(arguments.models[0])


if __name__ == "__main__":
    main()
