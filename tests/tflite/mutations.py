"""Mistakes that fixed-point code may have, and the properties that have to find them.

python -m tests.tflite.mutations    # which property finds which, after how many examples
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pytest_qnnrobust.strategies import (
    Multiplier,
    graph_inputs,
    requantization_multipliers,
    tflite_graphs,
)
from pytest_qnnrobust.tflite import fixed_point
from pytest_qnnrobust.tflite.interpreter import Interpreter
from pytest_qnnrobust.tflite.kernels import logistic, softmax
from pytest_qnnrobust.tflite.kernels.conv_2d import Conv2D
from pytest_qnnrobust.tflite.kernels.pooling import AveragePool2D
from pytest_qnnrobust.tflite.kernels.spatial import Window
from pytest_qnnrobust.tflite.kernels.weighted_sum import WeightedSum
from tests.tflite.conformance import check_conformance

EXAMPLES = 300

check = settings(
    max_examples=EXAMPLES,
    phases=(Phase.generate,),
    database=None,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


class KilledError(Exception):
    """A property failed after `examples` examples."""

    def __init__(self, examples: int) -> None:
        super().__init__(examples)
        self.examples = examples


def requantization() -> None:
    """MBQM32 and MBQM64 are their formulas in Python's integers, with and without a wide shift."""
    count = 0

    @check
    @given(requantization_multipliers(), st.integers(-(2**47), 2**47))
    def law(multiplier: Multiplier, x: int) -> None:
        nonlocal count
        count += 1
        x %= multiplier.largest + 1
        tie = 1 << max(-multiplier.shift, 0)
        for value in (x, -x, -tie if tie <= multiplier.largest else 0):
            if int(multiplier.apply(value)) != exact(multiplier, value):
                raise KilledError(count)

    law()


def exact(multiplier: Multiplier, x: int) -> int:
    """Requantization of x by integer arithmetic of any length."""
    m, s = multiplier.multiplier, multiplier.shift
    if multiplier.wide:
        reduced = (m + (1 << 15)) >> 16 if m < 0x7FFF0000 else 0x7FFF
        return (x * reduced + (1 << (14 - s))) >> (15 - s)
    high = ((x << max(s, 0)) * m + (1 << 30)) >> 31
    exponent = max(-s, 0)
    half = (1 << exponent) >> 1
    return (high + half) >> exponent if high >= 0 else -((-high + half) >> exponent)


def conformance(operators: Sequence[str] | None = None) -> None:
    """Every activation of a drawn graph equals TFLM's."""
    count = 0

    @check
    @given(st.data())
    def law(data: st.DataObject) -> None:
        nonlocal count
        count += 1
        graph = data.draw(tflite_graphs(operators=operators, max_operators=3))
        q = data.draw(graph_inputs(graph))
        try:
            check_conformance(graph, q)
        except AssertionError:
            raise KilledError(count) from None

    law()


def bounds() -> None:
    """No accumulator of a drawn graph exceeds the bound that its kernel states."""
    count = 0

    @check
    @given(tflite_graphs(operators=("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")))
    def law(graph: Any) -> None:
        nonlocal count
        count += 1
        for step in Interpreter(graph.to_graph(), engine="reference").plan.steps:
            kernel = step.kernel
            if isinstance(kernel, WeightedSum):
                limits = np.iinfo(kernel.input_dtype)
                shape = (2, *graph.activations[step.inputs[0]].shape)
                ends = np.array([limits.min, limits.max], kernel.input_dtype)
                x = np.broadcast_to(ends.reshape(2, *[1] * (len(shape) - 1)), shape)
                if (np.abs(kernel.accumulate(x)) > kernel.accumulator_bound).any():
                    raise KilledError(count)

    law()


Property = Callable[[], None]
PROPERTIES: tuple[Property, ...] = (requantization, bounds, conformance)


def graphs_of(*operators: str) -> Property:
    """`conformance` of graphs of these operators."""
    return partial(conformance, operators)


@dataclass(frozen=True)
class Mutation:
    """`mutant` takes the place of `name` of `owner`, a module or a class; `prove` has to fail."""

    what: str
    owner: Any
    name: str
    mutant: Any
    prove: Property = requantization

    @contextmanager
    def applied(self) -> Iterator[None]:
        """With the mutant wherever the package has imported the original."""
        original = getattr(self.owner, self.name)
        holders = [self.owner]
        if not isinstance(self.owner, type):
            holders = [
                module
                for name, module in sorted(sys.modules.items())
                if name.startswith("pytest_qnnrobust") and vars(module).get(self.name) is original
            ]
        with ExitStack() as stack:
            for holder in holders:
                stack.enter_context(mock.patch.object(holder, self.name, self.mutant))
            yield


def _floor_divide(x: Any, exponent: Any) -> Any:
    return np.asarray(x, np.int64) >> np.asarray(exponent, np.int64)


