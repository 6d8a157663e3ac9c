"""Every option, declared once: flag, ini key, type, default, help and what it matters for.

A new option is a new field here; where its value is of a new kind, also a parser in `values`.
"""

# What `option` returns is the field of a dataclass, not a default that all instances share.
# ruff: noqa: RUF009

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

from pytest_qnnrobust.options.flags import Matter, Option, option
from pytest_qnnrobust.options.kinds import (
    DEFENDED,
    EPS,
    LIMITS,
    PATH,
    SOURCE,
    SQUEEZING,
    SWITCH,
    THRESHOLDS,
    Kind,
)
from pytest_qnnrobust.options.values import (
    FINDINGS,
    GRADIENTS,
    ON_INCONCLUSIVE,
    RUNTIMES,
    SCALE_ARITHMETIC,
    USUAL_LIMITS,
    DefendedFiles,
    Limits,
    Squeezing,
    Threshold,
    one_of,
    parse_attacks,
    parse_count,
    parse_domain,
    parse_fraction,
    parse_jobs,
    parse_kinds,
    parse_margin,
    parse_object,
    parse_positive,
    parse_seed,
    parse_shard,
    parse_size,
)


@dataclass(frozen=True)
class Options:
    """The options of a run; `gate` says whether the shipped suite is run."""

    model: Path | None = option(
        "--qnn-model",
        PATH,
        default=None,
        metavar="PATH",
        group="models and data",
        matters="models",
        starts_gate=True,
        help="model to gate: .tflite (int8, int16x8, float), .keras or .h5; its width is read "
        "from it",
    )
    float32: Path | None = option(
        "--qnn-float",
        PATH,
        default=None,
        metavar="PATH",
        group="models and data",
        matters="models",
        starts_gate=True,
        help="float model: .keras, .h5 or .tflite",
    )
    int16: Path | None = option(
        "--qnn-int16",
        PATH,
        default=None,
        metavar="PATH",
        group="models and data",
        matters="models",
        starts_gate=True,
        help="int16x8 model: .tflite",
    )
    int8: Path | None = option(
        "--qnn-int8",
        PATH,
        default=None,
        metavar="PATH",
        group="models and data",
        matters="models",
        starts_gate=True,
        help="int8 model: .tflite",
    )
    demo: bool = option(
        "--qnn-demo",
        SWITCH,
        default=False,
        group="models and data",
        matters=("models", "outcome"),
        starts_gate=True,
        help="run the gate on the digits models and data that the package carries",
    )
    data: str | None = option(
        "--qnn-data",
        SOURCE,
        default=None,
        metavar="SOURCE",
        group="models and data",
        matters="outcome",
        help="labelled test data: .npz with x and y, a folder of class folders of images, "
        "module:function, or digits",
    )
    calibration: str | None = option(
        "--qnn-calibration",
        SOURCE,
        default=None,
        metavar="SOURCE",
        group="models and data",
        matters="outcome",
        help="data for the widths derived from a float model; default: the inputs of --qnn-data",
    )
    domain: tuple[float, float] | None = option(
        "--qnn-domain",
        Kind(parse_domain, listed=True),
        default=None,
        metavar="LOW,HIGH",
        group="models and data",
        matters="outcome",
        help="range of the model's real-valued inputs, such as 0,255 (write --qnn-domain=-1,1 "
        "for a negative LOW); default: what the file implies",
    )
    runtime: str = option(
        "--qnn-runtime",
        Kind(one_of(RUNTIMES)),
        default="tflm",
        metavar="|".join(RUNTIMES),
        group="models and data",
        matters="outcome",
        help="arithmetic of integer models: tflm (default, what a microcontroller returns) or "
        "litert (what a phone returns)",
    )
    scale_arithmetic: str = option(
        "--qnn-scale-arithmetic",
        Kind(one_of(SCALE_ARITHMETIC)),
        default="double",
        metavar="|".join(SCALE_ARITHMETIC),
        group="models and data",
        matters="outcome",
        help="how the firmware derives multipliers from scales: double (default, current TFLM) "
        "or float (older TFLM)",
    )
    defended: tuple[DefendedFiles, ...] = option(
        "--qnn-defended",
        DEFENDED,
        default=(),
        metavar="NAME=FILE[,FILE...]",
        group="models and data",
        matters="models",
        help="the same network trained to resist attacks, judged beside the plain one: a name "
        "and a file for each width; several times for several defences",
    )
    squeeze: Squeezing | None = option(
        "--qnn-squeeze",
        SQUEEZING,
        default=None,
        metavar="BITS,WINDOW",
        group="models and data",
        matters="outcome",
        help="judge the networks behind feature squeezing: colour bits to keep (none: all) and "
        "the median window, such as 4,2",
    )
    quantizer: str | None = option(
        "--qnn-quantizer",
        Kind(parse_object),
        default=None,
        metavar="MODULE:OBJECT",
        group="models and data",
        matters="selection",
        help="check the laws of quantization on this quantizer, an object (or what makes one) of "
        "a module in the root folder or on pythonpath; needs no model",
    )

    profile: str = option(
        "--qnn-profile",
        Kind(str),
        default="smoke",
        metavar="smoke|standard|paper|PRESET",
        group="attacks",
        matters="outcome",
        help="samples and attack budgets: smoke (default, minutes), standard, paper (hours), or "
        "a published preset such as goliath-vww",
    )
    attacks: tuple[str, ...] | None = option(
        "--qnn-attack",
        Kind(parse_attacks, listed=True),
        default=None,
        metavar="ID[,ID...]",
        group="attacks",
        matters="selection",
        help="run these attacks only; default: the profile's list",
    )
    eps: tuple[float, ...] | None = option(
        "--qnn-eps",
        EPS,
        default=None,
        metavar="EPS[,EPS...]",
        group="attacks",
        matters="outcome",
        help="Linf budgets, in model input units such as 2/255,8/255, of the attacks that have one "
        "(fgsm, pgd, square-linf, ...; others keep the profile's); default: 2/255 and 8/255 of the "
        "input domain, in whole steps of the int8 model, where the profile is no published one",
    )
    samples: int | None = option(
        "--qnn-samples",
        Kind(parse_count),
        default=None,
        metavar="N",
        group="attacks",
        matters="outcome",
        help="attack the first N samples of the data; default: the profile's number",
    )
    seed: int = option(
        "--qnn-seed",
        Kind(parse_seed),
        default=0,
        metavar="N",
        group="attacks",
        matters="outcome",
        help="seed of every random stream; default 0",
    )
    time_budget: float | None = option(
        "--qnn-time-budget",
        Kind(parse_positive),
        default=None,
        metavar="SECONDS",
        group="attacks",
        matters="outcome",
        help="seconds that one attack may take; samples it did not reach are reported as exhausted",
    )
    gradient: str | None = option(
        "--qnn-gradient",
        Kind(one_of(GRADIENTS)),
        default=None,
        metavar="SOURCE",
        group="attacks",
        matters="outcome",
        help="where white-box attacks on an integer model get gradients: straight-through "
        "(default), surrogate (its float twin's) or finite-difference",
    )
    probe_steps: int = option(
        "--qnn-probe-steps",
        Kind(parse_count),
        default=1,
        metavar="N",
        group="attacks",
        matters="outcome",
        help="input steps to either side that a finite difference probes; default 1",
    )

    min_accuracy: tuple[Threshold, ...] = option(
        "--qnn-min-accuracy",
        THRESHOLDS,
        default=(),
        metavar="[CELL:]VALUE",
        group="gate",
        matters=("gate", "threshold"),
        help="fail a cell whose accuracy under attack is below this: 0.5 for all cells, or "
        "CELL:0.5[,CELL:0.4...] for cells whose id contains CELL, such as int8-worst-8/255, the "
        "worst case over all attacks of that budget; default: none",
    )
    require: bool = option(
        "--qnn-require",
        SWITCH,
        default=False,
        group="gate",
        matters="gate",
        help="fail a run of which nothing is required, or nothing could be decided",
    )
    baseline: Path | None = option(
        "--qnn-baseline",
        PATH,
        default=None,
        metavar="FILE",
        group="gate",
        matters=("gate", "here"),
        help="compare with the run recorded in this file, image by image; fail where a cell is "
        "worse than its limit (--qnn-fail-if)",
    )
    update: bool = option(
        "--qnn-update",
        SWITCH,
        default=False,
        group="gate",
        matters="gate",
        help="record this run in the file of --qnn-baseline",
    )
    update_new: bool = option(
        "--qnn-update-new",
        SWITCH,
        default=False,
        group="gate",
        matters="gate",
        help="add the cells to the file of --qnn-baseline that it does not have",
    )
    fail_if: Limits = option(
        "--qnn-fail-if",
        LIMITS,
        default=USUAL_LIMITS,
        metavar="[CELL:]LOSS:-AMOUNT[,...]",
        group="gate",
        matters="gate",
        help="loss against the baseline that fails a cell; default "
        "accuracy:-3pt,clean:-2pt,distance:-10%%, for cells whose id contains CELL where one is "
        "named",
    )
    allow: tuple[str, ...] = option(
        "--qnn-allow",
        Kind(parse_kinds, listed=True),
        default=(),
        metavar="KIND[,KIND]",
        group="gate",
        matters="gate",
        help="cells that cannot be compared with the baseline and need not be: new, vanished, "
        "stale (other settings or data)",
    )
    suppressions: Path | None = option(
        "--qnn-suppressions",
        PATH,
        default=None,
        metavar="FILE",
        group="gate",
        matters="gate",
        help="known regressions: an ini file with a section for each cell (or pattern) and "
        "owner, reason, expires (YYYY-MM-DD); one that expired fails",
    )
    inconclusive: str = option(
        "--qnn-inconclusive",
        Kind(one_of(ON_INCONCLUSIVE)),
        default="warn",
        metavar="|".join(ON_INCONCLUSIVE),
        group="gate",
        matters="gate",
        help="what a claim does that this sample is too small to judge: warn (default, a skip), "
        "fail or pass",
    )
    findings: str = option(
        "--qnn-findings",
        Kind(one_of(FINDINGS)),
        default="report",
        metavar="|".join(FINDINGS),
        group="gate",
        matters="gate",
        help="what a published finding does that does not hold on these models and is no fault "
        "of them: report (default, an xfail) or fail",
    )
    alpha: float = option(
        "--qnn-alpha",
        Kind(parse_fraction),
        default=0.05,
        metavar="ALPHA",
        group="gate",
        matters=("gate", "threshold"),
        help="level of the tests; intervals have level 1 - alpha; default 0.05",
    )
    margin: float = option(
        "--qnn-margin",
        Kind(parse_margin),
        default=0.02,
        metavar="FRACTION",
        group="gate",
        matters="gate",
        help="loss that counts as none, as a fraction of the samples (or of a distance); default "
        "0.02",
    )
    drop: float = option(
        "--qnn-drop",
        Kind(parse_margin),
        default=0.2,
        metavar="FRACTION",
        group="gate",
        matters="gate",
        help="loss of accuracy under attack up to which a defence succeeds, as a fraction; "
        "default 0.2",
    )
    sequential: bool = option(
        "--qnn-sequential",
        SWITCH,
        default=False,
        group="gate",
        matters="gate",
        help="attack a cell only until its --qnn-min-accuracy or its loss against "
        "--qnn-baseline is certain at level --qnn-alpha, which all cells share; needs samples in "
        "random order",
    )

    report: Path | None = option(
        "--qnn-report",
        PATH,
        default=None,
        metavar="DIR",
        group="report",
        matters="here",
        help="write results.json, report.html and summary.md into this folder",
    )
    keep_examples: Path | None = option(
        "--qnn-keep-examples",
        PATH,
        default=None,
        metavar="DIR",
        group="report",
        matters="here",
        help="write the adversarial examples of every cell into this folder, as CELL.npz",
    )

    cache_dir: Path | None = option(
        "--qnn-cache-dir",
        PATH,
        default=None,
        metavar="DIR",
        group="cache and workers",
        matters=("cache", "here"),
        help="keep finished shards of attacks in this folder, and use those that are there: an "
        "interrupted run goes on where it stopped",
    )
    no_cache: bool = option(
        "--qnn-no-cache",
        SWITCH,
        default=False,
        group="cache and workers",
        matters=("cache", "here"),
        help="neither read nor write finished shards, whatever --qnn-cache-dir says",
    )
    cache_size: int | None = option(
        "--qnn-cache-size",
        Kind(parse_size),
        default=None,
        metavar="SIZE",
        group="cache and workers",
        matters="here",
        help="after the run, remove the entries used longest ago until --qnn-cache-dir holds no "
        "more than this, such as 2G or 500M; default: no limit",
    )
    jobs: int | None = option(
        "--qnn-jobs",
        Kind(parse_jobs),
        default=None,
        metavar="N",
        group="cache and workers",
        matters="here",
        help="give the samples of every attack to N workers of joblib (all: to all that there "
        "are): processes of this machine, or what joblib.parallel_config of your conftest.py says",
    )
    shard: tuple[int, int] | None = option(
        "--qnn-shard",
        Kind(parse_shard),
        default=None,
        metavar="I/N",
        group="cache and workers",
        matters="here",
        help="run part I of N of the tests, for machines that know nothing of each other; "
        "`qnnrobust merge` joins their --qnn-report folders",
    )

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


OPTIONS = tuple(Option(field.name, **field.metadata) for field in fields(Options) if field.metadata)
"""Every option with a flag, in the order of `Options`."""


def names_that_matter_for(*matters: Matter) -> tuple[str, ...]:
    """Names of the options that matter for any of these, in the order of `Options`."""
    return tuple(option.field for option in OPTIONS if set(matters) & set(option.matters))
