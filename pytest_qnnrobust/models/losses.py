"""Losses that gradient attacks raise, as TensorFlow functions of logits: larger is worse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_qnnrobust.errors import expected

Loss = Callable[[Any, Any, Any], Any]
"""Logits float32 (n, classes), labels and rivals int64 (n,) -> loss float32 (n,), all tf.Tensor.

The rival is the class that a targeted attack wants; untargeted losses do not look at it."""

TINY = 1e-12
"""Addend that keeps the ratio of a DLR finite where the logits are equal."""


def cross_entropy(logits: Any, y: Any, rival: Any) -> Any:
    """Negative log-likelihood of the label under softmax(logits)."""
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)


def targeted_cross_entropy(logits: Any, y: Any, rival: Any) -> Any:
    """Log-likelihood of the rival under softmax(logits)."""
    return -cross_entropy(logits, rival, y)


def margin(logits: Any, y: Any, rival: Any) -> Any:
    """Largest other logit minus the label's: positive once the sample is misclassified.

    Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks" (2017), f6 without
    its floor. It does not saturate where the network is confident.
    """
    import tensorflow as tf

    label = tf.one_hot(y, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    others = tf.where(label, -float("inf"), logits)
    return tf.reduce_max(others, axis=-1) - _of_class(logits, y)


def difference(logits: Any, y: Any, rival: Any) -> Any:
    """The rival's logit minus the label's."""
    return _of_class(logits, rival) - _of_class(logits, y)


def dlr(logits: Any, y: Any, rival: Any) -> Any:
    """The margin over the spread of the three largest logits; the margin of fewer classes.

    Croce and Hein, "Reliable Evaluation of Adversarial Robustness" (2020), eq. 6.
    """
    if logits.shape[-1] < 3:
        return margin(logits, y, rival)
    first, _, third = _largest(logits, 3)
    return margin(logits, y, rival) / (first - third + TINY)


def targeted_dlr(logits: Any, y: Any, rival: Any) -> Any:
    """The difference over the spread of the four largest logits; the difference of fewer classes.

    Croce and Hein (2020), eq. 7.
    """
    if logits.shape[-1] < 4:
        return difference(logits, y, rival)
    first, _, third, fourth = _largest(logits, 4)
    return difference(logits, y, rival) / (first - (third + fourth) / 2 + TINY)


LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "targeted-cross-entropy": targeted_cross_entropy,
    "difference": difference,
    "targeted-dlr": targeted_dlr,
}


def loss_named(name: str) -> Loss:
    """The loss of this name. Raises QnnRobustError, listing the ones that exist."""
    if name not in LOSSES:
        raise expected(f"loss to be one of {', '.join(sorted(LOSSES))}", loss=name)
    return LOSSES[name]


def _of_class(logits: Any, labels: Any) -> Any:
    import tensorflow as tf

    return tf.gather(logits, labels, batch_dims=1)


def _largest(logits: Any, k: int) -> Any:
    import tensorflow as tf

    return tf.unstack(tf.math.top_k(logits, k).values, num=k, axis=-1)
