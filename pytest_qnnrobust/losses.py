"""Losses that gradient attacks raise, as TensorFlow functions of logits: larger is worse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_qnnrobust.errors import expected

Loss = Callable[[Any, Any], Any]
"""Logits float32 (n, classes) and labels int64 (n,) -> loss float32 (n,), all tf.Tensor."""


def cross_entropy(logits: Any, y: Any) -> Any:
    """Negative log-likelihood of the label under softmax(logits)."""
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)


def margin(logits: Any, y: Any) -> Any:
    """Largest other logit minus the label's: positive once the sample is misclassified.

    The loss of Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks" (2017),
    f6 without its floor. It does not saturate where the network is confident.
    """
    import tensorflow as tf

    label = tf.one_hot(y, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    own = tf.gather(logits, y, batch_dims=1)
    others = tf.where(label, -float("inf"), logits)
    return tf.reduce_max(others, axis=-1) - own


LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy, "margin": margin}


def loss_named(name: str) -> Loss:
    """The loss of this name; an unknown name lists the ones that exist."""
    if name not in LOSSES:
        raise expected(f"loss to be one of {', '.join(sorted(LOSSES))}", loss=name)
    return LOSSES[name]