def _half_up_divide(x: Any, exponent: Any) -> Any:
    e = np.asarray(exponent, np.int64)
    return (np.asarray(x, np.int64) + ((np.int64(1) << e) >> 1)) >> e


def _truncated_high_mul(a: Any, b: Any) -> Any:
    return (np.asarray(a, np.int64) * np.asarray(b, np.int64)) >> 31


def _shift_of_other_sign(x: Any, multiplier: Any, shift: Any) -> Any:
    return _MBQM32(x, multiplier, -np.asarray(shift, np.int64))


def _mbqm64_without_half(x: Any, multiplier: Any, shift: Any) -> Any:
    product = np.asarray(x, np.int64) * fixed_point.reduce_multiplier(multiplier)
    return fixed_point.int32(product >> (15 - np.asarray(shift, np.int64)))


def _wrapping_apply(self: Any, accumulator: Any) -> Any:
    return (self.scale(accumulator) + self.zero_point).astype(self.dtype)


def _range_of_zero(function: str, scale: float, zero_point: int, dtype: Any) -> tuple[int, int]:
    low, high = _ACTIVATION_RANGE(function, scale, zero_point, dtype)
    return (0 if function.startswith("RELU") and function != "RELU_N1_TO_1" else low), high


def _taps_of_ones(self: Any, x: Any, fill: int) -> Any:
    return _TAPS(self, x, fill + 1)


def _accumulate_without_zero_point(self: Any, x: Any) -> Any:
    return _ACCUMULATE(self, x) + self.input_zero_point


def _table_one_higher() -> Any:
    table = _SIGMOID_TABLE().copy()
    table[1:10] += 1
    return table


def _lut_one_off() -> Any:
    return np.roll(_EXP_LUT(), 1)


def _floor_average(self: Any, total: Any, counts: Any) -> Any:
    return self._clip(total // counts)


def _bound_without_bias(self: Any) -> Any:
    return self.filter_magnitude * ((self.input_dtype == "int8" and 128) or 32768)


_MBQM32 = fixed_point.multiply_by_quantized_multiplier
_ACTIVATION_RANGE = fixed_point.activation_range
_TAPS = Window.taps
_ACCUMULATE = Conv2D.accumulate
_SIGMOID_TABLE = logistic.sigmoid_table
_EXP_LUT = softmax.exp_lut

MUTATIONS = (
    Mutation("rounding direction", fixed_point, "rounding_divide_by_pot", _floor_divide),
    Mutation("half-way handling", fixed_point, "rounding_divide_by_pot", _half_up_divide),
    Mutation(
        "rounding of the product",
        fixed_point,
        "saturating_rounding_doubling_high_mul",
        _truncated_high_mul,
    ),
    Mutation("shift sign", fixed_point, "multiply_by_quantized_multiplier", _shift_of_other_sign),
    Mutation("16-bit multiplier", fixed_point, "reduce_multiplier", lambda m: np.asarray(m) >> 16),
    Mutation(
        "rounding of the 64-bit path",
        fixed_point,
        "multiply_by_quantized_multiplier_int64",
        _mbqm64_without_half,
    ),
    Mutation("saturation", fixed_point.Requantization, "apply", _wrapping_apply, conformance),
    Mutation("activation clamp", fixed_point, "activation_range", _range_of_zero, conformance),
    Mutation("padding value", Window, "taps", _taps_of_ones, graphs_of("CONV_2D")),
    Mutation("zero-point fold", Conv2D, "accumulate", _accumulate_without_zero_point, bounds),
    Mutation(
        "logistic table",
        logistic,
        "sigmoid_table",
        _table_one_higher,
        graphs_of("LOGISTIC", "TANH"),
    ),
    Mutation("softmax table", softmax, "exp_lut", _lut_one_off, graphs_of("SOFTMAX", "RESHAPE")),
    Mutation(
        "average's rounding", AveragePool2D, "divide", _floor_average, graphs_of("AVERAGE_POOL_2D")
    ),
    Mutation(
        "accumulator bound", WeightedSum, "accumulator_bound", property(_bound_without_bias), bounds
    ),
)


def examples_until_found(mutation: Mutation) -> int | None:
    """After how many examples the property fails under the mutation; None where it never does."""
    with mutation.applied():
        try:
            mutation.prove()
        except KilledError as killed:
            return killed.examples
    return None


def main() -> None:
    print(f"{'mutation':<30}{'property':<18}examples")
    for mutation in MUTATIONS:
        found = examples_until_found(mutation)
        name = getattr(mutation.prove, "__name__", conformance.__name__)
        print(f"{mutation.what:<30}{name:<18}{found or 'SURVIVED'}", flush=True)
    for prove in PROPERTIES:
        prove()
    print(f"without a mutation every property holds on {EXAMPLES} examples")


if __name__ == "__main__":
    main()
