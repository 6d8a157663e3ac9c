"""Fuzz one reader, or all in turn, and report executions and findings.

    python -m tests.fuzz.run --seconds 300 --target tflite [--findings FOLDER]

Inputs are made in a process of their own, by atheris where it is installed (coverage of the
package guides it) and at random otherwise. It is ended, and what it was reading kept, when one
input takes longer than its target's `seconds` or the process grows beyond `--memory`; a process
that dies by itself is a finding too. Exit code 1 where there is a finding.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import resident

ROOT = Path(__file__).parents[2]
STARTS_WITHIN = 300
"""Seconds that a worker may take to import TensorFlow and read the seeds."""


@dataclass
class Watched:
    """A target's work over all of its processes."""

    target: str
    folder: Path
    limits: argparse.Namespace
    executions: int = 0
    accepted: int = 0
    died: list[str] = field(default_factory=list)
    restarts: int = 0

    def run(self) -> None:
        deadline = time.monotonic() + self.limits.seconds
        while (left := deadline - time.monotonic()) > 1:
            self._worker(left)
            self.restarts += 1

    def _worker(self, seconds: float) -> None:
        state = Path(tempfile.mkdtemp(prefix="qnn-fuzz-state-"))
        command = [sys.executable, "-m", "tests.fuzz.worker", self.target, str(int(seconds))]
        command += [str(state), str(self.folder), str(self.limits.seed + self.restarts)]
        with (state / "log").open("wb") as log:
            worker = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            reason = self._watch(worker, state, seconds)
        if (state / "counts.json").exists():
            counts = json.loads((state / "counts.json").read_text())
            self.executions += counts["executions"]
            self.accepted += counts["accepted"]
        if reason:
            self._keep(state, reason)
        shutil.rmtree(state)

    def _watch(self, worker: subprocess.Popen[bytes], state: Path, seconds: float) -> str:
        """Why the worker ended, or "" where its time was over."""
        started = time.monotonic()
        current = state / "current"
        while worker.poll() is None:
            time.sleep(0.2)
            reason = ""
            if not current.exists():
                if time.monotonic() - started > STARTS_WITHIN:
                    reason = "did not start"
            elif time.time() - current.stat().st_mtime > (limit := TARGETS[self.target].seconds):
                reason = f"took more than {limit} s"
            if resident(worker.pid) > self.limits.memory:
                reason = f"used more than {self.limits.memory} MiB"
            if time.monotonic() - started > seconds + STARTS_WITHIN:
                worker.kill()
            if reason:
                worker.kill()
                worker.wait()
                return reason
        return "" if (state / "done").exists() else f"ended by itself, code {worker.returncode}"

    def _keep(self, state: Path, reason: str) -> None:
        name = f"{self.target}-ended-{int(time.time() * 1000)}"
        tail = (state / "log").read_text(errors="replace")[-2000:]
        if (state / "current").exists():
            shutil.copy(state / "current", self.folder / f"{name}.bin")
        (self.folder / f"{name}.txt").write_text(f"{reason}\n{tail}")
        self.died.append(f"{reason} ({name})")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", choices=(*TARGETS, "all"), default="all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--memory", type=int, default=6000, help="MiB of the process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    limits = parser.parse_args()
    limits.findings.mkdir(parents=True, exist_ok=True)
    found = 0
    for target in TARGETS if limits.target == "all" else (limits.target,):
        folder = limits.findings.resolve()
        before = set(folder.glob(f"{target}-raised-*.txt"))
        watched = Watched(target, folder, limits)
        watched.run()
        raised = sorted(set(folder.glob(f"{target}-raised-*.txt")) - before)
        findings = [path.read_text().splitlines()[0] for path in raised] + watched.died
        found += len(findings)
        print(
            f"{target}: {watched.executions} executions, {watched.accepted} accepted, "
            f"{len(findings)} findings"
        )
        for one in findings:
            print(f"  {one}", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
