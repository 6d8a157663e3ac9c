"""The Adversarial Robustness Toolbox, both ways: its attacks on our models, our models in it.

Nothing here imports ART until it is asked for: `pip install adversarial-robustness-toolbox`.
"""

from __future__ import annotations

import inspect
import io
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np

from pytest_qnnrobust.attacks import validation
from pytest_qnnrobust.attacks.art import estimators
from pytest_qnnrobust.attacks.art.estimators import ModelSource, SampleSource
from pytest_qnnrobust.attacks.base import Attack, FixedBudgetAttack, MinimalDistortionAttack
from pytest_qnnrobust.attacks.settings import one_of, require, setting
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import OutOfBudgetError, OutOfTimeError, Target
from pytest_qnnrobust.errors import AttackError, QnnRobustError, expected
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.types import Float, Labels

PREFIX = "art:"
"""Start of the id of an ART attack, before the name of ART's class."""

NORMS = (1.0, 2.0, np.inf)
OUTPUTS = ("logits", "probabilities")

DECISIONS = ("BoundaryAttack", "GeoDA", "HopSkipJump", "SignOPTAttack", "SpatialTransformation")
"""ART's attacks that ask for decisions only."""

AIMED = ("SaliencyMapMethod", "TargetedUniversalPerturbation")
"""ART's attacks that try to reach the labels they are given, not to leave them."""

GRADIENTS_INSIDE = ("TargetedUniversalPerturbation", "UniversalPerturbation")
"""ART's attacks that run others, by default of those that ask for gradients."""

OWN_DEFAULTS: dict[str, dict[str, Any]] = {"SignOPTAttack": {"targeted": False}}
"""Settings instead of ART's defaults where those ask for more than images and labels."""

ON_PROBABILITIES = ("SimBA", "VirtualAdversarialMethod")
"""ART's attacks that refuse to run on logits."""

OTHER_CONTRACTS = (
    "AdversarialPatch",
    "AdversarialPatchNumpy",
    "AutoAttack",
    "FeatureAdversariesNumpy",
    "FrameSaliencyAttack",
    "GRAPHITEBlackbox",
    "LaserAttack",
    "LowProFool",
    "MalwareGDTensorFlow",
    "SNAL",
    "ShadowAttack",
)
"""ART's attacks that pass its own check of the estimator and yet take or return something else
than images: patches, guide images, masks, generator objects, classifiers of one framework."""


class Settings(tuple[tuple[str, Any], ...]):
    """Keyword arguments that can be hashed; they are given and written as a dict."""

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {_literal(value)}" for name, value in self) + "}"

    @classmethod
    def of(cls, values: Mapping[str, Any] | tuple[tuple[str, Any], ...]) -> Settings:
        pairs = dict(values).items()
        return cls((name, _frozen(name, value)) for name, value in pairs)

    def arguments(self) -> dict[str, Any]:
        """The dict that ART is called with."""
        return {k: v.arguments() if isinstance(v, Settings) else v for k, v in self}


NO_SETTINGS = Settings()


@dataclass(frozen=True, kw_only=True, repr=False)
class _ArtAttack(Attack):
    """Settings and run of an ART attack, which both ways of grading it share."""

    knowledge = "white"
    norms = NORMS
    batch = 1

    norm: float
    attack: str
    settings: Mapping[str, Any] | Settings = NO_SETTINGS
    output: str = setting("logits", one_of(OUTPUTS))

    @property
    def id(self) -> str:
        """`art:` and the name of ART's class."""
        return PREFIX + self.attack

    def within(self, eps: float) -> ArtAttack | ArtBudgetAttack:
        """The same attack with this budget, its step in proportion; itself where ART's has none."""
        parameters = _parameters(art_class(self.attack))
        if "eps" not in parameters:
            return cast("ArtAttack | ArtBudgetAttack", self)
        settings = dict(self.settings)
        if "eps_step" in parameters:
            before, step = (
                settings.get(name, parameters[name].default) for name in ("eps", "eps_step")
            )
            settings["eps_step"] = step * eps / before
        settings["eps"] = eps
        return create(self.attack, output=self.output, **settings)

    def _validate(self) -> None:
        object.__setattr__(self, "settings", Settings.of(self.settings))
        attack_class = art_class(self.attack)
        parameters = _parameters(attack_class)
        for name in dict(self.settings):
            if name not in parameters:
                rule = f"a setting of ART's {self.attack} ({', '.join(parameters)})"
                raise expected(rule, setting=name, error=AttackError)
        object.__setattr__(self, "knowledge", _knowledge(attack_class))
        with _explained(self.attack):
            self._build(estimators.probe(self.output, self.knowledge == "white"))

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        seed = int(streams.integers(target.all_rows, 2**32)[0])
        source = SampleSource(target, self.output, self.norm)
        bars = (
            nullcontext() if dict(self.settings).get("verbose") else redirect_stderr(io.StringIO())
        )
        with _explained(self.attack), _seeded(seed), _numpy_with_mat(), bars:
            attack = self._build(estimators.estimator(source, self.knowledge == "white"))
            aimed = attack.targeted or self.attack in AIMED
            wanted = source.runner_up() if aimed else y
            one_hot = np.eye(target.classes, dtype=np.float32)[wanted]
            answer = attack.generate(x=x.copy(), y=one_hot)
        source.finish(self._image(answer, x))

    def _build(self, estimator: Any) -> Any:
        """ART's attack object, without its progress bars."""
        attack_class = art_class(self.attack)
        arguments = Settings.of(self.settings).arguments()
        if "verbose" in _parameters(attack_class):
            arguments = {"verbose": False, **arguments}
        return attack_class(estimator, **arguments)

    def _image(self, answer: Any, x: Float) -> Float:
        if np.shape(answer) != x.shape:
            rule = f"ART's {self.attack} to return images of shape {x.shape}"
            raise expected(rule, shape=np.shape(answer), error=AttackError)
        return np.asarray(answer, np.float32)


