"""What the flags and the ini file ask for, joined into one frozen `Options`.

A flag wins over its ini key, which wins over the default. Paths on the command line are relative
to the folder where pytest was started, paths in the ini file to the folder of that file.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_qnnrobust import demo
from pytest_qnnrobust.errors import DataError, QnnRobustError, expected
from pytest_qnnrobust.options import ini
from pytest_qnnrobust.options.flags import OPTIONS, Option
from pytest_qnnrobust.options.values import (
    USUAL_LIMITS,
    DefendedFiles,
    Limits,
    LossLimit,
    Squeezing,
    Threshold,
)

MODEL_FIELDS = ("model", "float32", "int16", "int8", "demo")
"""The options that name a model: one of them on the command line starts the gate."""

INCONCLUSIVE = "inconclusive: "
"""How the reason starts with which an inconclusive verdict skips its test."""

DIGITS = "digits"
"""As a data source: the embedded test digits."""

_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Options:
    """What the command line and the ini file ask for."""

    model: Path | None = None
    float32: Path | None = None
    int16: Path | None = None
    int8: Path | None = None
    demo: bool = False
    data: str | None = None
    quantizer: str | None = None
    calibration: str | None = None
    profile: str = "smoke"
    samples: int | None = None
    seed: int = 0
    attacks: tuple[str, ...] | None = None
    eps: float | None = None
    domain: tuple[float, float] | None = None
    runtime: str = "tflm"
    scale_arithmetic: str = "double"
    min_accuracy: tuple[Threshold, ...] = ()
    alpha: float = 0.05
    margin: float = 0.02
    drop: float = 0.2
    defended: tuple[DefendedFiles, ...] = ()
    squeeze: Squeezing | None = None
    findings: str = "report"
    time_budget: float | None = None
    gradient: str | None = None
    probe_steps: int = 1
    cache_dir: Path | None = None
    jobs: int | None = None
    shard: tuple[int, int] | None = None
    no_cache: bool = False
    cache_size: int | None = None
    baseline: Path | None = None
    update: bool = False
    update_new: bool = False
    fail_if: Limits = USUAL_LIMITS
    allow: tuple[str, ...] = ()
    inconclusive: str = "warn"
    suppressions: Path | None = None
    sequential: bool = False
    report: Path | None = None
    keep_examples: Path | None = None
    gate: bool = False

    def to_json(self) -> dict[str, Any]:
        """Every option as built-in types; paths as text."""
        return cast(dict[str, Any], _built_in(asdict(self)))


def _as_it_was(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_RESTORE: dict[str, Callable[[Any], Any]] = {
    "min_accuracy": lambda rows: tuple(Threshold(**row) for row in rows),
    "defended": lambda rows: tuple(
        DefendedFiles(row["name"], tuple(map(Path, row["paths"]))) for row in rows
    ),
    "squeeze": lambda row: Squeezing(**row),
    "fail_if": lambda row: Limits(tuple(LossLimit(**rule) for rule in row["rules"])),
}
"""How an option of several values is made of what `Options.to_json` made of it."""


def _built_in(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _built_in(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_built_in(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("qnnrobust", "adversarial robustness of quantized networks")
    for option in OPTIONS:
        option.add_to(group, parser)


def from_config(config: pytest.Config) -> Options:
    """Join command line, ini file and defaults; pytest.UsageError, one line, on a bad value."""
    values: dict[str, Any] = {}
    gate = False
    near, near_values = ini.nearest(config.invocation_params.dir)
    for option in OPTIONS:
        value, folder = config.getoption(option.key), config.invocation_params.dir
        if value is not None:
            value = value if option.switch else _parsed(option, value, option.flag)
            gate = gate or option.field in MODEL_FIELDS
        elif text := config.getini(option.key):
            path = config.inipath or config.rootpath / "pytest.ini"
            value, folder = _parsed(option, str(text), f"{option.key} in {path}"), path.parent
        elif near and (text := near_values.get(option.key)):
            value, folder = _parsed(option, text, f"{option.key} in {near}"), near.parent
        if value is not None:
            values[option.field] = _located(option, value, folder)
    return _checked(Options(**values, gate=gate))


def from_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that `Options.to_json` wrote and that are not the default, by field.

    Raises DataError, one line, for an option that there is not, or one that is damaged.
    """
    found = {}
    defaults = Options()
    for name, value in values.items():
        try:
            usual = getattr(defaults, name)
            restored = _RESTORE.get(name, _as_it_was)(value) if value is not None else None
            if _field_types()[name].startswith("Path") and value is not None:
                restored = Path(value)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            rule = "options that this version has"
            raise expected(rule, option=name, reason=repr(error), error=DataError) from None
        if restored != usual:
            found[name] = restored
    if found.get("demo"):
        found.pop("defended", None)
    return found


