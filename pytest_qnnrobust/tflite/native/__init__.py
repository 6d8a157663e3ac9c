"""The integers of a plan on the native core: what its kernels cover, and NumPy's for the rest."""

from pytest_qnnrobust.tflite.native.program import Program
from pytest_qnnrobust.tflite.native.shared_library import Library, library, missing

__all__ = ["Library", "Program", "library", "missing"]
