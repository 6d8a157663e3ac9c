"""The embedded digits models and data: where they are, in a wheel and in the source tree."""

from __future__ import annotations

from pathlib import Path

from pytest_qnnrobust.errors import expected

FILES = (
    "digits_float.keras",
    "digits_int16.tflite",
    "digits_int8.tflite",
    "digits.npz",
    "digits_calibration.npz",
)


def demo_path(name: str) -> Path:
    """The path of one embedded file, one of `FILES`."""
    if name not in FILES:
        raise expected(f"an embedded file, one of {', '.join(FILES)}", name=name)
    package = Path(__file__).resolve().parent
    for folder in (package / "_fixtures", package.parent / "fixtures"):
        if (folder / name).is_file():
            return folder / name
    raise expected(
        "the embedded digits files beside the package",
        name=name,
        cure="install pytest-qnnrobust again, or run fixtures/build_digits.py",
    )
