"""Names and array types that the whole package shares."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Width = Literal["float32", "int16", "int8"]
"""The number format of a network: the dtype of its activations."""

Runtime = Literal["tflm", "litert", "litert-builtin", "keras", "surrogate"]
"""The engine that computes a network's scores: TFLM's integers, TFLite's interpreter, Keras."""

GradientSource = Literal["autodiff", "straight-through", "surrogate", "finite-difference"]
"""The way in which a model gives white-box attacks their gradients (see `Model.with_gradient`)."""

Array = NDArray[Any]
Float = NDArray[np.float32]
Double = NDArray[np.float64]
Labels = NDArray[np.int64]
Bounds = tuple[float, float]
"""(low, high) of a model's real-valued input."""

WIDTHS: tuple[Width, ...] = get_args(Width)
"""All widths from fine to coarse, the order of every table."""

IntegerWidth = Literal["int8", "int16"]

INTEGER_WIDTHS: tuple[IntegerWidth, ...] = get_args(IntegerWidth)
"""Widths of quantized activations, the simplest first."""
