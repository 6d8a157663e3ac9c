"""The networks of the second paper with DoReFa-Net weights and activations of any bit width.

"On Adversarial Robustness of Quantized Neural Networks Against Direct Attacks", sections 6.1 and
6.2: Mnist A and ResNet-20 after Tensorpack's examples `mnist-convnet.py` and `cifar10-resnet.py`,
quantized as its `svhn-digit-dorefa.py` and `resnet-dorefa.py` are: weights and the activations that
weight layers read, but the first and the last layer; gradients, biases and batch normalization are
not. Both return logits. `bits=None` is full precision (FP), with ReLU as in those examples;
`bits=CLIPPED` is full precision whose activations are clipped to [0, 1] as DoReFa-Net's are: what
differs between the two is not quantization.
"""

from __future__ import annotations

from typing import Any

CLIPPED = 32
BITS: tuple[int | None, ...] = (None, CLIPPED, 1, 2, 4, 8, 12, 16)
NAMES = {None: "FP", CLIPPED: "clipped"}


def width_name(bits: int | None) -> str:
    return NAMES.get(bits, str(bits))


def mnist_a(bits: int | None, shape: tuple[int, ...] = (28, 28, 1), classes: int = 10) -> Any:
    """Four 3x3 convolutions of 32 channels, two poolings, 512 hidden units, dropout 0.5."""
    import keras
    from keras import layers

    inputs = keras.Input(shape)
    x = layers.Rescaling(2.0, -1.0)(inputs)
    x = layers.Conv2D(32, 3, padding="same")(x)
    x = _activation(layers.MaxPooling2D()(x), bits)
    x = _activation(_normalized_convolution(x, 32, bits), bits)
    x = layers.MaxPooling2D()(_normalized_convolution(x, 32, bits))
    x = _activation(x, bits)
    x = _activation(_normalized_convolution(x, 32, bits), bits)
    x = _quantized("QuantizedDense", bits, units=512)(layers.Flatten()(x))
    x = _bounded(layers.BatchNormalization()(x), bits)
    outputs = layers.Dense(classes)(layers.Dropout(0.5)(x))
    return keras.Model(inputs, outputs, name=f"mnist_a_{width_name(bits)}")


def resnet20(bits: int | None, shape: tuple[int, ...] = (32, 32, 3), classes: int = 10) -> Any:
    """He et al. 2016, n = 3: 19 convolutions in pre-activation blocks of 16, 32 and 64 channels."""
    import keras
    from keras import layers, ops

    def normalized_activation(x: Any) -> Any:
        return _activation(layers.BatchNormalization()(x), bits)

    def block(x: Any, filters: int, grows: bool, first: bool) -> Any:
        shortcut, stride = x, 2 if grows else 1
        x = x if first else normalized_activation(x)
        x = _convolution(x, filters, bits, strides=stride)
        x = _convolution(normalized_activation(x), filters, bits)
        if grows:
            added = filters // 4
            shortcut = layers.AveragePooling2D(2)(shortcut)
            shortcut = ops.pad(shortcut, ((0, 0), (0, 0), (0, 0), (added, added)))
        return layers.Add()([x, shortcut])

    inputs = keras.Input(shape)
    x = layers.Rescaling(2.0, -1.0)(inputs)
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = normalized_activation(x)
    for stage, filters in enumerate((16, 32, 64)):
        for position in range(3):
            x = block(x, filters, stage > 0 and position == 0, stage == 0 and position == 0)
    x = _bounded(layers.BatchNormalization()(x), bits)
    outputs = layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs, name=f"resnet20_{width_name(bits)}")


def _normalized_convolution(x: Any, filters: int, bits: int | None) -> Any:
    from keras import layers

    return layers.BatchNormalization()(_convolution(x, filters, bits))


def _convolution(x: Any, filters: int, bits: int | None, strides: int = 1) -> Any:
    options = {"filters": filters, "kernel_size": 3, "padding": "same", "strides": strides}
    return _quantized("QuantizedConv2D", bits, **options)(x)


def _quantized(kind: str, bits: int | None, **options: Any) -> Any:
    """A weight layer without bias: batch normalization follows."""
    from pytest_qnnrobust.quantizers import layers as quantized

    return getattr(quantized, kind)(weights=_name(bits), use_bias=False, **options)


def _activation(x: Any, bits: int | None) -> Any:
    """The quantized activation that the next weight layer reads."""
    from pytest_qnnrobust.quantizers.layers import QuantizedActivation

    if bits == CLIPPED:
        return _bounded(x, bits)
    return QuantizedActivation(_name(bits))(x)


def _bounded(x: Any, bits: int | None) -> Any:
    """The activation before the last layer: bounded as the others, not quantized."""
    from keras import layers

    return layers.ReLU(max_value=None if bits is None else 1.0)(x)


def _name(bits: int | None) -> str:
    return "float" if bits in NAMES else f"dorefa:{bits}"
