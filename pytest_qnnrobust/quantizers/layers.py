"""Keras 3 layers that compute with quantized weights and activations, and train.

The forward pass is that of the NumPy quantizer of the same name; the backward pass is the
straight-through estimator (Bengio, Leonard and Courville 2013): rounding, sign and threshold have
derivative 1, everything differentiable around them (tanh, division by the maximum, clipping) its
own. A quantizer is named as in `create`: "dorefa:4", "binary", "stochastic-ternary", "affine:8".
The layers are registered with Keras, hold plain values only, and load without Lambda or pickle.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.quantizers.specs import FULL_PRECISION, Spec, parse
from pytest_qnnrobust.quantizers.straight_through import activation_values, weight_values

registered = keras.saving.register_keras_serializable(package="pytest_qnnrobust")


class QuantizedWeights:
    """The part that the three layers share: `weights` names the quantizer of their kernel.

    Bias and batch normalization stay in full precision. `weights="float"` quantizes nothing.
    """

    quantizer: Spec
    draws: Any
    kernel: Any

    def _set_quantizer(self, weights: str, seed: int) -> None:
        self.quantizer = parse(weights)
        self.seed = int(seed)
        self.draws = keras.random.SeedGenerator(seed) if self.quantizer.stochastic else None

    @property
    def weight_bits(self) -> int:
        return self.quantizer.bits

    @property
    def weight_scales(self) -> int:
        """float32 scales that the quantized kernel needs beside its codes."""
        if self.quantizer.name == "dorefa" and self.quantizer.bits > 1:
            return 0
        per_channel = self.quantizer.name == "affine" or self.quantizer.stochastic
        axes = range(len(self.kernel.shape)) if per_channel else ()
        return math.prod(self.kernel.shape[i] for i in axes if i not in self._common_axes())

    def quantized_kernel(self, training: bool | None = False) -> Any:
        """The quantized values of the kernel; drawn anew in training where stochastic."""
        draws = self.draws if training else None
        return weight_values(self.kernel, self.quantizer, self._common_axes(), draws)

    def _common_axes(self) -> tuple[int, ...]:
        """The axes of the kernel that share a scale per channel."""
        return tuple(range(len(self.kernel.shape) - 1))

    def _with_quantizer(self, config: dict[str, Any]) -> dict[str, Any]:
        return config | {"weights": str(self.quantizer), "seed": self.seed}


@registered
class QuantizedDense(QuantizedWeights, keras.layers.Dense):  # type: ignore[misc]
    """Keras's `Dense` with a quantized kernel; `weights` names the quantizer ("dorefa:4", ...)."""

    def __init__(self, units: int, *, weights: str, seed: int = 0, **options: Any) -> None:
        super().__init__(units, **options)
        self._set_quantizer(weights, seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = ops.matmul(inputs, self.quantized_kernel(training))
        return _finish(self, outputs)

    def get_config(self) -> dict[str, Any]:
        return self._with_quantizer(super().get_config())


@registered
class QuantizedConv2D(QuantizedWeights, keras.layers.Conv2D):  # type: ignore[misc]
    """Keras's `Conv2D` with a quantized kernel; `weights` names the quantizer."""

    def __init__(
        self, filters: int, kernel_size: Any, *, weights: str, seed: int = 0, **options: Any
    ) -> None:
        super().__init__(filters, kernel_size, **options)
        _require_channels_last(self)
        self._set_quantizer(weights, seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = self.convolution_op(inputs, self.quantized_kernel(training))
        return _finish(self, outputs)

    def get_config(self) -> dict[str, Any]:
        return self._with_quantizer(super().get_config())


@registered
class QuantizedDepthwiseConv2D(QuantizedWeights, keras.layers.DepthwiseConv2D):  # type: ignore[misc]
    """Keras's `DepthwiseConv2D` with a quantized kernel; `weights` names the quantizer."""

    def __init__(self, kernel_size: Any, *, weights: str, seed: int = 0, **options: Any) -> None:
        super().__init__(kernel_size, **options)
        _require_channels_last(self)
        self._set_quantizer(weights, seed)

    def _common_axes(self) -> tuple[int, ...]:
        return 0, 1

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = ops.depthwise_conv(
            inputs,
            self.quantized_kernel(training),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return _finish(self, outputs)

    def get_config(self) -> dict[str, Any]:
        return self._with_quantizer(super().get_config())


@registered
class QuantizedActivation(keras.layers.Layer):  # type: ignore[misc]
    """An activation quantized to the values of `quantizer`.

    "dorefa:k": clip to [0, 1], then 2**k values; "affine:k": 2**k values on `low`..`high`, which
    are fixed; "binary": the sign; "float": ReLU. Raises QnnRobustError for another quantizer.
    """

    def __init__(
        self, quantizer: str, *, low: float = 0.0, high: float = 6.0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.quantizer = parse(quantizer)
        if self.quantizer.name not in ("dorefa", "affine", "binary", "float"):
            rule = "activations to be dorefa:k, affine:k, binary or float"
            raise expected(rule, quantizer=quantizer)
        if not low <= 0 <= high or low == high:
            raise expected("low <= 0 <= high, not both 0", low=low, high=high)
        self.low, self.high = float(low), float(high)

    @property
    def activation_bits(self) -> int:
        return self.quantizer.bits

    def call(self, inputs: Any) -> Any:
        if self.quantizer.name == FULL_PRECISION:
            return ops.relu(inputs)
        return activation_values(inputs, self.quantizer, self.low, self.high)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"quantizer": str(self.quantizer), "low": self.low, "high": self.high}
        return {**super().get_config(), **own}


def _finish(layer: Any, outputs: Any) -> Any:
    if layer.use_bias:
        outputs = ops.add(outputs, layer.bias)
    return layer.activation(outputs) if layer.activation is not None else outputs


def _require_channels_last(layer: Any) -> None:
    if layer.data_format != "channels_last":
        raise expected("data_format to be channels_last", data_format=layer.data_format)
