"""A small `.tflite` graph as plain data: short to print, and pasted it builds the same bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from pytest_qnnrobust.errors import QnnRobustError, expected
from pytest_qnnrobust.tflite.builder import GraphBuilder
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.graph import Graph
from pytest_qnnrobust.tflite.kernels.spatial import Pair as Pair
from pytest_qnnrobust.types import INTEGER_WIDTHS

Shape = tuple[int, ...]
Boundary = Literal["float32", "uint8"]

BOUNDARIES = (None, "float32", "uint8")
"""Number formats at the two ends of a graph; None leaves those of the integer graph."""
MAX_RANK = 4
"""Axes of an activation, the batch included."""


@dataclass(frozen=True, repr=False)
class Described:
    """A description that prints as the call that makes it again, without default arguments."""

    def __repr__(self) -> str:
        values = ((f.name, getattr(self, f.name), f.default) for f in fields(self))
        shown = (f"{name}={value!r}" for name, value, default in values if value != default)
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, repr=False)
class Activation(Described):
    """An activation of `shape` for one sample; `real = scale * (quantized - zero_point)`."""

    shape: Shape
    dtype: str = "int8"
    scale: float = 1.0
    zero_point: int = 0

    @property
    def values(self) -> int:
        """Values per sample."""
        return math.prod(self.shape)

    def require(self) -> Activation:
        """Return itself. Raises QnnRobustError where TFLM has no such activation."""
        if not self.shape or len(self.shape) >= MAX_RANK or min(self.shape) < 1:
            raise expected(f"a sample shape of 1 to {MAX_RANK - 1} sizes >= 1", shape=self.shape)
        if self.dtype not in INTEGER_WIDTHS:
            raise expected("dtype int8 or int16", dtype=self.dtype)
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise expected("a positive, finite scale", scale=self.scale)
        if self.scale != float(np.float32(self.scale)):
            raise expected("a scale that float32 holds", scale=self.scale)
        limits = np.iinfo(self.dtype)
        if not limits.min <= self.zero_point <= limits.max:
            raise expected(f"a zero point within {self.dtype}", zero_point=self.zero_point)
        return self


@dataclass(frozen=True, eq=False)
class Place:
    """The place at which an operator is written: a file under construction, operands and output.

    `inputs` and `result` are tensor indices, `operands` and `output` the same as activations. `rng`
    is the operator's own: its constants do not depend on the other operators.
    """

    builder: GraphBuilder
    rng: np.random.Generator
    inputs: tuple[int, ...]
    operands: tuple[Activation, ...]
    result: int
    output: Activation

    def operator(self, name: str, *constants: int, **options: Any) -> None:
        """Write the operator with its activations first, then `constants`."""
        self.builder.operator(name, [*self.inputs, *constants], [self.result], **options)

    def integers(self, *values: int) -> int:
        """Write a constant int32 vector; returns its index."""
        return self.builder.tensor((len(values),), "int32", data=values)

    def filled(self, shape: Shape, dtype: str, scale: float, zero_point: int = 0) -> int:
        """Write a constant of uniform integers; returns its index."""
        limits = np.iinfo(dtype)
        data = self.rng.integers(limits.min, limits.max + 1, shape)
        return self.builder.tensor(shape, dtype, scale, zero_point, data)


@dataclass(frozen=True, repr=False)
class SmallOperator(Described):
    """One operator. `of` counts activations backwards: -1 is the one before it."""

    of: int = -1
    name: ClassVar[str]
    """TFLite's name of the operator."""

    @property
    def sources(self) -> tuple[int, ...]:
        """The activations that it reads, counted as `of`."""
        return (self.of,)

    def result(self, *operands: Activation) -> Activation:
        """The activation that it computes. Raises QnnRobustError for operands that TFLM refuses."""
        raise NotImplementedError

    def write(self, place: Place) -> None:
        """Write the operator with its constants and options; here without any."""
        place.operator(self.name)


