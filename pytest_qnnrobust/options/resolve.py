"""Flags, ini file and defaults joined into one frozen `Options`.

A flag wins over its ini key, which wins over the default. Paths on the command line are relative
to the folder where pytest was started, paths in the ini file to the folder of that file.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_qnnrobust import demo
from pytest_qnnrobust.errors import DataError, QnnRobustError, expected, one_line
from pytest_qnnrobust.options import consistency, ini
from pytest_qnnrobust.options.declarations import OPTIONS, Options
from pytest_qnnrobust.options.flags import GROUPS, Option
from pytest_qnnrobust.options.values import DefendedFiles, Squeezing

INCONCLUSIVE = "inconclusive: "
"""The start of the reason with which an inconclusive verdict skips its test."""


@dataclass(frozen=True)
class _Source:
    """The command line (no file) or an ini file: what it says, by ini key."""

    written: Mapping[str, Any]
    folder: Path
    file: Path | None = None

    def value(self, option: Option) -> Any:
        """The option's value, its paths whole; pytest.UsageError names flag, or key and file."""
        try:
            value = option.kind.read(self.written[option.key])
        except argparse.ArgumentTypeError as error:
            where = option.flag if self.file is None else f"{option.key} in {self.file}"
            raise pytest.UsageError(one_line(f"{where}: {error}")) from error
        return _located(option, value, self.folder)


def add_options(parser: pytest.Parser) -> None:
    """Add every flag, in its group of `pytest --help`, and every ini key."""
    for title in GROUPS:
        group = parser.getgroup(f"qnnrobust: {title}")
        for option in OPTIONS:
            if option.group == title:
                option.add_to(group, parser)


def from_config(config: pytest.Config, names_paths: bool = False) -> Options:
    """Join command line, ini file and defaults; pytest.UsageError, one line, on a bad value.

    A model in the ini file starts the gate, unless the command line `names_paths` of other tests.
    """
    sources = _sources(config)
    values = {}
    for option in OPTIONS:
        source = next((source for source in sources if option.key in source.written), None)
        if source is not None:
            values[option.field] = source.value(option)
    flags = any(option.starts_gate and option.key in sources[0].written for option in OPTIONS)
    anywhere = any(option.starts_gate and values.get(option.field) for option in OPTIONS)
    return _checked(Options(**values, gate=flags or (anywhere and not names_paths)))


def starts_by_flag(config: pytest.Config) -> bool:
    """Whether the command line names a model to gate, or the demo."""
    flags = [option.key for option in OPTIONS if option.starts_gate]
    return any(config.getoption(flag) is not None for flag in flags)


def flags_about_a_gate(config: pytest.Config) -> list[str]:
    """The flags of the command line that say what to test, how hard, and what to require."""
    groups = ("models and data", "attacks", "gate")
    options = [option for option in OPTIONS if option.group in groups]
    return [option.flag for option in options if config.getoption(option.key) is not None]


def _sources(config: pytest.Config) -> list[_Source]:
    """The places to look in, the one that wins first."""
    here = config.invocation_params.dir
    flags = {option.key: config.getoption(option.key) for option in OPTIONS}
    given = {key: value for key, value in flags.items() if value is not None}
    path, keys = ini.of_run(config)
    near, near_keys = ini.nearest(here)
    sources = [_Source(given, here), _Source(keys, path.parent, path)]
    if near is not None and near != path:
        sources.append(_Source(near_keys, near.parent, near))
    return sources


def from_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that `Options.to_json` wrote and that are not the default, by field.

    Raises DataError, one line, for an option that there is not, or one that is damaged.
    """
    kinds = {field.name: field.metadata.get("kind") for field in fields(Options)}
    defaults = Options()
    restored = {}
    for name, value in values.items():
        try:
            default, kind = getattr(defaults, name), kinds[name]
            if value is not None and kind is not None:
                value = kind.restore(value)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            rule = "options that this version has"
            raise expected(rule, option=name, reason=repr(error), error=DataError) from None
        if value != default:
            restored[name] = value
    if restored.get("demo"):
        restored.pop("defended", None)
    return restored


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
            value = tuple(value) if option.kind.several else value
            located[option.field] = _located(option, value, folder)
    try:
        return _checked(Options(**located, gate=True))
    except pytest.UsageError as error:
        raise QnnRobustError(str(error).replace("--qnn-", "--")) from None


def _located(option: Option, value: Any, folder: Path) -> Any:
    return option.kind.locate(value, folder) if option.kind.locate else value


def _checked(options: Options) -> Options:
    """`options`, of the demo with its defences; pytest.UsageError where they disagree."""
    consistency.check(options)
    if not options.demo:
        return options
    squeezing = options.squeeze or Squeezing(*demo.SQUEEZING)
    return replace(options, defended=(DefendedFiles(*demo.defended()),), squeeze=squeezing)
