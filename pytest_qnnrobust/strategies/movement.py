"""Operators that reduce, or that move values and change shapes; axes are those of a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.strategies.description import (
    Activation,
    Pair,
    Place,
    Shape,
    SmallOperator,
    check_zero_point,
)


def moved(x: Activation, shape: Shape) -> Activation:
    """An activation of the same quantization in another shape."""
    return Activation(tuple(int(size) for size in shape), x.dtype, x.scale, x.zero_point)


@dataclass(frozen=True, repr=False)
class Reduction(SmallOperator):
    """A reduction over the sample axes `axes`, counted from 0."""

    axes: tuple[int, ...] = (0,)
    keep_dims: bool = False

    def reduced(self, x: Activation) -> Shape:
        if not self.axes or not all(0 <= axis < len(x.shape) for axis in self.axes):
            raise expected("axes of the sample", axes=self.axes, shape=x.shape)
        if not self.keep_dims and len(set(self.axes)) == len(x.shape):
            raise expected("an axis that stays", axes=self.axes, shape=x.shape)
        return tuple(
            1 if axis in self.axes else size
            for axis, size in enumerate(x.shape)
            if self.keep_dims or axis not in self.axes
        )

    def write(self, place: Place) -> None:
        axes = place.integers(*(axis + 1 for axis in self.axes))
        place.operator(self.name, axes, keep_dims=self.keep_dims)


@dataclass(frozen=True, repr=False)
class Mean(Reduction):
    """MEAN; `scale` and `zero_point` are the output's."""

    scale: float = 1.0
    zero_point: int = 0
    name = "MEAN"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        check_zero_point(x.dtype, x.zero_point)
        check_zero_point(x.dtype, self.zero_point)
        return Activation(self.reduced(x), x.dtype, self.scale, self.zero_point)


@dataclass(frozen=True, repr=False)
class ReduceMax(Reduction):
    name = "REDUCE_MAX"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        if x.dtype != "int8":
            raise expected("an int8 operand", dtype=x.dtype)
        return moved(x, self.reduced(x))


@dataclass(frozen=True, repr=False)
class Reshape(SmallOperator):
    shape: Shape = (2,)
    name = "RESHAPE"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        if int(np.prod(self.shape)) != x.values:
            raise expected(f"a shape of {x.values} values", shape=self.shape)
        return moved(x, self.shape)

    def write(self, place: Place) -> None:
        place.operator(self.name, place.integers(1, *self.shape))


@dataclass(frozen=True, repr=False)
class Flatten(SmallOperator):
    """Keras's Flatten as the converter writes it: SHAPE, STRIDED_SLICE, PACK and a RESHAPE."""

    name = "SHAPE"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        return moved(x, (x.values,))

    def write(self, place: Place) -> None:
        builder, (x,) = place.builder, place.operands
        rank = len(x.shape) + 1
        sizes = builder.tensor((rank,), "int32")
        batch, shape = builder.tensor((), "int32"), builder.tensor((2,), "int32")
        first, second, step = (place.integers(value) for value in (0, 1, 1))
        rest = builder.tensor((), "int32", data=x.values)
        builder.operator("SHAPE", place.inputs, [sizes], out_type="INT32")
        builder.operator("STRIDED_SLICE", [sizes, first, second, step], [batch], shrink_axis_mask=1)
        builder.operator("PACK", [batch, rest], [shape], values_count=2, axis=0)
        builder.operator("RESHAPE", [*place.inputs, shape], [place.result])


@dataclass(frozen=True, repr=False)
class ExpandDims(SmallOperator):
    axis: int = 0
    name = "EXPAND_DIMS"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        if not 0 <= self.axis <= len(x.shape):
            raise expected("an axis of the sample", axis=self.axis, shape=x.shape)
        return moved(x, (*x.shape[: self.axis], 1, *x.shape[self.axis :]))

    def write(self, place: Place) -> None:
        place.operator(self.name, place.builder.tensor((), "int32", data=self.axis + 1))


@dataclass(frozen=True, repr=False)
class Squeeze(SmallOperator):
    axes: tuple[int, ...] = (0,)
    name = "SQUEEZE"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        if not all(0 <= axis < len(x.shape) and x.shape[axis] == 1 for axis in self.axes):
            raise expected("axes of size 1", axes=self.axes, shape=x.shape)
        return moved(x, tuple(s for axis, s in enumerate(x.shape) if axis not in self.axes))

    def write(self, place: Place) -> None:
        place.operator(self.name, squeeze_dims=[axis + 1 for axis in self.axes])


@dataclass(frozen=True, repr=False)
class Transpose(SmallOperator):
    permutation: tuple[int, ...] = (0,)
    name = "TRANSPOSE"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        if sorted(self.permutation) != list(range(len(x.shape))):
            raise expected("a permutation", permutation=self.permutation, shape=x.shape)
        return moved(x, tuple(x.shape[axis] for axis in self.permutation))

    def write(self, place: Place) -> None:
        place.operator(self.name, place.integers(0, *(axis + 1 for axis in self.permutation)))


