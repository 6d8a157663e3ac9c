"""Images per second of the exact runtime beside TFLM and TFLite, in one run, two threads each.

    python -m benchmarks.runtime ../shared/models/cifar_resnet_int8.tflite [more.tflite ...]

Each runtime is timed in turn, several rounds, and the median is printed with its ratio to ours.
Outputs are compared with ours on the same inputs. QNNROBUST_ISA chooses our instruction set.
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
from pytest_qnnrobust.tflite.native import library, missing

Run = Callable[[np.ndarray], np.ndarray]
Resolver = tf.lite.experimental.OpResolverType
BATCHES = (1, 32, 256)


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


def runtimes(data: bytes, batch: int) -> dict[str, Run]:
    """Name -> function of a batch of this many samples."""
    table: dict[str, Run] = {
        "pytest-qnnrobust": Interpreter(read_graph(data)).invoke,
        "TFLite, XNNPACK": tflite(data, Resolver.AUTO, batch),
        "TFLite, no delegate": tflite(data, Resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES, batch),
        "TFLite BUILTIN_REF": tflite(data, Resolver.BUILTIN_REF, batch),
    }
    try:
        table["TFLM interpreter"] = tflm(data)
    except ImportError:
        print("TFLM interpreter: not measured, the wheel tflite-micro is not installed")
    return table


def seconds(run: Run, q: np.ndarray, least: float) -> float:
    """Seconds of one call, over as many as take `least` seconds."""
    calls, start = 0, time.perf_counter()
    while True:
        run(q)
        calls += 1
        if (spent := time.perf_counter() - start) >= least:
            return spent / calls


def measure(path: Path, batch: int, rounds: int) -> None:
    data = path.read_bytes()
    table = runtimes(data, batch)
    q = random_inputs(data, batch)
    outputs = {name: run(q) for name, run in table.items()}
    exact = outputs["pytest-qnnrobust"]
    times: dict[str, list[float]] = {name: [] for name in table}
    for _ in range(rounds):
        for name, run in table.items():
            times[name].append(seconds(run, q, 0.1))
    ours = statistics.median(times["pytest-qnnrobust"])
    print(f"\n{path.name}: batch {batch}, median of {rounds} rounds, random inputs")
    print(f"{'runtime':<22}{'ms/call':>10}{'images/s':>10}{'ours / it':>11}{'equal outputs':>15}")
    for name, values in times.items():
        spent = statistics.median(values)
        equal = float((outputs[name] == exact).reshape(batch, -1).all(axis=1).mean())
        print(
            f"{name:<22}{1000 * spent:>10.3f}{batch / spent:>10.0f}{spent / ours:>10.2f}x"
            f"{equal:>15.1%}"
        )


def first_answer(path: Path) -> None:
    """Milliseconds from the file's bytes to the first output, once the package is imported."""
    data = path.read_bytes()
    q = random_inputs(data, 1)
    Interpreter(read_graph(data)).invoke(q)  # what is loaded once a process
    times = []
    for _ in range(9):
        start = time.perf_counter()
        Interpreter(read_graph(data)).invoke(q)
        times.append(1000 * (time.perf_counter() - start))
    print(f"\n{path.name}: {statistics.median(times):.1f} ms from the bytes to the first output")


def random_inputs(data: bytes, n: int) -> np.ndarray:
    tensor = read_graph(data).input
    limits = np.iinfo(tensor.dtype)
    shape = (n, *tensor.shape[1:])
    return np.random.default_rng(0).integers(limits.min, limits.max + 1, shape, dtype=tensor.dtype)


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
    parser.add_argument("--batch", type=int, action="append", help="1, 32 and 256 unless given")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    core = library()
    print(f"native core: {core.isa if core else 'none: ' + missing()}")
    for path in arguments.models:
        for batch in arguments.batch or BATCHES:
            measure(path, batch, arguments.rounds)
        first_answer(path)
    memory(arguments.models[0])


if __name__ == "__main__":
    main()
