"""The command `qnnrobust tables`: every cell is measured or taken from the cache, and drawn."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_qnnrobust.compute.processors import share_processors
from pytest_qnnrobust.errors import AttackError, expected
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.run.session import Session
from pytest_qnnrobust.run.subjects import MissingError
from pytest_qnnrobust.tables import figures, pictures, render
from pytest_qnnrobust.tables.cells import FIGURE_1, PICTURES, TABLES, TableCell, cells_of
from pytest_qnnrobust.tables.measure import AS_ASKED, Conditions, cache_fillers, measure
from pytest_qnnrobust.tables.published import PublishedFigures
from pytest_qnnrobust.tables.render import Row


@dataclass(frozen=True)
class Request:
    """A request to `qnnrobust tables`: the run's options, what to make, and where to write it."""

    options: Options
    output: Path
    tables: tuple[str, ...] = (*TABLES, *PICTURES)
    figures: bool = True
    published: PublishedFigures | None = None
    conditions: Conditions = AS_ASKED
    processes: int = 1


def make(request: Request) -> list[Path]:
    """Measure, write into `request.output`, and return the files.

    Raises QnnRobustError, before any attack, where there is nothing to measure or nowhere to write.
    """
    trained = [files.name for files in request.options.defended]
    planned = cells_of(request.tables, trained, request.options.squeeze is not None)
    drawn = [name for name in PICTURES if name in request.tables and request.figures]
    if not (planned or drawn):
        cure = "8 and 16-17 need --defended, 10 and 11 --squeeze"
        raise expected("tables that can be measured", tables=list(request.tables), cure=cure)
    try:
        request.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        rule = "--output to be a folder that can be written"
        raise expected(rule, output=str(request.output), reason=error.strerror) from None
    share_processors(request.processes)
    session = Session(request.options)
    session.load()
    if session.subjects.data is None:
        raise expected("data to attack", data=None, cure="give --data SOURCE")
    written: list[Path] = []
    with cache_fillers(request.options, planned, request.conditions, request.processes):
        for rows in _measured(request, session, planned):
            written = _write(request, rows)
        for name in drawn:
            written += _drawn(name, request, session)
    return written


def _measured(
    request: Request, session: Session, planned: Sequence[TableCell]
) -> Iterator[list[list[Row]]]:
    """All rows so far, table by table, each time that a table is complete."""
    done: list[list[Row]] = []
    started = time.perf_counter()
    places = {cell: f"{number}/{len(planned)}" for number, cell in enumerate(planned, start=1)}
    for table in dict.fromkeys(cell.table for cell in planned):
        rows: list[Row] = []
        for cell in (cell for cell in planned if cell.table == table):
            name = f"{places[cell]} {_name(cell)}"
            session.evaluator.progress = _Progress(name)
            try:
                measured = measure(session, cell, request.conditions)
            except (MissingError, AttackError) as error:
                _say(f"{name}: not run, {error}")
                continue
            row = Row(measured, request.published.of(cell) if request.published else None)
            rows.append(row)
            _say(f"{name}: {_result(row)}")
        if rows:
            done.append(rows)
            _say(f"{render.summary(rows)}; {time.perf_counter() - started:.0f} s since the start")
            yield list(done)


def _write(request: Request, tables: Sequence[Sequence[Row]]) -> list[Path]:
    """Write all texts anew, and the picture of each table."""
    texts = {
        "tables.csv": render.to_csv([row for rows in tables for row in rows]),
        "tables.md": render.to_markdown(tables),
        "tables.tex": render.to_latex(tables),
    }
    for name, text in texts.items():
        (request.output / name).write_text(text, encoding="utf-8")
    written = [request.output / name for name in texts]
    for rows in tables if request.figures else ():
        path = request.output / f"table_{rows[0].measured.cell.table}.png"
        figures.dots(path, rows)
        written.append(path)
    return written


def _drawn(name: str, request: Request, session: Session) -> list[Path]:
    session.evaluator.progress = _Progress(name)
    if name == FIGURE_1:
        path = request.output / "figure_1.png"
        figures.figure_1(path, pictures.curves(session, request.conditions))
        return [path]
    written = []
    for attack in pictures.SHOWN:
        images = pictures.triplets(session, attack, request.conditions)
        if images:
            path = request.output / f"grid_{attack}.png"
            figures.triplets(path, images, f"{attack}, aimed at each width")
            written.append(path)
    return written


class _Progress:
    """Progress of a long attack, shown on a terminal only."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, done: int, total: int, text: str) -> None:
        if sys.stdout.isatty():
            print(f"\r\033[K{self._name}: {text} {done}/{total}", end="", flush=True)


def _say(text: str) -> None:
    clear = "\r\033[K" if sys.stdout.isatty() else ""
    print(clear + text, flush=True)


def _name(cell: TableCell) -> str:
    parts = (cell.defence if cell.defence != "none" else "", cell.attack, cell.how, cell.width)
    return f"table {cell.table} " + " ".join(filter(None, parts))


def _result(row: Row) -> str:
    text = f"{row.measured.accuracy:.1f} % of {row.measured.n}"
    if row.measured.predicted_labels:
        text += ", predicted labels"
    if row.published is not None:
        text += f" (published {row.published.accuracy:g}, {row.difference:+.1f})"
    return text + (f", {row.measured.seconds:.0f} s" if row.measured.seconds else "")