def from_command(
    values: Mapping[str, Any], folder: Path, recorded: Mapping[str, Any] | None = None
) -> Options:
    """Options from parsed values by field, None where none was given; `folder` is that of paths.

    A value that was given wins over that of `recorded`, whose paths are whole.
    """
    located = dict(recorded or {})
    for option in OPTIONS:
        value = values.get(option.field)
        if value is not None and value is not False:
            value = tuple(value) if option.many else value
            located[option.field] = _located(option, value, folder)
    try:
        return _checked(Options(**located, gate=True))
    except pytest.UsageError as error:
        raise QnnRobustError(str(error).replace("--qnn-", "--")) from None


def _parsed(option: Option, text: str | list[str], where: str) -> Any:
    try:
        if option.many:
            texts = text.splitlines() if isinstance(text, str) else text
            return tuple(option.parse(each.strip()) for each in texts if each.strip())
        return option.parse(str(text).strip())
    except argparse.ArgumentTypeError as error:
        raise pytest.UsageError(f"{where}: {error}") from error


def _located(option: Option, value: Any, folder: Path) -> Any:
    if not option.path:
        return value
    if option.many:
        return tuple(files.located(folder) for files in value)
    path = folder / Path(value).expanduser()
    if _field_types()[option.field] == "str | None":
        return value if value == DIGITS or _CALLABLE.fullmatch(value) else str(path)
    return path


def _field_types() -> dict[str, Any]:
    return {field.name: field.type for field in fields(Options)}


def _checked(options: Options) -> Options:
    _check_defended(options)
    _check_cache(options)
    _check_baseline(options)
    _check_shard(options)
    _check_sequential(options)
    if not options.demo:
        return options
    for option in OPTIONS:
        others = ("model", "float32", "int16", "int8", "data", "calibration", "domain", "defended")
        if options.gate and option.field in others and getattr(options, option.field):
            raise pytest.UsageError(
                f"--qnn-demo brings its own models and data; drop {option.flag}"
            )
    squeezing = options.squeeze or Squeezing(*demo.SQUEEZING)
    return replace(options, defended=(DefendedFiles(*demo.defended()),), squeeze=squeezing)


def _check_defended(options: Options) -> None:
    names = [files.name for files in options.defended]
    for name in set(names) & {"squeezed", "squeezing"}:
        raise pytest.UsageError(f"--qnn-defended {name}: the name stands for --qnn-squeeze here")
    if len(set(names)) < len(names):
        raise pytest.UsageError(f"expected --qnn-defended to name each defence once, got {names}")
    plain = (options.model, options.float32, options.int16, options.int8)
    if names and not options.demo and not any(plain):
        cure = "give the plain model as well, with --qnn-model or --qnn-float"
        raise pytest.UsageError(f"--qnn-defended {names[0]} is compared with a plain model; {cure}")


def _check_shard(options: Options) -> None:
    if options.shard is None:
        return
    if options.baseline is not None:
        cure = "give the baseline to `qnnrobust merge`"
        raise pytest.UsageError(f"--qnn-shard has not all cells of --qnn-baseline; {cure}")
    if options.gate and options.report is None:
        cure = "give --qnn-report DIR"
        raise pytest.UsageError(f"--qnn-shard is for `qnnrobust merge`; {cure}")


def _check_cache(options: Options) -> None:
    if options.cache_size and not (options.cache_dir or options.no_cache):
        raise pytest.UsageError("--qnn-cache-size needs --qnn-cache-dir DIR, the folder it limits")


def _check_sequential(options: Options) -> None:
    held = options.min_accuracy or options.baseline
    if options.gate and options.sequential and not held:
        cure = "give --qnn-min-accuracy or --qnn-baseline"
        raise pytest.UsageError(f"--qnn-sequential stops a cell at what it is held to; {cure}")


def _check_baseline(options: Options) -> None:
    for flag, given in (("--qnn-update", options.update), ("--qnn-update-new", options.update_new)):
        if given and options.baseline is None:
            raise pytest.UsageError(f"{flag} needs --qnn-baseline FILE, the file to write")
    if options.update and options.update_new:
        raise pytest.UsageError("give --qnn-update (all cells) or --qnn-update-new, not both")
    if options.baseline and not options.update and not options.baseline.is_file():
        cure = "record one with --qnn-update"
        raise pytest.UsageError(f"expected a baseline, got path={str(options.baseline)!r}; {cure}")
