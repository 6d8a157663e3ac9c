"""A run as a page of Markdown, for the summary of a CI job."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_qnnrobust.gate.gate import Gate
from pytest_qnnrobust.report.matrix import FINDINGS, Block, Shown, blocks, failures, legend
from pytest_qnnrobust.results import headline
from pytest_qnnrobust.results.document import Results

MAX_BYTES = 1000 * 1024
"""GitHub refuses a job summary of more than 1 MiB."""

SHOWN = 40
"""Largest number of items that a list shows; the page has the rest."""


def to_markdown(results: Results, passed: bool) -> str:
    """Render state, headline, failures, models, cells and violated verdicts; at most `MAX_BYTES` in
    UTF-8.
    """
    problems = [_plain(problem) for problem in failures(results)]
    lines = [f"# Robustness: {headline.title(results, passed)}", ""]
    lines += [line for text in headline.lines(results) for line in (_plain(text), "")]
    lines += [f"`{_plain(results.command)}`", ""]
    lines += _listed("Why it failed", problems)
    lines += _against_baseline(results)
    lines += _listed("What was tested", _tested(results))
    if results.outcomes:
        lines += ["## Accuracy under attack", "", legend(results), ""]
    for block in blocks(results):
        lines += [f"### {_plain(block.title)}", "", *_table(block), ""]
    lines += _listed(
        "Sequential tests",
        [f"{_plain(record.cell)} {_plain(str(record))}" for record in results.sequential],
    )
    violated = [
        f"**{_plain(verdict.name)}** violated"
        f"{' (a finding)' * (verdict.name in results.findings)}: {_plain(verdict.statement)}"
        for verdict in results.verdicts
        if verdict.value == "violated"
    ]
    lines += _listed("Claims that do not hold", violated)
    if violated:
        lines += [FINDINGS, ""]
    holds = sum(verdict.value == "holds" for verdict in results.verdicts)
    inconclusive = sum(verdict.value == "inconclusive" for verdict in results.verdicts)
    if results.verdicts:
        lines += [f"Claims that hold: {holds}. Inconclusive on these samples: {inconclusive}.", ""]
    return _cut("\n".join(lines))


def _against_baseline(results: Results) -> list[str]:
    """How many cells are as recorded and how many are not, and those that do not fail the run."""
    records = results.comparison or ()
    tolerated = [
        f"ACCEPTED: {record.name} ({record.status}). {record.accepted}"
        if record.accepted
        else f"INCONCLUSIVE: {record.name}. {record.text}"
        for record in records
        if record.accepted or record.status == "inconclusive"
    ]
    items = [Gate(records).counts, *map(_plain, tolerated)] if records else []
    return _listed("Against the baseline", items)


def _tested(results: Results) -> list[str]:
    models = [
        _plain(f"{model.width}: {model.origin}{model.defense and f', defence {model.defense}'}")
        for model in results.models
    ]
    return [*models, _plain(str(results.data))] if results.data else models


def _table(block: Block) -> list[str]:
    head = ["attack", "budget", *block.widths]
    rows = [[row.name, row.budget or "-", *map(_number, row.cells)] for row in block.rows]
    return [_line(head), _line(["---"] * len(head)), *(_line(row) for row in rows)]


def _number(cell: Shown | None) -> str:
    return f"{cell.text} ({cell.detail})" if cell else "-"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _listed(heading: str, items: list[str]) -> list[str]:
    if not items:
        return []
    rest = [f"- and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return [f"## {heading}", "", *(f"- {_one_line(item)}" for item in items[:SHOWN]), *rest, ""]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:2000]


def _plain(text: str) -> str:
    """Escape a text that may come from a file: no HTML, no table bars, no code marks."""
    for sign, instead in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("`", "'"), ("\n", " ")):
        text = text.replace(sign, instead)
    return text


def _cut(text: str) -> str:
    content = text.encode()
    if len(content) <= MAX_BYTES:
        return text + "\n"
    return content[:MAX_BYTES].decode(errors="ignore").rsplit("\n", 1)[0] + "\n\n(cut short)\n"
