"""Hypothesis strategies: quantizations, tensors that probe them, small graphs and networks.

A failure shrinks to the smallest; what is drawn prints as the call that makes it again.
"""

from __future__ import annotations

from pytest_qnnrobust.strategies.description import (
    Activation,
    Described,
    SmallGraph,
    SmallOperator,
)
from pytest_qnnrobust.strategies.elementwise import (
    Add,
    HardSwish,
    LeakyRelu,
    Logistic,
    Mul,
    PRelu,
    Quantize,
    Relu,
    Relu6,
    Softmax,
    Sub,
    Tanh,
)
from pytest_qnnrobust.strategies.graphs import graph_inputs, tflite_graphs
from pytest_qnnrobust.strategies.movement import (
    Concatenation,
    ExpandDims,
    Flatten,
    Mean,
    Pack,
    Pad,
    ReduceMax,
    Reshape,
    Squeeze,
    StridedSlice,
    Transpose,
)
from pytest_qnnrobust.strategies.networks import SmallNetwork, keras_models
from pytest_qnnrobust.strategies.parameters import (
    AffineParameters,
    Multiplier,
    quantization_parameters,
    requantization_multipliers,
)
from pytest_qnnrobust.strategies.sums import (
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
)
from pytest_qnnrobust.strategies.tensors import probing_tensors, probing_values

__all__ = [
    "Activation",
    "Add",
    "AffineParameters",
    "AveragePool2D",
    "Concatenation",
    "Conv2D",
    "DepthwiseConv2D",
    "Described",
    "ExpandDims",
    "Flatten",
    "FullyConnected",
    "HardSwish",
    "LeakyRelu",
    "Logistic",
    "MaxPool2D",
    "Mean",
    "Mul",
    "Multiplier",
    "PRelu",
    "Pack",
    "Pad",
    "Quantize",
    "ReduceMax",
    "Relu",
    "Relu6",
    "Reshape",
    "SmallGraph",
    "SmallNetwork",
    "SmallOperator",
    "Softmax",
    "Squeeze",
    "StridedSlice",
    "Sub",
    "Tanh",
    "Transpose",
    "graph_inputs",
    "keras_models",
    "probing_tensors",
    "probing_values",
    "quantization_parameters",
    "requantization_multipliers",
    "tflite_graphs",
]
