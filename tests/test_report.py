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
from pytest_qnnrobust.results.document import ModelRecord
from tests.helpers.outcomes import outcome, results, share

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
        options={"x": EVIL},
        versions={"x": EVIL},
    )
    tags = Tags(to_html(evil, passed=False))
    assert "script" not in tags.names
    assert not tags.handlers
    assert "x" not in tags.addresses
    markdown = to_markdown(evil, passed=False)
    assert "<" not in markdown


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