@dataclass(frozen=True)
class SmallGraph:
    """A classifier's graph of a few operators: one input, one output, branches by `of`, `other`.

    `shape` (without the batch axis), `dtype`, `scale` and `zero_point` are the input's. Constants
    are drawn from `seed` and the operator's place. `boundary` wraps the graph in QUANTIZE and
    DEQUANTIZE ("float32") or in two QUANTIZE ("uint8"), as converters do. Raises QnnRobustError
    where the operators do not fit each other.
    """

    operators: tuple[SmallOperator, ...]
    shape: Shape = (2,)
    dtype: str = "int8"
    scale: float = 1.0
    zero_point: int = 0
    seed: int = 0
    boundary: Boundary | None = None

    def __repr__(self) -> str:
        first = f"({', '.join(map(repr, self.operators))}{',' * (len(self.operators) == 1)})"
        values = ((f.name, getattr(self, f.name), f.default) for f in fields(self)[1:])
        rest = (f"{name}={value!r}" for name, value, default in values if value != default)
        return f"SmallGraph({', '.join((first, *rest))})"

    def __post_init__(self) -> None:
        if not self.operators:
            raise expected("one operator or more", operators=self.operators)
        if self.boundary not in BOUNDARIES:
            raise expected("boundary None, 'float32' or 'uint8'", boundary=self.boundary)
        if not 0 <= self.seed < 2**32:
            raise expected("a seed in 0 .. 2**32 - 1", seed=self.seed)
        last = self.activations[-1]
        if last.values < 2:
            raise expected("two values or more at the end, one a class", shape=last.shape)
        ends = (self.activations[0].dtype, last.dtype)
        if self.boundary == "uint8" and ends != ("int8", "int8"):
            raise expected("int8 at both ends behind a uint8 boundary", dtypes=ends)

    @cached_property
    def activations(self) -> tuple[Activation, ...]:
        """The input, then what each operator computes: tensors 0, 1, ... of the file."""
        computed = [Activation(self.shape, self.dtype, self.scale, self.zero_point).require()]
        for place, operator in enumerate(self.operators):
            for of in operator.sources:
                if not -len(computed) <= of < 0:
                    rule = f"an activation in -{len(computed)} .. -1 for operator {place}"
                    raise expected(rule, of=of)
            operands = (computed[of] for of in operator.sources)
            try:
                computed.append(operator.result(*operands).require())
            except QnnRobustError as error:
                raise QnnRobustError(f"operator {place} ({operator!r}): {error}") from None
        return tuple(computed)

    @property
    def names(self) -> tuple[str, ...]:
        """TFLite's names of the operators, in order."""
        return tuple(operator.name for operator in self.operators)

    def to_tflite(self, *, every_output: bool = False) -> bytes:
        """The bytes of the file; the same description gives the same bytes.

        A last activation of another rank than (1, classes) goes through a RESHAPE. With
        `every_output` all activations but the input are outputs, the classifier's one last.
        """
        builder = GraphBuilder()
        for a in self.activations:
            builder.tensor((1, *a.shape), a.dtype, a.scale, a.zero_point)
        start = self._enter(builder)
        for number, operator in enumerate(self.operators):
            inputs = tuple(number + 1 + of for of in operator.sources)
            operands = tuple(self.activations[i] for i in inputs)
            rng = np.random.default_rng((self.seed, number))
            result = number + 1
            operator.write(Place(builder, rng, inputs, operands, result, self.activations[result]))
        end = self._leave(builder)
        every = range(1 if start == 0 else 0, len(self.activations))
        inner = [i for i in every if i != end] if every_output else []
        return builder.build([start], [*inner, end])

    def to_graph(self) -> Graph:
        """The file as the interpreter reads it."""
        return read_graph(self.to_tflite())

    def _enter(self, builder: GraphBuilder) -> int:
        """The graph's input: activation 0, or a tensor that QUANTIZE turns into it."""
        if self.boundary is None:
            return 0
        outer = self._outside(builder, self.activations[0])
        builder.operator("QUANTIZE", [outer], [0])
        return outer

    def _leave(self, builder: GraphBuilder) -> int:
        """The graph's output, behind a RESHAPE and a boundary where there are such."""
        last, end = self.activations[-1], len(self.activations) - 1
        if len(last.shape) != 1:
            flat = builder.tensor((1, last.values), last.dtype, last.scale, last.zero_point)
            sizes = builder.tensor((2,), "int32", data=(1, last.values))
            builder.operator("RESHAPE", [end, sizes], [flat])
            last, end = Activation((last.values,), last.dtype, last.scale, last.zero_point), flat
        if self.boundary is None:
            return end
        outer = self._outside(builder, last)
        builder.operator("DEQUANTIZE" if self.boundary == "float32" else "QUANTIZE", [end], [outer])
        return outer

    def _outside(self, builder: GraphBuilder, inner: Activation) -> int:
        if self.boundary == "float32":
            return builder.tensor((1, *inner.shape), "float32")
        return builder.tensor((1, *inner.shape), "uint8", inner.scale, inner.zero_point + 128)


def check_zero_point(dtype: str, zero_point: int) -> None:
    """Raise QnnRobustError for an int16 activation whose zero point is not 0."""
    if dtype == "int16" and zero_point:
        raise expected("zero point 0 for int16", zero_point=zero_point)
