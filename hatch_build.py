"""The build hook: compiles the native core into the package, where there is a C++ compiler.

    python hatch_build.py      compiles it in place, for a working copy

Without a compiler the wheel is pure and slower; with QNNROBUST_REQUIRE_NATIVE=1 that is an error,
so that no release goes without its core. CXX names another compiler, which takes the options of
GCC and Clang; on Windows that is the g++ of MinGW-w64.
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
FLAGS = ["-O3", "-std=c++17", "-fvisibility=hidden", "-Wall", "-Wextra"]
MACOS = "11.0"
"""The oldest macOS that the core runs on, and that its wheel is for: the first on arm64."""

SYSTEM = {
    "darwin": ["-fPIC", "-arch", platform.machine(), f"-mmacosx-version-min={MACOS}"],
    # Nothing of MinGW beside the library, and no aligned moves of 32 bytes: a stack of Windows is
    # aligned to 16, which GCC forgets where it spills a register (its bug 54412).
    "win32": ["-static", "-Wa,-muse-unaligned-vector-move"],
}.get(sys.platform, ["-fPIC"])
"""Flags of this system, to compile and to link."""

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
    target = ROOT / TARGET
    with tempfile.TemporaryDirectory() as folder:
        objects = compile_objects(Path(folder))
        library = Path(folder, target.name)
        _run("-shared", "-o", library, *objects)
        target.parent.mkdir(exist_ok=True)
        # Moved in whole: another process may have the old one loaded.
        staged = target.with_suffix(f".{os.getpid()}")
        shutil.copy(library, staged)
        os.replace(staged, target)
    return target


def compile_objects(folder: Path) -> list[Path]:
    """Compile each of `SOURCES` into the folder. Raises OSError or CalledProcessError."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    objects = []
    for name, flags in SOURCES.items():
        objects.append(Path(folder, name).with_suffix(".o"))
        source = ROOT / "native" / name
        _run(*FLAGS, *(flags if x86 else ()), "-c", source, "-o", objects[-1])
    return objects


def _run(*arguments: str | Path) -> None:
    compiler = shlex.split(os.environ.get("CXX", "")) or [_compiler()]
    subprocess.run([*compiler, *SYSTEM, *map(str, arguments)], check=True)


def _compiler() -> str:
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return name
    raise OSError("there is no C++ compiler (c++, g++ or clang++); CXX may name one")


def _platform() -> str:
    """The platform in the wheel's tag."""
    if sys.platform == "darwin":
        # Python may be of both processors, or of a newer macOS than the core.
        return f"macosx_{MACOS.replace('.', '_')}_{platform.machine()}"
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


if __name__ == "__main__":
    print(compile_core())
