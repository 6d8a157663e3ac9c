"""The build hook: compiles the native core into the package, where there is a C++ compiler.

    python hatch_build.py      compiles it in place, for a working copy

Without a compiler the wheel is pure and slower; with QNNROBUST_REQUIRE_NATIVE=1 that is an error,
so that no release goes without its core. CXX names another compiler.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SOURCES = {
    "core.cpp": [],
    "portable.cpp": [],
    "neon.cpp": [],
    "avx2.cpp": ["-mavx2"],
    "avx512.cpp": ["-mavx512bw", "-mavx512vl", "-mavx512vnni"],
}
"""Sources of native/ and the flags of each one's instruction set, on x86-64."""

TARGET = "pytest_qnnrobust/tflite/native/lib/core.so"
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]
REQUIRED = "QNNROBUST_REQUIRE_NATIVE"

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # Run by hand, outside of a build.
    BuildHookInterface = object  # type: ignore[assignment, misc]


class NativeBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Adds the core to a wheel, which then is for this platform and any Python 3."""

    def initialize(self, version: str, build_data: dict) -> None:
        if self.target_name != "wheel":
            return
        try:
            compile_core()
        except (OSError, subprocess.CalledProcessError) as error:
            if os.environ.get(REQUIRED) == "1":
                raise
            print(f"qnnrobust: the native core was not compiled: {error}", file=sys.stderr)
            (ROOT / TARGET).unlink(missing_ok=True)
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"
        build_data["artifacts"].append(TARGET)


def compile_core() -> Path:
    """Compile native/ into the package. Raises OSError or CalledProcessError."""
    compiler = shlex.split(os.environ.get("CXX", "")) or [_compiler()]
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    target = ROOT / TARGET
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for name, flags in SOURCES.items():
            objects.append(Path(folder, name).with_suffix(".o"))
            source = ["-c", str(ROOT / "native" / name), "-o", str(objects[-1])]
            subprocess.run([*compiler, *FLAGS, *(flags if x86 else ()), *source], check=True)
        library = Path(folder, target.name)
        subprocess.run([*compiler, "-shared", "-o", str(library), *map(str, objects)], check=True)
        target.parent.mkdir(exist_ok=True)
        # Moved in whole: another process may have the old one loaded.
        staged = target.with_suffix(f".{os.getpid()}")
        shutil.copy(library, staged)
        os.replace(staged, target)
    return target


def _compiler() -> str:
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return name
    raise OSError("there is no C++ compiler (c++, g++ or clang++); CXX may name one")


def _platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


if __name__ == "__main__":
    print(compile_core())
