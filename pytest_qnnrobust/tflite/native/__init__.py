"""The integers of a plan on the native core: what its kernels cover, and NumPy's for the rest."""

from pytest_qnnrobust.tflite.native.library import Library, library, missing
from pytest_qnnrobust.tflite.native.program import Program

__all__ = ["Library", "Program", "library", "missing"]
