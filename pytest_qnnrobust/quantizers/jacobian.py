"""Jacobian regularization: a network trained to change little where its input changes little.

    loss + weight / 2 * mean over samples of ||J(x)||_F ** 2,    J = d logits / d x

Jakobovitz and Giryes, "Improving DNN Robustness to Adversarial Attacks using Jacobian
Regularization" (2018), equation 4, exact: one gradient per class. Hoffman, Roberts and Yaida,
"Robust Learning with Jacobian Regularization" (2019), algorithm 1, by projections: with v uniform
on the unit sphere of C dimensions, ||J||_F ** 2 = C * E ||v J||_2 ** 2. Per layer: Sokolic et al.,
"Robust Large Margin Deep Neural Networks" (2017), section V, J_l = d z_l / d z_(l-1) of every layer
with weights, as in Ayaz et al., "Improving Robustness Against Adversarial Attacks with Deeply
Quantized Neural Networks", equation 8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import keras
import tensorflow as tf

from pytest_qnnrobust.errors import expected

Scope = Literal["network", "layers"]
SCOPES: tuple[Scope, ...] = ("network", "layers")


def jacobian_norm(
    function: Callable[[Any], Any], x: Any, projections: int | None = None, seed: Any = None
) -> Any:
    """||J||_F ** 2 of each sample, tf.Tensor float32 (N,), differentiable.

    `function` maps `x` (N, ...) to (N, ...), and no output of a sample may depend on another
    sample. Exact without `projections`, with one backward pass per output element (Jakobovitz and
    Giryes 2018, equation 4); with them an unbiased estimate from as many random unit vectors, one
    backward pass each, drawn with `seed`, an integer or a Keras SeedGenerator (Hoffman, Roberts and
    Yaida 2019, algorithm 1). Raises QnnRobustError for projections below 1.
    """
    x = tf.convert_to_tensor(x)
    # Persistent: one gradient for each sum is taken from the same forward pass.
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        output = function(x)
        output = tf.reshape(output, (tf.shape(output)[0], output.shape[1:].num_elements()))
        size = output.shape[1]
        if projections is None:
            sums = [tf.reduce_sum(output[:, k]) for k in range(size)]
        else:
            _check_projections(projections)
            draws = keras.random.normal((projections, tf.shape(output)[0], size), seed=seed)
            units = draws / tf.norm(draws, axis=-1, keepdims=True)
            sums = [tf.reduce_sum(output * units[k]) for k in range(projections)]
    total = tf.add_n([_squares(tape.gradient(summed, x), x) for summed in sums])
    return total if projections is None else total * (size / projections)


def layer_norms(
    network: Any, x: Any, projections: int | None = None, seed: Any = None
) -> dict[str, Any]:
    """||J_l||_F ** 2 of each sample (N,), by the name of every layer of `network` with a kernel.

    J_l is the Jacobian of a layer's output in its input (Ayaz et al., equation 8), at what the
    layers before it make of `x`. Batch normalization belongs to no J_l; layers with several inputs
    are left out. Raises QnnRobustError for a network without such layers.
    """
    return _norms_of_layers(network)(x, projections, seed)


def _norms_of_layers(network: Any) -> Callable[[Any, int | None, Any], dict[str, Any]]:
    """A function that computes `layer_norms` of this network, which is taken apart once."""
    layers = [layer for layer in network.layers if _has_kernel(layer)]
    if not layers:
        raise expected("a network with layers that have a kernel", network=network.name)
    before = keras.Model(network.inputs, [layer.input for layer in layers])

    def norms(x: Any, projections: int | None, seed: Any) -> dict[str, Any]:
        inputs = before([x], training=False)
        return {
            layer.name: jacobian_norm(layer, z, projections, seed)
            for layer, z in zip(layers, inputs, strict=True)
        }

    return norms


class JacobianRegularized(keras.Model):  # type: ignore[misc]
    """A Keras model that trains `network`, which returns logits, with a Jacobian penalty.

    The loss grows by weight / 2 times the mean of ||J||_F ** 2. `scope="network"` takes J of the
    logits in the input (Jakobovitz and Giryes 2018), "layers" the sum over the layers with a kernel
    (Sokolic et al. 2017). `projections=None` is exact, a number estimates (Hoffman et al. 2019).
    Compile it with a loss of logits, fit it, and go on with `network`, whose weights were trained.
    The penalty is that of the deployed network: batch normalization by its moving statistics.
    Raises QnnRobustError for a network that ends in softmax or sigmoid, and for bad settings.
    """

    def __init__(
        self,
        network: Any,
        weight: float = 0.01,
        scope: Scope = "network",
        projections: int | None = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if scope not in SCOPES:
            raise expected("scope to be network or layers", scope=scope)
        if not weight >= 0:
            raise expected("weight >= 0", weight=weight)
        if projections is not None:
            _check_projections(projections)
        last = getattr(getattr(network.layers[-1], "activation", None), "__name__", "")
        if last in ("softmax", "sigmoid") or type(network.layers[-1]).__name__ == "Softmax":
            cure = "leave the last activation out and use a loss with from_logits=True"
            raise expected("a network that returns logits", activation=last or "softmax", cure=cure)
        self.network = network
        self.weight = weight
        self.scope = scope
        self.projections = projections
        self.layer_norms = _norms_of_layers(network) if scope == "layers" else None
        self.random = keras.random.SeedGenerator(seed)
        self.penalty_tracker = keras.metrics.Mean(name="penalty")

    def call(self, x: Any, training: bool | None = None) -> Any:
        return self.network(x, training=training)

    def penalty(self, x: Any) -> Any:
        """The mean over the batch of ||J||_F ** 2, of the network or summed over layers."""
        if self.layer_norms is None:
            return tf.reduce_mean(jacobian_norm(self._deployed, x, self.projections, self.random))
        norms = self.layer_norms(x, self.projections, self.random)
        return tf.add_n([tf.reduce_mean(norm) for norm in norms.values()])

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            logits = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=logits, sample_weight=sample_weight)
            penalty = self.penalty(x)
            loss += self.weight / 2 * penalty
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(x)[0])
        self.penalty_tracker.update_state(penalty)
        metrics: dict[str, Any] = self.compute_metrics(x, y, logits, sample_weight=sample_weight)
        return metrics

    def _deployed(self, x: Any) -> Any:
        return self.network(x, training=False)


def _has_kernel(layer: Any) -> bool:
    return getattr(layer, "kernel", None) is not None and not isinstance(layer.input, list)


def _squares(gradient: Any, x: Any) -> Any:
    """The sum of squares of each sample's gradient; 0 where the output does not depend on x."""
    if gradient is None:
        gradient = tf.zeros_like(x)
    return tf.reduce_sum(tf.reshape(gradient, (tf.shape(x)[0], -1)) ** 2, axis=1)


def _check_projections(projections: int) -> None:
    if projections < 1:
        raise expected("projections >= 1, or None for the exact norm", projections=projections)
