"""Published figures: a CSV as a reader of the paper would type it in, and the clean accuracies."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_qnnrobust.errors import DataError, expected
from pytest_qnnrobust.tables.cells import TableCell
from pytest_qnnrobust.types import WIDTHS

COLUMNS = ("source", "dataset", "defence", "mode", "attack", "model", "adversarial_accuracy_pct")
DISTANCES = ("l0", "l1", "l2", "linf")

CLEAN = {
    "cifar10": {
        ("4", "none"): (88.3, 88.2, 87.5),
        ("8", "defensive-distillation"): (82.9, 82.77, 82.58),
        ("8", "pgd-adversarial-training"): (82.17, 82.21, 81.76),
        ("8", "ensemble-adversarial-training"): (85.77, 85.85, 85.62),
        ("8", "sinkhorn-adversarial-training"): (81.24, 81.29, 81.27),
        ("10", "feature-squeezing"): (83.7, 83.6, 83.0),
    },
    "vww": {
        ("4", "none"): (91.3, 91.0, 91.0),
        ("8", "defensive-distillation"): (82.91, 82.9, 82.94),
        ("8", "pgd-adversarial-training"): (78.72, 78.48, 78.47),
        ("8", "ensemble-adversarial-training"): (74.85, 74.93, 74.76),
        ("8", "sinkhorn-adversarial-training"): (77.86, 77.99, 77.86),
        ("10", "feature-squeezing"): (97.0, 96.9, 96.6),
    },
    "coffee": {
        ("4", "none"): (97.0, 97.0, 97.0),
        ("8", "defensive-distillation"): (95.29, 95.32, 95.0),
        ("8", "pgd-adversarial-training"): (95.87, 95.84, 96.01),
        ("8", "ensemble-adversarial-training"): (97.37, 97.4, 97.43),
        ("8", "sinkhorn-adversarial-training"): (95.38, 95.32, 95.06),
        ("10", "feature-squeezing"): (96.8, 97.0, 96.9),
    },
}
"""Tables 4, 8 and 10 of "David and Goliath", in % by width, as printed."""

ALIASES = {
    "distil": "defensive-distillation",
    "pgd": "pgd-adversarial-training",
    "adv_train": "pgd-adversarial-training",
    "ens_adv": "ensemble-adversarial-training",
    "sat": "sinkhorn-adversarial-training",
    "C&W-L_2": "cw-l2",
    "C&W-L_infty": "cw-linf",
    "Square-L_2": "square-l2",
    "Square-L_infty": "square-linf",
}
"""Other names of defences and attacks, as the paper's tables and its models have them."""


@dataclass(frozen=True)
class Published:
    """A published cell: accuracy in %, and mean distances by norm where the paper gives them."""

    accuracy: float
    distances: Mapping[str, float]


class PublishedFigures:
    """The published figures of one data set: those of a CSV and the accuracies of `CLEAN`."""

    def __init__(self, dataset: str, figures: Mapping[tuple[str, ...], Published]) -> None:
        self.dataset = dataset
        self._figures = dict(figures)
        for (table, defence), accuracies in CLEAN.get(dataset, {}).items():
            for width, accuracy in zip(WIDTHS, accuracies, strict=True):
                key = (table, _plain(defence), "clean", "", width)
                self._figures.setdefault(key, Published(accuracy, {}))

    def of(self, cell: TableCell) -> Published | None:
        """The published counterpart of a cell; None where there is none."""
        how = cell.how
        key = (cell.table, _plain(cell.defence), how, _plain(cell.attack), cell.width)
        return self._figures.get(key)


def read(path: Path, dataset: str | None) -> PublishedFigures:
    """Read the rows of `dataset` in a CSV with `COLUMNS` and, if it has them, `DISTANCES`.

    `dataset` may be None where the file has one only. Raises DataError for a file that cannot be
    read so, naming the row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise expected(
            "a CSV of published figures", path=str(path), reason=error, error=DataError
        ) from None
    missing = [name for name in COLUMNS if not rows or name not in rows[0]]
    if missing:
        raise expected(f"columns {', '.join(COLUMNS)}", path=str(path), error=DataError)
    for number, row in enumerate(rows, start=2):
        if None in (row[name] for name in COLUMNS):
            raise expected("all columns", path=str(path), line=number, error=DataError)
    datasets = sorted({row["dataset"] for row in rows})
    if dataset is None and len(datasets) == 1:
        dataset = datasets[0]
    if dataset is None or dataset not in datasets:
        cure = f"{path.name} has {', '.join(datasets)}"
        raise expected("--dataset to be a published one", dataset=dataset, cure=cure)
    figures = {}
    for number, row in enumerate(rows, start=2):
        if row["dataset"] == dataset:
            figures[_key(row)] = _figure(row, path, number)
    return PublishedFigures(dataset, figures)


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    table = re.sub(r"^tables? *", "", row["source"], flags=re.IGNORECASE)
    return table, _plain(row["defence"]), row["mode"], _plain(row["attack"]), row["model"]


def _figure(row: Mapping[str, str], path: Path, number: int) -> Published:
    try:
        distances = {name: float(row[name]) for name in DISTANCES if row.get(name)}
        return Published(float(row["adversarial_accuracy_pct"]), distances)
    except ValueError:
        raise expected("numbers", path=str(path), line=number, error=DataError) from None


def _plain(name: str) -> str:
    """A name without the signs that spellings differ in, aliases resolved."""
    return _ALIASES.get(_letters(name), _letters(name))


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _resolved(aliases: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {_letters(short): _letters(full) for short, full in aliases}


_ALIASES = _resolved(ALIASES.items())
