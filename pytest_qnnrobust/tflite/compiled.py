"""A plan as one TensorFlow function: the same integers as the NumPy kernels, at speed.

Sums of products run in TensorFlow's own kernels. Everything between two of them is elementwise
and forms one segment, which XLA fuses into a single pass over memory for large batches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.compute.batches import fitting, side_by_side
from pytest_qnnrobust.tflite.accumulate import Engine
from pytest_qnnrobust.tflite.lowering import Elementwise, Host, Lowered, Product, lower
from pytest_qnnrobust.tflite.plan import Plan, Step

ENGINES: tuple[Engine, ...] = ("quantized", "float32", "float64")
BUCKETS = (8, 32, 64, 128)
"""Batch sizes that are traced and compiled; a shard is cut into them (`compute.batches.pieces`)."""
FUSE_FROM = 32
"""Batch from which fusing a segment pays for its compilation."""


@dataclass(frozen=True)
class Phase:
    """One segment of elementwise work, then the kernels whose inputs it completes.

    `elementwise` holds steps that are elementwise or are the finish of an earlier product.
    """

    elementwise: tuple[int, ...]
    kernels: tuple[int, ...]


class CompiledPlan:
    """Runs a plan on batches of any size.

    `engines` are the ways to sum products that may be used, in order of preference.
    """

    def __init__(self, plan: Plan, engines: tuple[Engine, ...] = ENGINES) -> None:
        self.plan = plan
        self._lowered = [lower(step, plan.graph, engines) for step in plan.steps]
        self._phases = schedule(plan.steps, self._lowered, plan.input.index)
        self._buckets = fitting(BUCKETS, plan.largest)
        self._functions: dict[tuple[tuple[int, ...], int], Callable[[Any], list[Any]]] = {}
        self._tracing = threading.Lock()

    def run(self, q: NDArray[Any], wanted: Sequence[int]) -> list[NDArray[Any]]:
        """Integers (n, *input_shape) -> the activations of the tensor indices `wanted`.

        Shards run side by side: some TensorFlow kernels and XLA segments use one thread only.
        """

        def part(rows: slice, size: int) -> list[NDArray[Any]]:
            return _run_padded(self._function(tuple(wanted), size), size, q[rows])

        return side_by_side(part, len(q), self._buckets, least=self._buckets[0])

    def _function(self, wanted: tuple[int, ...], size: int) -> Callable[[Any], list[Any]]:
        """The plan traced for one batch size."""
        import tensorflow as tf

        # Shards of one batch run in threads and would trace the same function at the same time.
        with self._tracing:
            if (wanted, size) not in self._functions:
                shape = (size, *self.plan.input.shape[1:])
                self._functions[wanted, size] = tf.function(
                    lambda q: self.trace(q, wanted), autograph=False
                ).get_concrete_function(tf.TensorSpec(shape, self.plan.input.dtype))
            return self._functions[wanted, size]

    def trace(self, q: Any, wanted: Sequence[int]) -> list[Any]:
        """Integer tf.Tensor -> the activations `wanted`, inside any tf.function."""
        fuse = q.shape[0] is not None and q.shape[0] >= FUSE_FROM
        values: dict[int, Any] = {self.plan.input.index: q}
        products: dict[int, list[Any]] = {}
        for place, phase in enumerate(self._phases):
            operands = self._run_segment(place, values, products, wanted, fuse)
            products = {}
            for number in phase.kernels:
                step, form = self.plan.steps[number], self._lowered[number]
                if isinstance(form, Product):
                    products[number] = [form.multiply(plane) for plane in operands[number]]
                elif isinstance(form, Host):
                    values[step.output] = self._on_host(step, form, values)
        return [values[index] for index in wanted]

    def _run_segment(
        self,
        place: int,
        values: dict[int, Any],
        products: dict[int, list[Any]],
        wanted: Sequence[int],
        fuse: bool,
    ) -> dict[int, list[Any]]:
        """Add what the segment computes to `values`; return the operands of its products."""
        import tensorflow as tf

        phase = self._phases[place]
        steps, lowered = self.plan.steps, self._lowered
        reads = {i for n in (*phase.elementwise, *phase.kernels) for i in steps[n].inputs}
        inputs = {i: values[i] for i in reads if i in values}
        later = self._read_later(place) | set(wanted)

        def segment(read: dict[int, Any], sums: dict[int, list[Any]]) -> Any:
            tensors = dict(read)
            for number in phase.elementwise:
                form = lowered[number]
                if isinstance(form, Product):
                    result = form.finish(*sums[number])
                elif isinstance(form, Elementwise):
                    result = form.apply(*(tensors[i] for i in steps[number].inputs))
                tensors[steps[number].output] = result
            operands = {
                number: form.operands(tensors[steps[number].inputs[0]])
                for number in phase.kernels
                if isinstance(form := lowered[number], Product)
            }
            made = {steps[n].output for n in phase.elementwise} & later
            return {index: tensors[index] for index in made}, operands

        run = tf.function(segment, jit_compile=True, autograph=False) if fuse else segment
        new, operands = run(inputs, products)
        values.update(new)
        result: dict[int, list[Any]] = operands
        return result

    def _read_later(self, place: int) -> set[int]:
        """Activations that the kernels of this phase on the host, or later phases, read."""
        numbers = [n for n in self._phases[place].kernels if isinstance(self._lowered[n], Host)] + [
            n for phase in self._phases[place + 1 :] for n in (*phase.elementwise, *phase.kernels)
        ]
        return {index for n in numbers for index in self.plan.steps[n].inputs}

    def _on_host(self, step: Step, form: Host, values: dict[int, Any]) -> Any:
        import tensorflow as tf

        inputs = [values[index] for index in step.inputs]
        # Not stateful: TensorFlow may then leave out what nobody reads.
        result = tf.numpy_function(form.run, inputs, form.dtype, stateful=False)
        shape = self.plan.graph.tensors[step.output].shape
        result.set_shape(
            (inputs[0].shape[0], *(extent if extent > 0 else None for extent in shape[1:]))
        )
        return result


def _run_padded(
    function: Callable[[Any], list[Any]], size: int, q: NDArray[Any]
) -> list[NDArray[Any]]:
    import tensorflow as tf

    padding = np.zeros((size - len(q), *q.shape[1:]), q.dtype)
    padded = tf.constant(np.concatenate([q, padding]))
    return [result.numpy()[: len(q)] for result in function(padded)]


def schedule(steps: Sequence[Step], lowered: Sequence[Lowered], start: int) -> tuple[Phase, ...]:
    """Phases in which every step is done as early as its inputs are computed."""
    computed = {start}
    multiplied: set[int] = set()
    todo = list(range(len(steps)))
    phases = []
    while todo:
        elementwise = []
        for number in todo:
            ready = all(index in computed for index in steps[number].inputs)
            fused = isinstance(lowered[number], Elementwise) and ready
            if fused or number in multiplied:
                elementwise.append(number)
                computed.add(steps[number].output)
        todo = [number for number in todo if number not in elementwise]
        kernels = [
            number
            for number in todo
            if not isinstance(lowered[number], Elementwise)
            and all(index in computed for index in steps[number].inputs)
        ]
        # A product stays to do: its finish belongs to the elementwise work of the next phase.
        multiplied = {n for n in kernels if isinstance(lowered[n], Product)}
        hosted = [n for n in kernels if n not in multiplied]
        computed.update(steps[n].output for n in hosted)
        todo = [number for number in todo if number not in hosted]
        phases.append(Phase(tuple(elementwise), tuple(kernels)))
    return tuple(phases)
