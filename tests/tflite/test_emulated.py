"""The laws of the native core on instruction sets that this processor may lack.

Intrinsics are emulated by SIMDe (Debian: libsimde-dev); the sources are those of the package.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tflite.other_cores import COMPILER, ROOT, compiled, laws, linked

EMULATED = Path(__file__).with_name("emulated")
SETS = {
    "portable": [],
    "neon": ["-include", str(EMULATED / "simde_neon.h")],
    "avx2": ["-include", "simde/x86/avx2.h"],
    "avx512": ["-include", str(EMULATED / "simde_avx512.h")],
}
FLAGS = ["-DQNN_EMULATED", "-DSIMDE_ENABLE_NATIVE_ALIASES"]


@pytest.mark.nightly
def test_the_laws_hold_on_every_instruction_set(tmp_path: Path) -> None:
    probe = "#include <simde/x86/avx512.h>\n"
    try:
        subprocess.run([*COMPILER, "-E", "-x", "c++", "-"], input=probe, text=True, check=True,
                       capture_output=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no g++ with SIMDe here")
    objects = [
        compiled(ROOT / "native", name, [*FLAGS, *flags], tmp_path)
        for name, flags in {"core": [], **SETS}.items()
    ]
    run = laws(linked(objects, tmp_path), "-v")
    assert run.returncode == 0, run.stdout[-4000:]
    for isa in SETS:
        lines = [line for line in run.stdout.splitlines() if f"{isa}]" in line]
        assert len(lines) > 20
        assert all("PASSED" in line for line in lines), lines