@dataclass(frozen=True, kw_only=True, repr=False)
class ArtAttack(_ArtAttack, MinimalDistortionAttack):
    """An evasion attack of ART, by the name of its class, graded by its distortion.

    Nicolae et al., "Adversarial Robustness Toolbox" (2018), https://arxiv.org/abs/1807.01069.
    `settings` are the keyword arguments of ART's class, `output` what ART sees as predictions:
    "logits", or "probabilities", their softmax. Norm, knowledge and cost are those of the attack;
    `knowledge` is white where ART's class asks for gradients, black for the attacks that use
    decisions only, and gray otherwise. Attacks that aim at a class (`targeted=True`,
    SaliencyMapMethod) aim at the runner-up of the clean image.

    Samples are attacked one by one, because ART draws its random numbers for a whole batch from
    NumPy's global state: for each sample that state is seeded from the sample's own stream and
    restored afterwards. So results do not depend on batches, and every query and gradient is
    counted for the sample that it was asked about; ART's batched arithmetic is lost, and
    UniversalPerturbation becomes a perturbation for each image. The prediction that ART sees
    decides as the device does, also where quantized outputs tie; where the cross-entropy has no
    gradient left, it sees that of the margin.

    What ART answers is what is graded. Where it answers with an image that is not misclassified,
    or a budget or Ctrl-C cuts it short, the nearest (in `norm`) misclassified image that it asked
    about on the way takes its place.
    """

    norm: float = 2.0


@dataclass(frozen=True, kw_only=True, repr=False)
class ArtBudgetAttack(_ArtAttack, FixedBudgetAttack):
    """An evasion attack of ART, graded within `eps` (model input units) in `norm`.

    As ArtAttack, and what ART returns is projected into the ball. `norm` and `eps` are those of
    the grading alone: ART's own are among `settings`; `create` sets both.
    """

    norm: float = np.inf
    eps: float


def available() -> tuple[str, ...]:
    """The names of ART's evasion attacks that work on plain classifiers of arrays."""
    return tuple(sorted(_classes()))


def create(
    attack: str, *, output: str | None = None, **settings: Any
) -> ArtAttack | ArtBudgetAttack:
    """The ART attack of this class name, with or without the prefix `art:`.

    `eps` makes it a fixed-budget attack in `norm` (default: that of ART's class, else Linf); both
    go to ART as well where its class knows them. All other settings are ART's. `output` is by
    default what the attack runs on: logits, or probabilities where it refuses those.
    """
    name = attack.removeprefix(PREFIX)
    parameters = _parameters(art_class(name))
    output = output or ("probabilities" if name in ON_PROBABILITIES else "logits")
    settings = OWN_DEFAULTS.get(name, {}) | settings
    own: dict[str, Any] = {key: settings[key] for key in ("norm", "eps") if key in settings}
    if "norm" in own:
        own["norm"] = validation.norm(own["norm"], NORMS)
    settings = {key: own.get(key, value) for key, value in settings.items()}
    passed_on = Settings.of({k: v for k, v in settings.items() if k not in own or k in parameters})
    if "norm" in parameters and parameters["norm"].default in NORMS:
        own.setdefault("norm", parameters["norm"].default)
    kind = ArtBudgetAttack if "eps" in own else ArtAttack
    return kind(attack=name, settings=passed_on, output=output, **own)


