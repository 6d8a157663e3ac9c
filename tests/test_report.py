"""The page and the summary of a run: complete, self-contained, and nothing in them is code."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from pytest_qnnrobust.cli import main
from pytest_qnnrobust.report import files, summary
from pytest_qnnrobust.report.page import to_html
from pytest_qnnrobust.report.summary import to_markdown
from pytest_qnnrobust.results import document
from pytest_qnnrobust.results.document import CompareRecord, ModelRecord, RequirementRecord
from tests.helpers.outcomes import outcome, results, share
from tests.helpers.runs import FILE, TWIN, cell, run

EVIL = "<script>alert(1)</script><img src=x onerror=y>|`\"'&"


def with_curves():
    right = share(20, 0.2, 0)
    cells = []
    for width in ("float32", "int8"):
        made = outcome(width, right, np.linspace(0.1, 1, 20))
        cells.append(replace(made, id=f"{width}-boundary-direct", attack="boundary"))
    return results(outcomes=tuple(cells))


class Tags(HTMLParser):
    """The names of all elements, and every address that they name."""

    def __init__(self, text):
        super().__init__()
        self.names, self.addresses, self.handlers = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "action"):
                self.addresses.append(value)
            if name.startswith("on"):
                self.handlers.append(name)


class Text(HTMLParser):
    """The text of a page in two parts: what is seen at once, and what lies behind folds."""

    def __init__(self, page):
        super().__init__()
        self.seen, self.folded, self.depth, self.hidden = "", "", 0, False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.depth += tag == "details"
        self.hidden = tag == "style" or (self.hidden and tag != "body")

    def handle_endtag(self, tag):
        self.depth -= tag == "details"
        self.hidden = self.hidden and tag != "style"

    def handle_data(self, text):
        if self.hidden:
            return
        if self.depth:
            self.folded += text
        else:
            self.seen += text


def test_the_page_says_what_the_results_hold():
    page = to_html(with_curves(), passed=False)
    text = re.sub(r"<[^>]+>", " ", page)
    for said in (
        "failed", "pytest --qnn-demo", "digits_int8.tflite", "20 of 597 samples of digits",
        "boundary", "float32", "T1 x", "a against b", "no data", "t::b: below", "python 3.11",
        "1 becomes 2", "a-x accuracy",
    ):  # fmt: skip
        assert said in text, said
    assert page.count("<svg") == 1


@pytest.mark.parametrize("render", [to_html, to_markdown])
def test_a_reader_learns_what_was_tested_and_what_the_numbers_are(render):
    found = with_curves()
    defended = ModelRecord("d8", "int8", "tflm", None, "robust.tflite", "pgd")
    cells = tuple(replace(o, defense="pgd", mode="surrogate") for o in found.outcomes)
    known = replace(
        found, outcomes=(*found.outcomes, *cells), models=(*found.models, defended),
        verdicts=tuple(replace(v, value="violated") for v in found.verdicts),
        findings=tuple(v.name for v in found.verdicts),
    )  # fmt: skip
    text = re.sub(r"<[^>]+>|\*", " ", render(known, passed=True))
    for said in (
        "robust.tflite", "20 of 597 samples of digits", "Clopper-Pearson", "no model is at fault",
        "direct: the attack asked the network itself", "surrogate: it asked", "(a finding)",
        "defence pgd, surrogate",
    ):  # fmt: skip
        assert said in text, said
    assert "surrogate:" not in render(found, passed=True)


def test_the_page_needs_no_network_and_runs_nothing():
    tags = Tags(to_html(with_curves(), passed=True))
    assert "script" not in tags.names
    assert not {"link", "iframe", "object", "embed", "form"} & set(tags.names)
    assert not tags.handlers
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in tags.addresses)


def test_names_from_files_are_text_in_the_page_and_in_the_summary():
    found = with_curves()
    evil = replace(
        found,
        command=EVIL,
        models=(ModelRecord(EVIL, "int8", EVIL, EVIL, EVIL, EVIL),),
        data=replace(found.data, name=EVIL, domain=EVIL),
        verdicts=tuple(replace(v, name=EVIL, statement=EVIL) for v in found.verdicts),
        findings=(),
        notes={EVIL: EVIL},
        skipped={EVIL: EVIL},
        failed={EVIL: EVIL},
        outcomes=tuple(
            replace(o, id=EVIL, attack=EVIL, settings=EVIL, defense=EVIL) for o in found.outcomes
        ),
        examples=tuple(replace(e, cell=EVIL) for e in found.examples),
        headline=(EVIL,),
        requirements=(RequirementRecord(f"test_{EVIL}[{EVIL}]", "violated", EVIL, EVIL),),
        comparison=(CompareRecord(EVIL, "worse", f"now 1.0 % against recorded {EVIL}", EVIL),),
        options={"x": EVIL},
        versions={"x": EVIL},
    )
    tags = Tags(to_html(evil, passed=False))
    assert "script" not in tags.names
    assert not tags.handlers
    assert "x" not in tags.addresses
    markdown = to_markdown(evil, passed=False)
    assert "<" not in markdown


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        ("passed", "It may ship"),
        ("failed", "It should not ship"),
        ("measured", "This is no pass"),
    ],
)
def test_the_page_begins_with_the_model_that_ships_and_the_verdict(state, answer):
    made = run(state)
    page = to_html(made, passed=state != "failed")
    assert f"<title>{FILE}: robustness {state}" in page
    top = f'<header class="top {state}">\n<h1>Robustness of {FILE}</h1>'
    assert top in page
    seen = " ".join(Text(page).seen.split())
    assert answer in seen
    for line in made.headline:
        assert line.partition(": ")[2] in seen
    first_table = seen[: seen.index("Share of the attacked samples")]
    for said in (
        "int8", "robust at 2/255", "robust at 8/255", "Linf 0.0314 = 8 int8 steps", "4 attacks",
    ):  # fmt: skip
        assert said in first_table, said


def test_the_twin_is_behind_a_fold_everywhere():
    made = run("measured")
    wrapped = cell(
        "float32", "square-linf", 8 / 255, 0.7, defense="squeezed", id="squeezed-float32"
    )
    text = Text(to_html(replace(made, outcomes=(*made.outcomes, wrapped)), passed=True))
    assert TWIN in text.folded
    assert "squeezed float32" in text.folded
    assert "squeezed" not in text.seen
    assert "float32" in text.folded
    assert "twin" not in text.seen.replace("The float twin", "").replace(
        "surrogate: it asked the float twin of the integer network", ""
    )
    assert "the float twin, direct" in text.folded


def test_the_matrix_has_a_clean_row_budgets_and_distances():
    page = to_html(run("measured"), passed=True)
    table = page[page.index("<h3>direct</h3>") : page.index("<h3>surrogate</h3>")]
    rows = table.split("<tr")[2:]
    by_name = {name: row for row in rows for name in re.findall(r'"row">([^<]+)', row)}
    assert list(by_name) == [
        "no attack", "noise-8/255", "pgd-2/255", "pgd-8/255", "square-linf-8/255", "boundary",
    ]  # fmt: skip
    assert "Linf 0.00784 = 2 int8 steps" in by_name["pgd-2/255"]
    assert "100.0 %" in by_name["no attack"]
    assert "--share" not in by_name["no attack"] + by_name["boundary"]
    assert "L2 0.42" in by_name["boundary"]
    assert "Linf 0.105, 40 of 40 fooled" in by_name["boundary"]
    assert "more of this attack is withstood" in page


def test_requirements_stand_beside_the_baseline_with_what_changed():
    seen = Text(to_html(run("failed"), passed=False)).seen
    assert "robust accuracy: int8-worst-2/255" in seen
    assert "45.0 % → 20.0 %" in " ".join(seen.split())
    assert "pytest --qnn-demo --qnn-update" in seen
    assert "What else failed" not in seen
    held = Text(to_html(run("passed"), passed=True)).seen
    assert "1 held; the baseline has 1 more" in held
    assert "--qnn-update" not in held


def test_a_record_without_two_values_keeps_its_words():
    odd = (CompareRecord("int8-x-direct", "stale", "other seed: 1, recorded with 0"),)
    seen = Text(to_html(run("failed", comparison=odd), passed=False)).seen
    assert "other seed: 1, recorded with 0" in seen


def test_examples_are_of_several_classes_and_cells():
    page = to_html(run("measured"), passed=True)
    captions = re.findall(r"<figcaption>(\d) becomes \d; perturbation x(\d+)<br>([^<]+)", page)
    labels = [label for label, _, _ in captions]
    assert sorted(set(labels)) == ["0", "1", "2"]
    assert max(map(labels.count, labels)) <= 2
    assert len({cell for _, _, cell in captions}) == len(captions) > 3
    assert not any(cell.startswith("float32") for _, _, cell in captions)


def test_what_was_not_run_is_grouped_behind_a_fold():
    skipped = {f"t::test_a[{i}]": "no data" for i in range(3)} | {"t::test_b": "no model"}
    text = Text(to_html(run("passed", skipped=skipped), passed=True))
    assert "no data" not in text.seen
    assert "What was not run: 4 tests, 2 reasons" in text.folded
    assert "test_a x3" in text.folded


def test_an_older_document_still_renders():
    made = replace(run("passed"), state="", headline=(), requirements=())
    cells = tuple(replace(o, norm="", eps=None, step=None) for o in made.outcomes)
    older = document.Results.from_text(replace(made, outcomes=cells).to_text())
    seen = Text(to_html(older, passed=True)).seen
    assert "does not say what was required" in seen
    assert "may ship" not in seen
    failed = replace(older, failed={"t::b": "below 40 %"}, comparison=None)
    seen = Text(to_html(failed, passed=False)).seen
    assert "Why it failed" in seen
    assert "below 40 %" in seen


def test_the_same_results_give_the_same_bytes():
    found = with_curves()
    again = document.Results.from_text(found.to_text())
    assert to_html(found, True) == to_html(again, True)
    assert to_markdown(found, True) == to_markdown(again, True)


def test_the_summary_is_cut_to_what_a_job_may_show(monkeypatch):
    failed = {f"test_{i}": "x" * 5000 for i in range(100)}
    monkeypatch.setattr(summary, "MAX_BYTES", 20_000)
    text = to_markdown(results(failed=failed), passed=False)
    assert len(text.encode()) < 20_100
    assert text.endswith("(cut short)\n")
    monkeypatch.undo()
    assert "- and 60 more" in to_markdown(results(failed=failed), passed=False)


def test_errors_are_shown_beside_the_pull_request(monkeypatch):
    found = results(failed={"t::b": "lost 5 %\nof all"})
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert files.error_lines(found) == []
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert files.error_lines(found) == ["::error title=robustness::t::b: lost 5 %25%0Aof all"]


def test_a_report_is_rendered_again_from_its_results(tmp_path, capsys):
    document.write(tmp_path / "a.json", with_curves())
    assert main(["report", str(tmp_path / "a.json"), "--output", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "summary.md"}
    assert "wrote" in capsys.readouterr().out


def test_two_runs_are_compared_without_running_anything(tmp_path, capsys):
    found = with_curves()
    broken = replace(
        found,
        outcomes=tuple(replace(o, adv_label=np.ones(20, int), clean_label=np.ones(20, int))
                       for o in found.outcomes),
    )  # fmt: skip
    for name, one in (("a", found), ("b", broken)):
        document.write(tmp_path / f"{name}.json", one)
    a, b = (str(tmp_path / f"{name}.json") for name in "ab")
    assert main(["compare", a, a]) == 0
    assert "kept" in capsys.readouterr().out
    assert main(["compare", a, b]) == 1
    assert "WORSE: int8-clean clean. now 0.0 %" in capsys.readouterr().out
    assert main(["compare", a, str(tmp_path / "absent.json")]) == 4
    assert "expected a file of results" in capsys.readouterr().err


@pytest.mark.parametrize("limit", ["clean:-99pt,accuracy:-99pt,distance:-99%"])
def test_limits_of_a_comparison_are_options(tmp_path, limit):
    found = with_curves()
    document.write(tmp_path / "a.json", found)
    a = str(tmp_path / "a.json")
    assert main(["compare", a, a, f"--fail-if={limit}", "--inconclusive=fail"]) == 0
