"""AutoAttack: four or six attacks in a cascade, each on the samples that withstood so far."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import score_losses
from pytest_qnnrobust.attacks.base import FixedBudgetAttack, MinimalDistortionAttack
from pytest_qnnrobust.attacks.gradient.apgd import APGD, APGDT
from pytest_qnnrobust.attacks.gradient.fab import FAB
from pytest_qnnrobust.attacks.settings import conflict, flag, one_of, setting
from pytest_qnnrobust.attacks.square.attack import SquareAttack
from pytest_qnnrobust.attacks.streams import Streams
from pytest_qnnrobust.attacks.target import OutOfBudgetError, Rows, Target
from pytest_qnnrobust.metrics import flat
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.types import Double, Float, Labels

VERSIONS: dict[str, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class WithinBudget(FixedBudgetAttack):
    """A minimal-distortion attack whose nearest point counts if it is within `eps` in `norm`.

    Costs what `attack` costs.
    """

    knowledge = "white"
    norms = (1.0, 2.0, np.inf)

    attack: MinimalDistortionAttack

    def _validate(self) -> None:
        if not isinstance(self.attack, MinimalDistortionAttack):
            raise conflict("attack to be a MinimalDistortionAttack", attack=self.attack)

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        part = target.part(target.all_rows)
        part.eps = np.inf
        part.on_progress = target.on_progress
        try:
            self.attack.run(part, part.x, part.y, streams)
        finally:
            target.absorb(part, target.all_rows)
            target.propose(target.all_rows, part.proposals)


class Stage(NamedTuple):
    """One attack of the cascade, under the name that its authors gave it."""

    name: str
    attack: FixedBudgetAttack


@dataclass(frozen=True, kw_only=True, repr=False)
class AutoAttack(FixedBudgetAttack):
    """Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks" (2020); its L1 version from "Mind the box" (2021).

    `version="standard"`: apgd-ce, apgd-t, fab-t and square; "plus": apgd-ce, apgd-dlr, fab, square,
    apgd-t and fab-t, with 5 restarts of the untargeted ones, in the settings of the authors' code
    (`stages`). Each attacks the samples that withstood those before; each sample draws the same
    random numbers in every stage, as in a run of that stage alone. Without `early_stop` the climbs
    of APGD go on where a sample is fooled, as in the authors' code: the same accuracy for more
    gradients, with examples that transfer farther.
    White-box. A sample that withstands "standard" has cost about 1,900 gradients and 6,000 queries,
    "plus" about 7,300 gradients and 9,000 queries.
    """

    knowledge = "white"
    norms = (1.0, 2.0, np.inf)

    norm: float = np.inf
    eps: float = 0.004
    version: str = setting("standard", one_of(tuple(VERSIONS)))
    early_stop: bool = setting(True, flag())

    def stages(self) -> list[Stage]:
        """The attacks of the cascade, in order."""
        return [Stage(name, self._stage(name)) for name in VERSIONS[self.version]]

    def run(self, target: Target, x: Float, y: Labels, streams: Streams) -> None:
        best = np.full(len(target), -np.inf)
        rows = target.all_rows
        stages = self.stages()
        for number, (_, attack) in enumerate(stages):
            part = target.part(rows)
            part.on_progress = _share(target, number, len(stages))
            held = target.proposals[rows]
            # A budget that is used up here leaves the other samples theirs.
            with suppress(OutOfBudgetError):
                try:
                    attack.run(part, part.x, part.y, copy.deepcopy(streams.part(rows)))
                finally:
                    target.absorb(part, rows)
                    moved = np.flatnonzero((flat(part.proposals) != flat(part.x)).any(axis=1))
                    target.propose(rows[moved], part.proposals[moved])
            with suppress(OutOfBudgetError):
                rows = _survivors(target, rows, held, best)
            if not len(rows):
                return

    def _stage(self, name: str) -> FixedBudgetAttack:
        """The stage of this name with the settings of the authors' `set_version`."""
        ball: dict[str, Any] = {"norm": self.norm, "eps": self.eps}
        plus = self.version == "plus"
        multi_eps = self.norm == 1 and not plus
        climbs: dict[str, Any] = {"larger_eps": multi_eps, "early_stop": self.early_stop, **ball}
        if name == "square":
            return SquareAttack(max_iter=5000, p_init=0.8, rescale=False, **ball)
        if name == "apgd-t":
            return APGDT(targets=5 if multi_eps else 9, **climbs)
        if name.startswith("apgd"):
            loss = "dlr" if name == "apgd-dlr" else "cross-entropy"
            return APGD(loss=loss, restarts=5 if plus or multi_eps else 1, **climbs)
        targeted = name == "fab-t"
        fab = FAB(restarts=1 if targeted else 5, targeted=targeted, early_stop=True, **ball)
        return WithinBudget(attack=fab, **ball)


def stage_accuracies(
    attack: AutoAttack, model: Model, x: NDArray[Any], y: NDArray[Any], seed: int = 0
) -> dict[str, float]:
    """The share of samples still classified as `y` before ("clean") and after each stage.

    Runs the stages one by one on the samples left, which gives what the cascade gives.
    """
    left = np.flatnonzero(model.classify(x) == y)
    shares = {"clean": len(left) / len(x)}
    for name, stage in attack.stages():
        result = stage(model, x[left], y[left], seed=seed, index=left)
        left = left[~result.success]
        shares[name] = len(left) / len(x)
    return shares


def _survivors(target: Target, rows: Rows, held: Float, best: Double) -> Rows:
    """Grade what a stage proposed for samples `rows`; return those that it did not fool.

    `best` holds the largest margin (B,) that each sample reached so far, negative while it is
    classified correctly. A sample that was not fooled, and whose new margin is no larger, gets
    back its proposal from before the stage, `held`.
    """
    scores = target.evaluate(target.seal(target.proposals[rows], rows), rows)
    margin = score_losses.margin(scores.logits, target.y[rows])
    fooled = scores.labels != target.y[rows]
    worse = ~fooled & (margin <= best[rows])
    target.propose(rows[worse], held[worse])
    best[rows] = np.fmax(best[rows], margin)
    return np.asarray(rows[~fooled])


def _share(target: Target, number: int, stages: int) -> Callable[[float], None] | None:
    """Progress callback of stage `number` of `stages`; None where nobody watches."""
    watch = target.on_progress
    if watch is None:
        return None
    return lambda fraction: watch((number + fraction) / stages)
