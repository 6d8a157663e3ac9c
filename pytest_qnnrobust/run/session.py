"""The session of one pytest run: it loads what the options name, evaluates cells, and is closed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust import disk
from pytest_qnnrobust.attacks import Attack, AttackResult, Progress
from pytest_qnnrobust.attacks.base import out_of_reach
from pytest_qnnrobust.claims.verdicts import Rule
from pytest_qnnrobust.compute.quiet import quiet
from pytest_qnnrobust.data.samples import Data
from pytest_qnnrobust.errors import FileChangedError, OutputError, QnnRobustError, expected
from pytest_qnnrobust.evaluation.cache import ResultCache
from pytest_qnnrobust.evaluation.cached_model import cached
from pytest_qnnrobust.evaluation.cells import Cell, Outcome, split_budget
from pytest_qnnrobust.evaluation.evaluator import Elsewhere, Evaluator
from pytest_qnnrobust.evaluation.worst_case import WORST
from pytest_qnnrobust.gate.baseline import CellComparison, check_limits
from pytest_qnnrobust.gate.gate import Gate, HeldTo, judge, read_held_to, update_baseline
from pytest_qnnrobust.gate.requirements import (
    UNRECORDED,
    Plan,
    Requirement,
    judge_all,
    requirements,
)
from pytest_qnnrobust.gate.stopping import Stopping, require_random_order
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.files import START_AGAIN
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.results import example_images, headline, kept_examples, provenance
from pytest_qnnrobust.results.document import DataRecord, RequirementRecord, Results
from pytest_qnnrobust.run import outputs
from pytest_qnnrobust.run.attack_plan import AttackPlan
from pytest_qnnrobust.run.cell_names import (
    FOR_THE_PLAIN_MODEL,
    SQUEEZED,
    CellName,
    CellNames,
    feature_squeezing,
)
from pytest_qnnrobust.run.gathered import Gathered
from pytest_qnnrobust.run.outputs import Output
from pytest_qnnrobust.run.subjects import (
    NO_DATA,
    MissingError,
    Subject,
    Subjects,
    model_records,
)
from pytest_qnnrobust.tflite import native
from pytest_qnnrobust.types import WIDTHS


class Session:
    """The state of a run in one process; `gathered` is what its tests report.

    Workers of pytest-xdist send what theirs gathered to the controller as plain data. `tried` are
    the outputs that are tried before models and data are read.
    """

    def __init__(self, options: Options, tried: Sequence[Output] = ()) -> None:
        self.options = options
        self.tried = tried
        self.rule = Rule(options.alpha, options.margin, options.drop)
        self.gathered = Gathered()
        self.gate = Gate()
        self.closed: Results | None = None
        self.written: list[Path] = []
        self.progress: Progress | None = None
        self.elsewhere: Elsewhere | None = None
        self._subjects: Subjects | None = None
        self._evaluator: Evaluator | None = None
        self._right: dict[int, NDArray[np.bool_]] = {}

    def load(self) -> None:
        """Read the models and data that the options name; QnnRobustError on the first bad one.

        What costs nothing to check is checked first: a mistake in a name must not cost a minute,
        nor a full disk an hour of attacks.
        """
        if self._subjects is not None:
            return
        options = self.options
        AttackPlan(options).check_names()
        feature_squeezing(options.squeeze)
        # Every report names the engine, that of a run without an integer model, too.
        native.library()
        for output in self.tried:
            output.try_out()
        if self.cache is not None:
            with self.cache.left_aside_if_refused():
                disk.try_folder(self.cache.folder)
        self._subjects = Subjects(options, self.cache, self._recorded_domain())
        self.attacks.check_eps()
        if options.sequential and self._subjects.data is not None:
            require_random_order(self._subjects.data.y)

    @property
    def subjects(self) -> Subjects:
        self.load()
        return cast(Subjects, self._subjects)

    def hold_to(self, digests: Mapping[str, str]) -> None:
        """Raise FileChangedError unless the process that began the run read the same files."""
        here = self.subjects.digests
        others = [name for name in {**digests, **here} if digests.get(name) != here.get(name)]
        if others:
            rule = "every worker to read the files that the run began with"
            raise expected(rule, other=others, cure=START_AGAIN, error=FileChangedError)

    @property
    def attacks(self) -> AttackPlan:
        """The attacks of the run, in the input domain of its models."""
        return AttackPlan(self.options, self.subjects.bounds, self.subjects.int8_step)

    @cached_property
    def cells(self) -> CellNames:
        """The models of the run by name, and the cells that they make."""
        return CellNames(self.subjects, self.options.squeeze, self.attacks.label_of)

    @property
    def clean_data(self) -> Data:
        """All samples; MissingError where no data was given."""
        if self.subjects.data is None:
            raise MissingError(NO_DATA)
        return self.subjects.data

    @property
    def data(self) -> Data:
        """The samples to attack, which are the first ones of `clean_data`."""
        return self.clean_data.first(self.attacks.samples)

    @property
    def evaluator(self) -> Evaluator:
        if self._evaluator is None:
            data, options = self.data, self.options
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
        """The cache of finished shards; None where the options name none."""
        folder = self.options.cache_dir
        return ResultCache(folder) if folder and not self.options.no_cache else None

    def tidy_cache(self) -> None:
        """Shrink the cache to --qnn-cache-size, and remove what killed runs left in it."""
        folder = self.options.cache_dir
        if folder and os.path.isdir(folder) and self.cache is not None:
            self.cache.tidy(self.options.cache_size)

    @property
    def cache_refusal(self) -> str:
        """Why the disk refused the cache, without which the run goes on; "" where it did not."""
        cache = vars(self).get("cache")
        return cache.refusal if cache is not None else ""

    @property
    def all_written(self) -> bool:
        """Whether the disk refused none of the outputs so far."""
        return not self.gathered.unwritten

    @contextmanager
    def writing(self, output: Output) -> Iterator[None]:
        """Write an output inside; where the disk refuses it, the run goes on to its summary."""
        try:
            with output.writing():
                yield
        except OutputError as error:
            self.gathered.unwritten.setdefault(output.option, str(error))

    def subject(self, width: str) -> Subject:
        """The model of this width, given or derived; MissingError says why there is none."""
        return self.subjects.of_width(width)

    def cell_named(self, cell_id: str) -> Cell:
        """The cell of this id; QnnRobustError where the run's options make no such cell."""
        name = CellName.parse(cell_id)
        attack, source = self.attacks.attack(name.attack), None
        if name.defense in ("", SQUEEZED):
            target = self.subject(name.width).model
            if name.defense and split_budget(name.attack)[0] in FOR_THE_PLAIN_MODEL:
                source = target
            target = self.cells.squeezed(target) if name.defense else target
        elif name.defense in self.subjects.defenses:
            target = self.cells.defended(name.defense, name.width)
        else:
            cure = f"give --qnn-defended {name.defense}=FILE[,FILE...]"
            raise expected("the files of a defence", cell=cell_id, cure=cure)
        mode = "direct" if name.mode == "direct" else "transfer"
        cell = self.cells.cell(target, attack, mode, None if mode == "direct" else source)
        if cell.id != cell_id:
            raise expected(
                "a cell of this run", cell=cell_id, cure=f"with these models it is {cell.id}"
            )
        if reason := out_of_reach(target, attack):
            raise expected("a budget of an input step or more", cell=cell.id, cure=reason)
        return cell

    def evaluate(
        self, cell: Cell, samples: int | None = None, record: bool = True, stop: bool = False
    ) -> Outcome:
        """The outcome of a cell on its first `samples`; `record` puts it into the summary.

        With `stop` and --qnn-sequential it ends once all claims about the cell are decided.
        """
        with quiet():
            if stop and samples is None and self.options.sequential:
                outcome = self._until_decided(cell)
            else:
                outcome = self.evaluator.evaluate(cell, samples)
        if record:
            self.gathered.keep_outcome(outcome)
            self._keep_image(cell, len(outcome))
            if (output := outputs.kept_examples(self.options)) is not None:
                self._write_examples(output, cell, outcome, samples)
        return outcome

    def craft(self, model: Model, attack: Attack, samples: int | None = None) -> AttackResult:
        """The adversarial examples of `attack` for `model`, and how it fared."""
        with quiet():
            return self.evaluator.craft(model, attack, samples)

    def is_kept(self, model: str, attack: str) -> bool:
        """Whether the cache has the results of an attack (AttackPlan.runs) on a model, which is
        named as `cells` does; False for one that was not given as it is.
        """
        first, _, rest = model.partition("/")
        network = rest if first == SQUEEZED else model
        subjects = self.subjects
        if network not in subjects.given and first not in subjects.defenses:
            return False
        return self.evaluator.is_kept(self.cells.model_named(model), self.attacks.attack(attack))

    def right_on_clean(self, model: Model) -> NDArray[np.bool_]:
        """Whether the model is right on each sample of `clean_data`, bool (N,)."""
        if id(model) not in self._right:
            data = self.clean_data
            self._right[id(model)] = self.evaluator.classify(model, data.x) == data.y
        return self._right[id(model)]

    def cached(self, model: Model) -> Model:
        """`model` for the queries that a test makes itself: the cache answers those that it can."""
        return cached(model, self.cache)

    def _until_decided(self, cell: Cell) -> Outcome:
        """The outcome on the first prefix after which no claim about the cell is open."""
        sizes = self.evaluator.prefixes(cell.attack)
        for size in sizes:
            outcome = self.evaluator.evaluate(cell, size)
            divisible = self.evaluator.is_divisible(cell.attack)
            records = self.stopping.judge(outcome, sizes[-1]) if divisible else []
            if not records:
                return self.evaluator.evaluate(cell)
            if all(record.value != "undecided" for record in records):
                break
        self.gathered.sequential.update({record.name: record for record in records})
        return outcome

    def _keep_image(self, cell: Cell, samples: int) -> None:
        """Keep an image that a direct attack fooled its target with, for the report."""
        if cell.mode == "direct":
            crafted = self.craft(cell.target, cell.attack, samples)
            example = example_images.of_cell(cell, crafted, *self.data)
            if example is not None:
                self.gathered.keep_example(example)

    def _write_examples(
        self, output: Output, cell: Cell, outcome: Outcome, samples: int | None
    ) -> None:
        """Write `<cell id>.npz`, with `~` and a digest for other settings than the run's own.

        The slash of a budget such as 8/255 is `_` in the name of the file.
        """
        crafted = self.craft(cell.source or cell.target, cell.attack, len(outcome))
        name = outcome.id.replace("/", "_")
        if samples is not None or not self.attacks.has(cell.attack):
            key = f"{outcome.key}|{samples}"
            name += f"~{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        digest = self.data.at(outcome.index).digest
        examples = kept_examples.of_cell(cell, outcome, crafted.x_adv, digest)
        with self.writing(output):
            kept_examples.write(output.path, name, examples)

    @cached_property
    def stopping(self) -> Stopping:
        """The claims that the cells are held to under --qnn-sequential, the same in every process.

        While a baseline is recorded nothing is claimed, so that it holds every sample.
        """
        options = self.options
        updating = options.update or options.update_new
        return Stopping(
            cells=() if updating else self.cells.plain_cells(self.attacks.runs),
            thresholds=options.min_accuracy,
            recorded=None if updating else self.held_to.results,
            limits=options.fail_if,
            data=self._data_record(),
            alpha=options.alpha,
        )

    @cached_property
    def held_to(self) -> HeldTo:
        """The baseline and the suppressions; QnnRobustError on a bad file."""
        held_to = read_held_to(self.options)
        recorded = held_to.results.outcomes if held_to.results else ()
        cells = [(outcome.model, outcome.attack, outcome.mode) for outcome in recorded]
        check_limits(self.options.fail_if, [*AttackPlan(self.options).possible_cells(), *cells])
        return held_to

    def _recorded_domain(self) -> tuple[float, float] | None:
        """The input domain of the run that this one is compared with, if there is one."""
        before = self.held_to.results
        if self.options.update or before is None or before.data is None:
            return None
        return before.data.low, before.data.high

    def _data_record(self) -> DataRecord | None:
        if self._subjects is None or self._subjects.data is None:
            return None
        return provenance.data_record(self.data, len(self.clean_data))

    def to_json(self) -> dict[str, Any]:
        """Everything that this process gathered, as a worker sends it: built-in types only."""
        self._take_stock()
        return self.gathered.to_json()

    def document(self, command: str) -> Results:
        """The results so far; `command` is the shell command that repeats the run."""
        self._take_stock()
        return self.gathered.results(command, self.options.to_json())

    def _take_stock(self) -> None:
        """Add to what was gathered the models and data that this process tested."""
        if self._subjects is not None:
            self.gathered.models.update(model_records(self._subjects))
            self.gathered.data = self._data_record() or self.gathered.data
        if self.cache_refusal:
            self.gathered.note("cache", self.cache_refusal)

    @cached_property
    def requirements(self) -> dict[str, Requirement]:
        """What the run as a whole is held to, by id; each is a test."""
        subjects = self.subjects
        models: list[str] = [
            width for width in WIDTHS if subjects.data and not subjects.missing(width)
        ]
        if "float32" not in subjects.given:
            models = models[1:]
        for defense in subjects.defenses.values():
            models += [f"{defense.name}-{width}" for width in defense.models]
        cells = self.cells.plain_cells(self.attacks.runs) if subjects.data else ()
        if "float32" not in subjects.given:
            cells = tuple(c for c in cells if c.endswith("-direct") and c[:7] != "float32")
        plan = Plan(models, self.attacks.budget_labels, "float32" in subjects.given, cells)
        return {one.id: one for one in requirements(self.options, self.held_to, plan)}

    def judge(self, command: str) -> list[RequirementRecord]:
        """Judge the requirements that were asked for, by what all tests gathered, in order."""
        asked = [self.requirements[name] for name in self.gathered.asked]
        cells = {one.subject for one in asked if one.kind == "baseline"}
        results = self.document(command)

        def is_asked(comparison: CellComparison) -> bool:
            new = comparison.status == "new" and UNRECORDED in cells
            return self.options.update or comparison.id in cells or new

        self.gate = judge(self.held_to, results, self.options, asked=is_asked)
        evidence = results, self.gate, self.held_to, self.options
        judged, every = judge_all(asked, *evidence)
        self.gathered.requirements = {record.name: record for record in every}
        return [*self._untold(every), *judged]

    def _untold(self, records: Iterable[RequirementRecord]) -> list[RequirementRecord]:
        """The cells below their thresholds that no failed test told of, each as a test."""
        told = tuple(self.gathered.failed.values())
        return [
            replace(record, name=f"test_threshold[{record.name}]")
            for record in records
            if record.value == "violated" and "[" not in record.name
            if record.name not in self.gathered.verdicts
            if not any(message.startswith(record.name) for message in told)
        ]

    def close(self, command: str, passed: bool) -> None:
        """Finish the document of a run that `passed` its tests or not, and update the baseline."""
        results = self.document(command)
        if self.held_to.results is not None:
            results = replace(results, comparison=self.gate.records)
        self.closed = results = headline.told(results, passed)
        if (output := outputs.new_baseline(self.options)) is not None:
            with self.writing(output):
                update_baseline(self.held_to, results, self.options)
                self.written.append(output.path)

    def measure_for(self, requirement: Requirement, failed_before: bool = False) -> None:
        """Attack what a requirement is about, where no test of this run does.

        A cell that no baseline records only where its test `failed_before`, for being new.
        """
        subject = requirement.subject
        if requirement.kind == "baseline" and self.held_to.results is not None:
            recorded = [o for o in self.held_to.results.outcomes if _is_about(subject, o)]
            new = [subject] if failed_before and subject != UNRECORDED else []
            names = [recorded[0].id] if recorded else new
        elif requirement.kind == "robust_accuracy":
            model = subject.partition(f"-{WORST}")[0]
            names = [f"{model}-{run}-direct" for run in self.attacks.runs]
        else:
            return
        measured = {outcome.id for outcome in self.gathered.outcomes.values()}
        for name in names:
            if name not in measured and CellName.parse(name).attack in self.attacks.runs:
                try:
                    self.evaluate(self.cell_named(name), stop=True)
                except FileChangedError:
                    raise
                except QnnRobustError:
                    # A cell that cannot be: its requirement says that there was nothing to judge.
                    continue


def _is_about(subject: str, outcome: Outcome) -> bool:
    """Whether the subject of a requirement is this recorded cell, or its model's clean accuracy."""
    return subject in (outcome.id, f"{outcome.model}-clean")
