"""The models and data that the options name, read once, and the widths derived from them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.compute.processors import share_processors
from pytest_qnnrobust.compute.quiet import quiet
from pytest_qnnrobust.data.samples import Data, load_data
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import FileChangedError, ModelFileError, QnnRobustError, expected
from pytest_qnnrobust.evaluation.cache import ResultCache
from pytest_qnnrobust.evaluation.cache_keys import converted_key, facts_key
from pytest_qnnrobust.evaluation.cached_model import cached
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.files import KERAS_SUFFIXES, ModelFile, read_model_file
from pytest_qnnrobust.models.lazy import FileFacts
from pytest_qnnrobust.models.load import load_checked
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.options.values import DIGITS, DefendedFiles
from pytest_qnnrobust.results.document import ModelRecord
from pytest_qnnrobust.results.provenance import DERIVED, in_order
from pytest_qnnrobust.types import WIDTHS

CALIBRATION_SAMPLES = 200

CLEAN_SAMPLES = 10_000
"""Largest number of samples that are classified without an attack, which costs little."""

NO_DATA = "no data: give --qnn-data SOURCE, or qnn_data in the ini file"


class MissingError(QnnRobustError):
    """Something that a test needs was neither given nor can be derived: the reason to skip it."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under test, and where it came from; `derived` when the user did not give it."""

    model: Model
    origin: str
    derived: bool = False


@dataclass(frozen=True, eq=False)
class Defense:
    """A network trained to resist attacks, by width; `name` is the user's."""

    name: str
    models: dict[str, Model]


