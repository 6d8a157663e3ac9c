"""The values that options take: their types, and a parser of the text of each.

A parser raises `argparse.ArgumentTypeError`, rule and text, where the text says no such value.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

RUNTIMES = ("tflm", "litert", "litert-builtin")
SCALE_ARITHMETIC = ("double", "float")
FINDINGS = ("report", "fail")
ON_INCONCLUSIVE = ("fail", "warn", "pass")
GRADIENTS = ("straight-through", "surrogate", "finite-difference")

DIGITS = "digits"
"""The data source that stands for the embedded test digits."""

LONGEST_NUMBER = 60
"""Characters of a number, or of a fraction of two."""

_LONG_EXPONENT = re.compile(r"[eE][-+]?\d{4}")
OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*")


@dataclass(frozen=True)
class Threshold:
    """The least accuracy under attack of the cells whose id contains `pattern`."""

    pattern: str
    accuracy: float


@dataclass(frozen=True)
class DefendedFiles:
    """The files of a network that was trained to resist attacks, one for each width it has."""

    name: str
    paths: tuple[Path, ...]

    def located(self, folder: Path) -> DefendedFiles:
        """The same files, whose relative paths start at `folder`."""
        return DefendedFiles(self.name, tuple(folder / path.expanduser() for path in self.paths))


Loss = Literal["accuracy", "clean", "distance"]
LOSSES: tuple[Loss, ...] = ("accuracy", "clean", "distance")

KINDS = ("new", "vanished", "stale")

UNITS = ("", "K", "M", "G", "T")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?")
_LOSS = re.compile(r"(?:(.*):)?([a-z]+)\s*:\s*-\s*([0-9./]+)\s*(pt|%|)")


@dataclass(frozen=True)
class LossLimit:
    """The most of a `loss` that cells whose id contains `pattern` may show against a baseline.

    accuracy, clean: a fraction of the samples. distance: a fraction of the recorded distance.
    """

    pattern: str
    loss: Loss
    limit: float


@dataclass(frozen=True)
class Limits:
    """The limits of a run; of two that apply to a cell and loss, the later one counts."""

    rules: tuple[LossLimit, ...] = ()

    def of(self, cell: str, loss: Loss) -> float:
        """Limit of a `loss` of the cell with this id."""
        limits = [rule.limit for rule in self.rules if rule.loss == loss and rule.pattern in cell]
        return limits[-1] if limits else DEFAULT_LIMITS[loss]


DEFAULT_LIMITS: dict[Loss, float] = {"accuracy": 0.03, "clean": 0.02, "distance": 0.1}
USUAL_LIMITS = Limits()


@dataclass(frozen=True)
class Limit:
    """The most `samples` for an attack ("*": any) of a table ("": any); no limit without attack."""

    table: str
    attack: str
    samples: int

    def fits(self, table: str, attack: str) -> bool:
        return bool(attack) and self.table in ("", table) and self.attack in ("*", attack)


@dataclass(frozen=True)
class Squeezing:
    """Settings of feature squeezing: colour bits that are kept (None: all), and the window."""

    bit_depth: int | None
    window: int


def parse_path(text: str) -> Path:
    return Path(parse_source(text))


def parse_source(text: str) -> str:
    """A path, `module:function`, or `digits`; whether there is one is asked when the run starts."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got '' (an unset variable?)")
    return text


def parse_object(text: str) -> str:
    """`module:object`; whether there is one is asked when the run starts."""
    if not OBJECT.fullmatch(text):
        rule = f"expected MODULE:OBJECT such as mymodule:quantizer, got {text!r}"
        raise argparse.ArgumentTypeError(rule)
    return text


def parse_number(text: str) -> float:
    """A finite number, also as a fraction: `0.03`, `8/255`."""
    try:
        # An exponent of many digits would be written out, for seconds or without end.
        if len(text) > LONGEST_NUMBER or _LONG_EXPONENT.search(text):
            raise OverflowError
        return float(Fraction(text.strip()))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        shown = text if len(text) <= LONGEST_NUMBER else f"{text[:LONGEST_NUMBER]}..."
        rule = f"expected a number such as 0.03 or 8/255, got {shown!r}"
        raise argparse.ArgumentTypeError(rule) from error


def parse_eps(text: str) -> tuple[float, ...]:
    """`EPS[,EPS...]`: budgets in model input units, each of them once, the smallest first."""
    budgets = sorted({parse_number(part) for part in text.split(",") if part.strip()})
    if not budgets or budgets[0] <= 0:
        raise argparse.ArgumentTypeError(f"expected eps > 0 in model input units, got {text!r}")
    return tuple(budgets)


def parse_domain(text: str) -> tuple[float, float]:
    """`LOW,HIGH`, the real values between which every input of the model lies."""
    parts = text.split(",")
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"expected LOW,HIGH such as 0,255, got {text!r}")
    low, high = parse_number(parts[0]), parse_number(parts[1])
    if not low < high:
        raise argparse.ArgumentTypeError(f"expected LOW < HIGH, got {text!r}")
    return low, high


