"""ART's attacks with the settings of ours, as functions of images and labels.

Each builder takes an ART classifier and our attack, whose settings it translates. ART's batch size
is 256 wherever ART allows it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measure import Counter, Generate, Images, Labels
from pytest_qnnrobust.attacks import Attack
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.grid import InputGrid

Builder = Callable[[Any, Attack], Generate]
LARGEST = 64
"""Images that TFLite is given at once."""

BATCH: dict[str, Any] = {"batch_size": 256, "verbose": False}


def keras_classifier(model: Any, counter: Counter) -> Any:
    """The Keras network of a float model, its logits, traced once for all batch sizes."""
    import tensorflow as tf
    from art.estimators.classification import TensorFlowV2Classifier

    count(TensorFlowV2Classifier, counter)
    signature = [tf.TensorSpec((None, *model.input_shape), tf.float32)]
    network = tf.function(lambda x: model.network(x, training=False), input_signature=signature)
    return TensorFlowV2Classifier(
        model=lambda x, training=False: network(x),
        nb_classes=model.classes,
        input_shape=model.input_shape,
        loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=model.bounds,
    )


def count(kind: Any, counter: Counter) -> None:
    """Let every instance of ART's class count into `counter`: APGD makes instances of its own."""

    def counting(name: str, add: Callable[..., None]) -> Any:
        method = getattr(kind, name)
        method = getattr(method, "uncounted", method)

        def counted(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
            add(self, len(x), *args, **kwargs)
            return method(self, x, *args, **kwargs)

        counted.uncounted = method  # type: ignore[attr-defined]
        return counted

    def query(_: Any, n: int, *args: Any, **kwargs: Any) -> None:
        counter.queries += n

    def gradient(_: Any, n: int, *args: Any, **kwargs: Any) -> None:
        counter.gradients += n

    def class_gradient(self: Any, n: int, label: Any = None, **kwargs: Any) -> None:
        counter.gradients += n * (self.nb_classes if label is None else 1)

    kind.predict = counting("predict", query)
    kind.compute_loss = counting("compute_loss", query)
    kind.loss_gradient = counting("loss_gradient", gradient)
    kind.class_gradient = counting("class_gradient", class_gradient)


def tflite_classifier(runtime: TFLite, model: Model) -> Any:
    """A .tflite file as ART's black box."""
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    return BlackBoxClassifierNeuralNetwork(
        runtime,
        input_shape=model.input_shape,
        nb_classes=model.classes,
        channels_first=False,
        clip_values=model.bounds,
    )


class TFLite:
    """Dequantized outputs of TFLite without delegates; batches are padded to powers of two.

    `grid`: rounds inputs as the device does; as NumPy does, half to even, where it is None.
    """

    def __init__(self, data: bytes, counter: Counter, grid: InputGrid | None = None) -> None:
        self._data = data
        self._counter = counter
        self._grid = grid
        self._interpreters: dict[int, Any] = {}

    def classify(self, x: Images) -> Labels:
        return np.asarray(self(x).argmax(axis=1), np.int64)

    def __call__(self, x: Images) -> Images:
        self._counter.queries += len(x)
        parts = [self._run(x[start : start + LARGEST]) for start in range(0, len(x), LARGEST)]
        return np.concatenate(parts)

    def _run(self, x: Images) -> Images:
        size = 1 << (len(x) - 1).bit_length()
        if size not in self._interpreters:
            self._interpreters[size] = self._allocate(size)
        interpreter = self._interpreters[size]
        entry, last = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        steps = self._quantize(x, entry)
        padded = np.concatenate([steps, np.repeat(steps[:1], size - len(x), axis=0)])
        interpreter.set_tensor(entry["index"], padded)
        interpreter.invoke()
        scale, zero_point = last["quantization"]
        outputs = interpreter.get_tensor(last["index"])[: len(x)].astype(np.float32)
        return np.asarray((outputs - zero_point) * scale, np.float32)

    def _quantize(self, x: Images, entry: dict[str, Any]) -> Any:
        if self._grid is not None:
            return self._grid.quantize(x)
        scale, zero_point = entry["quantization"]
        info = np.iinfo(entry["dtype"])
        return np.clip(np.round(x / scale) + zero_point, info.min, info.max).astype(entry["dtype"])

    def _allocate(self, size: int) -> Any:
        import warnings

        import tensorflow as tf

        # Two threads that wait for each other cost more than they bring on single images.
        threads = 1 if size < 8 else 2
        resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interpreter = tf.lite.Interpreter(
                model_content=self._data,
                experimental_op_resolver_type=resolver,
                num_threads=threads,
            )
        entry = interpreter.get_input_details()[0]
        interpreter.resize_tensor_input(entry["index"], [size, *entry["shape"][1:]])
        interpreter.allocate_tensors()
        return interpreter


def simple(name: str, with_labels: bool = True, **translate: Any) -> Builder:
    """A builder for ART's class `name`; `translate` are settings, or functions of our attack."""

    def build(classifier: Any, attack: Attack) -> Generate:
        import art.attacks.evasion

        settings = {k: v(attack) if callable(v) else v for k, v in translate.items()}
        theirs = getattr(art.attacks.evasion, name)(classifier, **settings)
        return lambda x, y: theirs.generate(x, y) if with_labels else theirs.generate(x)

    return build


def ours(name: str, default: Any = None) -> Callable[[Attack], Any]:
    """The setting of our attack of this name, or ART's counterpart of what we do without it."""
    return lambda attack: getattr(attack, name, default)


def geoda(classifier: Any, attack: Any) -> Generate:
    """GeoDA with the `np.mat` that NumPy 2 dropped, in a folder where it may keep its basis.

    It draws random images until one is misclassified, for ever where the label owns all of them:
    such images stay as they are.
    """
    from art.attacks.evasion import GeoDA

    theirs = GeoDA(
        classifier,
        norm=attack.norm,
        sub_dim=attack.sub_dim,
        max_iter=attack.max_iter,
        bin_search_tol=attack.bin_search_tol,
        lambda_param=getattr(attack, "lambda_param", 0.6),
        sigma=getattr(attack, "sigma", 0.0002),
        **BATCH,
    )
    folder = tempfile.TemporaryDirectory()

    def generate(x: Images, y: Labels) -> Images:
        before = os.getcwd()
        os.chdir(folder.name)
        np.mat = np.asmatrix  # type: ignore[attr-defined]
        noise = np.random.default_rng(0).uniform(*classifier.clip_values, (64, *x.shape[1:]))
        owners = np.argmax(classifier.predict(noise.astype(np.float32)), axis=1)
        started = (owners != y[:, None]).any(axis=1)
        x_adv = x.copy()
        try:
            if started.any():
                x_adv[started] = theirs.generate(x[started], y[started])
            return x_adv
        finally:
            del np.mat  # type: ignore[attr-defined]
            os.chdir(before)

    return generate


def autoattack(classifier: Any, attack: Any) -> Generate:
    """ART's four attacks in a cascade; it imports `multiprocess` even where it uses one process."""
    sys.modules.setdefault("multiprocess", multiprocessing)
    from art.attacks.evasion import AutoAttack

    theirs = AutoAttack(
        classifier, norm=attack.norm, eps=attack.eps, eps_step=twice_eps(attack), batch_size=256
    )
    return lambda x, y: theirs.generate(x, y)


def inside_uap(attack: Any) -> dict[str, Any]:
    """The settings of the attack that a universal perturbation is made of."""
    if attack.inner == "deepfool":
        return {"max_iter": attack.inner_iter, "verbose": False}
    if attack.inner == "fgsm":
        return {"eps": attack.inner_eps}
    steps = {"eps_step": attack.inner_eps / 4, "max_iter": attack.inner_iter, "verbose": False}
    return {"eps": attack.inner_eps, **steps}


def twice_eps(attack: Any) -> float:
    """The first step of APGD in the authors' code."""
    return 2 * float(attack.eps)


SQUARE = simple(
    "SquareAttack",
    norm=ours("norm"),
    eps=ours("eps"),
    max_iter=ours("max_iter"),
    p_init=ours("p_init"),
    **BATCH,
)
APGD: dict[str, Any] = {
    "norm": ours("norm"),
    "eps": ours("eps"),
    "eps_step": twice_eps,
    "max_iter": ours("max_iter", 100),
    "nb_random_init": ours("restarts", 1),
}
CONST_SEARCH: dict[str, Any] = {
    "learning_rate": ours("learning_rate", 0.01),
    "max_iter": ours("max_iter", 10),
    "binary_search_steps": ours("binary_search_steps", 10),
    "initial_const": ours("initial_const", 0.01),
}

PEERS: dict[str, Builder] = {
    "fgsm": simple("FastGradientMethod", norm=ours("norm"), eps=ours("eps"), batch_size=256),
    "bim": simple(
        "BasicIterativeMethod",
        eps=ours("eps"),
        eps_step=ours("step"),
        max_iter=ours("max_iter"),
        **BATCH,
    ),
    "pgd": simple(
        "ProjectedGradientDescentNumpy",
        norm=ours("norm"),
        eps=ours("eps"),
        eps_step=ours("step"),
        max_iter=ours("max_iter"),
        num_random_init=ours("restarts"),
        **BATCH,
    ),
    "apgd-ce": simple("AutoProjectedGradientDescent", loss_type="cross_entropy", **APGD, **BATCH),
    "apgd-t": simple(
        "AutoProjectedGradientDescent",
        loss_type="difference_logits_ratio",
        **{**APGD, "nb_random_init": ours("targets", 9)},
        **BATCH,
    ),
    "deepfool": simple(
        "DeepFool",
        with_labels=False,
        max_iter=ours("max_iter"),
        epsilon=ours("overshoot"),
        **BATCH,
    ),
    "jsma": simple(
        "SaliencyMapMethod",
        with_labels=False,
        theta=ours("theta"),
        gamma=ours("gamma"),
        **BATCH,
    ),
    "cw-l2": simple(
        "CarliniL2Method",
        confidence=ours("confidence", 0.0),
        **CONST_SEARCH,
        **BATCH,
    ),
    "cw-linf": simple(
        "CarliniLInfMethod",
        confidence=ours("confidence", 0.0),
        learning_rate=ours("learning_rate", 0.01),
        max_iter=ours("max_iter", 10),
        decrease_factor=ours("decrease_factor", 0.9),
        initial_const=ours("initial_const", 1e-5),
        largest_const=ours("largest_const", 20.0),
        const_factor=ours("const_factor", 2.0),
        **BATCH,
    ),
    "cw-l0": simple(
        "CarliniL0Method",
        confidence=ours("confidence", 0.0),
        **CONST_SEARCH,
        **BATCH,
    ),
    "ead": simple(
        "ElasticNet",
        **CONST_SEARCH,
        beta=ours("beta", 0.001),
        decision_rule=lambda attack: str(getattr(attack, "decision_rule", "EN")).upper(),
        **BATCH,
    ),
    "uap": simple(
        "UniversalPerturbation",
        attacker=ours("inner", "fgsm"),
        attacker_params=inside_uap,
        delta=ours("delta", 0.0),
        norm=ours("norm"),
        eps=ours("eps"),
        max_iter=ours("max_iter"),
        **BATCH,
    ),
    "autoattack": autoattack,
    "zoo": simple(
        "ZooAttack",
        learning_rate=ours("learning_rate", 0.01),
        max_iter=ours("max_iter", 10),
        binary_search_steps=ours("binary_search_steps", 5),
        initial_const=ours("initial_const", 0.01),
        confidence=ours("confidence", 0.0),
        use_resize=ours("use_resize", True),
        use_importance=ours("use_importance", True),
        nb_parallel=ours("coordinates", 128),
        variable_h=ours("h", 0.0001),
        batch_size=1,
        verbose=False,
    ),
    "square-l2": SQUARE,
    "square-linf": SQUARE,
    "boundary": simple(
        "BoundaryAttack",
        targeted=False,
        delta=ours("delta"),
        epsilon=ours("epsilon"),
        init_size=ours("init_size"),
        max_iter=ours("max_iter"),
        **BATCH,
    ),
    "geoda": geoda,
    "hopskipjump": simple(
        "HopSkipJump",
        norm=ours("norm"),
        max_iter=ours("max_iter", 50),
        max_eval=ours("max_eval", 10000),
        init_eval=ours("init_eval", 100),
        init_size=ours("init_size", 100),
        **BATCH,
    ),
}
