"""The two kinds of attack, and the grading that they share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import validation
from pytest_qnnrobust.attacks.geometry import grids
from pytest_qnnrobust.attacks.result import AttackResult, Recorder
from pytest_qnnrobust.attacks.settings import check_settings, positive, required
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import OutOfBudgetError, OutOfTimeError, Rows, Target
from pytest_qnnrobust.compute.processors import one_blas_thread
from pytest_qnnrobust.errors import AttackError, expected
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.types import Float, Labels

Knowledge = Literal["white", "gray", "black"]
Progress = Callable[[int, int, str], None]
"""`progress(done, total, text)`: samples finished, samples to attack, name of the attack."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Attack(ABC):
    """An attack with its settings; calling it attacks a model.

    Authors subclass FixedBudgetAttack or MinimalDistortionAttack, add their settings as dataclass
    fields with checks (`settings.setting`; a setting called `norm` is checked against `norms`) and
    write `run`. They never grade: `run` hands candidates to `target.propose`, and what is reported
    is what `__call__` measured on the target afterwards.
    """

    knowledge: ClassVar[Knowledge]
    """white: gradients; gray: scores; black: decisions."""
    norms: ClassVar[tuple[float, ...]]
    batch: ClassVar[int] = 256
    """Samples attacked together at most; lower where one sample needs many inputs at a time."""
    universal: ClassVar[bool] = False
    """One perturbation for all samples of a call, which then form a single batch."""

    def __post_init__(self) -> None:
        if "norm" in (field.name for field in fields(self)):
            norm = validation.norm(cast(Any, self).norm, self.norms)
            object.__setattr__(self, "norm", norm)
        check_settings(self)
        self._validate()

    def __repr__(self) -> str:
        settings = (f"{field.name}={_literal(getattr(self, field.name))}" for field in fields(self))
        return f"{type(self).__name__}({', '.join(settings)})"

    def __call__(
        self,
        model: Model,
        x: NDArray[Any],
        y: NDArray[Any],
        *,
        seed: int = 0,
        index: NDArray[Any] | None = None,
        query_budget: int | None = None,
        time_budget: float | None = None,
        progress: Progress | None = None,
        batch_size: int = 256,
        gradient: str | None = None,
        probe_steps: int = 1,
    ) -> AttackResult:
        """Attack samples `x` float32 (N, *input_shape), labelled `y` (N,), and grade the outcome.

        Sample i draws its random numbers from (seed, index[i]); `index` defaults to 0..N-1.
        `query_budget` caps queries plus gradients per sample, `time_budget` is in seconds for the
        whole call, kept within one call of the model. A sample that a budget, or Ctrl-C, cut short
        keeps its best proposal and is marked `exhausted`. Samples that are misclassified already
        are not attacked.
        `gradient` and `probe_steps` choose where a white-box attack has its gradients from
        (Model.with_gradient); by default they are the model's own.

        A quantized target sees the clean image snapped to its input grid: that one is attacked,
        the budget is a ball around it, and distances are measured from it, in whole steps.

        Raises AttackError where settings, data and model do not fit.
        """
        if gradient is not None:
            model = model.with_gradient(gradient, probe_steps)
        deadline = None if time_budget is None else time.perf_counter() + time_budget
        validation.call_arguments(seed, query_budget, time_budget, batch_size)
        self.check(model)
        x, y, index = validation.samples(model, x, y, index)
        recorder = Recorder(model, x, y)
        attacked = np.flatnonzero(recorder.clean_label == y)
        size = max(len(attacked), 1) if self.universal else min(batch_size, self.batch)
        for start in range(0, len(attacked), size):
            rows = attacked[start : start + size]
            if recorder.interrupted or (deadline and time.perf_counter() > deadline):
                recorder.exhausted[attacked[start:]] = True
                break
            watch = _watcher(progress, type(self).__name__, start, len(rows), len(attacked))
            recorder.exhausted[rows] = True
            while len(rows) and not recorder.interrupted:
                target = self._target(model, recorder.clean[rows], y[rows], query_budget, deadline)
                target.on_progress = watch
                over = np.arange(len(rows))
                try:
                    with one_blas_thread():
                        over = self._attack(target, Streams(seed, index[rows]), recorder)
                        self._grade(target.alone(over), rows[over], recorder)
                except KeyboardInterrupt:
                    recorder.interrupted = True
                recorder.model_seconds += target.model_seconds
                # A sample's spent budget ends the attack on all of them: the others start anew.
                rows = np.delete(rows, over)
            if watch is not None and not recorder.interrupted:
                watch(1.0)
        return recorder.result()

    @abstractmethod
    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        """Attack the batch `x` (B, *input_shape) with labels `y` (B,), all classified correctly.

        Every candidate worth keeping goes to `target.propose(rows, x_adv)`: the latest proposal of
        a sample replaces the one before. Random numbers come from `streams` alone, and nothing
        computed for one sample may depend on the others in the batch.
        """

    def check(self, model: Model) -> None:
        """Raise AttackError where this attack cannot run on `model`."""
        if self.knowledge == "white" and not model.differentiable:
            cure = "attack model.surrogate, or use a gray- or black-box attack"
            rule = f"a differentiable model for {type(self).__name__}"
            raise expected(rule, model=model.name, cure=cure, error=AttackError)

    def _validate(self) -> None:  # noqa: B027
        """Raise AttackError for settings that do not go together; each alone is checked already."""

    def ball(self, model: Model) -> tuple[float, float]:
        """Norm and radius (model input units) of the budget on `model`, infinite without one.

        In Linf, the radius on a quantized input is a whole number of its steps.
        """
        return np.inf, np.inf

    def _target(
        self,
        model: Model,
        x: Float,
        y: Labels,
        query_budget: int | None,
        deadline: float | None,
    ) -> Target:
        """The view of `model` that `run` gets."""
        norm, eps = self.ball(model)
        return Target(model, x, y, norm=norm, eps=eps, query_budget=query_budget, deadline=deadline)

    @abstractmethod
    def _grade(self, target: Target, rows: Rows, recorder: Recorder) -> None:
        """Seal the proposals, score them on the model and record them for samples `rows`."""

    def _attack(self, target: Target, streams: Streams, recorder: Recorder) -> Rows:
        """Run on one batch; the samples that it is over for, all but those that others cut off.

        A universal attack has one budget for the whole batch. Ctrl-C is noted in `recorder`.
        """
        try:
            if target.eps > 0:
                self.run(target, target.x, target.y, streams)
        except OutOfTimeError:
            target.exhausted[:] = True
        except OutOfBudgetError:
            if target.exhausted.any() and not self.universal:
                return np.flatnonzero(target.exhausted)
        except KeyboardInterrupt:
            target.exhausted[:] = True
            recorder.interrupted = True
        return target.all_rows


