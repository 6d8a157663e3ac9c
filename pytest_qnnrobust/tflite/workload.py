"""Cost of one inference of a graph on a microcontroller: multiply-accumulates and constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.tflite.graph import Graph, Operator

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""Operators whose second input holds weights; all others add no multiply-accumulate."""


@dataclass(frozen=True)
class Workload:
    """Cost of one sample: `multiply_accumulates`, `operators` run, `constant_bytes` in flash."""

    multiply_accumulates: int
    operators: int
    constant_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.multiply_accumulates:,} multiply-accumulates in {self.operators} operators, "
            f"{self.constant_bytes:,} bytes of constants"
        )


def workload(graph: Graph) -> Workload:
    """Count the workload by the shapes in the file, whose batch axis counts as one sample."""
    constants = [tensor for tensor in graph.tensors if tensor.is_constant]
    bits = sum(int(np.prod(tensor.shape)) * _item_bits(tensor.dtype) for tensor in constants)
    macs = sum(_multiply_accumulates(graph, operator) for operator in graph.operators)
    return Workload(macs, len(graph.operators), -(-bits // 8))


def _multiply_accumulates(graph: Graph, operator: Operator) -> int:
    if operator.name not in WEIGHTED:
        return 0
    weights = graph.tensors[operator.inputs[1]].shape
    produced = int(np.prod(np.abs(graph.results(operator)[0].shape)))
    if operator.name == "DEPTHWISE_CONV_2D":
        return produced * weights[1] * weights[2]
    return produced * int(np.prod(weights[1:]))


def _item_bits(dtype: str) -> int:
    return 4 if dtype == "int4" else 8 * np.dtype(dtype).itemsize
