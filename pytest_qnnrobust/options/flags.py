"""Every `--qnn-*` flag and its ini key: one table, one parser each."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_qnnrobust.options.values import (
    one_of,
    parse_attacks,
    parse_count,
    parse_defended,
    parse_domain,
    parse_eps,
    parse_fraction,
    parse_jobs,
    parse_kinds,
    parse_limits,
    parse_margin,
    parse_object,
    parse_path,
    parse_positive,
    parse_seed,
    parse_shard,
    parse_size,
    parse_squeezing,
    parse_switch,
    parse_thresholds,
)

RUNTIMES = ("tflm", "litert", "litert-builtin")
SCALE_ARITHMETIC = ("double", "float")
FINDINGS = ("report", "fail")
GRADIENTS = ("straight-through", "surrogate", "finite-difference")


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
        "quantizer",
        "--qnn-quantizer",
        "check the laws of quantization on this quantizer, an object (or what makes one) of a "
        "module in the root folder or on pythonpath; needs no model",
        "MODULE:OBJECT",
        parse_object,
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
        "sequential",
        "--qnn-sequential",
        "attack a cell only until its --qnn-min-accuracy or its loss against --qnn-baseline is "
        "certain at level --qnn-alpha, which all cells share; needs samples in random order",
        parse=parse_switch,
        switch=True,
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
        "keep_examples",
        "--qnn-keep-examples",
        "write the adversarial examples of every cell into this folder, as CELL.npz",
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
    Option(
        "jobs",
        "--qnn-jobs",
        "give the samples of every attack to N workers of joblib (all: to all that there are): "
        "processes of this machine, or what joblib.parallel_config of your conftest.py says",
        "N",
        parse_jobs,
    ),
    Option(
        "shard",
        "--qnn-shard",
        "run part I of N of the tests, for machines that know nothing of each other; "
        "`qnnrobust merge` joins their --qnn-report folders",
        "I/N",
        parse_shard,
    ),
    Option(
        "no_cache",
        "--qnn-no-cache",
        "neither read nor write finished shards, whatever --qnn-cache-dir says",
        parse=parse_switch,
        switch=True,
    ),
    Option(
        "cache_size",
        "--qnn-cache-size",
        "after the run, remove the entries used longest ago until --qnn-cache-dir holds no more "
        "than this, such as 2G or 500M; default: no limit",
        "SIZE",
        parse_size,
    ),
)