class Subjects:
    """The subjects of a run: the models that were given, those derived from them, and the data.

    `given` are the plain models by width, `defenses` those of --qnn-defended by name, `data` the
    labelled samples, None where none were given. Everything is read at construction, which raises
    QnnRobustError, one line, for the first bad file. Facts about a file that `cache` holds are
    taken from there.
    """

    def __init__(
        self,
        options: Options,
        cache: ResultCache | None = None,
        recorded_domain: tuple[float, float] | None = None,
    ) -> None:
        self.options = options
        self._cache = cache
        self._derived: dict[str, Subject] = {}
        self._absent: dict[str, str] = {}
        self._files: dict[Path, str] = {}
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
            share_processors(workers)
        with quiet():
            given = self._read_given()
            self.data = self._read_data(given, recorded_domain)
            bounds = self.data.bounds if self.data else options.domain
            if bounds is not None:
                given = {
                    width: replace(subject, model=subject.model.with_bounds(*bounds))
                    for width, subject in given.items()
                }
            self.given = given
            self.defenses = {files.name: self._read_defense(files) for files in options.defended}
            self._calibration_data = self._read_calibration()

    @property
    def bounds(self) -> tuple[float, float]:
        """The input domain that the models share; 0..1 where there is no model."""
        first = next(iter(self.given.values()), None)
        return first.model.bounds if first else (0.0, 1.0)

    @property
    def int8_step(self) -> float | None:
        """The LSB of the int8 model's input, in its units; None where no int8 model was given."""
        subject = self.given.get("int8")
        return subject.model.grid.scale if subject and subject.model.grid else None

    @property
    def made(self) -> dict[str, Subject]:
        """The derived models that a test asked for, by width."""
        return dict(self._derived)

    def missing(self, width: str) -> str:
        """Reason why there is no model of this width, given or derivable; "" where there is."""
        if width in self.given:
            return ""
        if not self.given:
            return f"no model: give --qnn-model or --qnn-{width.removesuffix('32')}"
        if width == "float32":
            return ""
        parent, cure = self.given.get("float32"), f"give --qnn-{width}"
        if parent is None:
            return f"no {width} model, and none can be derived without a float; {cure}"
        path = self._float_path()
        if path.suffix.lower() not in KERAS_SUFFIXES:
            return f"no {width} model, and {path.name} is not a Keras file; {cure}"
        if self._calibration_data is None:
            return f"no {width} model, and no data to quantize a float with; {cure}"
        return ""

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the models and data that were given, the same in every process of a run."""
        models = {width: subject.model for width, subject in self.given.items()}
        for name, defense in self.defenses.items():
            models |= {f"{name} {width}": model for width, model in defense.models.items()}
        digests = {f"{name} model": model.digest or "" for name, model in models.items()}
        data = {"data": self.data, "calibration data": self._calibration_data}
        return digests | {name: samples.digest for name, samples in data.items() if samples}

    def of_width(self, width: str) -> Subject:
        """The model of this width, given or derived; MissingError says why there is none.

        Raises FileChangedError where the file to derive it from is not the one that was read.
        """
        if width in self.given:
            return self.given[width]
        if width in self._absent:
            raise MissingError(self._absent[width])
        if width not in self._derived:
            try:
                with quiet():
                    self._derived[width] = self._derive(width)
            except FileChangedError:
                raise
            except QnnRobustError as error:
                self._absent[width] = str(error)
                raise MissingError(str(error)) from error
        return self._derived[width]

    def _read_data(
        self, given: dict[str, Subject], recorded: tuple[float, float] | None
    ) -> Data | None:
        source = DIGITS if self.options.demo else self.options.data
        if source is None:
            return None
        models = [cached(subject.model, self._cache) for subject in given.values()]
        domain = self.options.domain
        return load_data(
            source, model=models, domain=domain, recorded=recorded, limit=CLEAN_SAMPLES
        )

    def _read_calibration(self) -> Data | None:
        parent = self.given.get("float32")
        source = self.options.calibration
        if source is None or parent is None:
            return self.data.first(CALIBRATION_SAMPLES) if self.data else None
        bounds = parent.model.bounds
        return load_data(source, model=parent.model, domain=bounds, limit=CALIBRATION_SAMPLES)

    def _read_given(self) -> dict[str, Subject]:
        options = self.options
        if options.demo:
            files = {w: demo_path(f"digits_{w.removesuffix('32')}{_suffix(w)}") for w in WIDTHS}
            return {width: self._read(path, width) for width, path in files.items()}
        paths = {"float32": options.float32, "int16": options.int16, "int8": options.int8}
        given = {width: self._read(path, width) for width, path in paths.items() if path}
        if options.model:
            subject = self._read(options.model, None)
            if subject.model.width in given:
                rule = f"one {subject.model.width} model"
                flag = "--qnn-" + subject.model.width.removesuffix("32")
                raise expected(rule, cure=f"drop --qnn-model or {flag}", model=str(options.model))
            given[subject.model.width] = subject
        return {width: given[width] for width in WIDTHS if width in given}

    def _read(self, path: Path, width: str | None) -> Subject:
        model = self._load_model(self._read_file(path))
        if width is not None and model.width != width:
            flag = "--qnn-" + width.removesuffix("32")
            cure = f"{path.name} belongs to --qnn-{model.width.removesuffix('32')}"
            rule = f"{flag} to be {_article(width)} {width} model"
            raise expected(rule, cure=cure, width=model.width, error=ModelFileError)
        return Subject(model, path.name)

    def _read_defense(self, files: DefendedFiles) -> Defense:
        plain = next(iter(self.given.values())).model
        models: dict[str, Model] = {}
        for path in files.paths:
            model = self._load_model(self._read_file(path)).with_bounds(*self.bounds)
            where = f"--qnn-defended {files.name}"
            if model.width in models:
                rule = f"{where} to have one file for each width"
                raise expected(rule, path=path.name, width=model.width, error=ModelFileError)
            shapes = (model.input_shape, model.classes), (plain.input_shape, plain.classes)
            if shapes[0] != shapes[1]:
                rule = f"{where} to have the inputs and classes of {plain.name}: {shapes[1]}"
                raise expected(rule, path=path.name, found=shapes[0], error=ModelFileError)
            models[model.width] = model
        return Defense(files.name, {w: models[w] for w in WIDTHS if w in models})

    def _read_file(self, path: Path) -> ModelFile:
        """Read a model file; FileChangedError where it was read before and was another one."""
        file = read_model_file(path, self._files.get(path))
        self._files[path] = file.digest
        return file

    def _load_model(self, file: ModelFile) -> Model:
        options = self.options
        runtime, scale_arithmetic = options.runtime, options.scale_arithmetic
        key, facts = "", None
        if self._cache is not None:
            key = facts_key(file.digest, file.path.suffix, runtime, scale_arithmetic)
            facts = self._cache.load_facts(key)
        model = load_checked(file, runtime=runtime, scale_arithmetic=scale_arithmetic, facts=facts)
        if self._cache is not None and facts is None and model.runtime != "tflm":
            facts = FileFacts(model.input_shape, model.classes, model.bounds)
            self._cache.store_facts(key, facts)
        if options.gradient is None or model.width == "float32":
            return model
        return model.with_gradient(options.gradient, options.probe_steps)

    def _derive(self, width: str) -> Subject:
        if reason := self.missing(width):
            raise MissingError(reason)
        return self._derive_float() if width == "float32" else self._derive_integer(width)

    def _derive_float(self) -> Subject:
        parent = self.given.get("int16") or self.given["int8"]
        model = parent.model.surrogate
        return Subject(model, f"{DERIVED}dequantized twin of {parent.origin}", derived=True)

    def _derive_integer(self, width: str) -> Subject:
        path, inputs = self._float_path(), cast(Data, self._calibration_data).x
        content = self._converted(path, width, inputs)
        file = ModelFile(path.with_name(f"{path.stem}_{width}.tflite"), content)
        model = self._load_model(file).with_bounds(*self.bounds)
        name = Path(cast(Data, self._calibration_data).name).name
        origin = f"{DERIVED}{path.name} quantized on {len(inputs)} samples of {name}"
        return Subject(model, origin, derived=True)

    def _converted(self, path: Path, width: str, inputs: NDArray[np.float32]) -> bytes:
        """The `.tflite` of this width, from the cache where it is in it."""
        from pytest_qnnrobust.models.convert import convert

        if self._cache is None:
            return convert(self._read_file(path), cast(Any, width), inputs)
        key = converted_key(self._files[path], path.suffix, width, inputs)
        content = self._cache.load_file(key)
        if content is None:
            content = convert(self._read_file(path), cast(Any, width), inputs)
            self._cache.store_file(key, content)
        return content

    def _float_path(self) -> Path:
        if self.options.demo:
            return demo_path("digits_float.keras")
        return cast(Path, self.options.float32 or self.options.model)


def _suffix(width: str) -> str:
    return ".keras" if width == "float32" else ".tflite"


def _article(width: str) -> str:
    return "an" if width.startswith("i") else "a"


def model_records(subjects: Subjects) -> list[ModelRecord]:
    """The models given, those derived so far, and those of every defence."""
    plain = [*subjects.given.values(), *subjects.made.values()]
    records = [
        ModelRecord(model.name, model.width, model.runtime, model.digest, subject.origin)
        for subject in plain
        for model in [subject.model]
    ]
    for name, defense in subjects.defenses.items():
        records += [
            ModelRecord(model.name, model.width, model.runtime, model.digest, model.name, name)
            for model in defense.models.values()
        ]
    return in_order(records)
