"""A run as one HTML page: no script, no network, every name escaped."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from importlib import resources

from pytest_qnnrobust.attacks.registry import minimizes_distance
from pytest_qnnrobust.claims.verdicts import Verdict
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.report.drawings import distance_curve, triplet
from pytest_qnnrobust.report.matrix import FINDINGS, blocks, failures, legend, not_run
from pytest_qnnrobust.results.document import Example, Results

EXAMPLES = 24
"""Largest number of images that the page shows."""


@dataclass(frozen=True)
class Pictures:
    cell: str
    caption: str
    pictures: list[str]


def to_html(results: Results, passed: bool) -> str:
    """Render the page; the same bytes for the same results."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(
        resources.files("pytest_qnnrobust.report").joinpath("page.html").read_text("utf-8")
    )
    comparison = results.comparison or ()
    changed = [record for record in comparison if record.status != "kept"]
    return template.render(
        results=results,
        passed=passed,
        title=", ".join(model.origin for model in results.models if not model.defense)
        or "no model",
        problems=failures(results),
        matrix=blocks(results),
        legend=legend(results),
        findings=FINDINGS,
        compared=changed,
        unchanged=len(comparison) - len(changed),
        verdicts=[(verdict, _kind(verdict, results)) for verdict in results.verdicts],
        curves=_curves(results),
        examples=[_pictures(example) for example in results.examples[:EXAMPLES]],
        not_run=[
            (reason, ", ".join(test.split("::")[-1] for test in tests))
            for reason, tests in sorted(not_run(results).items())
        ],
        options=json.dumps(dict(results.options), indent=1, sort_keys=True, default=str),
    )


def _kind(verdict: Verdict, results: Results) -> str:
    if verdict.value == "violated" and verdict.name in results.findings:
        return "finding"
    return verdict.value


def _curves(results: Results) -> list[tuple[str, str]]:
    """Name and curve of each attack without a budget that was aimed at plain models."""
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in results.outcomes:
        if outcome.mode == "direct" and not outcome.defense and minimizes_distance(outcome.attack):
            outcomes[outcome.attack].append(outcome)
    return [(name, distance_curve(name, cells)) for name, cells in sorted(outcomes.items())]


def _pictures(example: Example) -> Pictures:
    pictures, magnified = triplet(example.clean, example.adversarial)
    caption = f"{example.label} becomes {example.adv_label}; perturbation x{magnified}"
    return Pictures(example.cell, caption, pictures)
