"""Check an installed wheel: its core loads and computes what the NumPy kernels compute.

python .ci/check_wheel.py      where the wheel is installed; from any folder
"""

from __future__ import annotations

import os
from importlib import metadata

import numpy as np

import pytest_qnnrobust as qnn
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.tflite import native

installed = metadata.version("pytest-qnnrobust")
if qnn.__version__ != installed:
    raise SystemExit(f"the package says that it is {qnn.__version__}, its wheel {installed}")
core = native.library()
if core is None:
    raise SystemExit(f"no native core: {native.missing()}")

x, _ = qnn.load_data(demo_path("digits.npz"))
for name in ("digits_int8.tflite", "digits_int16.tflite"):
    answers = []
    for isa in ("none", "portable", core.isa):
        os.environ["QNNROBUST_ISA"] = isa
        answers.append(qnn.load_model(demo_path(name)).predict(x))
    if not all(np.array_equal(answers[0], answer) for answer in answers):
        raise SystemExit(f"{name}: the native core ({core.isa}) and the NumPy kernels differ")
    print(f"{name}: {len(x)} images alike with NumPy, portable and {core.isa}")
