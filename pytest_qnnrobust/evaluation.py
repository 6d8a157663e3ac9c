"""Cells (model x attack x mode) and their outcomes, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust import metrics
from pytest_qnnrobust.attacks import Attack, AttackResult, Progress
from pytest_qnnrobust.attacks.registry import attack_id
from pytest_qnnrobust.cache import ResultCache, labels_key, shard_key
from pytest_qnnrobust.errors import DataError, expected
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.statistics import paired

Mode = Literal["direct", "transfer", "surrogate"]
Elsewhere = Callable[[Model, Attack, NDArray[np.int64]], "AttackResult | None"]
"""Computes an attack on samples of the run in other processes; None: this one has to."""

MODES: tuple[Mode, ...] = ("direct", "transfer", "surrogate")

FIRST_PREFIX = 25
"""Samples after which a sequential test looks first; the next prefix is half as long again, and by
as many samples longer at least."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One attack on one model.

    `direct`: the attack asks `target` itself. `transfer`: it attacks the float model `source`, and
    what it found is given to `target`. `surrogate`: the same with the dequantized twin of an
    integer file as `source`. `defense` names what `target` was trained or wrapped with, if
    anything.
    """

    target: Model
    attack: Attack
    mode: Mode = "direct"
    source: Model | None = None
    defense: str = ""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise expected(f"mode to be one of {', '.join(MODES)}", mode=self.mode)
        if (self.source is None) != (self.mode == "direct"):
            source = self.source.name if self.source else None
            rule = "a source model for mode transfer or surrogate, and none for direct"
            raise expected(rule, mode=self.mode, source=source)

    @property
    def id(self) -> str:
        """Such as `int8-pgd-direct` or `sat-int8-pgd-direct`: what thresholds and reports name."""
        parts = (self.defense, self.target.width, attack_id(self.attack), self.mode)
        return "-".join(filter(None, parts))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one cell did to N samples; every array has length N.

    A sample that was wrong before the attack counts as wrong in every accuracy. Distances are
    float64 in model input units, `l0` in elements: between the clean image and the adversarial one
    as the attacked model sees them (in a transfer cell: as the source does). `gradient` says where
    a white-box attack had its gradients from (Model.with_gradient). `queries` and
    `gradients` are those of the attack, without the grading; `exhausted` marks samples that a
    budget cut short.
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

    def __len__(self) -> int:
        return len(self.label)

    @property
    def key(self) -> str:
        """Equal for the same cell at the same settings, in whichever process it was computed."""
        parts = (self.id, self.target, self.source, self.runtime, self.gradient, self.settings)
        return "|".join(map(str, (*parts, self.seed)))

    @property
    def clean_correct(self) -> NDArray[np.bool_]:
        return np.asarray(self.clean_label == self.label)

    @property
    def robust(self) -> NDArray[np.bool_]:
        """Right before the attack and still right after it."""
        return np.asarray(self.clean_correct & (self.adv_label == self.label))

    @property
    def fooled(self) -> NDArray[np.bool_]:
        """Right before the attack and wrong after it."""
        return np.asarray(self.clean_correct & (self.adv_label != self.label))

    @property
    def clean_accuracy(self) -> float:
        return float(np.mean(self.clean_correct)) if len(self) else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of all samples that the model classifies correctly under attack."""
        return metrics.adversarial_accuracy(self.label, self.clean_label, self.adv_label)

    def interval(self, level: float = 0.95) -> paired.Interval:
        """Clopper-Pearson interval of `accuracy`."""
        return paired.proportion_interval(int(self.robust.sum()), len(self), level)

    def mean_distance(self, norm: Literal["l0", "l1", "l2", "linf"]) -> float:
        """Mean over the samples that the attack fooled; NaN where there is none."""
        return metrics.mean_distance(getattr(self, norm), self.fooled)

    def to_json(self) -> dict[str, Any]:
        """Built-in types only; `from_json` brings back an equal outcome."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Outcome:
        """Raises DataError where a field is missing, unknown or of another length."""
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            wrong = sorted(names ^ set(values))
            raise expected("the fields of an outcome", missing_or_unknown=wrong, error=DataError)
        loaded = dict(values)
        for name, dtype in _ARRAYS.items():
            loaded[name] = np.asarray(values[name], dtype)
            if loaded[name].shape != (len(values["label"]),):
                shape = loaded[name].shape
                rule = f"{name} to hold one value per sample"
                raise expected(rule, shape=shape, error=DataError)
        return cls(**loaded)


_ARRAYS: dict[str, type] = {
    **dict.fromkeys(("index", "label", "clean_label", "adv_label", "queries", "gradients"), int),
    **dict.fromkeys(("l0", "l1", "l2", "linf"), float),
    "exhausted": bool,
}


class Evaluator:
    """Evaluates cells on samples `x` (N, *input_shape), `y` (N,), and remembers what it computed.

    With a `cache`, attacks run shard by shard and finished shards are kept on disk, where other
    processes find them: no two compute the same shard. Not with a `time_budget`, under which a
    result depends on the machine.

    `elsewhere` is asked first to compute an attack on some of the samples.

    What an attack found on a source is kept as well: one attack on the float model serves every
    target that its examples are transferred to.

    With `in_prefixes`, attacks run prefix by prefix (`prefixes`), each of which goes on from the
    one before: a cell that stops early has cost no more than its samples, and another call finds
    the same shards. Not so a universal attack or one with a `time_budget`, which are one piece.
    """

    def __init__(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        seed: int = 0,
        time_budget: float | None = None,
        progress: Progress | None = None,
        cache: ResultCache | None = None,
        elsewhere: Elsewhere | None = None,
        in_prefixes: bool = False,
    ) -> None:
        self.x = np.asarray(x)
        self.y = np.asarray(y, np.int64)
        self.seed = seed
        self.time_budget = time_budget
        self.progress = progress
        self.cache = cache
        self.elsewhere = elsewhere
        self.in_prefixes = in_prefixes
        self._crafted: dict[tuple[int, str, int], tuple[Model, AttackResult]] = {}
        self._outcomes: dict[tuple[int, int, str, str, int], tuple[Cell, Outcome]] = {}
        self._clean: dict[int, tuple[Model, NDArray[np.int64]]] = {}

    def evaluate(self, cell: Cell, samples: int | None = None) -> Outcome:
        """The outcome of the cell on the first `samples` samples (default: all)."""
        n = self._count(samples)
        key = (id(cell.target), id(cell.source), cell.id, repr(cell.attack), n)
        if key not in self._outcomes:
            self._outcomes[key] = cell, self._compute(cell, n)
        return self._outcomes[key][1]

    def craft(self, model: Model, attack: Attack, samples: int | None = None) -> AttackResult:
        """What `attack` finds on `model` itself, adversarial images included."""
        n = self._count(samples)
        key = (id(model), repr(attack), n)
        if key not in self._crafted:
            self._crafted[key] = (model, self._craft(model, attack, n))
        return self._crafted[key][1]

    def prefixes(self, attack: Attack) -> list[int]:
        """How many samples a sequential test looks at: ever more, all of them at last."""
        n = len(self.y)
        found = [FIRST_PREFIX]
        while found[-1] < n:
            found.append(found[-1] + max(FIRST_PREFIX, found[-1] // 2))
        return [*found[:-1], n] if self.is_divisible(attack) else [n]

    def is_divisible(self, attack: Attack) -> bool:
        """Whether a part of the samples has the results that it has among all of them."""
        return not attack.universal and self.time_budget is None

    def _craft(self, model: Model, attack: Attack, n: int) -> AttackResult:
        known = [size for size in self.prefixes(attack) if size < n] if self.in_prefixes else []
        if not known:
            return self._attack(model, attack, n)
        start = self.craft(model, attack, known[-1])
        return AttackResult.joined([start, self._attack(model, attack, n, known[-1])])

    def _attack(self, model: Model, attack: Attack, n: int, start: int = 0) -> AttackResult:
        """What the attack finds on samples `start` to n - 1."""
        cache = self.cache if model.digest and self.time_budget is None else None
        if cache is None:
            return self._found(model, attack, np.arange(start, n), n)
        size = max(n, 1) if attack.universal else attack.batch
        starts = range(start, max(n, 1), size)
        shards = [np.arange(first, min(first + size, n)) for first in starts]
        parts: dict[int, AttackResult] = {}
        for wait in (False, True):
            for number in range(len(shards)):
                if number not in parts:
                    part = self._shared(cache, model, attack, shards[number], n, wait)
                    if part is not None:
                        parts[number] = part
        return AttackResult.joined([parts[number] for number in range(len(shards))])

    def _shared(
        self,
        cache: ResultCache,
        model: Model,
        attack: Attack,
        shard: NDArray[np.int64],
        n: int,
        wait: bool,
    ) -> AttackResult | None:
        """The shard from `cache`, or computed and put there; None: another process is at it."""
        key = shard_key(model, attack, self.x[shard], self.y[shard], shard, self.seed)
        part = cache.load(key, len(shard))
        if part is not None:
            return part
        with cache.claim(key, wait) as mine:
            if not mine:
                return None
            part = cache.load(key, len(shard))
            if part is None:
                part = self._found(model, attack, shard, n)
                cache.store(key, part)
            return part

    def _found(
        self, model: Model, attack: Attack, shard: NDArray[np.int64], n: int
    ) -> AttackResult:
        result = self.elsewhere(model, attack, shard) if self.elsewhere else None
        return self.attack(model, attack, shard, n) if result is None else result

    def attack(
        self, model: Model, attack: Attack, shard: NDArray[np.int64], n: int | None = None
    ) -> AttackResult:
        """The attack on samples `shard`, here and now; progress counts up to `n`."""
        n = self._count(n)

        def watch(done: int, attacked: int, text: str) -> None:
            if self.progress is not None:
                self.progress(int(shard[0]) + done * len(shard) // attacked, n, text)

        result = attack(
            model,
            self.x[shard],
            self.y[shard],
            seed=self.seed,
            index=shard,
            time_budget=self.time_budget,
            progress=watch,
        )
        if result.interrupted:
            raise KeyboardInterrupt
        return result

    def clean_labels(self, model: Model) -> NDArray[np.int64]:
        """The model's decisions on the whole clean data set."""
        if id(model) not in self._clean:
            self._clean[id(model)] = (model, self.classify(model, self.x))
        return self._clean[id(model)][1]

    def classify(self, model: Model, x: NDArray[Any]) -> NDArray[np.int64]:
        """The model's decisions on x (n, *input_shape), from the cache where they are in it."""
        if self.cache is None or not model.digest:
            return model.classify(x)
        key = labels_key(model, x)
        labels = self.cache.load_labels(key, len(x))
        if labels is None:
            labels = model.classify(x)
            self.cache.store_labels(key, labels)
        return labels

    def _count(self, samples: int | None) -> int:
        return len(self.y) if samples is None else min(samples, len(self.y))

    def _compute(self, cell: Cell, n: int) -> Outcome:
        attacked = cell.source or cell.target
        crafted = self.craft(attacked, cell.attack, n)
        clean_label, adv_label = crafted.clean_label, crafted.adv_label
        if cell.source is not None:
            low, high = cell.target.bounds
            clean_label = self.clean_labels(cell.target)[:n]
            adv_label = self.classify(cell.target, np.clip(crafted.x_adv, low, high))
        return Outcome(
            id=cell.id,
            target=cell.target.name,
            width=cell.target.width,
            runtime=cell.target.runtime,
            attack=attack_id(cell.attack),
            settings=repr(cell.attack),
            mode=cell.mode,
            defense=cell.defense,
            source=cell.source.name if cell.source else None,
            gradient=attacked.gradient_source if cell.attack.knowledge == "white" else None,
            seed=self.seed,
            seconds=crafted.seconds,
            index=np.arange(n),
            label=self.y[:n],
            clean_label=clean_label,
            adv_label=adv_label,
            queries=crafted.queries,
            gradients=crafted.gradients,
            l0=crafted.l0,
            l1=crafted.l1,
            l2=crafted.l2,
            linf=crafted.linf,
            exhausted=crafted.exhausted,
        )


def evaluate(cell: Cell, data: Iterable[NDArray[Any]], seed: int = 0) -> Outcome:
    """Attack all of `data` = (x, y) as the cell says; nothing is remembered."""
    x, y = data
    return Evaluator(x, y, seed).evaluate(cell)
