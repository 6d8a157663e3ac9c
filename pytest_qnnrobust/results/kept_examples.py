"""Adversarial examples of a cell in a file, with what they were made for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.defenses import Defended
from pytest_qnnrobust.errors import DataError, expected
from pytest_qnnrobust.evaluation import array_files
from pytest_qnnrobust.evaluation.array_files import DamagedError
from pytest_qnnrobust.evaluation.cells import Cell, Outcome
from pytest_qnnrobust.evaluation.sample_arrays import from_arrays

VERSION = 1
SUFFIX = ".npz"
FLAG = "--qnn-keep-examples"


@dataclass(frozen=True, eq=False)
class KeptExamples:
    """The adversarial examples of one cell, made from N samples, and what they were made for.

    `x_adv` float32 (N, *input_shape): the examples as the attacked model saw them, which is
    `target` in a direct cell and `source` in the others; on a quantized one, points of its input
    grid. `index`, `label`, `clean_label`, `adv_label` int64 (N,): the sample, its label, and what
    `target` decided before and after the attack. The digests are those of Model and, of these
    samples, of Data; "" where there is none. `squeezing` is BITS,WINDOW or "".
    """

    cell: str
    width: str
    mode: str
    defense: str
    squeezing: str
    target: str
    target_digest: str
    source: str
    source_digest: str
    data_digest: str
    attack: str
    settings: str
    gradient: str
    runtime: str
    seed: int
    bounds: NDArray[np.float64]
    input_shape: NDArray[np.int64]
    classes: int
    x_adv: NDArray[np.float32]
    index: NDArray[np.int64]
    label: NDArray[np.int64]
    clean_label: NDArray[np.int64]
    adv_label: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether `target` was right on each example."""
        return np.asarray(self.adv_label == self.label)


def of_cell(
    cell: Cell, outcome: Outcome, x_adv: NDArray[np.float32], data_digest: str
) -> KeptExamples:
    """The examples of an evaluated cell; `x_adv` is what the attack returned."""
    target, attacked = cell.target, cell.source or cell.target
    squeezing = target.defense if isinstance(target, Defended) else None
    return KeptExamples(
        cell=outcome.id,
        width=outcome.width,
        mode=outcome.mode,
        defense=outcome.defense,
        squeezing=f"{squeezing.bit_depth},{squeezing.window}".lower() if squeezing else "",
        target=outcome.target,
        target_digest=target.digest or "",
        source=outcome.source or "",
        source_digest=(cell.source.digest or "") if cell.source else "",
        data_digest=data_digest,
        attack=outcome.attack,
        settings=outcome.settings,
        gradient=outcome.gradient or "",
        runtime=outcome.runtime,
        seed=outcome.seed,
        bounds=np.asarray(target.bounds, np.float64),
        input_shape=np.asarray(target.input_shape, np.int64),
        classes=target.classes,
        x_adv=x_adv if attacked.grid is None else attacked.grid.snap(x_adv),
        index=outcome.index,
        label=outcome.label,
        clean_label=outcome.clean_label,
        adv_label=outcome.adv_label,
    )


def write(folder: Path, name: str, examples: KeptExamples) -> Path:
    """Write `<name>.npz`, whole or not at all; characters that file systems refuse become `_`.

    Raises OSError where the disk refuses.
    """
    path = folder / (re.sub(r"[^\w.~-]", "_", name) + SUFFIX)
    values = {field.name: getattr(examples, field.name) for field in fields(examples)}
    array_files.write(path, {"version": VERSION, **values})
    return path


def read_folder(folder: Path) -> Iterator[tuple[str, KeptExamples]]:
    """Read the examples in a folder, one file at a time, as (name, examples).

    The name is the cell's id with what the file's name has from `~` on, where the settings are not
    the run's own.

    Raises DataError, one line, for a folder without any, or a file that is no such one.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    if not paths:
        raise expected(f"a folder that {FLAG} wrote", folder=str(folder), error=DataError)
    for path in paths:
        examples = read(path)
        yield examples.cell + "".join(path.stem.partition("~")[1:]), examples


def read(path: Path) -> KeptExamples:
    """Read what `write` wrote. Raises DataError, one line, for anything else."""
    try:
        stored = dict(array_files.read(path))
        version = stored.pop("version").item()
        if version != VERSION:
            raise DamagedError(f"version {version}, this package reads {VERSION}")
        return _checked(stored)
    except (OSError, KeyError, ValueError, TypeError, DamagedError) as error:
        rule = f"examples that {FLAG} wrote"
        raise expected(rule, path=str(path), reason=str(error), error=DataError) from None


def _checked(stored: Mapping[str, NDArray[Any]]) -> KeptExamples:
    """Check what a file holds. Raises ValueError where a field is missing, unknown, or of another
    type or shape.
    """
    examples = from_arrays(KeptExamples, stored, inputs=("x_adv",), other=("bounds", "input_shape"))
    shape = (len(examples), *examples.input_shape.tolist())
    if examples.x_adv.shape != shape or examples.bounds.shape != (2,):
        raise ValueError(f"x_adv is {examples.x_adv.shape}, inputs are {shape[1:]}")
    if not np.isfinite(examples.x_adv).all():
        raise ValueError("x_adv is not finite")
    return examples
