"""One pytest run: its models, data and attacks, the cells it evaluates, and how it is closed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust import attacks, demo
from pytest_qnnrobust.attacks import (
    ArtAttack,
    ArtBudgetAttack,
    Attack,
    AttackResult,
    FixedBudgetAttack,
    Progress,
)
from pytest_qnnrobust.attacks.registry import attack_id
from pytest_qnnrobust.claims.verdicts import Rule
from pytest_qnnrobust.compute.quiet import quiet
from pytest_qnnrobust.data.samples import Data
from pytest_qnnrobust.defenses import Defended, FeatureSqueezing
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.evaluation.cache import ResultCache
from pytest_qnnrobust.evaluation.cached_model import cached
from pytest_qnnrobust.evaluation.cells import MODES, Cell, Outcome
from pytest_qnnrobust.evaluation.evaluator import Elsewhere, Evaluator
from pytest_qnnrobust.gate.closing import Gate, Recorded, judge, recorded, update
from pytest_qnnrobust.gate.stopping import Stopping, require_random_order, strictest
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.options.values import Threshold
from pytest_qnnrobust.results import example_images, kept_examples, provenance
from pytest_qnnrobust.results.document import DataRecord, ModelRecord, Results, SequentialRecord
from pytest_qnnrobust.run.gathered import Gathered
from pytest_qnnrobust.run.subjects import (
    NO_DATA,
    Defense,
    MissingError,
    Subject,
    Subjects,
    model_records,
)
from pytest_qnnrobust.types import WIDTHS

SAMPLES = {"smoke": 100, "standard": 120, "paper": 1000}
"""Samples attacked, by profile."""

SQUEEZED = "squeezed"
"""What the ids of cells behind feature squeezing start with."""


class Session(Gathered):
    """One per process; workers of pytest-xdist send theirs to the controller as plain data."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.rule = Rule(options.alpha, options.margin, options.drop)
        self.gate = Gate()
        self.written: list[Path] = []
        self.command = ""
        self.closed: Results | None = None
        self.progress: Progress | None = None
        self.elsewhere: Elsewhere | None = None
        self._subjects: Subjects | None = None
        self._evaluator: Evaluator | None = None
        self._right: dict[int, NDArray[np.bool_]] = {}
        self._squeezed: dict[int, Defended] = {}

    def load(self) -> None:
        """Read the models and data that the options name; QnnRobustError on the first bad one."""
        if self._subjects is None:
            self._check_cells()
            if self.options.squeeze is not None:
                _ = self.squeezing
            self._subjects = Subjects(self.options, self.cache, self._recorded_domain())
            self._check_eps()
            if self.options.keep_examples is not None:
                kept_examples.make_folder(self.options.keep_examples)
            if self.options.sequential and self._subjects.data is not None:
                require_random_order(self.data.y)

    @property
    def subjects(self) -> Subjects:
        self.load()
        return cast(Subjects, self._subjects)

    @property
    def samples(self) -> int:
        return self.options.samples or SAMPLES.get(self.options.profile, SAMPLES["paper"])

    @property
    def attack_ids(self) -> tuple[str, ...]:
        names = self.options.attacks or attacks.default(self.options.profile)
        more = demo.ATTACKS if self.options.demo and not self.options.attacks else ()
        return (*names, *(name for name in more if name not in names))

    @property
    def clean_data(self) -> Data:
        """All samples; MissingError where no data was given."""
        if self.subjects.data is None:
            raise MissingError(NO_DATA)
        return self.subjects.data

    @property
    def data(self) -> Data:
        """The samples to attack: the first ones of all."""
        return self.clean_data.first(self.samples)

    @property
    def evaluator(self) -> Evaluator:
        if self._evaluator is None:
            data = self.data
            options = self.options
            self._evaluator = Evaluator(
                data.x,
                data.y,
                seed=options.seed,
                time_budget=options.time_budget,
                progress=self.progress,
                cache=self.cache,
                elsewhere=self.elsewhere,
                in_prefixes=options.sequential,
            )
        return self._evaluator

    @cached_property
    def cache(self) -> ResultCache | None:
        """Where finished shards are kept, if anywhere."""
        folder = self.options.cache_dir
        return ResultCache(folder) if folder and not self.options.no_cache else None

    def tidy_cache(self) -> None:
        """What --qnn-cache-size asks for, after the last attack; and what killed runs left."""
        folder = self.options.cache_dir
        if folder and folder.is_dir() and self.cache is not None:
            self.cache.tidy(self.options.cache_size)

    def subject(self, width: str) -> Subject:
        """The model of this width, given or derived; MissingError says why there is none."""
        subject = self.subjects.of_width(width)
        self.derived.update(self.subjects.derived)
        return subject

    def attack(self, name: str) -> Attack:
        """The attack of this id at the profile's budget, in the domain of the models."""
        return self.scaled(attacks.preset(name, self.options.profile, self.span))

    def scaled(self, attack: Attack, eps: float | None = None) -> Attack:
        """`attack` with the Linf budget `eps` (default: the run's), its step in proportion."""
        norm = getattr(attack, "norm", None)
        if norm == float("inf"):
            eps = eps if eps is not None else self.eps
        else:
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

    @property
    def eps(self) -> float | None:
        """The Linf budget that replaces the profile's; None: there is none."""
        if self.options.eps is None and self.options.demo:
            return demo.EPS[float("inf")]
        return self.options.eps

    @property
    def span(self) -> float:
        """The width of the input domain, high - low."""
        low, high = self.subjects.bounds
        return high - low

    def cell(
        self, target: Model, attack: Attack, mode: str = "direct", source: Model | None = None
    ) -> Cell:
        """A cell of the matrix; `transfer` becomes `surrogate` where the float model is derived.

        Without a `source`, a model trained to resist attacks is attacked through its own float
        version, any other through the plain one.
        """
        defense = self._defense_of(target)
        name = SQUEEZED if isinstance(target, Defended) else defense.name if defense else ""
        if mode == "direct":
            return Cell(target, attack, defense=name)
        if source is None and defense is not None:
            source = self.defended(defense.name, "float32")
        if source is None:
            source = self.subject("float32").model
        twin = any(source is made.model for made in self.subjects.made.values())
        return Cell(target, attack, "surrogate" if twin else "transfer", source, name)

    @property
    def squeezing(self) -> FeatureSqueezing:
        """The squeezing of the run; MissingError where none was asked for."""
        asked = self.options.squeeze
        if asked is None:
            raise MissingError("no feature squeezing: give --qnn-squeeze BITS,WINDOW")
        return FeatureSqueezing(asked.bit_depth, asked.window)

    def squeezed(self, model: Model) -> Defended:
        """`model` behind the run's squeezing, the same object each time."""
        if id(model) not in self._squeezed:
            self._squeezed[id(model)] = Defended(model, self.squeezing)
        return self._squeezed[id(model)]

    def defended(self, name: str, width: str) -> Model:
        """The model of this width of --qnn-defended NAME; MissingError where there is none."""
        models = self.subjects.defenses[name].models
        if width not in models:
            raise MissingError(f"no {width} model among the files of {name}")
        return models[width]

    def name_of(self, model: Model) -> str | None:
        """What `model_named` finds the model by; None for one that the options do not name."""
        if isinstance(model, Defended):
            network = self.name_of(model.base)
            known = network and self._squeezed.get(id(model.base)) is model
            return f"{SQUEEZED}/{network}" if known else None
        if defense := self._defense_of(model):
            return f"{defense.name}/{model.width}"
        named = {**self.subjects.given, **self.subjects.made}
        return next((width for width, one in named.items() if one.model is model), None)

    def model_named(self, name: str) -> Model:
        """The model that `name_of` names in another process of the same options."""
        first, _, rest = name.partition("/")
        if first == SQUEEZED:
            return self.squeezed(self.model_named(rest))
        return self.defended(first, rest) if rest else self.subject(first).model

    def _defense_of(self, model: Model) -> Defense | None:
        for defense in self.subjects.defenses.values():
            if any(model is one for one in defense.models.values()):
                return defense
        return None

    def evaluate(
        self, cell: Cell, samples: int | None = None, record: bool = True, stop: bool = False
    ) -> Outcome:
        """The outcome of a cell; `record` puts it into the summary.

        With `stop` and --qnn-sequential it ends once all that the cell is held to is decided.
        """
        with quiet():
            if stop and samples is None and self.options.sequential:
                outcome = self._until_decided(cell)
            else:
                outcome = self.evaluator.evaluate(cell, samples)
        if record:
            self.keep(outcome)
            self._keep_example(cell, len(outcome))
            if self.options.keep_examples is not None:
                self._write_examples(self.options.keep_examples, cell, outcome, samples)
        return outcome

    def _write_examples(
        self, folder: Path, cell: Cell, outcome: Outcome, samples: int | None
    ) -> None:
        """`<cell id>.npz`, with `~` and a digest for other settings than the run's own."""
        crafted = self.craft(cell.source or cell.target, cell.attack, len(outcome))
        name = outcome.id
        if samples is not None or not self._is_own(cell.attack):
            key = f"{outcome.key}|{samples}"
            name += f"~{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        digest = self.data.at(outcome.index).digest
        examples = kept_examples.of_cell(cell, outcome, crafted.x_adv, digest)
        kept_examples.write(folder, name, examples)

    def _is_own(self, attack: Attack) -> bool:
        """Whether the run's options make this attack of its id."""
        name = attack_id(attack)
        return name in self.attack_ids and repr(self.attack(name)) == repr(attack)

    def _until_decided(self, cell: Cell) -> Outcome:
        """The outcome on the first prefix after which no claim about the cell is open."""
        sizes = self.evaluator.prefixes(cell.attack)
        for size in sizes:
            outcome = self.evaluator.evaluate(cell, size)
            divisible = self.evaluator.is_divisible(cell.attack)
            found = self.stopping.judge(outcome, sizes[-1]) if divisible else []
            if not found:
                return self.evaluator.evaluate(cell)
            if all(one.value != "undecided" for one in found):
                break
        self.sequential.update({one.name: one for one in found})
        return outcome

    @cached_property
    def stopping(self) -> Stopping:
        """What the cells are held to under --qnn-sequential: the same in every process.

        While a baseline is recorded nothing is claimed, so that it holds every sample.
        """
        options = self.options
        updating = options.update or options.update_new
        return Stopping(
            cells=() if updating else self._own_cells(),
            thresholds=options.min_accuracy,
            recorded=None if updating else self.held_to.results,
            limits=options.fail_if,
            data=self.data_record(),
            alpha=options.alpha,
        )

    def _own_cells(self) -> tuple[str, ...]:
        """The ids of the plain cells that the tests of attacks can have, directly or not."""
        given = self.subjects.given
        widths = WIDTHS if "float32" in given else ("float32", *given)
        away = "transfer" if "float32" in given else "surrogate"
        cells = product(widths, self.attack_ids, ("direct", away))
        return tuple(
            f"{width}-{attack}-{mode}"
            for width, attack, mode in cells
            if (width, mode) != ("float32", away)
        )

    def watched(self, cell: str) -> SequentialRecord | None:
        """What the sequential test says of the cell's --qnn-min-accuracy, if it watched it."""
        return self.sequential.get(f"{cell} threshold")

    def _keep_example(self, cell: Cell, samples: int) -> None:
        if cell.mode == "direct" and cell.id not in self.examples:
            crafted = self.craft(cell.target, cell.attack, samples)
            example = example_images.first_fooled(cell, crafted, *self.data)
            if example is not None:
                self.examples[cell.id] = example

    def craft(self, model: Model, attack: Attack, samples: int | None = None) -> AttackResult:
        with quiet():
            return self.evaluator.craft(model, attack, samples)

    def right_on_clean(self, model: Model) -> NDArray[np.bool_]:
        """Whether the model is right, for each sample of `clean_data`."""
        if id(model) not in self._right:
            data = self.clean_data
            self._right[id(model)] = self.evaluator.classify(model, data.x) == data.y
        return self._right[id(model)]

    def cached(self, model: Model) -> Model:
        """`model` for the questions that a test asks itself: what the cache knows is not asked."""
        return cached(model, self.cache)

    def threshold(self, outcome: Outcome) -> Threshold | None:
        """The strictest threshold that applies to the cell."""
        return strictest(self.options.min_accuracy, outcome.id)

    def data_record(self) -> DataRecord | None:
        if self._subjects is None or self.subjects.data is None:
            return super().data_record()
        return provenance.data_record(self.data, len(self.clean_data))

    def model_records(self) -> list[ModelRecord]:
        own = model_records(self.subjects) if self._subjects is not None else []
        return provenance.in_order([*super().model_records(), *own])

    @cached_property
    def held_to(self) -> Recorded:
        """Read before the first test; QnnRobustError on a bad file."""
        return recorded(self.options)

    def _recorded_domain(self) -> tuple[float, float] | None:
        """The input domain of the run that this one is compared with, if there is one."""
        before = self.held_to.results
        if self.options.update or before is None or before.data is None:
            return None
        return before.data.low, before.data.high

    def close(self, command: str) -> bool:
        """Compare with the baseline, record and report; whether the run may pass."""
        self.command = command
        found = self.results(command, self.options.to_json())
        self.gate = judge(self.held_to, found, self.options)
        below = [one.id for one in self.outcomes.values() if self.is_below(one)]
        if self.held_to.results is not None:
            found = replace(found, comparison=self.gate.records)
        self.closed = found
        updated = update(self.held_to, found, self.options)
        self.written += [updated] if updated else []
        return not (self.gate.problems or below)

    def is_below(self, outcome: Outcome) -> bool:
        """Whether the cell has less than its --qnn-min-accuracy: surely, where it was watched."""
        if (record := self.watched(outcome.id)) is not None:
            return record.value == "violated"
        threshold = self.threshold(outcome)
        return threshold is not None and outcome.accuracy < threshold.accuracy

    def _check_eps(self) -> None:
        if self.eps is not None and self.eps > self.span:
            cure = f"the inputs are in {self.subjects.bounds}"
            raise expected(f"--qnn-eps to be in (0, {self.span:g}]", eps=self.eps, cure=cure)

    def _check_cells(self) -> None:
        if self.options.profile not in attacks.PROFILES:
            rule = f"--qnn-profile to be one of {', '.join(attacks.PROFILES)}"
            raise expected(rule, profile=self.options.profile)
        for name in self.attack_ids:
            if not attacks.is_known(name):
                known = ", ".join(attacks.available())
                rule = f"--qnn-attack to be among {known}, or art:NAME"
                raise expected(rule, attack=name)
            attacks.preset(name, self.options.profile)
        squeezed = [f"{SQUEEZED}-"] if self.options.squeeze else []
        names = ["", *squeezed, *(f"{files.name}-" for files in self.options.defended)]
        attacked = product(names, WIDTHS, self.attack_ids, MODES)
        ids = [f"{name}{width}-{attack}-{mode}" for name, width, attack, mode in attacked]
        for threshold in self.options.min_accuracy:
            if not any(threshold.pattern in cell for cell in ids):
                rule = "--qnn-min-accuracy to name a cell such as int8-square-linf-direct"
                raise expected(rule, cell=threshold.pattern)
