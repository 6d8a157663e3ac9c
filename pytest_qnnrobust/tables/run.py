"""One command: every cell of the tables, measured or taken from the cache, and what is drawn."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from pytest_qnnrobust.attacks import Attack
from pytest_qnnrobust.batching import share_processors
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.option_values import Limit
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.session import Session
from pytest_qnnrobust.subjects import WIDTHS, MissingError, quiet
from pytest_qnnrobust.tables import figures, render
from pytest_qnnrobust.tables.measure import helpers, measure, samples_of
from pytest_qnnrobust.tables.plan import TABLES, TableCell, cells
from pytest_qnnrobust.tables.published import PublishedFigures
from pytest_qnnrobust.tables.render import Row

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25, 2.5, 3.75, 5.0, 7.5, 10.0)
"""Linf budgets of Figure 1 as multiples of PGD's: the paper's range, and on to two int8 steps."""

SHOWN = 4
"""Images in a grid."""


@dataclass(frozen=True)
class Request:
    """What `qnnrobust tables` is asked for; of `limits` the first that fits a cell counts."""

    options: Options
    output: Path
    tables: tuple[str, ...] = tuple(TABLES)
    figures: bool = True
    published: PublishedFigures | None = None
    limits: tuple[Limit, ...] = ()
    processes: int = 1

    def samples(self, session: Session, cell: TableCell) -> int:
        return samples_of(session, cell, self.limits)


def make(request: Request) -> list[Path]:
    """Measure, write into `request.output`, and return the files."""
    with quiet():
        share_processors(request.processes)
    session = Session(request.options)
    session.load()
    if session.subjects.data is None:
        raise expected("data to attack", data=None, cure="give --data SOURCE")
    request.output.mkdir(parents=True, exist_ok=True)
    squeezing = request.options.squeeze is not None
    planned = cells(request.tables, list(session.subjects.defenses), squeezing)
    alone = request.processes == 1
    context: Any = nullcontext() if alone else helpers(
        request.options, planned, request.limits, request.processes
    )  # fmt: skip
    written: list[Path] = []
    with context:
        for rows in _measured(request, session, planned):
            written = _write(request.output, rows)
    if request.figures:
        written += _pictures(request, session)
    return written


def _measured(
    request: Request, session: Session, planned: Sequence[TableCell]
) -> Iterator[list[list[Row]]]:
    """All rows so far, table by table, each time that a table is complete."""
    done: list[list[Row]] = []
    started = time.perf_counter()
    for table in dict.fromkeys(cell.table for cell in planned):
        rows: list[Row] = []
        for cell in (cell for cell in planned if cell.table == table):
            number = sum(map(len, done)) + len(rows) + 1
            session.progress = _Progress(f"{number}/{len(planned)} {_name(cell)}")
            try:
                found = measure(session, cell, request.samples(session, cell))
            except MissingError as missing:
                _say(f"{number}/{len(planned)} {_name(cell)}: not run, {missing}")
                continue
            row = Row(found, request.published.of(cell) if request.published else None)
            rows.append(row)
            _say(f"{number}/{len(planned)} {_name(cell)}: {_result(row)}")
        if rows:
            done.append(rows)
            _say(f"{render.summary(rows)}; {time.perf_counter() - started:.0f} s since the start")
            yield list(done)


def _write(folder: Path, tables: Sequence[Sequence[Row]]) -> list[Path]:
    """All texts anew, and the picture of each table."""
    texts = {
        "tables.csv": render.to_csv([row for rows in tables for row in rows]),
        "tables.md": render.to_markdown(tables),
        "tables.tex": render.to_latex(tables),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    written = [folder / name for name in texts]
    for rows in tables:
        path = folder / f"table_{rows[0].measured.cell.table}.png"
        figures.dots(path, rows)
        written.append(path)
    return written


def _pictures(request: Request, session: Session) -> list[Path]:
    written = []
    models = {width: session.subject(width).model for width in WIDTHS}
    samples = request.samples(session, TableCell("figure-1", "none", "transfer", "pgd", ""))
    curves = []
    attacks = [_pgd(session, strength) for strength in STRENGTHS]
    for width, model in models.items():
        l2, right = [0.0], [session.right_on_clean(model)[:samples]]
        for attack in attacks:
            session.progress = _Progress(f"Figure 1 {width} {attack}")
            source = session.evaluate(session.cell(models["float32"], attack), samples, False)
            mode = "direct" if width == "float32" else "transfer"
            outcome = session.evaluate(session.cell(model, attack, mode), samples, False)
            l2.append(float(source.l2[source.clean_correct].mean()))
            right.append(outcome.robust)
        curves.append(figures.Curve(width, np.array(l2), right))
    path = request.output / "figure_1.png"
    figures.figure_1(path, curves)
    written.append(path)
    for name in ("boundary", "square-linf"):
        images = _triplets(request, session, name)
        if images:
            path = request.output / f"grid_{name}.png"
            figures.triplets(path, images, f"{name}, aimed at each width")
            written.append(path)
    return written


def _pgd(session: Session, strength: float) -> Attack:
    attack = cast(Any, session.attack("pgd"))
    eps = min(strength * attack.eps, session.span)
    return cast(Attack, replace(attack, eps=eps, step=attack.step * eps / attack.eps))


def _triplets(request: Request, session: Session, name: str) -> list[figures.Triplet]:
    """The first images that the attack fooled every width with."""
    models = {width: session.subject(width).model for width in WIDTHS}
    shape = models["float32"].input_shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[-1] not in (1, 3)):
        return []
    samples = request.samples(session, TableCell("5", "none", "direct", name, ""))
    low, high = session.subjects.bounds
    crafted = {w: session.craft(m, session.attack(name), samples) for w, m in models.items()}
    fooled = np.logical_and.reduce([found.success for found in crafted.values()])
    images = []
    for i in np.flatnonzero(fooled)[:SHOWN]:
        label = int(session.data.y[i])
        images.append(
            figures.Triplet(
                (session.data.x[i] - low) / (high - low),
                {w: (found.x_adv[i] - low) / (high - low) for w, found in crafted.items()},
                {w: (label, int(found.adv_label[i])) for w, found in crafted.items()},
            )
        )
    return images


class _Progress:
    """On a terminal, how far a long attack is."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, done: int, total: int, text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{self._name}: {text} {done}/{total}")
            sys.stderr.flush()


def _say(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    print(text, flush=True)


def _name(cell: TableCell) -> str:
    parts = (cell.defence if cell.defence != "none" else "", cell.attack, cell.how, cell.width)
    return f"table {cell.table} " + " ".join(filter(None, parts))


def _result(row: Row) -> str:
    text = f"{row.measured.accuracy:.1f} % of {row.measured.n}"
    if row.published is not None:
        text += f" (published {row.published.accuracy:g}, {row.difference:+.1f})"
    return text + (f", {row.measured.seconds:.0f} s" if row.measured.seconds else "")
