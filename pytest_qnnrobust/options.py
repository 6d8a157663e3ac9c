"""Every `--qnn-*` flag and its ini key: one table, one parser each, one frozen `Options`.

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

from pytest_qnnrobust import demo, ini
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.option_values import (
    USUAL_LIMITS,
    DefendedFiles,
    Limits,
    Squeezing,
    Threshold,
    one_of,
    parse_attacks,
    parse_count,
    parse_defended,
    parse_domain,
    parse_eps,
    parse_fraction,
    parse_kinds,
    parse_limits,
    parse_margin,
    parse_path,
    parse_positive,
    parse_seed,
    parse_squeezing,
    parse_switch,
    parse_thresholds,
)

RUNTIMES = ("tflm", "litert", "litert-builtin")
SCALE_ARITHMETIC = ("double", "float")
FINDINGS = ("report", "fail")
GRADIENTS = ("straight-through", "surrogate", "finite-difference")
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
    baseline: Path | None = None
    update: bool = False
    update_new: bool = False
    fail_if: Limits = USUAL_LIMITS
    allow: tuple[str, ...] = ()
    inconclusive: str = "warn"
    suppressions: Path | None = None
    report: Path | None = None
    gate: bool = False

    def to_json(self) -> dict[str, Any]:
        """Every option as built-in types; paths as text."""
        return cast(dict[str, Any], _built_in(asdict(self)))


def _built_in(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _built_in(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_built_in(v) for v in value]
    return str(value) if isinstance(value, Path) else value


@dataclass(frozen=True)
class Option:
    """One flag; `path` marks a value that is resolved against the folder it was written in,
    `many` one that may be given several times (in an ini file: one a line).

    argparse keeps the flag's text: `resolve` parses it, so that a bad one is one line, not a usage.
    """

    field: str
    flag: str
    help: str
    metavar: str | None = None
    parse: Callable[[str], Any] = str
    path: bool = False
    switch: bool = False
    many: bool = False

    @property
    def key(self) -> str:
        """The ini key, which is also the argparse destination: `--qnn-int8` is `qnn_int8`."""
        return self.flag.removeprefix("--").replace("-", "_")

    def add_to(self, group: pytest.OptionGroup, parser: pytest.Parser) -> None:
        text = f"{self.help} (ini key: {self.key})"
        if self.switch:
            group.addoption(
                self.flag, dest=self.key, action="store_const", const=True, default=None, help=text
            )
        else:
            group.addoption(
                self.flag,
                dest=self.key,
                action="append" if self.many else "store",
                default=None,
                metavar=self.metavar,
                help=text,
            )
        parser.addini(self.key, self.help.replace("%%", "%"), default=None)

    def add_to_command(self, parser: argparse.ArgumentParser) -> None:
        """As a flag of the console script: `--qnn-int8` is `--int8`."""
        flag = self.flag.replace("--qnn-", "--")
        if self.switch:
            parser.add_argument(flag, dest=self.field, action="store_true", help=self.help)
        else:
            parser.add_argument(
                flag,
                dest=self.field,
                action="append" if self.many else "store",
                type=self.parse,
                metavar=self.metavar,
                help=self.help.replace("--qnn-", "--"),
            )


OPTIONS = (
    Option(
        "model",
        "--qnn-model",
        "model to gate: .tflite (int8, int16x8, float), .keras or .h5; its width is read from it",
        "PATH",
        parse_path,
        path=True,
    ),
    Option(
        "float32",
        "--qnn-float",
        "float model: .keras, .h5 or .tflite",
        "PATH",
        parse_path,
        path=True,
    ),
    Option("int16", "--qnn-int16", "int16x8 model: .tflite", "PATH", parse_path, path=True),
    Option("int8", "--qnn-int8", "int8 model: .tflite", "PATH", parse_path, path=True),
    Option(
        "data",
        "--qnn-data",
        "labelled test data: .npz with x and y, a folder of class folders of images, "
        "module:function, or digits",
        "SOURCE",
        parse_path,
        path=True,
    ),
    Option(
        "calibration",
        "--qnn-calibration",
        "data for the widths derived from a float model; default: the inputs of --qnn-data",
        "SOURCE",
        parse_path,
        path=True,
    ),
    Option(
        "demo",
        "--qnn-demo",
        "run the gate on the digits models and data that the package carries",
        parse=parse_switch,
        switch=True,
    ),
    Option(
        "profile",
        "--qnn-profile",
        "samples and attack budgets: smoke (default, minutes), standard, paper (hours), or a "
        "published preset such as goliath-vww",
        "smoke|standard|paper|PRESET",
    ),
    Option(
        "samples",
        "--qnn-samples",
        "attack the first N samples of the data; default: the profile's number",
        "N",
        parse_count,
    ),
    Option("seed", "--qnn-seed", "seed of every random stream; default 0", "N", parse_seed),
    Option(
        "attacks",
        "--qnn-attack",
        "run these attacks only; default: the profile's list",
        "ID[,ID...]",
        parse_attacks,
    ),
    Option(
        "eps",
        "--qnn-eps",
        "perturbation budget of the fixed-budget attacks in model input units, such as 8/255; "
        "default: the profile's",
        "EPS",
        parse_eps,
    ),
    Option(
        "domain",
        "--qnn-domain",
        "range of the model's real-valued inputs, such as 0,255 (write --qnn-domain=-1,1 for a "
        "negative LOW); default: what the file implies",
        "LOW,HIGH",
        parse_domain,
    ),
    Option(
        "runtime",
        "--qnn-runtime",
        "arithmetic of integer models: tflm (default, what a microcontroller returns) or litert "
        "(what a phone returns)",
        "tflm|litert|litert-builtin",
        one_of(RUNTIMES),
    ),
    Option(
        "scale_arithmetic",
        "--qnn-scale-arithmetic",
        "how the firmware derives multipliers from scales: double (default, current TFLM) or "
        "float (older TFLM)",
        "double|float",
        one_of(SCALE_ARITHMETIC),
    ),
    Option(
        "min_accuracy",
        "--qnn-min-accuracy",
        "fail a cell whose accuracy under attack is below this: 0.5 for all cells, or "
        "CELL:0.5[,CELL:0.4...] for cells whose id contains CELL; default: none",
        "[CELL:]VALUE",
        parse_thresholds,
    ),
    Option(
        "alpha",
        "--qnn-alpha",
        "level of the tests; intervals have level 1 - alpha; default 0.05",
        "ALPHA",
        parse_fraction,
    ),
    Option(
        "margin",
        "--qnn-margin",
        "loss that counts as none, as a fraction of the samples (or of a distance); default 0.02",
        "FRACTION",
        parse_margin,
    ),
    Option(
        "defended",
        "--qnn-defended",
        "the same network trained to resist attacks, judged beside the plain one: a name and a "
        "file for each width; several times for several defences",
        "NAME=FILE[,FILE...]",
        parse_defended,
        path=True,
        many=True,
    ),
    Option(
        "squeeze",
        "--qnn-squeeze",
        "judge the networks behind feature squeezing: colour bits to keep (none: all) and the "
        "median window, such as 4,2",
        "BITS,WINDOW",
        parse_squeezing,
    ),
    Option(
        "findings",
        "--qnn-findings",
        "what a published finding does that does not hold on these models and is no fault of "
        "them: report (default, an xfail) or fail",
        "report|fail",
        one_of(FINDINGS),
    ),
    Option(
        "drop",
        "--qnn-drop",
        "loss of accuracy under attack up to which a defence succeeds, as a fraction; default 0.2",
        "FRACTION",
        parse_margin,
    ),
    Option(
        "time_budget",
        "--qnn-time-budget",
        "seconds that one attack may take; samples it did not reach are reported as exhausted",
        "SECONDS",
        parse_positive,
    ),
    Option(
        "gradient",
        "--qnn-gradient",
        "where white-box attacks on an integer model get gradients: straight-through (default), "
        "surrogate (its float twin's) or finite-difference",
        "SOURCE",
        one_of(GRADIENTS),
    ),
    Option(
        "probe_steps",
        "--qnn-probe-steps",
        "input steps to either side that a finite difference probes; default 1",
        "N",
        parse_count,
    ),
    Option(
        "baseline",
        "--qnn-baseline",
        "compare with the run recorded in this file, image by image; fail where a cell is worse "
        "than its limit (--qnn-fail-if)",
        "FILE",
        parse_path,
        path=True,
    ),
    Option(
        "update",
        "--qnn-update",
        "record this run in the file of --qnn-baseline",
        parse=parse_switch,
        switch=True,
    ),
    Option(
        "update_new",
        "--qnn-update-new",
        "add the cells to the file of --qnn-baseline that it does not have",
        parse=parse_switch,
        switch=True,
    ),
    Option(
        "fail_if",
        "--qnn-fail-if",
        "loss against the baseline that fails a cell; default accuracy:-3pt,clean:-2pt,"
        "distance:-10%%, for cells whose id contains CELL where one is named",
        "[CELL:]LOSS:-AMOUNT[,...]",
        parse_limits,
    ),
    Option(
        "allow",
        "--qnn-allow",
        "cells that cannot be compared with the baseline and need not be: new, vanished, stale "
        "(other settings or data)",
        "KIND[,KIND]",
        parse_kinds,
    ),
    Option(
        "inconclusive",
        "--qnn-inconclusive",
        "what a claim does that this sample is too small to judge: warn (default, a skip), fail "
        "or pass",
        "fail|warn|pass",
        one_of(("fail", "warn", "pass")),
    ),
    Option(
        "suppressions",
        "--qnn-suppressions",
        "known regressions: an ini file with a section for each cell (or pattern) and owner, "
        "reason, expires (YYYY-MM-DD); one that expired fails",
        "FILE",
        parse_path,
        path=True,
    ),
    Option(
        "report",
        "--qnn-report",
        "write results.json, report.html and summary.md into this folder",
        "DIR",
        parse_path,
        path=True,
    ),
    Option(
        "cache_dir",
        "--qnn-cache-dir",
        "keep finished shards of attacks in this folder, and use those that are there: an "
        "interrupted run goes on where it stopped",
        "DIR",
        parse_path,
        path=True,
    ),
)


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("qnnrobust", "adversarial robustness of quantized networks")
    for option in OPTIONS:
        option.add_to(group, parser)


def resolve(config: pytest.Config) -> Options:
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


def from_command(values: Mapping[str, Any], folder: Path) -> Options:
    """Options from parsed values by field, None where none was given; `folder` is that of paths."""
    located = {}
    for option in OPTIONS:
        value = values.get(option.field)
        if value:
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
    _check_baseline(options)
    if not options.demo:
        return options
    for option in OPTIONS:
        others = ("model", "float32", "int16", "int8", "data", "calibration", "domain", "defended")
        if options.gate and option.field in others and getattr(options, option.field):
            raise pytest.UsageError(
                f"--qnn-demo brings its own models and data; drop {option.flag}"
            )
    squeezing = options.squeeze or demo.SQUEEZING
    return replace(options, defended=(demo.defended(),), squeeze=squeezing)


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


def _check_baseline(options: Options) -> None:
    for flag, given in (("--qnn-update", options.update), ("--qnn-update-new", options.update_new)):
        if given and options.baseline is None:
            raise pytest.UsageError(f"{flag} needs --qnn-baseline FILE, the file to write")
    if options.update and options.update_new:
        raise pytest.UsageError("give --qnn-update (all cells) or --qnn-update-new, not both")
    if options.baseline and not options.update and not options.baseline.is_file():
        cure = "record one with --qnn-update"
        raise pytest.UsageError(f"expected a baseline, got path={str(options.baseline)!r}; {cure}")
