"""One run in every way that it can be made: each has to give the same results.json.

    python -m benchmarks.ways [--profile standard] [--samples N] [--output DIR] [ARGUMENT ...]

Plain and cold, again from the cache, with -n 2, killed with SIGKILL twice and finished, with two of
joblib's workers, on a Dask cluster of two workers, and in two parts that are merged. ARGUMENTs are
those of pytest; default: the int8 and the float ResNet-8 of ../shared.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.attacks import SHARED
from tests.plugin.spread import ON_DASK, measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="standard")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--output", type=Path, default=Path("ways"))
    chosen, arguments = parser.parse_known_args()
    ways = Ways(
        chosen.output.resolve(), [*(arguments or RESNET), f"--qnn-profile={chosen.profile}"]
    )
    if chosen.samples:
        ways.arguments.append(f"--qnn-samples={chosen.samples}")
    plain = ways.run("plain", "--qnn-cache-dir=cache-plain")
    warm = ways.run("warm", "--qnn-cache-dir=cache-plain")
    two = ways.run("xdist", "-n2", "--qnn-cache-dir=cache-xdist")
    print(f"-n 2 takes {two / plain:.2f} of the time of a plain run, a warm run {warm:.1f} s")
    ways.killed(plain)
    ways.run("jobs", "--qnn-jobs=2")
    ways.on_dask()
    ways.merged()


class Ways:
    """Runs of pytest in `folder`, all with the same `arguments`."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.arguments = arguments

    def run(self, name: str, *more: str) -> float:
        """Run to the end, compare with the plain run, return the seconds."""
        started = time.perf_counter()
        process = self._start(name, *more)
        code = process.wait()
        took = time.perf_counter() - started
        print(f"{name}: exit {code}, {took:.1f} s, {self._compared(name)}", flush=True)
        return took

    def killed(self, seconds: float) -> None:
        """Kill a run after a third of the time and again, then let it finish."""
        cache = self.folder / "cache-killed"
        for _ in range(2):
            process = self._start("killed", "--qnn-cache-dir=cache-killed")
            time.sleep(seconds / 2.5)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            entries = {path: path.stat().st_ino for path in cache.glob("*.npz")}
            print(f"killed with SIGKILL, {len(entries)} entries on disk", flush=True)
        self.run("killed", "--qnn-cache-dir=cache-killed")
        after = {path: path.stat().st_ino for path in cache.glob("*.npz")}
        again = sum(after.get(path) != inode for path, inode in entries.items())
        more = len(after) - len(entries)
        print(f"finished: {more} entries more, {again} of the others written again")

    def on_dask(self) -> None:
        conftest = self.folder / "conftest.py"
        conftest.write_text(ON_DASK)
        self.run("dask", "--qnn-jobs=2")
        conftest.unlink()

    def merged(self) -> None:
        for part in (1, 2):
            self._start(f"part{part}", f"--qnn-shard={part}/2").wait()
        parts = [f"part{part}/results.json" for part in (1, 2)]
        command = [sys.executable, "-m", "pytest_qnnrobust.cli", "merge", *parts, "--output=merged"]
        code = subprocess.run(command, cwd=self.folder, check=False, capture_output=True).returncode
        print(f"merged: exit {code}, {self._compared('merged')}")

    def _start(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *self.arguments]
        report = f"--qnn-report={name}"
        with (self.folder / f"{name}.txt").open("wb") as output:
            return subprocess.Popen(
                [*command, report, *more],
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _compared(self, name: str) -> str:
        path = self.folder / name / "results.json"
        if not path.exists():
            return "no results"
        results, plain = (measured(self.folder / way) for way in (name, "plain"))
        different = [key for key in plain if results.get(key) != plain[key]]
        cells = len(results["outcomes"])
        return f"{cells} cells, {'differs in ' + ', '.join(different) if different else 'equal'}"


RESNET = [
    f"--qnn-float={SHARED / 'models' / 'cifar_resnet_float.h5'}",
    f"--qnn-int8={SHARED / 'models' / 'cifar_resnet_int8.tflite'}",
    f"--qnn-data={SHARED / 'data' / 'cifar10_test.npz'}",
]


if __name__ == "__main__":
    main()
