"""Jacobian norms against explicit Jacobians, and what training with the penalty does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import QnnRobustError


def norms() -> Any:
    from pytest_qnnrobust.quantizers import jacobian

    return jacobian


def network(weights: str = "float", seed: int = 0) -> Any:
    """Two convolutions and a dense layer that return 4 logits of (5, 5, 2) inputs."""
    import keras

    from pytest_qnnrobust.quantizers.layers import QuantizedConv2D

    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            keras.layers.Conv2D(3, 3, activation="tanh", name="first"),
            QuantizedConv2D(4, 2, weights=weights, activation="tanh", name="second"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, name="last"),
        ]
    )


def images(n: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 5, 5, 2)).astype(np.float32)


def explicit(function: Any, x: np.ndarray) -> np.ndarray:
    """sum of squares of the batch Jacobian that TensorFlow writes out in full."""
    import tensorflow as tf

    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(inputs)
        outputs = tf.reshape(outputs, (len(x), -1))
    full = tape.batch_jacobian(outputs, inputs).numpy()
    return np.asarray((full.reshape(len(x), -1) ** 2).sum(axis=1))


@pytest.mark.parametrize("weights", ["float", "dorefa:2"])
def test_exact_norm_is_that_of_the_explicit_jacobian(weights: str) -> None:
    model = network(weights)
    found = norms().jacobian_norm(model, images()).numpy()
    np.testing.assert_allclose(found, explicit(model, images()), rtol=1e-4)


def test_linear_network_has_the_norm_of_its_matrix() -> None:
    import tensorflow as tf

    matrix = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    x = tf.ones((3, 7))
    found = norms().jacobian_norm(lambda z: z @ matrix, x).numpy()
    np.testing.assert_allclose(found, np.full(3, (matrix**2).sum()), rtol=1e-5)


def test_projections_are_unbiased() -> None:
    """Hoffman et al.: their mean is the exact norm, within five standard errors."""
    model, x = network(), images()
    exact = norms().jacobian_norm(model, x).numpy()
    estimates = np.stack(
        [norms().jacobian_norm(model, x, projections=20, seed=s).numpy() for s in range(20)]
    )
    error = estimates.std(axis=0, ddof=1) / np.sqrt(len(estimates))
    assert (np.abs(estimates.mean(axis=0) - exact) <= 5 * error).all()


def test_one_output_needs_one_projection() -> None:
    """In one dimension the unit vectors are -1 and 1, so that the estimate is exact."""
    model, x = network(), images()

    def first(z: Any) -> Any:
        return model(z)[:, :1]

    estimate = norms().jacobian_norm(first, x, projections=1, seed=3).numpy()
    np.testing.assert_allclose(estimate, norms().jacobian_norm(first, x).numpy(), rtol=1e-5)


def test_norms_per_layer_are_those_of_each_layer_alone() -> None:
    import keras

    model, x = network("dorefa:4"), images()
    found = norms().layer_norms(model, x)
    assert list(found) == ["first", "second", "last"]
    for name, norm in found.items():
        layer = model.get_layer(name)
        z = keras.Model(model.inputs[0], layer.input)(x)
        np.testing.assert_allclose(norm.numpy(), explicit(layer, np.asarray(z)), rtol=1e-4)


@pytest.mark.parametrize("projections", [None, 2])
def test_penalty_is_differentiable_in_the_weights(projections: int | None) -> None:
    """Against a difference quotient along a random direction of all weights."""
    import tensorflow as tf

    model, x = network(), images()
    kernels = [w.value for w in model.trainable_weights]

    def penalty() -> Any:
        found = norms().jacobian_norm(model, x, projections, seed=5)
        return tf.reduce_mean(found)

    with tf.GradientTape() as tape:
        loss = penalty()
    gradients = tape.gradient(loss, kernels, unconnected_gradients="zero")
    rng = np.random.default_rng(2)
    directions = [rng.normal(size=k.shape).astype(np.float32) for k in kernels]
    slope = sum(float(tf.reduce_sum(g * d)) for g, d in zip(gradients, directions, strict=True))
    start, step, ends = [k.numpy() for k in kernels], 1e-3, []
    for sign in (1, -1):
        for kernel, first, d in zip(kernels, start, directions, strict=True):
            kernel.assign(first + sign * step * d)
        ends.append(float(penalty()))
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize("scope", ["network", pytest.param("layers", marks=pytest.mark.nightly)])
def test_training_with_it_lowers_the_norm(scope: str) -> None:
    import keras

    from pytest_qnnrobust.quantizers.layers import QuantizedActivation, QuantizedDense

    with np.load(demo_path("digits.npz")) as data:
        x, y = (data["x"][:200] / np.float32(255)).astype(np.float32), data["y"][:200]

    def trained(weight: float) -> Any:
        keras.utils.set_random_seed(0)
        dense = [QuantizedDense(24, weights="dorefa:4"), QuantizedActivation("dorefa:4")]
        network = keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Flatten(), *dense, keras.layers.Dense(10)]
        )
        model = norms().JacobianRegularized(network, weight, scope, projections=2)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
        history = model.fit(x, y, epochs=8, batch_size=50, verbose=0).history
        assert set(history) == {"accuracy", "loss", "penalty"}
        assert history["accuracy"][-1] > 0.5
        return network

    def size(network: Any) -> float:
        if scope == "network":
            return float(np.mean(norms().jacobian_norm(network, x)))
        return float(sum(np.mean(norm) for norm in norms().layer_norms(network, x).values()))

    assert size(trained(0.05)) < 0.7 * size(trained(0.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "expected weight >= 0, got weight=-1.0"),
        ({"scope": "model"}, "expected scope to be network or layers, got scope='model'"),
        (
            {"projections": 0},
            "expected projections >= 1, or None for the exact norm, got projections=0",
        ),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(QnnRobustError) as error:
        norms().JacobianRegularized(network(), **options)
    assert str(error.value) == message


def test_probabilities_are_refused() -> None:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    with pytest.raises(QnnRobustError, match="a network that returns logits"):
        norms().JacobianRegularized(model)
