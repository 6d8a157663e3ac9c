"""Cells (model x attack x mode) and their outcomes, sample by sample."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust import metrics
from pytest_qnnrobust.attacks import Attack
from pytest_qnnrobust.attacks.registry import attack_id
from pytest_qnnrobust.errors import DataError, expected
from pytest_qnnrobust.evaluation.sample_arrays import array_types, check_arrays, pack, unpack
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.statistics import paired

Mode = Literal["direct", "transfer", "surrogate"]

MODES: tuple[Mode, ...] = ("direct", "transfer", "surrogate")

_BUDGET = re.compile(r"(.+?)-(\d.*)")
"""An attack's id and the label of its budget, which begins with a digit: `pgd-8/255`."""


def budget_name(eps: float) -> str:
    """A budget as it is commonly written: `8/255`, where it is one, else `0.05`."""
    levels = eps * 255
    whole = round(levels)
    if 0 < whole < 255 and math.isclose(levels, whole, rel_tol=1e-4):
        return f"{whole}/255"
    return f"{eps:.4g}"


def split_budget(name: str) -> tuple[str, str]:
    """The attack's id and the label of its budget, "" where `name` has none: `pgd-8/255`."""
    parts = _BUDGET.fullmatch(name)
    return (parts[1], parts[2]) if parts else (name, "")


