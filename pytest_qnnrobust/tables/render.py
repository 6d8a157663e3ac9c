"""Measured cells beside the published ones: CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_qnnrobust.tables.cells import TITLES
from pytest_qnnrobust.tables.measure import Measured
from pytest_qnnrobust.tables.published import DISTANCES, Published

NEAR = 10.0
"""Points within which a measured accuracy counts as the published one."""

CONVENTION = (
    "Accuracy: share of all samples that are right after the attack. Distances: means over the "
    "samples that were right before it, the published mean in brackets."
)

HEADINGS = ("attack", "how", "model", "accuracy %", "95 % interval", "published", "difference")


@dataclass(frozen=True)
class Row:
    """One cell of a table and its published counterpart, if there is one."""

    measured: Measured
    published: Published | None

    @property
    def difference(self) -> float:
        """Measured less published accuracy in points; NaN where nothing was published."""
        if self.published is None:
            return math.nan
        return self.measured.accuracy - self.published.accuracy


def to_csv(rows: Iterable[Row]) -> str:
    """Render a line for each cell, with six digits; distances are in model input units."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    distances = [*DISTANCES, *(f"{name}_all" for name in DISTANCES)]
    writer.writerow(
        ["table", "defence", "mode", "attack", "labels", "model", "samples", "accuracy_pct",
         "low_pct", "high_pct", "published_pct", "difference_points", *distances,
         *(f"published_{name}" for name in DISTANCES), "seconds"]
    )  # fmt: skip
    for row in rows:
        measured, cell = row.measured, row.measured.cell
        published = row.published.distances if row.published else {}
        numbers = [
            measured.accuracy,
            measured.interval.low,
            measured.interval.high,
            row.published.accuracy if row.published else math.nan,
            row.difference,
            *(measured.distances.get(name, math.nan) for name in DISTANCES),
            *(measured.distances_all.get(name, math.nan) for name in DISTANCES),
            *(published.get(name, math.nan) for name in DISTANCES),
            measured.seconds,
        ]
        labels = "predicted" if measured.predicted_labels else "true" if cell.attack else ""
        where = [cell.table, cell.defence, cell.how, cell.attack, labels, cell.width, measured.n]
        writer.writerow([*where, *("" if math.isnan(n) else f"{n:.6g}" for n in numbers)])
    return stream.getvalue()


def summary(rows: Sequence[Row]) -> str:
    """A table in a line, `Table 6: 30 of 33 cells within 10 points of the published accuracy`."""
    compared = [row for row in rows if row.published is not None]
    table = rows[0].measured.cell.table
    if not compared:
        return f"{title(table)}: {len(rows)} cells, nothing published to compare with"
    near = sum(abs(row.difference) <= NEAR for row in compared)
    return (
        f"{title(table)}: {near} of {len(compared)} cells within {NEAR:g} points of the published "
        "accuracy"
    )


def title(table: str) -> str:
    return f"Tables {table}" if "-" in table else f"Table {table}"


def to_markdown(tables: Sequence[Sequence[Row]]) -> str:
    """Render all tables with their headings, a summary line above each."""
    parts = []
    for rows in tables:
        table = rows[0].measured.cell.table
        parts.append(f"## {title(table)}: {TITLES[table]}\n\n{summary(rows)}. {CONVENTION}\n")
        for defence, part in by_defence(rows):
            heading = f"### {defence}\n\n" if defence != "none" else ""
            grid = [_headings(part), ["---"] * len(_headings(part)), *map(_cells, part)]
            lines = "\n".join(f"| {' | '.join(line)} |" for line in grid)
            parts.append(f"{heading}{lines}\n")
    return "\n".join(parts)


def to_latex(tables: Sequence[Sequence[Row]]) -> str:
    """Render all tables as `tabular` environments for the package booktabs."""
    parts = []
    for rows in tables:
        table = rows[0].measured.cell.table
        for defence, part in by_defence(rows):
            named = f", {defence}" if defence != "none" else ""
            headings = _headings(part)
            lines = [
                r"\begin{table}",
                rf"\caption{{{_escaped(f'{title(table)}: {TITLES[table]}{named}')}}}",
                rf"\begin{{tabular}}{{lll{'r' * (len(headings) - 3)}}}",
                r"\toprule",
                *(_latex_line(line) for line in [headings]),
                r"\midrule",
                *(_latex_line(_cells(row)) for row in part),
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
            ]
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def by_defence(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The rows of each defence, in the order of their first."""
    names = dict.fromkeys(row.measured.cell.defence for row in rows)
    return [(name, [r for r in rows if r.measured.cell.defence == name]) for name in names]


def _headings(rows: Sequence[Row]) -> list[str]:
    norms = [name.upper().replace("INF", "inf") for name in DISTANCES]
    return [*HEADINGS, *norms, "n"] if rows[0].measured.distances else [*HEADINGS, "n"]


def _cells(row: Row) -> list[str]:
    measured, cell = row.measured, row.measured.cell
    published = row.published.distances if row.published else {}
    distances = [
        _number(value) + (f" ({published[name]:g})" if name in published else "")
        for name, value in measured.distances_all.items()
    ]
    return [
        attack_of(row) or "-",
        cell.how,
        cell.width,
        f"{measured.accuracy:.1f}",
        f"{measured.interval.low:.1f}-{measured.interval.high:.1f}",
        f"{row.published.accuracy:.1f}" if row.published else "-",
        "-" if math.isnan(row.difference) else f"{row.difference:+.1f}",
        *distances,
        str(measured.n),
    ]


def attack_of(row: Row) -> str:
    """The attack of a row, marked where its labels were the network's decisions."""
    name = row.measured.cell.attack
    return f"{name} (predicted labels)" if row.measured.predicted_labels else name


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _latex_line(cells: Iterable[str]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    for sign in ("\\", "&", "%", "$", "#", "_", "{", "}"):
        text = text.replace(sign, {"\\": r"\textbackslash "}.get(sign, "\\" + sign))
    return text
