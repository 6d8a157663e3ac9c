"""A run as one HTML page: no script, no network, every name escaped."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from importlib import resources

from pytest_qnnrobust.attacks.registry import minimizes_distance
from pytest_qnnrobust.claims.verdicts import Verdict
from pytest_qnnrobust.evaluation.cells import Outcome
from pytest_qnnrobust.report import judged
from pytest_qnnrobust.report.drawings import distance_curve
from pytest_qnnrobust.report.matrix import FINDINGS, blocks, legend, not_run
from pytest_qnnrobust.report.overview import overview, twins
from pytest_qnnrobust.report.pictures import pictures
from pytest_qnnrobust.results import headline
from pytest_qnnrobust.results.document import ModelRecord, Results
from pytest_qnnrobust.results.provenance import is_twin
from pytest_qnnrobust.types import WIDTHS

MEANING = {
    headline.PASSED: "It may ship: no requirement of this run is violated.",
    headline.FAILED: "It should not ship: something that is required does not hold.",
    headline.MEASURED: "This is no pass: no requirement says whether it may ship.",
}
"""What each state means for a release."""

OLDER = "Every test of this run passed."
OLDER_REASON = "a document of this age does not say what was required, if anything was"


def to_html(results: Results, passed: bool) -> str:
    """Render the page; the same bytes for the same results."""
    from jinja2 import Environment, StrictUndefined

    files = resources.files("pytest_qnnrobust.report")
    template, style = (
        files.joinpath(name).read_text("utf-8") for name in ("page.html", "page.css")
    )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    own, derived = _models(results)
    matrix = blocks(results)
    state = headline.state_of(results, passed)
    return environment.from_string(template).render(
        style=style,
        results=results,
        names=[model.origin for model in own if not model.defense] or ["no model"],
        state=state,
        state_words=headline.title(results, passed),
        meaning=MEANING[state] if results.state or not passed else OLDER,
        reason=_reason(results, passed),
        to_accept=f"{results.command} --qnn-update" if judged.lost(results) else "",
        overview=overview(results),
        requirements=judged.requirements(results),
        comparison=judged.comparison(results),
        problems=judged.other_problems(results),
        models=own,
        twins=twins(results),
        twin_models=derived,
        matrix=[block for block in matrix if not block.twin],
        twin_matrix=[block for block in matrix if block.twin],
        legend=legend(results),
        curves=_curves(results, twin=False),
        twin_curves=_curves(results, twin=True),
        findings=FINDINGS,
        violated=_verdicts(results, "violated"),
        others=_verdicts(results, "inconclusive") + _verdicts(results, "holds"),
        pictures=pictures(results),
        skipped=sum(map(len, not_run(results).values())),
        not_run=[(reason, _counted(tests)) for reason, tests in sorted(not_run(results).items())],
        options=json.dumps(dict(results.options), indent=1, sort_keys=True, default=str),
    )


def _reason(results: Results, passed: bool) -> str:
    """What the state rests on or, where nothing was required, what would make it a verdict."""
    state = headline.state_of(results, passed)
    if not results.state and state == headline.PASSED:
        return OLDER_REASON
    return headline.verdict(replace(results, state=state)).partition(": ")[2]


def _models(results: Results) -> tuple[list[ModelRecord], list[ModelRecord]]:
    """The user's models, the one that ships first, and the float twin of an integer file."""
    ordered = sorted(results.models, key=lambda one: (one.defense, -WIDTHS.index(one.width)))
    twin = [one for one in ordered if is_twin(results.models, one.defense, one.width)]
    return [one for one in ordered if one not in twin], twin


def _verdicts(results: Results, value: str) -> list[tuple[Verdict, bool]]:
    """The verdicts of this value, and whether each is a finding."""
    return [(one, one.name in results.findings) for one in results.verdicts if one.value == value]


def _curves(results: Results, twin: bool) -> list[tuple[str, str]]:
    """Name and curve of each attack without a budget that was aimed at plain models."""
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in sorted(results.outcomes, key=lambda one: -WIDTHS.index(one.width)):
        plain = outcome.mode == "direct" and not outcome.defense
        shown = plain and is_twin(results.models, "", outcome.width) is twin
        if shown and minimizes_distance(outcome.attack):
            outcomes[outcome.attack].append(outcome)
    return [(name, distance_curve(name, cells)) for name, cells in sorted(outcomes.items())]


def _counted(tests: Iterable[str]) -> str:
    """The names of tests, each with how many of its cases: `test_takeaway_1 x3`."""
    counts = Counter(test.split("::")[-1].split("[")[0] for test in tests)
    return ", ".join(name if n == 1 else f"{name} x{n}" for name, n in counts.items())