@dataclass(frozen=True, repr=False)
class Pad(SmallOperator):
    """PAD with the zero point, or PADV2 with `value`; `paddings` are (before, after) per axis."""

    paddings: tuple[Pair, ...] = ((0, 0),)
    value: int | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        return "PAD" if self.value is None else "PADV2"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        check_zero_point(x.dtype, x.zero_point)
        if len(self.paddings) != len(x.shape) or min(map(min, self.paddings)) < 0:
            raise expected("paddings >= 0 of every axis", paddings=self.paddings, shape=x.shape)
        return moved(x, tuple(s + sum(p) for s, p in zip(x.shape, self.paddings, strict=True)))

    def write(self, place: Place) -> None:
        rows = [(0, 0), *self.paddings]
        constants = [place.builder.tensor((len(rows), 2), "int32", data=rows)]
        x = place.output
        if self.value is not None:
            constants.append(
                place.builder.tensor((1,), x.dtype, x.scale, x.zero_point, [self.value])
            )
        place.operator(self.name, *constants)


@dataclass(frozen=True, repr=False)
class StridedSlice(SmallOperator):
    """Slices `begin:end:stride` of every sample axis, as in Python.

    An axis in `shrink` has one value and goes away.
    """

    begin: tuple[int, ...] = (0,)
    end: tuple[int, ...] = (1,)
    strides: tuple[int, ...] = (1,)
    shrink: tuple[int, ...] = ()
    name = "STRIDED_SLICE"

    def result(self, *operands: Activation) -> Activation:
        (x,) = operands
        parts = zip(x.shape, self.begin, self.end, self.strides, strict=True)
        sizes = [len(range(size)[b:e:s]) for size, b, e, s in parts]
        if any(sizes[axis] != 1 or self.strides[axis] != 1 for axis in self.shrink):
            raise expected("one value of an axis that shrinks", shrink=self.shrink, sizes=sizes)
        return moved(x, tuple(s for axis, s in enumerate(sizes) if axis not in self.shrink))

    def write(self, place: Place) -> None:
        vectors = ((0, *self.begin), (1, *self.end), (1, *self.strides))
        mask = sum(1 << (axis + 1) for axis in self.shrink)
        place.operator(
            self.name, *(place.integers(*vector) for vector in vectors), shrink_axis_mask=mask
        )


@dataclass(frozen=True, repr=False)
class Joined(SmallOperator):
    """Two operands of one quantization: the second is `other` or, where None, a seeded constant."""

    other: int | None = None
    axis: int = 0

    @property
    def sources(self) -> tuple[int, ...]:
        return (self.of,) if self.other is None else (self.of, self.other)

    def check(self, *operands: Activation) -> None:
        for x in operands:
            check_zero_point(x.dtype, x.zero_point)
            if moved(x, ()) != moved(operands[0], ()):
                raise expected("operands of one quantization", operands=operands)

    def constant(self, place: Place, shape: Shape) -> list[int]:
        if self.other is not None:
            return []
        x = place.output
        return [place.filled((1, *shape), x.dtype, x.scale, x.zero_point)]


@dataclass(frozen=True, repr=False)
class Concatenation(Joined):
    """CONCATENATION along `axis`; `size` is the constant's there."""

    size: int = 1
    name = "CONCATENATION"

    def result(self, *operands: Activation) -> Activation:
        self.check(*operands)
        shape = operands[0].shape
        if not 0 <= self.axis < len(shape):
            raise expected("an axis of the sample", axis=self.axis, shape=shape)
        others = [self._without_axis(x.shape) for x in operands]
        if others[0] != others[-1]:
            raise expected("operands alike but for the axis", axis=self.axis, operands=operands)
        size = self.size if self.other is None else operands[1].shape[self.axis]
        whole = shape[self.axis] + size
        return moved(operands[0], (*shape[: self.axis], whole, *shape[self.axis + 1 :]))

    def _without_axis(self, shape: Shape) -> Shape:
        return (*shape[: self.axis], -1, *shape[self.axis + 1 :])

    def write(self, place: Place) -> None:
        shape = place.operands[0].shape
        part = (*shape[: self.axis], self.size, *shape[self.axis + 1 :])
        place.operator(self.name, *self.constant(place, part), axis=self.axis + 1)


@dataclass(frozen=True, repr=False)
class Pack(Joined):
    """PACK along the new axis `axis`."""

    name = "PACK"

    def result(self, *operands: Activation) -> Activation:
        self.check(*operands)
        shape = operands[0].shape
        if operands[-1].shape != shape or not 0 <= self.axis <= len(shape):
            raise expected("operands of one shape", axis=self.axis, operands=operands)
        return moved(operands[0], (*shape[: self.axis], 2, *shape[self.axis :]))

    def write(self, place: Place) -> None:
        shape = place.operands[0].shape
        place.operator(self.name, *self.constant(place, shape), values_count=2, axis=self.axis + 1)
