"""The embedded digits models and data, and the settings that a run on them adds to a gate's."""

from __future__ import annotations

import math
from pathlib import Path

from pytest_qnnrobust.errors import expected

FILES = (
    "digits_float.keras",
    "digits_int16.tflite",
    "digits_int8.tflite",
    "digits_pgd_float.keras",
    "digits_pgd_int16.tflite",
    "digits_pgd_int8.tflite",
    "digits.npz",
    "digits_calibration.npz",
)

EPS = {2.0: 0.5, math.inf: 0.1}
"""Budget by norm: the papers' epsilons, made for photographs, do nothing or all to the digits."""

ATTACKS = ("square-l2", "boundary", "jsma", "uap")
"""Attacks that run beside the profile's, one of each kind that published findings are about.

C&W-Linf and GeoDA, by which the papers have some of them too, would take as long as all of these.
"""

SQUEEZING = (2, 1)
"""Colour bits and median window: a wider one blurs 8x8 pixels beyond recognition."""


def defended() -> tuple[str, tuple[Path, ...]]:
    """Name and files of the digits network after PGD adversarial training, in three widths."""
    return "pgd", tuple(demo_path(name) for name in FILES if "pgd" in name)


def demo_path(name: str) -> Path:
    """The path of one embedded file, one of `FILES`."""
    if name not in FILES:
        raise expected(f"an embedded file, one of {', '.join(FILES)}", name=name)
    # They lie beside this module in a wheel, and at the top of a working copy.
    here = Path(__file__).resolve().parent
    for folder in (here / "fixtures", here.parents[1] / "fixtures"):
        if (folder / name).is_file():
            return folder / name
    raise expected(
        "the embedded digits files beside the package",
        name=name,
        cure="install pytest-qnnrobust again, or run fixtures/build_digits.py",
    )
