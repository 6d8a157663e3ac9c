"""Flash and RAM that a network takes on a microcontroller, from its shapes and bit widths.

    flash = sum over stored tensors of ceil(values * bits / 8) + 4 * scales
    live  = max over operators of the sum over live activations of 16 * ceil(bytes / 16)
    RAM   = the arena in which TensorFlow Lite Micro's greedy planner places them, >= live
    bytes = ceil(values * bits / 8)

Weights (kernels) are packed at their bit width, with one float32 scale per tensor or channel where
they are quantized; biases and other constants are stored as they are. An activation is live from
the operator that makes it to the last one that reads it; network inputs from the start, outputs to
the end. The planner (TFLM `greedy_memory_planner.cc`) places them from the largest to the smallest,
each into the first gap between those that live at the same time. Its arena is what TFLM reports as
the head of its allocation; scratch buffers of optimized kernels, the interpreter's own structures
(the tail), code and the file's tables are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.tflite.graph import Graph, Tensor

ALIGNMENT = 16
"""Bytes to which TFLM aligns the buffers of its arena."""
SCALE_BYTES = 4

KERNEL_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""Operators whose second input is a weight."""

FUSED = frozenset(
    {"Activation", "BatchNormalization", "Dropout", "Flatten", "ReLU", "Rescaling", "Reshape"}
    | {"QuantizedActivation", "Softmax", "SpatialDropout2D", "GaussianNoise", "InputLayer"}
)
"""Keras layers without a buffer: a deployment folds them into the operator before them."""


@dataclass(frozen=True)
class Stored:
    """One tensor in flash: `bits` a value, and `scales` float32 scales."""

    name: str
    values: int
    bits: int
    scales: int = 0

    @property
    def bytes(self) -> int:
        return packed(self.values, self.bits) + SCALE_BYTES * self.scales


@dataclass(frozen=True)
class Footprint:
    """Bytes in `flash` and `ram`.

    `live` is the most that activations take at one time, during the operator `peak`; `stored` lists
    the tensors in flash.
    """

    flash: int
    ram: int
    live: int
    peak: str
    stored: tuple[Stored, ...]


