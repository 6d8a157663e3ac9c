"""The command `qnnrobust tables`: every cell is measured or taken from the cache, and drawn."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pytest_qnnrobust import disk
from pytest_qnnrobust.compute.processors import share_processors
from pytest_qnnrobust.errors import AttackError, OutputError, expected
from pytest_qnnrobust.options import Options
from pytest_qnnrobust.run.outputs import Output
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

    Raises QnnRobustError, before any attack, where there is nothing to measure or nowhere to write,
    and at the end where the disk refused what was to be written last.
    """
    trained = [files.name for files in request.options.defended]
    planned = cells_of(request.tables, trained, request.options.squeeze is not None)
    drawn = [name for name in PICTURES if name in request.tables and request.figures]
    if not (planned or drawn):
        cure = "8 and 16-17 need --defended, 10 and 11 --squeeze"
        raise expected("tables that can be measured", tables=list(request.tables), cure=cure)
    output = Output("--output", "folder", request.output)
    output.try_out()
    share_processors(request.processes)
    session = Session(request.options)
    session.load()
    if session.subjects.data is None:
        raise expected("data to attack", data=None, cure="give --data SOURCE")
    if session.cache_refusal:
        _say(session.cache_refusal.replace("--qnn-", "--"))
    # Without a cache no process finds what another one has computed.
    processes = 1 if session.cache_refusal else request.processes
    files = _Files(output)
    with cache_fillers(request.options, planned, request.conditions, processes):
        for rows in _measured(request, session, planned):
            with files.writing("tables"):
                files.written["tables"] = _write(request, rows)
        for name in drawn:
            for path, draw in _pictures(name, request, session):
                with files.writing(path.name):
                    draw(path)
                    files.written[path.name] = [path]
    return files.all()


class _Files:
    """The files of a request, part by part; a part that the disk refuses does not end the rest.

    Texts are written anew with each table: a disk that has room again by the last one is enough.
    """

    def __init__(self, output: Output) -> None:
        self.written: dict[str, list[Path]] = {}
        self._output = output
        self._refused: dict[str, OutputError] = {}

    @contextmanager
    def writing(self, part: str) -> Iterator[None]:
        """Write a part inside."""
        try:
            with self._output.writing():
                self._output.path.mkdir(parents=True, exist_ok=True)
                yield
            self._refused.pop(part, None)
        except OutputError as error:
            self._refused[part] = error
            _say(str(error))

    def all(self) -> list[Path]:
        """The files; OutputError where a part is not written."""
        for error in self._refused.values():
            raise error
        return [path for paths in self.written.values() for path in paths]


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
        disk.write_text(request.output / name, text)
    written = [request.output / name for name in texts]
    for rows in tables if request.figures else ():
        path = request.output / f"table_{rows[0].measured.cell.table}.png"
        figures.dots(path, rows)
        written.append(path)
    return written


def _pictures(
    name: str, request: Request, session: Session
) -> Iterator[tuple[Path, Callable[[Path], None]]]:
    """The paths of pictures whose contents are measured, and what draws them there."""
    session.evaluator.progress = _Progress(name)
    if name == FIGURE_1:
        curves = pictures.curves(session, request.conditions)
        yield request.output / "figure_1.png", partial(figures.figure_1, curves=curves)
        return
    for attack in pictures.SHOWN:
        images = pictures.triplets(session, attack, request.conditions)
        if images:
            heading = f"{attack}, aimed at each width"
            draw = partial(figures.triplets, images=images, heading=heading)
            yield request.output / f"grid_{attack}.png", draw


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
