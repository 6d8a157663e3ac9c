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
from pytest_qnnrobust.evaluation.cells import MODES
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.run.cell_names import SQUEEZED
from pytest_qnnrobust.types import WIDTHS, Bounds

SAMPLES = {"smoke": 100, "standard": 120, "paper": 1000}
"""Samples attacked, by profile; the other profiles are published ones, with the paper's."""


@dataclass(frozen=True)
class AttackPlan:
    """Options -> attacks, scaled to the input domain `bounds` of the models."""

    options: Options
    bounds: Bounds = (0.0, 1.0)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the attacks: those of --qnn-attack, else the profile's and the demo's."""
        names = self.options.attacks or attacks.default(self.options.profile)
        more = demo.ATTACKS if self.options.demo and not self.options.attacks else ()
        return (*names, *(name for name in more if name not in names))

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
    def eps(self) -> float | None:
        """The Linf budget that replaces the profile's; None where none does."""
        if self.options.eps is None and self.options.demo:
            return demo.EPS[math.inf]
        return self.options.eps

    def attack(self, name: str) -> Attack:
        """The attack of this id at the profile's budget."""
        return self.scaled(attacks.preset(name, self.options.profile, self.span))

    def scaled(self, attack: Attack, eps: float | None = None) -> Attack:
        """`attack` with the Linf budget `eps` (default: the run's), its step in proportion."""
        norm = getattr(attack, "norm", None)
        if norm == math.inf:
            eps = eps if eps is not None else self.eps
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
        return name in self.ids and repr(self.attack(name)) == repr(attack)

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
        for threshold in self.options.min_accuracy:
            if not any(threshold.pattern in cell for cell in cells):
                rule = "--qnn-min-accuracy to name a cell such as int8-square-linf-direct"
                raise expected(rule, cell=threshold.pattern)

    def check_eps(self) -> None:
        """Raise QnnRobustError for a budget larger than the distance of any two inputs."""
        if self.eps is not None and self.eps > self.span:
            cure = f"the inputs are in {self.bounds}"
            raise expected(f"--qnn-eps to be in (0, {self.span:g}]", eps=self.eps, cure=cure)

    def possible_cells(self) -> list[tuple[str, str, str]]:
        """(model, attack, mode) of all cells that a run with these options could have."""
        squeezed = [f"{SQUEEZED}-"] if self.options.squeeze else []
        defenses = ["", *squeezed, *(f"{files.name}-" for files in self.options.defended)]
        parts = product(defenses, WIDTHS, self.ids, MODES)
        return [(f"{defense}{width}", name, mode) for defense, width, name, mode in parts]
