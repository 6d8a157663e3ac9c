"""The attacks of a run, as its options say: which, on how many samples, at which budgets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, cast

from pytest_qnnrobust import attacks, demo
from pytest_qnnrobust.attacks import ArtAttack, ArtBudgetAttack, Attack, FixedBudgetAttack
from pytest_qnnrobust.attacks.registry import ART, attack_id
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.evaluation.cells import MODES, budget_name, split_budget
from pytest_qnnrobust.evaluation.worst_case import worst_id
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.run import budgets
from pytest_qnnrobust.run.budgets import Budget
from pytest_qnnrobust.run.cell_names import SQUEEZED
from pytest_qnnrobust.types import WIDTHS, Bounds

SAMPLES = {"smoke": 100, "standard": 120, "paper": 1000}
"""Samples attacked, by profile; the other profiles are published ones, with the paper's."""

GATES = ("smoke", "standard")
"""Profiles that climb the ladder of budgets; the others have published ones."""


@dataclass(frozen=True)
class AttackPlan:
    """Options -> attacks, scaled to the input domain `bounds` of the models.

    `step` is the LSB of the int8 model's input, None where none is given.
    """

    options: Options
    bounds: Bounds = (0.0, 1.0)
    step: float | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the attacks: those of --qnn-attack, else the profile's, and in a gate of the
        demo the demo's.
        """
        names = self.options.attacks or attacks.default(self.options.profile)
        gate = self.options.profile in GATES and not self.options.attacks
        more = demo.ATTACKS if self.options.demo and gate else ()
        return (*names, *(name for name in more if name not in names))

    @property
    def runs(self) -> tuple[str, ...]:
        """The attacks of the matrix: `id-budget` for each budget where a run has several."""
        labels = [budget.label for budget in self.budgets if budget.label]
        return tuple(
            f"{name}-{label}" if label else name
            for name in self.ids
            for label in (labels if labels and self._takes_budget(name) else ("",))
        )

    @property
    def samples(self) -> int:
        """Number of samples that are attacked, of those that there are."""
        return self.options.samples or SAMPLES.get(self.options.profile, SAMPLES["paper"])

    @property
    def span(self) -> float:
        """The length of the input domain, high - low."""
        low, high = self.bounds
        return high - low

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The Linf budgets that replace the profile's, the smallest first; () where none do."""
        if self.options.eps is not None:
            return budgets.given(self.options.eps)
        if self.options.demo:
            return budgets.given((demo.EPS[math.inf],))
        return budgets.ladder(self.span, self.step) if self.options.profile in GATES else ()

    @property
    def budget_labels(self) -> tuple[str, ...]:
        """The labels of all Linf budgets of the run, those of a published profile too."""
        eps = {
            cast(Any, attack).eps: split_budget(run)[1]
            for run in self.runs
            if getattr(attack := self.attack(run), "norm", None) == math.inf
            and getattr(attack, "eps", None) is not None
        }
        return tuple(label or budget_name(length) for length, label in sorted(eps.items()))

    def label_of(self, attack: Attack) -> str:
        """The label of the budget that this attack has of the run's; "" where it has none."""
        if getattr(attack, "norm", None) != math.inf:
            return ""
        eps = getattr(attack, "eps", math.nan)
        near = (b for b in self.budgets if math.isclose(b.eps, eps, rel_tol=1e-6))
        return next((budget.label for budget in near), "")

    def attack(self, name: str) -> Attack:
        """The attack `id` or `id-budget`, at the first of the run's budgets where none is named.

        Raises QnnRobustError for a budget that the run does not have.
        """
        name, label = split_budget(name)
        attack = attacks.preset(name, self.options.profile, self.span)
        return self.scaled(attack, self._eps(label) if label else None)

    def scaled(self, attack: Attack, eps: float | None = None) -> Attack:
        """`attack` with the Linf budget `eps` (the run's first by default), its step likewise."""
        norm = getattr(attack, "norm", None)
        if norm == math.inf:
            smallest = self.budgets[0].eps if self.budgets else None
            eps = eps if eps is not None else smallest
        else:
            # --qnn-eps is an Linf budget; the demo alone has one for another norm.
            eps = demo.EPS.get(norm) if self.options.demo and norm else None
        if eps is None:
            return attack
        if isinstance(attack, (ArtAttack, ArtBudgetAttack)):
            return attack.within(eps)
        if not isinstance(attack, FixedBudgetAttack):
            return attack
        changes = {"eps": eps}
        if hasattr(attack, "step"):
            changes["step"] = attack.step * eps / cast(Any, attack).eps
        return replace(attack, **cast(Any, changes))

    def has(self, attack: Attack) -> bool:
        """Whether the run makes this very attack of its id, with these settings."""
        name = attack_id(attack)
        runs = [run for run in self.runs if split_budget(run)[0] == name]
        return any(repr(self.attack(run)) == repr(attack) for run in runs)

    def check_names(self) -> None:
        """Raise QnnRobustError for an unknown profile or attack, or a threshold for no cell."""
        if self.options.profile not in attacks.PROFILES:
            rule = f"--qnn-profile to be one of {', '.join(attacks.PROFILES)}"
            raise expected(rule, profile=self.options.profile)
        for name in self.ids:
            if name.startswith(ART):
                attacks.create(name)
            elif not attacks.is_known(name):
                available = ", ".join(attacks.available())
                rule = f"--qnn-attack to be among {available}, or art:NAME"
                raise expected(rule, attack=name)
            attacks.preset(name, self.options.profile)
        cells = ["-".join(parts) for parts in self.possible_cells()]
        models = dict.fromkeys(model for model, _, _ in self.possible_cells())
        cells += [worst_id(*pair) for pair in product(models, self.budget_labels)]
        for threshold in self.options.min_accuracy:
            if not any(threshold.pattern in cell for cell in cells):
                rule = "--qnn-min-accuracy to name a cell such as int8-square-linf-direct"
                raise expected(rule, cell=threshold.pattern)

    def check_eps(self) -> None:
        """Raise QnnRobustError for a budget larger than the distance of any two inputs."""
        largest = max(self.options.eps or (0.0,))
        if largest > self.span:
            cure = f"the inputs are in {self.bounds}"
            raise expected(f"--qnn-eps to be in (0, {self.span:g}]", eps=largest, cure=cure)

    def possible_cells(self) -> list[tuple[str, str, str]]:
        """(model, attack, mode) of all cells that a run with these options could have."""
        squeezed = [f"{SQUEEZED}-"] if self.options.squeeze else []
        defenses = ["", *squeezed, *(f"{files.name}-" for files in self.options.defended)]
        parts = product(defenses, WIDTHS, self.runs, MODES)
        return [(f"{defense}{width}", name, mode) for defense, width, name, mode in parts]

    def _eps(self, label: str) -> float:
        """The budget of this label, in model input units."""
        for budget in self.budgets:
            if budget.label == label:
                return budget.eps
        among = ", ".join(budget.label for budget in self.budgets if budget.label) or "none"
        raise expected("a budget of this run", budget=label, cure=f"there are {among}")

    def _takes_budget(self, name: str) -> bool:
        """Whether the attack of this id has the Linf budget of the run."""
        attack = attacks.preset(name, self.options.profile, self.span)
        probe = 0.5 * self.span
        return getattr(self.scaled(attack, probe), "eps", None) == probe
