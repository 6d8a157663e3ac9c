"""The evaluator: attacks cells, prefix by prefix and shard by shard, and remembers them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import Attack, AttackResult, Progress
from pytest_qnnrobust.attacks.registry import attack_id
from pytest_qnnrobust.evaluation.cache import ResultCache
from pytest_qnnrobust.evaluation.cache_keys import labels_key, shard_key
from pytest_qnnrobust.evaluation.cells import Cell, Outcome
from pytest_qnnrobust.metrics import norm_name
from pytest_qnnrobust.models.base import Model

Elsewhere = Callable[[Model, Attack, NDArray[np.int64]], "AttackResult | None"]
"""Function that runs an attack on samples, given by index, in other processes.

It returns None where this process has to run the attack itself.
"""

FIRST_PREFIX = 25
"""Number of samples in the first prefix, after which a sequential test looks first.

Each next prefix is longer by half, and by this number of samples at least.
"""


class Evaluator:
    """Evaluates cells on samples `x` (N, *input_shape), `y` (N,), and remembers the outcomes.

    With a `cache`, attacks run shard by shard and finished shards are kept on disk, where other
    processes find them: no two compute the same shard. No shards are kept under a `time_budget`,
    where a result depends on the machine.

    `elsewhere` is asked first to run an attack on some of the samples.

    Adversarial examples are remembered as well: one attack on the float model serves every target
    that its examples are transferred to.

    With `in_prefixes`, attacks run prefix by prefix (`prefixes`), each of which goes on from the
    one before: a cell that stops early has cost no more than its samples, and another call finds
    the same shards. A universal attack, or one with a `time_budget`, runs in one piece.
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
        """The adversarial examples of `attack` for `model` itself, on the first `samples`."""
        n = self._count(samples)
        key = (id(model), repr(attack), n)
        if key not in self._crafted:
            self._crafted[key] = (model, self._craft_by_prefix(model, attack, n))
        return self._crafted[key][1]

    def prefixes(self, attack: Attack) -> list[int]:
        """Lengths of the prefixes after which a sequential test looks, up to all samples."""
        n = len(self.y)
        sizes = [FIRST_PREFIX]
        while sizes[-1] < n:
            sizes.append(sizes[-1] + max(FIRST_PREFIX, sizes[-1] // 2))
        return [*sizes[:-1], n] if self.is_divisible(attack) else [n]

    def is_divisible(self, attack: Attack) -> bool:
        """Whether the result of a sample is the same whichever others are attacked with it."""
        return not attack.universal and self.time_budget is None

    def is_kept(self, model: Model, attack: Attack) -> bool:
        """Whether the cache has files for the attack on all samples, run without prefixes."""
        cache, shards = self._cache_for(model), _shards(attack, 0, len(self.y))
        return cache is not None and all(
            cache.has(self._key(model, attack, shard)) for shard in shards
        )

    def _cache_for(self, model: Model) -> ResultCache | None:
        return self.cache if model.digest and self.time_budget is None else None

    def _key(self, model: Model, attack: Attack, shard: NDArray[np.int64]) -> str:
        return shard_key(model, attack, self.x[shard], self.y[shard], shard, self.seed)

    def _craft_by_prefix(self, model: Model, attack: Attack, n: int) -> AttackResult:
        """Run the attack on the longest shorter prefix, which calls share, and then on the rest."""
        shorter = [size for size in self.prefixes(attack) if size < n] if self.in_prefixes else []
        if not shorter:
            return self._craft_range(model, attack, n)
        start = self.craft(model, attack, shorter[-1])
        return AttackResult.joined([start, self._craft_range(model, attack, n, shorter[-1])])

    def _craft_range(self, model: Model, attack: Attack, n: int, start: int = 0) -> AttackResult:
        """Run the attack on samples `start` to n - 1, shard by shard where there is a cache."""
        cache = self._cache_for(model)
        if cache is None:
            return self._run_anywhere(model, attack, np.arange(start, n), n)
        shards = _shards(attack, start, n)
        parts: dict[int, AttackResult] = {}
        # First the shards that nobody is at, then those that others had claimed.
        for wait in (False, True):
            for number in range(len(shards)):
                if number not in parts:
                    part = self._shard_from_cache(cache, model, attack, shards[number], n, wait)
                    if part is not None:
                        parts[number] = part
        return AttackResult.joined([parts[number] for number in range(len(shards))])

    def _shard_from_cache(
        self,
        cache: ResultCache,
        model: Model,
        attack: Attack,
        shard: NDArray[np.int64],
        n: int,
        wait: bool,
    ) -> AttackResult | None:
        """Read a shard from `cache`, or run and store it; None while another process is at it."""
        key = self._key(model, attack, shard)
        part = cache.load(key, len(shard))
        if part is not None:
            return part
        with cache.claim(key, wait) as mine:
            if not mine:
                return None
            part = cache.load(key, len(shard))
            if part is None:
                part = self._run_anywhere(model, attack, shard, n)
                cache.store(key, part)
            return part

    def _run_anywhere(
        self, model: Model, attack: Attack, shard: NDArray[np.int64], n: int
    ) -> AttackResult:
        """Run the attack on samples `shard`, in other processes where those take it."""
        result = self.elsewhere(model, attack, shard) if self.elsewhere else None
        return self.run_here(model, attack, shard, n) if result is None else result

    def run_here(
        self, model: Model, attack: Attack, shard: NDArray[np.int64], n: int | None = None
    ) -> AttackResult:
        """Run the attack on samples `shard`, in this process; progress counts up to `n`.

        Raises KeyboardInterrupt where the attack was interrupted: a part of it is no result.
        """
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
        """The model's decisions (N,) on all clean samples."""
        if id(model) not in self._clean:
            self._clean[id(model)] = (model, self.classify(model, self.x))
        return self._clean[id(model)][1]

    def classify(self, model: Model, x: NDArray[Any]) -> NDArray[np.int64]:
        """The model's decisions (n,) on x (n, *input_shape), from the cache where it has them."""
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
            **_budget(cell),
        )


def _shards(attack: Attack, start: int, n: int) -> list[NDArray[np.int64]]:
    """The samples `start` to n - 1 in the pieces that a cache keeps."""
    size = max(n, 1) if attack.universal else attack.batch
    return [np.arange(first, min(first + size, n)) for first in range(start, max(n, 1), size)]


def _budget(cell: Cell) -> dict[str, Any]:
    """The attack's budget, and the LSB of the target's input, as an outcome has them."""
    norm, eps = (getattr(cell.attack, name, None) for name in ("norm", "eps"))
    grid = cell.target.grid
    return {
        "norm": norm_name(norm) if eps is not None and norm is not None else "",
        "eps": None if eps is None else float(eps),
        "step": None if grid is None else float(grid.scale),
    }


def evaluate(cell: Cell, data: Iterable[NDArray[Any]], seed: int = 0) -> Outcome:
    """Evaluate a cell on all of `data` = (x, y): x (N, *input_shape) in model input units, y (N,).

    Nothing is cached. Raises QnnRobustError where the attack does not fit the model or the data.
    """
    x, y = data
    return Evaluator(x, y, seed).evaluate(cell)
