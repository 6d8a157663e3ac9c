"""The three forms of a lowered step, and integer functions as proved lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.tflite.affine import AffineForm, Reals, prove_affine
from pytest_qnnrobust.tflite.fixed_point import Integers, Requantization, reduce_multiplier


@dataclass(frozen=True)
class Elementwise:
    """`apply(*activations)` -> the output activation, all integer tf.Tensor."""

    apply: Callable[..., Any]


@dataclass(frozen=True)
class Product:
    """`finish(*[multiply(o) for o in operands(activation)])` -> the output activation."""

    operands: Callable[[Any], list[Any]]
    multiply: Callable[[Any], Any]
    finish: Callable[..., Any]


@dataclass(frozen=True)
class Host:
    """`run(*arrays)` on NumPy integers, giving `dtype`."""

    run: Callable[..., NDArray[Any]]
    dtype: str


Lowered = Elementwise | Product | Host


def requantization_form(requantization: Requantization, bound: Integers) -> AffineForm | None:
    """The affine form of a requantization on accumulators within [-bound, bound].

    MBQM64 has a 16-bit multiplier r and one rounding, so `floor(r / 2**n * acc + 1/2)` is exact
    in float64 as long as |r * acc| < 2**52; MBQM32 is proved level by level. Accumulators that
    would wrap on the device are left to the NumPy kernel, which wraps too.
    """
    if (bound > requantization.safe_magnitude).any():
        return None
    minimum, maximum = requantization.minimum, requantization.maximum
    if requantization.wide:
        reduced = reduce_multiplier(requantization.multiplier)
        if (reduced * bound.astype(np.float64) >= 2.0**52).any():
            return None
        slope = np.ldexp(reduced.astype(np.float64), requantization.shift - 15)
        offset = np.full_like(slope, 0.5 + requantization.zero_point)
        return AffineForm(slope, offset, offset, minimum, maximum)
    slope = np.ldexp(requantization.multiplier.astype(np.float64), requantization.shift - 31)
    if minimum == maximum or (slope == 0).any():
        return None
    return prove_affine(requantization.apply, slope, -bound, bound, (minimum, maximum))


def levels(form: AffineForm, dtype: str) -> Callable[[Any], Any]:
    """float64 tf.Tensor of integers -> the form's levels as `dtype`."""

    def apply(t: Any) -> Any:
        import tensorflow as tf

        level = floor_line(t, form.slope, form.offset, form.offset_below)
        clipped = tf.clip_by_value(level, float(form.minimum), float(form.maximum))
        return tf.cast(tf.cast(clipped, tf.int32), dtype)

    return apply


def floor_line(t: Any, slope: Reals, offset: Reals, offset_below: Reals) -> Any:
    import tensorflow as tf

    constant: Any = tf.constant(offset, tf.float64)
    if (offset != offset_below).any():
        constant = tf.where(t < 0, tf.constant(offset_below, tf.float64), constant)
    return tf.floor(t * tf.constant(slope, tf.float64) + constant)


def domain(dtype: str) -> Integers:
    """Every value of an integer dtype, ascending."""
    limits = np.iinfo(dtype)
    return np.arange(limits.min, limits.max + 1, dtype=np.int64)
