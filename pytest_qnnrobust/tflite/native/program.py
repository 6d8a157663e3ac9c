"""A plan as calls of the core: runs of native steps, and NumPy kernels between them."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.compute.processors import thread_count, thread_pool
from pytest_qnnrobust.tflite.graph import Graph
from pytest_qnnrobust.tflite.native import structures
from pytest_qnnrobust.tflite.native.shared_library import Library
from pytest_qnnrobust.tflite.native.step import Context, NativeStep, Shape, whole
from pytest_qnnrobust.tflite.native.steps import native_step
from pytest_qnnrobust.tflite.plan import Plan, taps
from pytest_qnnrobust.types import Array

ALIGNMENT = 32
"""Values between two activations of the arena, so that registers do not straddle cache lines."""

SHARE = 1 << 20
"""Multiply-accumulates, about, from which another thread pays: a tenth of a millisecond."""

Activations = dict[int, Array]


class Program:
    """Runs a plan on batches of any size: the integers of the NumPy kernels, natively computed."""

    def __init__(self, plan: Plan, library: Library) -> None:
        self.plan = plan
        shapes = plan.shapes
        context = Context(shapes, plan.graph.tensors, library.lanes)
        steps = [native_step(step.kernel, context) for step in plan.steps]
        self.native = tuple(step is not None for step in steps)
        """Of each step of the plan, whether the core has it."""
        self._parts: list[_Segment | int] = []
        for is_native, run in groupby(enumerate(steps), lambda numbered: numbered[1] is not None):
            places, made = zip(*run, strict=True)
            if is_native:
                self._parts.append(_Segment(made, places[0], shapes, plan.graph, library))
            else:
                self._parts.extend(places)
        self._least = max(SHARE // max(_work(plan, shapes), 1), 1)

    def run(self, q: NDArray[np.integer], wanted: Sequence[int]) -> list[Array]:
        """Integers (n, *input_shape) -> the activations of the tensor indices `wanted`."""
        shares = min(thread_count(), len(q) // self._least)
        if shares < 2:
            return self.compute(q, wanted)
        edges = [len(q) * share // shares for share in range(shares + 1)]
        rows = [q[start:end] for start, end in pairwise(edges)]
        parts = list(thread_pool().map(self.compute, rows, [wanted] * shares))
        return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]

    def compute(self, q: NDArray[np.integer], wanted: Sequence[int]) -> list[Array]:
        """What `run` returns, on the calling thread."""
        values: Activations = {self.plan.input.index: q}
        keep = set(wanted)
        for part in self._parts:
            if isinstance(part, int):
                step = self.plan.steps[part]
                values[step.output] = step.kernel.run(*(values[index] for index in step.inputs))
                end = part
            else:
                needed = {i for i in part.outputs if i in keep or self._last_use(i) > part.end}
                part.run(values, needed, len(q))
                end = part.end
            for index in [i for i in values if i not in keep and self._last_use(i) <= end]:
                del values[index]
        return [values[index] for index in wanted]

    def _last_use(self, index: int) -> int:
        return self.plan.last_use.get(index, -1)


@dataclass(frozen=True)
class _Life:
    """The steps of a segment between which an activation is needed, and its size in values."""

    first: int
    last: int
    size: int


class _Segment:
    """Neighbouring native steps: one call computes all of them, sample by sample.

    `start` is the place of the first in the plan.
    """

    def __init__(
        self,
        steps: Sequence[NativeStep],
        start: int,
        shapes: dict[int, Shape],
        graph: Graph,
        library: Library,
    ) -> None:
        self.end = start + len(steps) - 1
        self.outputs = tuple(step.output for step in steps)
        self._library = library
        self._steps = steps
        read = {index for step in steps for index in step.inputs}
        self._inputs = tuple(sorted(read - set(self.outputs)))
        self._indices = (*self._inputs, *self.outputs)
        self._shapes = {index: shapes[index] for index in self._indices}
        self._dtypes = {index: np.dtype(graph.tensors[index].dtype) for index in self._indices}
        number = {index: position for position, index in enumerate(self._indices)}
        places, self._arena = _arena(self._lives())
        self._tensors = (structures.Tensor * len(number))(
            *(
                structures.Tensor(
                    math.prod(shapes[index]),
                    places[position],
                    graph.tensors[index].zero_point,
                    self._dtypes[index].itemsize,
                )
                for index, position in number.items()
            )
        )
        self._native = (structures.Step * len(steps))(
            *(
                structures.Step(
                    kind=step.kind,
                    input=number[step.inputs[0]],
                    other=number[step.inputs[1]] if len(step.inputs) > 1 else -1,
                    output=number[step.output],
                    **step.fields,
                )
                for step in steps
            )
        )
        self._scratch = max(step.scratch for step in steps)

    def run(self, values: Activations, needed: set[int], n: int) -> None:
        """Read the segment's inputs from `values` and put the activations `needed` there."""
        given = [
            np.ascontiguousarray(values[index]) if index in self._inputs else None
            for index in self._indices
        ]
        made = [
            np.empty((n, *self._shapes[index]), self._dtypes[index]) if index in needed else None
            for index in self._indices
        ]
        call = structures.Run(
            ctypes.addressof(self._tensors),
            ctypes.addressof(self._native),
            ctypes.addressof(there := _addresses(given)),
            ctypes.addressof(back := _addresses(made)),
            len(self._indices),
            len(self._steps),
            self._arena,
            self._scratch,
            n,
        )
        self._library.run(call)
        del there, back  # The call has read them; until here they had to live.
        values.update(
            (index, array)
            for index, array in zip(self._indices, made, strict=True)
            if array is not None
        )

    def _lives(self) -> list[_Life]:
        lives = []
        for index in self._indices:
            size = math.prod(self._shapes[index])
            made = next((i for i, step in enumerate(self._steps) if step.output == index), -1)
            read = [i for i, step in enumerate(self._steps) if index in step.inputs]
            lives.append(_Life(made, max([made, *read]), size))
        return lives


def _addresses(arrays: Sequence[Array | None]) -> ctypes.Array[ctypes.c_void_p]:
    pointers = [None if array is None else array.ctypes.data for array in arrays]
    return (ctypes.c_void_p * len(arrays))(*pointers)


def _arena(lives: Sequence[_Life]) -> tuple[list[int], int]:
    """A place for each activation, none over another that is needed with it; the size of all.

    The largest come first, each at the lowest place that is free while it is needed.
    """
    places = [0] * len(lives)
    placed: list[int] = []
    for number in sorted(range(len(lives)), key=lambda i: -lives[i].size):
        life, place = lives[number], 0
        together = [
            i for i in placed if lives[i].first <= life.last and life.first <= lives[i].last
        ]
        for other in sorted(together, key=lambda i: places[i]):
            if place + life.size <= places[other]:
                break
            place = max(place, whole(places[other] + lives[other].size, ALIGNMENT))
        places[number] = place
        placed.append(number)
    sizes = (place + life.size for place, life in zip(places, lives, strict=True))
    return places, whole(max(sizes, default=0), ALIGNMENT)


def _work(plan: Plan, shapes: dict[int, Shape]) -> int:
    """Multiply-accumulates of one sample, about; a value of no sum counts as one."""
    values = ((math.prod(shapes[step.output]), step) for step in plan.steps)
    return sum(number * max(taps(plan.graph, step), 1) for number, step in values)
