"""Adapters that make a quantizer of a function, or of Keras's own quantizers."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_qnnrobust.errors import QnnRobustError, expected
from pytest_qnnrobust.quantizers.base import require_quantizer


class Function:
    """A function of float tensors that quantizes and dequantizes in one piece, as a quantizer.

    The caller declares its grid: `scale * (q - zero_point)` for the codes minimum..maximum, or,
    where the values are not equally far apart, `values` in rising order, with the codes minimum,
    minimum + 1, ... `quantize` gives the code of the value nearest to what the function returns;
    `fake_quantize` is the function itself, and the law of that name holds it to the grid.
    Raises QnnRobustError unless one of `scale` (then with `maximum`) and `values` is given.
    """

    def __init__(
        self,
        function: Callable[[NDArray[np.float32]], Any],
        *,
        scale: float | None = None,
        zero_point: int = 0,
        minimum: int = 0,
        maximum: int | None = None,
        values: ArrayLike | None = None,
        rounding: str | None = "half_away",
        symmetric: bool = False,
    ) -> None:
        if (values is None) == (scale is None):
            raise expected("one of scale and values", scale=scale, values=values)
        if scale is not None and maximum is None:
            raise expected("the largest code", maximum=maximum)
        self._function = function
        self.scale, self.zero_point = scale, zero_point
        self.rounding, self.symmetric = rounding, symmetric
        self._values = None if values is None else np.asarray(values, np.float32)
        self.minimum = minimum
        count = 0 if self._values is None else self._values.size
        self.maximum = maximum if maximum is not None else minimum + count - 1

    def fake_quantize(self, x: NDArray[np.float32]) -> NDArray[Any]:
        return np.asarray(self._function(x))

    def quantize(self, x: NDArray[np.float32]) -> NDArray[np.int32]:
        real = self.fake_quantize(x).astype(np.float64)
        if self._values is None:
            assert self.scale is not None
            return (np.rint(real / self.scale) + self.zero_point).astype(np.int32)
        edges = (self._values[1:].astype(np.float64) + self._values[:-1]) / 2
        return np.asarray(np.searchsorted(edges, real) + self.minimum, np.int32)

    def dequantize(self, q: NDArray[Any]) -> NDArray[np.float32]:
        q = np.asarray(q, np.int64)
        if self._values is not None:
            return np.asarray(self._values[q - self.minimum])
        assert self.scale is not None
        return np.asarray(self.scale * (q - self.zero_point)).astype(np.float32)


class KerasFakeQuant(Function):
    """`keras.quantizers.fake_quant_with_min_max_vars` for one range, with its nudged grid.

    Keras subtracts the end of the range in float32 and rounds upwards, so that an exact half may go
    either way (`rounding` None).
    """

    def __init__(
        self, low: float, high: float, num_bits: int = 8, narrow_range: bool = False
    ) -> None:
        import keras

        single = np.float32
        first, last = int(narrow_range), (1 << num_bits) - 1
        scale = (single(high) - single(low)) / single(last - first)
        zero = int(np.round(np.clip(first - single(low) / scale, first, last)))

        def function(x: NDArray[np.float32]) -> Any:
            values = keras.quantizers.fake_quant_with_min_max_vars(
                x, single(low), single(high), num_bits=num_bits, narrow_range=narrow_range
            )
            return keras.ops.convert_to_numpy(values)

        super().__init__(
            function,
            scale=float(scale),
            zero_point=zero,
            minimum=first,
            maximum=last,
            rounding=None,
        )
        self.narrow_range = narrow_range


@dataclass(frozen=True, eq=False)
class KerasAbsMax:
    """Keras 3's `AbsMaxQuantizer`, whose scale follows the largest |x| of a tensor's rows.

    `fit` takes the scale of a matrix. The fitted quantizer clips its input to that largest |x| and
    hands it to Keras together with it: a larger input would change the scale instead of saturating.
    """

    quantizer: Any

    def fit(self, x: NDArray[np.float32]) -> _FittedAbsMax:
        _, scale = self.quantizer(x)
        shape = tuple(scale.shape)
        axes = [axis for axis, size in enumerate(shape) if size > 1]
        if len(axes) > 1:
            raise expected("a scale for each channel of one axis", scales=shape)
        axis = axes[0] if axes else None
        others = tuple(i for i in range(x.ndim) if i != axis)
        largest = np.abs(x).max(axis=others if axis is not None else None)
        return _FittedAbsMax(self.quantizer, np.atleast_1d(largest), axis)


@dataclass(frozen=True, eq=False)
class _FittedAbsMax:
    """`KerasAbsMax` at the scale of one tensor; `largest` |x| for each channel.

    Codes below the opposite of the last one, -8 of -8..7, are left out: no input gets them.
    """

    quantizer: Any
    largest: NDArray[np.float32]
    quantized_dimension: int | None
    symmetric = True
    rounding = "half_even"

    @property
    def minimum(self) -> int:
        return max(int(self.quantizer.value_range[0]), -self.maximum)

    @property
    def maximum(self) -> int:
        return int(self.quantizer.value_range[1])

    @property
    def narrow_range(self) -> bool:
        return self.minimum == -self.maximum

    @property
    def dtype(self) -> str:
        return str(self.quantizer.output_dtype)

    @cached_property
    def factor(self) -> NDArray[np.float32]:
        """The number that Keras calls the scale: it rounds x times this."""
        return self._through_keras(self.largest[:, None])[1]

    @cached_property
    def scale(self) -> NDArray[np.float64]:
        return 1 / self.factor.astype(np.float64)

    def quantize(self, x: NDArray[np.float32]) -> NDArray[Any]:
        axis = self.quantized_dimension
        moved = x[None] if axis is None else np.moveaxis(x, axis, 0)
        limit = self.largest[:, None]
        matrix = np.clip(moved.reshape(len(limit), -1), -limit, limit)
        q = self._through_keras(np.concatenate([matrix, limit], axis=1))[0][:, :-1]
        shaped = q.reshape(moved.shape)
        return shaped[0] if axis is None else np.moveaxis(shaped, 0, axis)

    def dequantize(self, q: NDArray[Any]) -> NDArray[np.float32]:
        axis = self.quantized_dimension
        factor = self.factor
        if axis is not None:
            factor = factor.reshape([-1 if i == axis % q.ndim else 1 for i in range(q.ndim)])
        return np.asarray(q.astype(np.float32) / factor)

    def _through_keras(self, matrix: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        import keras

        q, factor = self.quantizer(matrix.astype(np.float32), axis=-1)
        return keras.ops.convert_to_numpy(q), keras.ops.convert_to_numpy(factor)[:, 0]


def adapt(thing: Any) -> Any:
    """Make a quantizer of `thing`: itself, or KerasAbsMax around Keras's AbsMaxQuantizer.

    A class or a function is called without arguments first. Raises QnnRobustError, one line, for
    anything else.
    """
    made = inspect.isclass(thing) or (callable(thing) and not hasattr(thing, "quantize"))
    if made and not _is_keras(thing):
        thing = thing()
    if _is_keras(thing):
        return KerasAbsMax(thing)
    if not hasattr(thing, "fit"):
        require_quantizer(thing)
    return thing


def load_quantizer(source: str, folders: Sequence[Path] = ()) -> Any:
    """Import the quantizer that `module:object` names, from `folders` as well.

    Raises QnnRobustError, one line, where there is none.
    """
    module, _, name = source.partition(":")
    for folder in reversed(folders):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    try:
        imported = importlib.import_module(module)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise expected("a module that can be imported", module=module, reason=reason) from error
    if not hasattr(imported, name):
        raise expected(f"an object of the module {module}", object=name)
    try:
        return adapt(getattr(imported, name))
    except QnnRobustError as error:
        raise QnnRobustError(f"{source}: {error}") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise expected(f"{source} to be made without arguments", reason=reason) from error


def _is_keras(thing: Any) -> bool:
    """Whether `thing` is Keras's AbsMaxQuantizer."""
    # An instance of its class exists only if Keras was imported, which takes seconds.
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(thing, keras.quantizers.AbsMaxQuantizer)