def parse_attacks(text: str) -> tuple[str, ...]:
    """Comma-separated attack ids; whether each one exists is asked when the run starts."""
    ids = tuple(part.strip() for part in text.split(",") if part.strip())
    if not ids:
        raise argparse.ArgumentTypeError("expected attack ids such as pgd,square-linf, got none")
    return ids


def parse_fraction(text: str) -> float:
    value = parse_number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a fraction between 0 and 1, got {text!r}")
    return value


def parse_margin(text: str) -> float:
    value = parse_number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a margin in [0, 1), got {text!r}")
    return value


def parse_positive(text: str) -> float:
    value = parse_number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a number > 0, got {text!r}")
    return value


def parse_count(text: str) -> int:
    return _parse_integer(text, least=1)


def parse_jobs(text: str) -> int:
    """A number of workers; "all" is joblib's -1."""
    return -1 if text in ("all", "-1") else _parse_integer(text, least=1)


def parse_shard(text: str) -> tuple[int, int]:
    """`2/3`: the second of three parts."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match:
        part, parts = int(match[1]), int(match[2])
        if 1 <= part <= parts:
            return part, parts
    raise argparse.ArgumentTypeError(f"expected I/N with 1 <= I <= N such as 2/3, got {text!r}")


def parse_seed(text: str) -> int:
    return _parse_integer(text, least=0)


def parse_size(text: str) -> int:
    """Bytes: `2G`, `500M`, `1.5g`, `4096`; K, M, G and T are powers of 1024."""
    match = _SIZE.fullmatch(text.strip().upper()) if len(text) <= LONGEST_NUMBER else None
    size = int(Fraction(match[1]) * 1024 ** UNITS.index(match[2])) if match else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"expected a size such as 2G or 500M, got {text!r}")
    return size


def parse_thresholds(text: str) -> tuple[Threshold, ...]:
    """`0.5` for every cell, or `CELL:0.5[,CELL:0.5...]` for cells whose id contains CELL."""
    thresholds = []
    for part in text.split(","):
        pattern, _, value = part.strip().rpartition(":")
        try:
            accuracy = parse_number(value)
        except argparse.ArgumentTypeError as error:
            rule = f"expected VALUE or CELL:VALUE such as int8-pgd-direct:0.5, got {part!r}"
            raise argparse.ArgumentTypeError(rule) from error
        if not 0 <= accuracy <= 1:
            raise argparse.ArgumentTypeError(f"expected an accuracy in [0, 1], got {value!r}")
        thresholds.append(Threshold(pattern, accuracy))
    return tuple(thresholds)


def parse_kinds(text: str) -> tuple[str, ...]:
    """Kinds of cells that cannot be compared with a baseline: `new`, `vanished`, `stale`."""
    kinds = tuple(part.strip() for part in text.split(","))
    for kind in kinds:
        if kind not in KINDS:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(KINDS)}, got {kind!r}")
    return kinds


def parse_limits(text: str) -> Limits:
    """`[CELL:]LOSS:-AMOUNT`, comma-separated: `accuracy:-3pt,int8-boundary:distance:-10%`."""
    rules = []
    for part in text.split(","):
        match = _LOSS.fullmatch(part.strip())
        unit = {"accuracy": "pt", "clean": "pt", "distance": "%"}
        if match is None or match[2] not in unit or match[4] not in ("", unit[match[2]]):
            rule = "expected [CELL:]LOSS:-AMOUNT such as accuracy:-3pt, clean:-1pt or distance:-10%"
            raise argparse.ArgumentTypeError(f"{rule}, got {part.strip()!r}")
        amount = parse_number(match[3]) / 100
        if not 0 <= amount < 1:
            raise argparse.ArgumentTypeError(f"expected an amount in [0, 100), got {part!r}")
        rules.append(LossLimit(match[1] or "", cast(Loss, match[2]), amount))
    return Limits(tuple(rules))


def parse_squeezing(text: str) -> Squeezing:
    """`BITS,WINDOW`, such as `4,2`; BITS may be `none`."""
    bits, _, window = (part.strip() for part in text.lower().partition(","))
    try:
        return Squeezing(None if bits == "none" else int(bits), int(window))
    except ValueError:
        rule = "expected BITS,WINDOW such as 4,2 or none,2"
        raise argparse.ArgumentTypeError(f"{rule}, got {text!r}") from None


def parse_switch(text: str) -> bool:
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")


def one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    """Parser of a text that is one of `choices`."""

    def parse(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"expected {' or '.join(choices)}, got {text!r}")
        return text

    return parse


def parse_defended(text: str) -> DefendedFiles:
    """`NAME=FILE[,FILE...]`, such as `sat=float.h5,int16.tflite,int8.tflite`."""
    name, separator, files = text.partition("=")
    paths = tuple(Path(part.strip()) for part in files.split(",") if part.strip())
    if not separator or not _NAME.fullmatch(name.strip()) or not paths:
        rule = (
            "expected NAME=FILE[,FILE...] such as sat=float.h5,int8.tflite, NAME of letters, "
            "digits, _ and ."
        )
        raise argparse.ArgumentTypeError(f"{rule}, got {text!r}")
    return DefendedFiles(name.strip(), paths)


def _parse_integer(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"expected an integer >= {least}, got {text!r}")
    return value
