"""The models of a run by name, and the cells that they make with its attacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from pytest_qnnrobust import attacks
from pytest_qnnrobust.attacks import Attack
from pytest_qnnrobust.attacks.presets import DIRECTLY
from pytest_qnnrobust.defenses import Defended, FeatureSqueezing
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.evaluation.cells import Cell, model_id, split_budget
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.options.values import Squeezing
from pytest_qnnrobust.run.subjects import Defense, MissingError, Subjects
from pytest_qnnrobust.types import WIDTHS

SQUEEZED = "squeezed"
"""First part of the ids of cells behind feature squeezing."""


FOR_THE_PLAIN_MODEL = (*DIRECTLY, "jsma")
"""Attacks whose examples the suite makes for a plain model and gives to the squeezed one."""

_CELL = re.compile(r"(?:([^-]+)-)?(float32|int16|int8)-(.+)-(direct|transfer|surrogate)")


@dataclass(frozen=True)
class CellName:
    """The parts of a cell's id; `defense` is "" for a plain model."""

    defense: str
    width: str
    attack: str
    mode: str

    @classmethod
    def parse(cls, text: str) -> CellName:
        """Read the id of a cell; raises QnnRobustError for what is none."""
        parts = _CELL.fullmatch(text)
        if parts is None or not attacks.is_known(split_budget(parts[3])[0]):
            rule = "the id of a cell such as int8-square-linf-direct or sat-int8-pgd-transfer"
            raise expected(rule, cell=text)
        return cls(parts[1] or "", parts[2], parts[3], parts[4])

    def __str__(self) -> str:
        return f"{model_id(self.defense, self.width)}-{self.attack}-{self.mode}"


class CellNames:
    """Models -> names -> cells. `squeezing` holds the settings of --qnn-squeeze, if it was given;
    `budget_of` labels an attack's budget, where the run has several.

    Raises QnnRobustError for settings of squeezing that are none.
    """

    def __init__(
        self,
        subjects: Subjects,
        squeezing: Squeezing | None,
        budget_of: Callable[[Attack], str] = lambda _: "",
    ) -> None:
        self._subjects = subjects
        self._budget_of = budget_of
        self._squeezing = feature_squeezing(squeezing)
        self._squeezed: dict[int, Defended] = {}

    @property
    def squeezing(self) -> FeatureSqueezing:
        """The squeezing of the run; MissingError where none was asked for."""
        if self._squeezing is None:
            raise MissingError("no feature squeezing: give --qnn-squeeze BITS,WINDOW")
        return self._squeezing

    def cell(
        self, target: Model, attack: Attack, mode: str = "direct", source: Model | None = None
    ) -> Cell:
        """A cell of the matrix; `transfer` becomes `surrogate` where the float model is derived.

        Without a `source`, a model trained to resist attacks is attacked through its own float
        version, any other through the plain one.
        """
        budget = self._budget_of(attack)
        defense = self._defense_of(target)
        name = SQUEEZED if isinstance(target, Defended) else defense.name if defense else ""
        if mode == "direct":
            return Cell(target, attack, defense=name, budget=budget)
        if source is None and defense is not None:
            source = self.defended(defense.name, "float32")
        if source is None:
            source = self._subjects.of_width("float32").model
        twin = any(source is subject.model for subject in self._subjects.made.values())
        return Cell(target, attack, "surrogate" if twin else "transfer", source, name, budget)

    def plain_cells(self, attacks: Sequence[str]) -> tuple[str, ...]:
        """The ids of the plain cells that the tests of `attacks` (AttackPlan.runs) can have."""
        given = self._subjects.given
        widths = WIDTHS if "float32" in given else ("float32", *given)
        away = "transfer" if "float32" in given else "surrogate"
        cells = product(widths, attacks, ("direct", away))
        return tuple(
            f"{width}-{attack}-{mode}"
            for width, attack, mode in cells
            if (width, mode) != ("float32", away)
        )

    def squeezed(self, model: Model) -> Defended:
        """`model` behind the run's squeezing, the same object each time."""
        if id(model) not in self._squeezed:
            self._squeezed[id(model)] = Defended(model, self.squeezing)
        return self._squeezed[id(model)]

    def defended(self, name: str, width: str) -> Model:
        """The model of this width of --qnn-defended NAME; MissingError where there is none."""
        models = self._subjects.defenses[name].models
        if width not in models:
            raise MissingError(f"no {width} model among the files of {name}")
        return models[width]

    def name_of(self, model: Model) -> str | None:
        """The name that `model_named` finds the model by; None where the options name none."""
        if isinstance(model, Defended):
            network = self.name_of(model.base)
            ours = self._squeezed.get(id(model.base)) is model
            return f"{SQUEEZED}/{network}" if network and ours else None
        if defense := self._defense_of(model):
            return f"{defense.name}/{model.width}"
        plain = {**self._subjects.given, **self._subjects.made}
        return next((width for width, subject in plain.items() if subject.model is model), None)

    def model_named(self, name: str) -> Model:
        """The model that `name_of` names in another process of the same options."""
        first, _, rest = name.partition("/")
        if first == SQUEEZED:
            return self.squeezed(self.model_named(rest))
        return self.defended(first, rest) if rest else self._subjects.of_width(first).model

    def _defense_of(self, model: Model) -> Defense | None:
        """The defence that this very object is a model of; None for a plain model."""
        for defense in self._subjects.defenses.values():
            if any(model is defended for defended in defense.models.values()):
                return defense
        return None


def feature_squeezing(settings: Squeezing | None) -> FeatureSqueezing | None:
    """The defence with these settings; QnnRobustError where they are none."""
    return None if settings is None else FeatureSqueezing(settings.bit_depth, settings.window)