def packed(values: int, bits: int) -> int:
    """Bytes of `values` codes of `bits` bits without gaps."""
    return -(-values * bits // 8)


def memory_footprint(
    model: Any, *, bits: int | None = None, activation_bits: int | None = None
) -> Footprint:
    """The flash and RAM, in bytes, of a Graph (`tflite.flatbuffer`) or a Keras model, one sample.

    `bits` replaces the width of the weights, `activation_bits` (default: `bits`) that of the
    activations. Without them a graph has the widths of its tensors, a Keras model those of its
    quantized layers and 32 elsewhere. Raises QnnRobustError for a width out of 1..32.
    """
    activation_bits = bits if activation_bits is None else activation_bits
    for width in (bits, activation_bits):
        if width is not None and not 1 <= width <= 32:
            raise expected("bits from 1 to 32", bits=width)
    if isinstance(model, Graph):
        stored = tuple(_graph_constants(model, bits))
        steps, sizes, ends = _graph_steps(model, activation_bits)
    else:
        stored = tuple(_layer_weights(model, bits))
        steps, sizes, ends = _layer_steps(model, activation_bits)
    spans = lifetimes(steps, ends)
    live, peak = peak_activations(steps, sizes, spans)
    ram = greedy_arena(sizes, spans)
    return Footprint(sum(tensor.bytes for tensor in stored), ram, live, peak, stored)


Step = tuple[str, tuple[Any, ...], tuple[Any, ...]]
"""An operator: its name, the buffers that it reads, the buffers that it writes."""

Ends = tuple[tuple[Any, ...], tuple[Any, ...]]
"""The buffers that are there from the start, and those that are to be there at the end."""

Spans = dict[Any, tuple[int, int]]
"""The first and the last step, both included, in which a buffer is live."""


def lifetimes(steps: Sequence[Step], ends: Ends) -> Spans:
    """The span of every buffer that the steps read or write."""
    first: dict[Any, int] = dict.fromkeys(ends[0], 0)
    last: dict[Any, int] = dict.fromkeys(ends[0], 0)
    for position, (_, reads, writes) in enumerate(steps):
        for buffer in writes:
            first.setdefault(buffer, position)
        last |= dict.fromkeys((*reads, *writes), position)
    last |= dict.fromkeys(ends[1], max(len(steps) - 1, 0))
    return {buffer: (first[buffer], last[buffer]) for buffer in first}


def peak_activations(
    steps: Sequence[Step], sizes: Mapping[Any, int], spans: Spans
) -> tuple[int, str]:
    """The largest sum of aligned live buffers (`sizes` in bytes), and the step of it."""
    peak, where = 0, ""
    for position, (name, _, _) in enumerate(steps):
        live = (b for b, (first, last) in spans.items() if first <= position <= last)
        total = sum(aligned(sizes[b]) for b in live)
        if total > peak:
            peak, where = total, name
    return peak, where


def greedy_arena(sizes: dict[Any, int], spans: Spans) -> int:
    """Bytes from the start of the arena to the end of the last buffer.

    Of two buffers of one size the one that comes later in `sizes` is placed first.
    """
    placed: list[tuple[int, int, Any]] = []
    latest_first = [buffer for buffer in reversed(sizes) if buffer in spans]
    for buffer in sorted(latest_first, key=lambda b: -sizes[b]):
        first, last = spans[buffer]
        offset, size = 0, aligned(sizes[buffer])
        for start, end, other in sorted(placed, key=lambda item: item[0]):
            if spans[other][0] > last or first > spans[other][1]:
                continue
            if start - offset >= size:
                break
            offset = max(offset, end)
        placed.append((offset, offset + size, buffer))
    return max((end for _, end, _ in placed), default=0)


def aligned(size: int) -> int:
    return ALIGNMENT * -(-size // ALIGNMENT)


def _graph_constants(graph: Graph, bits: int | None) -> Iterable[Stored]:
    kernels = {
        op.inputs[1] for op in graph.operators if op.name in KERNEL_OPERATORS and op.inputs[1] >= 0
    }
    for tensor in graph.tensors:
        if tensor.data is not None:
            width = bits if bits and tensor.index in kernels else tensor_bits(tensor)
            scales = len(tensor.quantization.scale) if tensor.quantization else 0
            is_kernel = tensor.index in kernels
            values = int(np.size(tensor.data))
            yield Stored(tensor.name, values, width, scales if is_kernel else 0)


def _graph_steps(graph: Graph, bits: int | None) -> tuple[list[Step], dict[Any, int], Ends]:
    activations = [tensor for tensor in graph.tensors if tensor.data is None]
    # A dynamic batch axis is -1 in the file, and stands for one sample.
    sizes = {
        t.index: packed(math.prod(abs(n) for n in t.shape), bits or tensor_bits(t))
        for t in activations
    }
    steps = [
        (
            operator.name,
            tuple(i for i in operator.inputs if i in sizes),
            tuple(i for i in operator.outputs if i in sizes),
        )
        for operator in graph.operators
    ]
    return steps, sizes, (graph.inputs, graph.outputs)


def tensor_bits(tensor: Tensor) -> int:
    """Bits of a value; int4 is packed in flash."""
    return 4 if tensor.dtype == "int4" else 8 * np.dtype(tensor.dtype).itemsize


def _layer_weights(model: Any, bits: int | None) -> Iterable[Stored]:
    """Kernels at their width, all else in float32; batch normalization is folded into a bias."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layer_weights(layer, bits)
            continue
        if type(layer).__name__ == "BatchNormalization":
            continue
        for weight in layer.weights:
            name = weight.path
            values = math.prod(weight.shape)
            if not weight.path.endswith("kernel"):
                yield Stored(name, values, 32)
                continue
            width = bits or int(getattr(layer, "weight_bits", 32))
            scales = int(getattr(layer, "weight_scales", 1)) if width < 32 else 0
            yield Stored(name, values, width, scales)
        if _folds_bias(model, layer):
            yield Stored(f"{layer.name}/folded_bias", int(layer.output.shape[-1]), 32)


def _folds_bias(model: Any, layer: Any) -> bool:
    """Whether a batch normalization follows a layer with a kernel and no bias of its own."""
    if getattr(layer, "bias", None) is not None or not hasattr(layer, "kernel"):
        return False
    followers = (node.operation for node in layer._outbound_nodes)
    return any(type(other).__name__ == "BatchNormalization" for other in followers)


def _layer_steps(model: Any, bits: int | None) -> tuple[list[Step], dict[Any, int], Ends]:
    """One step per layer that has a buffer; folded layers share that of their input."""
    import keras

    own: dict[int, int] = {}
    steps: list[Step] = []
    sizes: dict[Any, int] = {}
    inputs = {id(tensor) for tensor in model.inputs}
    # A Sequential model keeps no graph of nodes; a functional one over the same tensors does.
    by_depth = keras.Model(model.inputs, model.outputs)._nodes_by_depth
    for node in (node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]):
        operation = node.operation
        reads = tuple(own[id(tensor)] for tensor in node.input_tensors)
        folded = type(operation).__name__ in FUSED and len(reads) == 1
        for tensor in node.output_tensors:
            own[id(tensor)] = reads[0] if folded else id(tensor)
            width = bits or int(getattr(operation, "activation_bits", 32))
            size = packed(math.prod(tensor.shape[1:]), width)
            if not folded:
                sizes[id(tensor)] = size
            elif reads[0] not in inputs:
                sizes[reads[0]] = min(size, sizes[reads[0]])
        if reads and not folded:
            writes = tuple(own[id(tensor)] for tensor in node.output_tensors)
            steps.append((operation.name, reads, writes))
    ends = (tuple(own[id(t)] for t in model.inputs), tuple(own[id(t)] for t in model.outputs))
    return steps, sizes, ends
