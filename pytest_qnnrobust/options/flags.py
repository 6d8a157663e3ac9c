"""One option: as a flag of pytest, as an ini key, and as a flag of the console script."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

import pytest

from pytest_qnnrobust.options.kinds import SWITCH, Kind

Group = Literal["models and data", "attacks", "gate", "report", "cache and workers"]
GROUPS: tuple[Group, ...] = get_args(Group)
"""The sections of `pytest --help`, in their order."""

Matter = Literal["models", "outcome", "selection", "gate", "threshold", "cache", "here"]
"""The things that an option may matter for.

models: the files that the networks are read from.
outcome: the numbers of a cell, whatever its models and its attack.
selection: which attacks and checks are run.
gate: what cells and claims are held to.
threshold: what one cell is held to by itself.
cache: where finished outcomes are looked up.
here: this process only: workers do without it, and the machines of one run may differ in it.
"""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Option:
    """One option, as it was declared; `field` is its attribute of `Options`.

    argparse keeps the flag's text: `resolve` parses it, so that a bad one is one line, not a usage.
    """

    field: str
    flag: str
    kind: Kind[Any]
    group: Group
    matters: tuple[Matter, ...]
    help: str
    metavar: str | None = None
    starts_gate: bool = False

    @property
    def key(self) -> str:
        """The ini key, which is also the argparse destination: `--qnn-int8` is `qnn_int8`."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def path(self) -> bool:
        """Whether the value names files, and is resolved against the folder it was written in."""
        return self.kind.locate is not None

    def add_to(self, group: pytest.OptionGroup, parser: pytest.Parser) -> None:
        """Add the flag to a group of `pytest --help`, and the ini key."""
        text = f"{self.help} (ini key: {self.key})"
        if self.kind is SWITCH:
            group.addoption(
                self.flag, dest=self.key, action="store_const", const=True, default=None, help=text
            )
        else:
            group.addoption(
                self.flag,
                dest=self.key,
                action="append" if self.kind.several else "store",
                default=None,
                metavar=self.metavar,
                help=text,
            )
        parser.addini(self.key, self.help.replace("%%", "%"), type=self._ini_type, default=None)

    @property
    def _ini_type(self) -> Literal["bool", "linelist", "string"]:
        """pytest's type of the ini key: what its help says, and `config.getini` returns."""
        if self.kind is SWITCH:
            return "bool"
        return "linelist" if self.kind.listed or self.kind.several else "string"

    def add_to_command(self, parser: argparse.ArgumentParser) -> None:
        """Add the flag to the console script: `--qnn-int8` is `--int8`."""
        flag = self.flag.replace("--qnn-", "--")
        if self.kind is SWITCH:
            parser.add_argument(flag, dest=self.field, action="store_true", help=self.help)
        else:
            parser.add_argument(
                flag,
                dest=self.field,
                action="append" if self.kind.several else "store",
                type=self.kind.parse,
                metavar=self.metavar,
                help=self.help.replace("--qnn-", "--"),
            )


def option(
    flag: str,
    kind: Kind[Value],
    *,
    default: Value,
    group: Group,
    matters: Matter | tuple[Matter, ...],
    help: str,
    metavar: str | None = None,
    starts_gate: bool = False,
) -> Value:
    """Declare an option as a field of a dataclass: the field's `metadata` are those of `Option`.

    `starts_gate`: this flag on the command line runs the shipped suite.
    """
    about = {
        "flag": flag,
        "kind": kind,
        "group": group,
        "matters": (matters,) if isinstance(matters, str) else matters,
        "help": help,
        "metavar": metavar,
        "starts_gate": starts_gate,
    }
    return field(default=default, metadata=about)