def model_id(defense: str, width: str) -> str:
    """The model as ids name it: `int8`, or `sat-int8` with a defence."""
    return f"{defense}-{width}" if defense else width


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell of the matrix: one attack on one model, in one mode.

    In mode `direct` the attack queries `target` itself. In mode `transfer` it attacks the float
    model `source`, and its examples are given to `target`; `surrogate` is the same with the
    dequantized twin of an integer file as `source`. `defense` names what `target` was trained or
    wrapped with, `budget` the attack's budget of several that a run has, if anything.

    Raises QnnRobustError for an unknown mode, for a direct cell with a source and for another one
    without.
    """

    target: Model
    attack: Attack
    mode: Mode = "direct"
    source: Model | None = None
    defense: str = ""
    budget: str = ""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise expected(f"mode to be one of {', '.join(MODES)}", mode=self.mode)
        if (self.source is None) != (self.mode == "direct"):
            source = self.source.name if self.source else None
            rule = "a source model for mode transfer or surrogate, and none for direct"
            raise expected(rule, mode=self.mode, source=source)

    @property
    def id(self) -> str:
        """The id that thresholds and reports name, such as `int8-pgd-direct` or, with a defence and
        one of several budgets, `sat-int8-pgd-8/255-direct`.
        """
        model = model_id(self.defense, self.target.width)
        parts = (model, attack_id(self.attack), self.budget, self.mode)
        return "-".join(filter(None, parts))


@dataclass(frozen=True, eq=False)
class Outcome:
    """The outcome of a cell on N samples; every array is (N,).

    `index` holds the positions of the samples in the data, `label` their true labels, `clean_label`
    and `adv_label` what `target` decides before and after the attack. A sample that was wrong
    before counts as wrong in every accuracy. Distances are float64 in model input units, `l0` in
    elements: between the clean image and the adversarial one as the attacked model sees them (in a
    transfer cell: as the source does). `gradient` says where a white-box attack had its gradients
    from (Model.with_gradient). `queries` and `gradients` are those of the attack, without the
    grading; `exhausted` marks samples that a budget cut short. `seconds` is the time of the attack
    when it was computed.

    `norm` and `eps` are those of the attack's budget, `step` is the LSB of the target's input, both
    lengths in model input units; None, or "", where there is none or a document is too old to say.
    """

    id: str
    target: str
    width: str
    runtime: str
    attack: str
    settings: str
    mode: str
    defense: str
    source: str | None
    gradient: str | None
    seed: int
    seconds: float
    index: NDArray[np.int64]
    label: NDArray[np.int64]
    clean_label: NDArray[np.int64]
    adv_label: NDArray[np.int64]
    queries: NDArray[np.int64]
    gradients: NDArray[np.int64]
    l0: NDArray[np.float64]
    l1: NDArray[np.float64]
    l2: NDArray[np.float64]
    linf: NDArray[np.float64]
    exhausted: NDArray[np.bool_]
    norm: str = ""
    eps: float | None = None
    step: float | None = None

    def __len__(self) -> int:
        return len(self.label)

    @property
    def key(self) -> str:
        """The cell with its settings, in a string that is the same in every process."""
        parts = (self.id, self.target, self.source, self.runtime, self.gradient, self.settings)
        return "|".join(map(str, (*parts, self.seed)))

    @property
    def model(self) -> str:
        """The model as ids name it, such as `int8` or `sat-int8`."""
        return model_id(self.defense, self.width)

    @property
    def budget(self) -> str:
        """The budget in words, such as `Linf 0.00784 = 2 int8 steps`; "" without one."""
        if self.eps is None:
            return ""
        steps = ""
        if self.step is not None and self.norm == "linf":
            steps = f" = {self.eps / self.step:.4g} {self.width} steps"
        return f"{self.norm.capitalize()} {self.eps:.3g}{steps}"

    @property
    def budget_label(self) -> str:
        """The label of the budget, such as `8/255`: that of the id, else of the length."""
        _, label = split_budget(self.id.removesuffix(f"-{self.mode}").rpartition(self.width)[2])
        return label or ("" if self.eps is None else budget_name(self.eps))

    @property
    def clean_correct(self) -> NDArray[np.bool_]:
        """Whether each sample was right before the attack, (N,)."""
        return np.asarray(self.clean_label == self.label)

    @property
    def robust(self) -> NDArray[np.bool_]:
        """Whether each sample was right before the attack and still is after it, (N,)."""
        return np.asarray(self.clean_correct & (self.adv_label == self.label))

    @property
    def fooled(self) -> NDArray[np.bool_]:
        """Whether each sample was right before the attack and is wrong after it, (N,)."""
        return np.asarray(self.clean_correct & (self.adv_label != self.label))

    @property
    def clean_accuracy(self) -> float:
        """Share of the samples that were right before the attack; NaN where there are none."""
        return float(np.mean(self.clean_correct)) if len(self) else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of all samples that were right before the attack and still are after it."""
        return metrics.adversarial_accuracy(self.label, self.clean_label, self.adv_label)

    def interval(self, level: float = 0.95) -> paired.Interval:
        """Clopper-Pearson interval of `accuracy` at the confidence `level`."""
        return paired.proportion_interval(int(self.robust.sum()), len(self), level)

    def mean_distance(self, norm: Literal["l0", "l1", "l2", "linf"]) -> float:
        """Mean distance over the samples that the attack fooled; NaN where there are none."""
        return metrics.mean_distance(getattr(self, norm), self.fooled)

    def to_json(self) -> dict[str, Any]:
        """The outcome as built-in types, from which `from_json` makes an equal one."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: pack(v) if isinstance(v, np.ndarray) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Outcome:
        """Read what `to_json` wrote.

        Raises DataError where a field is missing, unknown or of another type or length.
        """
        names = {field.name for field in fields(cls)}
        required = {field.name for field in fields(cls) if field.default is MISSING}
        if not required <= set(values) <= names:
            wrong = sorted((required - set(values)) | (set(values) - names))
            raise expected("the fields of an outcome", missing_or_unknown=wrong, error=DataError)
        try:
            arrays = {name: unpack(values[name]) for name in array_types(cls)}
            check_arrays(cls, arrays)
        except (KeyError, TypeError, ValueError) as error:
            rule = "arrays of one value for each sample"
            raise expected(rule, reason=str(error), error=DataError) from None
        return cls(**{**values, **arrays})
