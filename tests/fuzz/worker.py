"""The process that makes inputs for one target and reads them; started by `tests.fuzz.run`."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

MODULES = """
    models.load models.integer models.float_graph models.litert models.keras models.keras_files
    data.samples data.sources data.domain results.document evaluation.cells
    gate.suppressions evaluation.cache
    tflite.flatbuffer tflite.graph tflite.plan tflite.kernels tflite.native tflite.interpreter
    tflite.affine tflite.surrogate tflite.fixed_point
""".split()  # noqa: SIM905
LARGEST = 1 << 18
ROOM = 3000
"""MiB at which a worker makes room for a new one: TensorFlow keeps what it compiled."""


class Reader:
    """Reads inputs, counts them, and writes each new kind of finding to `findings`."""

    def __init__(self, target: str, state: Path, findings: Path) -> None:
        from tests.fuzz.targets import TARGETS

        self.name = target
        self.target = TARGETS[target]
        self.state = state
        self.findings = findings
        self.counts = {"executions": 0, "accepted": 0}
        self._written = 0.0

    def read(self, data: bytes, timed: bool = True) -> None:
        """Not `timed`: the first of a process, which imports TensorFlow."""
        if timed:
            (self.state / "current").write_bytes(data)
        try:
            result = self.target.run(data)
        except Exception as error:
            result = "raised"
            self._keep(data, error)
        self.counts["executions"] += 1
        self.counts["accepted"] += result == "accepted"
        if time.monotonic() - self._written > 1:
            self.write()
            if resident(os.getpid()) > ROOM:
                finish(self)

    def write(self) -> None:
        self._written = time.monotonic()
        (self.state / "counts.json").write_text(json.dumps(self.counts))

    def _keep(self, data: bytes, error: Exception) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "pytest_qnnrobust" in frame.filename] or frames
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        kind = f"{type(error).__name__} at {place}"
        name = f"{self.name}-raised-{hashlib.sha256(kind.encode()).hexdigest()[:8]}"
        if not (self.findings / f"{name}.txt").exists():
            (self.findings / f"{name}.bin").write_bytes(data)
            text = f"{kind} ({name})\n{''.join(traceback.format_exception(error))}"
            (self.findings / f"{name}.txt").write_text(text)


def resident(pid: int) -> int:
    """MiB of memory of a process, 0 where the system does not say (Linux does)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * 4096 >> 20


def at_random(reader: Reader, seeds: list[bytes], seconds: float, random: Random) -> None:
    """Mutations of the seeds, one after the other."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = reader.target.mutate(random.choice(seeds), random)
        if random.random() < 0.2:
            data = reader.target.mutate(data, random)
        reader.read(data)


def with_atheris(
    atheris: Any, reader: Reader, seeds: list[bytes], seconds: float, seed: int
) -> None:
    """Mutations of the seeds and of what reached new code; never returns."""
    corpus = reader.state / "corpus"
    corpus.mkdir()
    for place, data in enumerate(seeds):
        (corpus / str(place)).write_bytes(data)
    end = time.monotonic() + seconds

    def one(data: bytes) -> None:
        if time.monotonic() > end:
            finish(reader)
        reader.read(data)

    def mutator(data: bytes, largest: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.2:
            return atheris.Mutate(data, largest)
        return reader.target.mutate(bytes(data), random)[:largest]

    options = ["-timeout=100000", "-rss_limit_mb=0", f"-max_len={LARGEST}", f"-seed={seed + 1}"]
    options += ["-detect_leaks=0", "-len_control=0", f"-artifact_prefix={reader.state}/"]
    atheris.Setup(["worker", *options, str(corpus)], one, custom_mutator=mutator)
    atheris.Fuzz()


def finish(reader: Reader) -> None:
    """End at once: TensorFlow's threads would keep libFuzzer from doing so."""
    reader.write()
    (reader.state / "done").touch()
    sys.stdout.flush()
    os._exit(0)


def main(target: str, seconds: str, state: str, findings: str, seed: str) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    atheris = _instrument()
    reader = Reader(target, Path(state), Path(findings))
    seeds = reader.target.seeds()
    for data in seeds[:3]:
        reader.read(data, timed=False)
    if atheris is None:
        at_random(reader, seeds, float(seconds), Random(int(seed)))
    else:
        with_atheris(atheris, reader, seeds, float(seconds), int(seed))
    finish(reader)


def _instrument() -> Any:
    """atheris, with the package's readers instrumented for coverage; None without it."""
    modules = [f"pytest_qnnrobust.{name}" for name in MODULES]
    load: Callable[[str], Any] = importlib.import_module
    try:
        atheris = load("atheris")
    except ImportError:
        return None
    load("tensorflow")
    with atheris.instrument_imports(include=["pytest_qnnrobust"]):
        for name in modules:
            load(name)
    return atheris


if __name__ == "__main__":
    main(*sys.argv[1:])