@dataclass(frozen=True, kw_only=True, repr=False)
class FixedBudgetAttack(Attack):
    """Look for a misclassified input within `eps` (model input units) of the clean one, in `norm`.

    A sample that withstood returns the attack's last proposal.
    """

    norm: float
    eps: float = required(positive("eps is in model input units"))

    def check(self, model: Model) -> None:
        super().check(model)
        diameter = _diameter(model, self.norm)
        if self.eps > diameter * (1 + grids.BUDGET_TOLERANCE):
            rule = f"eps to be in (0, {diameter:g}]"
            cure = f"eps is in model input units, and this model's input is in {model.bounds}"
            raise expected(rule, eps=self.eps, cure=cure, error=AttackError)

    def ball(self, model: Model) -> tuple[float, float]:
        eps = self.eps
        if model.grid is not None and np.isinf(self.norm):
            eps = min(eps, grids.whole_steps(eps, model.grid) * model.grid.scale)
        return self.norm, eps

    def _grade(self, target: Target, rows: Rows, recorder: Recorder) -> None:
        sealed = target.seal(target.proposals) if target.eps > 0 else target.x
        labels = recorder.classify(sealed)
        exhausted = target.exhausted & (labels == target.y)
        recorder.record(rows, sealed, labels, target.queries, target.gradients, exhausted)


@dataclass(frozen=True, kw_only=True, repr=False)
class MinimalDistortionAttack(Attack):
    """Look for the misclassified input nearest to the clean one.

    A sample that withstood returns the clean image, at distance 0.
    """

    def _grade(self, target: Target, rows: Rows, recorder: Recorder) -> None:
        sealed = target.seal(target.proposals)
        labels = recorder.classify(sealed)
        fooled = labels != target.y
        withstood = np.flatnonzero(~fooled)
        sealed[withstood] = target.x[withstood]
        recorder.record(rows, sealed, labels, target.queries, target.gradients, target.exhausted)


def _diameter(model: Model, norm: float) -> float:
    """The largest distance between two inputs of the domain."""
    span = model.bounds[1] - model.bounds[0]
    size = float(np.prod(model.input_shape))
    return span if np.isinf(norm) else span * size ** (1 / norm)


def _literal(value: Any) -> str:
    return "np.inf" if isinstance(value, float) and np.isinf(value) else repr(value)


def _watcher(
    progress: Progress | None, name: str, done: int, batch: int, total: int
) -> Callable[[float], None] | None:
    if progress is None:
        return None

    def watch(fraction: float) -> None:
        progress(done + int(fraction * batch), total, name)

    return watch


def out_of_reach(model: Model, attack: Attack) -> str:
    """Explain why a budget says nothing of robustness on `model`; "" where it does.

    In Linf one below an input step can change nothing. One beyond the distance of any two inputs
    holds every input there is.
    """
    eps, norm = getattr(attack, "eps", None), getattr(attack, "norm", None)
    if eps is None or norm is None:
        return ""
    diameter = _diameter(model, norm)
    if eps > diameter * (1 + grids.BUDGET_TOLERANCE):
        return f"eps={eps:.4g} is more than any two inputs are apart ({diameter:.4g})"
    if model.grid is None or norm != np.inf or grids.whole_steps(eps, model.grid) > 0:
        return ""
    return f"eps={eps:.3g} is less than one {model.width} input step ({model.grid.scale:.3g})"
