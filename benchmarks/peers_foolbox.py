"""Foolbox's attacks with the settings of ours, as functions of images and labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measure import Counter, Generate, Images, Labels
from pytest_qnnrobust.attacks import Attack

Builder = Callable[[Any, Attack], Generate]


def keras_classifier(model: Any, counter: Counter) -> Any:
    """The Keras network of a float model, its logits, traced once for all batch sizes."""
    import foolbox
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *model.input_shape), tf.float32)]
    network = tf.function(lambda x: model.network(x, training=False), input_signature=signature)

    def counted(x: Any) -> Any:
        counter.queries += len(x)
        return network(x)

    return foolbox.TensorFlowModel(counted, bounds=model.bounds)  # type: ignore[attr-defined]


def by_norm(name: str, **translate: Any) -> Builder:
    """Foolbox has one class for each norm: `name` with L1, L2 or Linf in front."""

    def build(model: Any, attack: Any) -> Generate:
        prefix = {1.0: "L1", 2.0: "L2", np.inf: "Linf"}[attack.norm]
        return running(f"{prefix}{name}", model, attack, translate, attack.eps)

    return build


def simple(name: str, **translate: Any) -> Builder:
    """A minimal-distortion attack."""
    return lambda model, attack: running(name, model, attack, translate, None)


def running(
    name: str, model: Any, attack: Attack, translate: dict[str, Any], eps: float | None
) -> Generate:
    import foolbox
    import tensorflow as tf

    settings = {k: v(attack) if callable(v) else v for k, v in translate.items()}
    restarts = settings.pop("restarts", 1)
    theirs = getattr(foolbox.attacks, name)(**settings)
    if restarts > 1:
        theirs = theirs.repeat(restarts)

    def generate(x: Images, y: Labels) -> Images:
        tf.random.set_seed(0)
        _, clipped, _ = theirs(model, tf.constant(x), tf.constant(y), epsilons=eps)
        return np.asarray(clipped.numpy(), np.float32)

    return generate


def ours(name: str, default: Any = None) -> Callable[[Attack], Any]:
    return lambda attack: getattr(attack, name, default)


STEPS: dict[str, Any] = {"abs_stepsize": ours("step"), "steps": ours("max_iter")}
ELASTIC: dict[str, Any] = {
    "binary_search_steps": ours("binary_search_steps", 10),
    "steps": ours("max_iter", 10),
    "initial_const": ours("initial_const", 0.01),
    "confidence": ours("confidence", 0.0),
}

PEERS: dict[str, Builder] = {
    "fgsm": by_norm("FastGradientAttack"),
    "bim": by_norm("BasicIterativeAttack", random_start=False, **STEPS),
    "pgd": by_norm("ProjectedGradientDescentAttack", restarts=ours("restarts"), **STEPS),
    "noise": by_norm("RepeatedAdditiveUniformNoiseAttack", repeats=ours("repeats")),
    "deepfool": simple("L2DeepFoolAttack", steps=ours("max_iter"), overshoot=ours("overshoot")),
    "cw-l2": simple("L2CarliniWagnerAttack", stepsize=ours("learning_rate", 0.01), **ELASTIC),
    "ead": simple(
        "EADAttack",
        initial_stepsize=ours("learning_rate", 0.01),
        regularization=ours("beta", 0.001),
        decision_rule=lambda attack: str(getattr(attack, "decision_rule", "EN")).upper(),
        **ELASTIC,
    ),
    "boundary": simple("BoundaryAttack", steps=ours("max_iter")),
    "hopskipjump": simple(
        "HopSkipJumpAttack",
        steps=ours("max_iter", 50),
        initial_gradient_eval_steps=ours("init_eval", 100),
        max_gradient_eval_steps=ours("max_eval", 10000),
    ),
}
