"""The quantizers in Keras operations, with straight-through gradients.

Each returns forward what the NumPy quantizer of the same name returns. Codes are decided in float64
as there; a difference needs a value within float64's last digit of the edge between two codes.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from pytest_qnnrobust.quantizers import stochastic
from pytest_qnnrobust.quantizers.affine import EMPTY, affine_parameters
from pytest_qnnrobust.quantizers.binary import TWN_THRESHOLD
from pytest_qnnrobust.quantizers.dorefa import levels
from pytest_qnnrobust.quantizers.specs import Spec
from pytest_qnnrobust.tflite.fixed_point import code_limits


def straight_through(x: Any, quantized: Any) -> Any:
    """Return `quantized`, exactly, with the gradient of `x`; both have one shape and dtype.

    Bengio, Leonard and Courville 2013.
    """
    # x - x is 0 where x is finite: `quantized + (x - x)` rounds nothing, `x + (quantized - x)` may.
    return ops.stop_gradient(quantized) + (x - ops.stop_gradient(x))


def weight_values(kernel: Any, quantizer: Spec, axes: tuple[int, ...], draws: Any = None) -> Any:
    """The quantized values of a kernel; `axes` share the scale of a channel.

    A stochastic quantizer draws from `draws`, a SeedGenerator; without it, it takes the values of
    inference.
    """
    kernel = ops.convert_to_tensor(kernel)
    if quantizer.name == "dorefa" and quantizer.bits > 1:
        return dorefa_weights(kernel, quantizer.bits)
    if quantizer.name == "affine":
        return straight_through(kernel, _affine_weights(kernel, quantizer.bits, axes))
    if quantizer.name in ("binary", "dorefa"):
        return straight_through(kernel, _binary(kernel))
    if quantizer.name == "ternary":
        return straight_through(kernel, _ternary(kernel))
    if quantizer.stochastic:
        made = _stochastic_binary if quantizer.name == "stochastic-binary" else _stochastic_ternary
        return straight_through(kernel, made(kernel, axes, draws))
    return kernel


def activation_values(x: Any, quantizer: Spec, low: float, high: float) -> Any:
    """The quantized values of an activation; the gradient is 0 where it saturates."""
    if quantizer.name == "dorefa":
        return dorefa_activations(x, quantizer.bits)
    if quantizer.name == "binary":
        return straight_through(ops.clip(x, -1.0, 1.0), _where(x < 0, -1.0, 1.0, x.dtype))
    scale, zero_point = affine_parameters(low, high, bits=quantizer.bits)
    least, most = code_limits(quantizer.bits, narrow_range=False)
    codes = ops.clip(_rounded_ratio(x, float(scale)) + int(zero_point), least, most)
    values = ops.cast((codes - int(zero_point)) * float(scale), x.dtype)
    ends = ((limit - int(zero_point)) * float(scale) for limit in (least, most))
    return straight_through(ops.clip(x, *ends), values)


def dorefa_activations(x: Any, bits: int) -> Any:
    """Zhou et al. 2016, equation 11: quantize_k(clip(x, 0, 1))."""
    bounded = ops.clip(x, 0.0, 1.0)
    codes = ops.round(_double(bounded) * levels(bits))
    return straight_through(bounded, ops.cast(codes / levels(bits), x.dtype))


def dorefa_weights(kernel: Any, bits: int) -> Any:
    """Zhou et al. 2016, equation 9; the gradient goes through tanh and through the maximum."""
    bounded = ops.tanh(_double(kernel))
    peak = ops.max(ops.abs(bounded))
    warped = bounded / ops.where(peak > 0, peak, ops.ones_like(peak))
    codes = ops.round((warped * 0.5 + 0.5) * levels(bits, least=2))
    values = ops.cast(2 * (codes / levels(bits)) - 1, kernel.dtype)
    return straight_through(ops.cast(warped, kernel.dtype), values)


def _affine_weights(kernel: Any, bits: int, axes: tuple[int, ...]) -> Any:
    """Symmetric, narrow range, per channel: the converter's weights."""
    most = code_limits(bits, narrow_range=True)[1]
    low = ops.minimum(ops.min(_double(kernel), axis=axes, keepdims=True), 0.0)
    high = ops.maximum(ops.max(_double(kernel), axis=axes, keepdims=True), 0.0)
    scale = _double(ops.cast(ops.maximum(-low, high) / most, "float32"))
    scale = ops.where(high - low < EMPTY, ops.ones_like(scale), scale)
    codes = ops.clip(_rounded_ratio(kernel, scale), -most, most)
    return ops.cast(codes * scale, kernel.dtype)


def _rounded_ratio(x: Any, scale: Any) -> Any:
    """round(float32(x / scale)), halves away from zero, in float64."""
    ratio = _double(ops.cast(_double(x) / scale, "float32"))
    return ops.sign(ratio) * ops.floor(ops.abs(ratio) + 0.5)


def _binary(kernel: Any) -> Any:
    magnitude = ops.mean(ops.abs(_double(kernel)))
    signs = _where(kernel < 0, -1.0, 1.0, "float64")
    return ops.cast(signs * magnitude, kernel.dtype)


def _ternary(kernel: Any) -> Any:
    size = ops.abs(_double(kernel))
    above = size > TWN_THRESHOLD * ops.mean(size)
    count = ops.sum(ops.cast(above, "float64"))
    total = ops.sum(ops.where(above, size, ops.zeros_like(size)))
    magnitude = ops.where(count > 0, total / ops.maximum(count, 1.0), ops.ones_like(total))
    signs = ops.where(above, ops.sign(_double(kernel)), ops.zeros_like(size))
    return ops.cast(signs * magnitude, kernel.dtype)


def _stochastic_binary(kernel: Any, axes: tuple[int, ...], draws: Any) -> Any:
    x = _double(kernel)
    if draws is None:
        positive = x >= 0
    else:
        z = stochastic.BINARY_TEMPERATURE * x / stochastic.deviation(x, axes, ops)
        positive = _uniform(x, draws) <= stochastic.probability(z, xp=ops)
    magnitude = stochastic.binary_magnitude(x, axes, ops)
    return ops.cast(_where(positive, 1.0, -1.0, "float64") * magnitude, kernel.dtype)


def _stochastic_ternary(kernel: Any, axes: tuple[int, ...], draws: Any) -> Any:
    x = _double(kernel)
    magnitude = stochastic.ternary_magnitude(x, axes, ops)
    threshold = magnitude / 2
    if draws is None:
        codes = ops.where(ops.abs(x) >= threshold, ops.sign(x), ops.zeros_like(x))
    else:
        share = stochastic.TERNARY_TEMPERATURE / stochastic.deviation(x, axes, ops)
        above = _uniform(x, draws) <= stochastic.probability(share * (x - threshold), xp=ops)
        not_below = _uniform(x, draws) <= stochastic.probability(share * (x + threshold), xp=ops)
        codes = _double(above) + _double(not_below) - 1
    return ops.cast(codes * magnitude, kernel.dtype)


def _uniform(x: Any, draws: Any) -> Any:
    return keras.random.uniform(ops.shape(x), dtype="float64", seed=draws)


def _where(condition: Any, first: float, second: float, dtype: Any) -> Any:
    return ops.where(condition, ops.cast(first, dtype), ops.cast(second, dtype))


def _double(x: Any) -> Any:
    return ops.cast(x, "float64")
