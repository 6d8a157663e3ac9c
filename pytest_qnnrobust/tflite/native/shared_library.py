"""The compiled core: where it is, whether it can be used here, and for which instruction set."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pytest_qnnrobust.errors import QnnRobustError, expected
from pytest_qnnrobust.tflite.native.structures import INTERFACE, Run

FILE = Path(__file__).with_name("lib") / "core.so"
"""The library, whatever the platform calls one. In a folder that is no package: beside a module it
would look like an extension of Python."""

ISA = "QNNROBUST_ISA"
"""Environment variable that chooses an instruction set; `none` leaves the core aside."""

INSTRUCTION_SETS = ("portable", "neon", "avx2", "avx512")
"""By the core's numbers; of those that a processor has, the last is the best."""


@dataclass(frozen=True)
class Library:
    """The core, and the instruction set that it computes with."""

    functions: Any
    isa: str

    @property
    def lanes(self) -> int:
        """Accumulators of a register; the weights lie in blocks of as many channels."""
        return int(self.functions.qnn_lanes(INSTRUCTION_SETS.index(self.isa)))

    def run(self, call: Run) -> None:
        """Compute one call; the interpreter's lock is released meanwhile. Raises MemoryError."""
        number = INSTRUCTION_SETS.index(self.isa)
        if self.functions.qnn_run(ctypes.byref(call), number):
            raise MemoryError(f"no {2 * (call.arena + call.scratch)} bytes for the activations")


def library() -> Library | None:
    """The core, or None where it cannot be used (`missing` says why).

    Raises QnnRobustError where QNNROBUST_ISA names an instruction set that is not to be had.
    """
    return _load(os.environ.get(ISA, ""))[0]


def missing() -> str:
    """Why there is no core; "" where there is one."""
    return _load(os.environ.get(ISA, ""))[1]


@lru_cache(maxsize=8)
def _load(wanted: str) -> tuple[Library | None, str]:
    if wanted == "none":
        return None, f"{ISA}=none"
    if wanted and wanted not in INSTRUCTION_SETS:
        among = ", ".join((*INSTRUCTION_SETS, "none"))
        raise expected(f"{ISA} to be one of {among}", isa=wanted)
    if not FILE.is_file():
        return None, "it was not compiled: there was no C++ compiler when the package was installed"
    try:
        functions = ctypes.CDLL(str(FILE))
        interface = functions.qnn_interface()
    except (OSError, AttributeError) as error:
        return None, f"{FILE.name} cannot be loaded: {error}"
    if interface != INTERFACE:
        return None, f"{FILE.name} is of another version; install the package again"
    available = instruction_sets(functions)
    if wanted and wanted not in available:
        raise QnnRobustError(f"{ISA}={wanted}: this processor has {', '.join(available)}")
    return Library(functions, wanted or available[-1]), ""


def instruction_sets(functions: Any) -> tuple[str, ...]:
    """What a loaded core can compute with on this processor, the best last."""
    numbered = enumerate(INSTRUCTION_SETS)
    return tuple(name for number, name in numbered if functions.qnn_lanes(number))
