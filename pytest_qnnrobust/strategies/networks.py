"""Small Keras networks to convert, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.models.convert import convert
from pytest_qnnrobust.strategies.arguments import check_range
from pytest_qnnrobust.strategies.description import Described
from pytest_qnnrobust.strategies.draws import Draw

LAYERS = ("relu", "conv", "depthwise", "max-pool", "average-pool", "residual", "dense")
"""Layers between input and head; those with a window pad as SAME, so that small images fit."""
HEADS = ("flatten", "mean")
MAX_LAYERS = 8


@dataclass(frozen=True, repr=False)
class SmallNetwork(Described):
    """A Keras classifier with seeded weights: `layers` of `LAYERS`, a head, a dense layer.

    `image` is (height, width, channels); `filters` those of convolutions. Raises QnnRobustError for
    settings that make no network.
    """

    layers: tuple[str, ...] = ()
    image: tuple[int, int, int] = (1, 1, 1)
    filters: int = 1
    head: str = "flatten"
    classes: int = 2
    softmax: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not set(self.layers) <= set(LAYERS):
            raise expected(f"layers among {', '.join(LAYERS)}", layers=self.layers)
        if self.head not in HEADS:
            raise expected(f"a head among {', '.join(HEADS)}", head=self.head)
        if len(self.image) != 3 or min(*self.image, self.filters, self.classes - 1) < 1:
            raise expected(
                "an image of three sizes, filters >= 1 and classes >= 2",
                image=self.image,
                filters=self.filters,
                classes=self.classes,
            )

    def to_keras(self) -> Any:
        """The Keras model, float32 in and out."""
        import keras

        layers = keras.layers
        start = x = layers.Input(self.image)
        for layer in self.layers:
            x = self._layer(layers, layer, x)
        x = layers.Flatten()(x) if self.head == "flatten" else layers.GlobalAveragePooling2D()(x)
        activation = "softmax" if self.softmax else None
        model = keras.Model(start, layers.Dense(self.classes, activation=activation)(x))
        rng = np.random.default_rng(self.seed)
        model.set_weights([self._weights(rng, w.shape) for w in model.get_weights()])
        return model

    def _layer(self, layers: Any, layer: str, x: Any) -> Any:
        pool = {"pool_size": 2, "padding": "same"}
        if layer == "conv":
            return layers.Conv2D(self.filters, 3, padding="same", activation="relu")(x)
        if layer == "depthwise":
            return layers.DepthwiseConv2D(3, padding="same")(x)
        if layer == "residual":
            return layers.Add()([x, layers.Conv2D(x.shape[-1], 1)(x)])
        if layer == "dense":
            return layers.Dense(self.filters)(x)
        if layer == "relu":
            return layers.ReLU()(x)
        if layer == "max-pool":
            return layers.MaxPooling2D(**pool)(x)
        return layers.AveragePooling2D(**pool)(x)

    @staticmethod
    def _weights(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        # One over the root of the fan-in keeps activations of one size from layer to layer.
        spread = math.prod(shape[:-1]) ** -0.5
        return np.asarray(rng.standard_normal(shape) * spread, np.float32)

    def calibration(self, samples: int = 64) -> NDArray[np.float32]:
        """Seeded standard normal inputs (samples, *image)."""
        rng = np.random.default_rng((self.seed, 1))
        return rng.standard_normal((samples, *self.image)).astype(np.float32)

    def to_tflite(self, width: Literal["int8", "int16", "float32"]) -> bytes:
        """The converted file, calibrated with `calibration()`."""
        return convert(self.to_keras(), width, self.calibration())


def keras_models(*, min_layers: int = 0, max_layers: int = 4) -> st.SearchStrategy[SmallNetwork]:
    """Networks of `min_layers` to `max_layers` layers between input and head.

    Draws a `SmallNetwork`: `.to_keras()` is the model, `.to_tflite("int8")` the converted file.
    """
    check_range(("min_layers", "max_layers"), min_layers, max_layers, (0, MAX_LAYERS))

    @st.composite
    def network(draw: Draw) -> SmallNetwork:
        layer = st.sampled_from(LAYERS)
        chosen = draw(st.lists(layer, min_size=min_layers, max_size=max_layers))
        return SmallNetwork(
            layers=tuple(chosen),
            image=(draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 3))),
            filters=draw(st.integers(1, 4)),
            head=draw(st.sampled_from(HEADS)),
            classes=draw(st.integers(2, 4)),
            softmax=draw(st.booleans()),
            seed=draw(st.integers(0, 2**16 - 1)),
        )

    return network()