def classifier(model: Model, *, output: str = "logits") -> Any:
    """`model` as an estimator of ART, for any of its attacks, metrics and defences.

    A subclass of ART's BlackBoxClassifierNeuralNetwork, with class_gradient and loss_gradient
    where `model` is differentiable (straight-through on int8 and int16). `output` is what
    `predict` returns, float32 (N, classes): "logits"; "probabilities", their softmax; or
    "tensor", the model's output tensor, on which the device decides, without gradients. Losses
    are the cross-entropy of the logits. Queries and gradients are counted by the model.
    """
    require(output, "output", one_of((*OUTPUTS, "tensor")))
    source = ModelSource(model, output)
    return estimators.estimator(source, model.differentiable and output != "tensor")


def art_class(name: str) -> Any:
    """ART's class of this name; AttackError lists the ones that there are."""
    classes = _classes()
    if name not in classes:
        rule = f"attack to be one of ART's {', '.join(sorted(classes))}"
        raise expected(rule, attack=name, error=AttackError)
    return classes[name]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed every generator that ART draws from, and restore them afterwards.

    ART uses NumPy's global generator, that of `random`, and, for the first point of
    BoundaryAttack and HopSkipJump, a `RandomState()` that it does not seed.
    """
    unseeded = np.random.RandomState
    numpy_state, python_state = np.random.get_state(), random.getstate()

    class Seeded(unseeded):  # type: ignore[misc, valid-type]
        def __init__(self, given: Any = None) -> None:
            super().__init__(seed if given is None else given)

    np.random.seed(seed)
    random.seed(seed)
    np.random.RandomState = Seeded  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        np.random.RandomState = unseeded  # type: ignore[misc]
        np.random.set_state(numpy_state)
        random.setstate(python_state)


@contextmanager
def _numpy_with_mat() -> Iterator[None]:
    """Lend NumPy 2 the `np.mat` that ART's GeoDA calls."""
    if hasattr(np, "mat"):
        yield
        return
    library: Any = np
    library.mat = np.asmatrix
    try:
        yield
    finally:
        del library.mat


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Run ART's code: its warnings are left out, its exceptions become one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (OutOfBudgetError, OutOfTimeError, QnnRobustError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        raise AttackError(f"ART's {name} failed with {type(error).__name__}: {reason}") from error


@cache
def _classes() -> dict[str, Any]:
    """ART's evasion attacks that its own requirements allow on our estimators."""
    evasion = estimators.load("art.attacks.evasion")
    offered = estimators.classes()[True]
    named: dict[str, Any] = vars(evasion)
    return {
        name: attack_class
        for name, attack_class in named.items()
        if inspect.isclass(attack_class)
        and not name.endswith(("PyTorch", "TensorFlowV2"))
        and name not in OTHER_CONTRACTS
        and _satisfied(attack_class, offered)
    }


def _satisfied(attack_class: Any, estimator: Any) -> bool:
    """True if an estimator class has all that ART's attack requires."""
    needs = attack_class._estimator_requirements
    return all(issubclass(estimator, need) for need in needs)


def _knowledge(attack_class: Any) -> str:
    by_scores = _satisfied(attack_class, estimators.classes()[False])
    if not by_scores or attack_class.__name__ in GRADIENTS_INSIDE:
        return "white"
    return "black" if attack_class.__name__ in DECISIONS else "gray"


def _parameters(attack_class: Any) -> dict[str, inspect.Parameter]:
    """The settings of ART's class: what its constructor takes after the estimator."""
    everything = inspect.signature(attack_class.__init__).parameters
    return dict(list(everything.items())[2:])


def _frozen(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)) and not isinstance(value, Settings):
        return tuple(_frozen(name, item) for item in value)
    if isinstance(value, dict):
        return Settings.of(value)
    if value is None or isinstance(value, (bool, int, float, str, Settings)):
        return value
    cure = "ART is given numbers, texts, lists and dicts"
    rule = "settings of plain values"
    raise expected(rule, setting=name, value=value, cure=cure, error=AttackError)


def _literal(value: Any) -> str:
    if isinstance(value, tuple) and not isinstance(value, Settings):
        return "(" + "".join(f"{_literal(item)}, " for item in value) + ")"
    return "np.inf" if isinstance(value, float) and np.isinf(value) else repr(value)
