"""Cores built from other sources than the package's, and the laws of test_native.py on them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.tflite import test_native

ROOT = Path(__file__).parents[2]
COMPILER = ("g++", "-O1", "-std=c++17", "-fPIC", "-w")


def compiled(native: Path, name: str, flags: Iterable[str], folder: Path) -> Path:
    """Compile one source of a core into an object in `folder`."""
    target = folder / f"{name}.o"
    source = ["-c", str(native / f"{name}.cpp"), "-o", str(target)]
    subprocess.run([*COMPILER, *flags, *source], check=True)
    return target


def linked(objects: Iterable[Path], folder: Path) -> Path:
    core = folder / "core.so"
    subprocess.run(["g++", "-shared", "-o", str(core), *map(str, objects)], check=True)
    return core


def laws(core: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the laws of the native core on this one."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:xdist", test_native.__file__, *arguments],
        env=os.environ | {test_native.CORE: str(core)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
