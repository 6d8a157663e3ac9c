"""The tables of the paper for the models at hand: cells, published figures, files."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from pytest_qnnrobust import disk, options
from pytest_qnnrobust.cli import main
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.options.values import Limit
from pytest_qnnrobust.run.session import Session
from pytest_qnnrobust.statistics.paired import Interval
from pytest_qnnrobust.tables import cells, pictures, published, render
from pytest_qnnrobust.tables.cells import TableCell
from pytest_qnnrobust.tables.measure import Conditions, Measured, measure
from pytest_qnnrobust.types import WIDTHS

pytestmark = pytest.mark.usefixtures("models_compiled_once")

HEADER = "source,dataset,defence,mode,attack,model,adversarial_accuracy_pct,l0,l1,l2,linf\n"
DEEPFOOL = "Table 6,{0},none,transfer,deepfool,int8,78.4,3056.59,3.2,0.08,0.01\n"
SINKHORN = "Tables 16-17,a,sinkhorn-adversarial-training,direct,Square- L_infty,int8,73.6,,,,\n"


@pytest.fixture
def figures(tmp_path):
    """`figures(text, dataset)`: read a CSV of this text."""

    def read(text, dataset=None):
        path = tmp_path / "published.csv"
        path.write_text(text)
        return published.read(path, dataset)

    return read


def test_the_cells_of_the_paper():
    found = cells.cells_of(list(cells.TABLES), ["pgd", "sat"], squeezing=True)
    assert len(found) == len(set(found)) == 3 + 15 + 33 + 6 + 3 + 21 + 42
    assert len(cells.cells_of(["9"], ["pgd"], squeezing=False)) == 21
    assert cells.cells_of(["16", "17"], ["pgd"], False) == cells.cells_of(["9"], ["pgd"], False)
    assert cells.cells_of(["10", "11"], [], squeezing=False) == []
    with pytest.raises(QnnRobustError, match=r"tables among 4, 5, 6.*table='7'"):
        cells.cells_of(["7"], [], squeezing=True)


def test_published_figures_are_found_under_either_spelling(figures):
    found = figures(HEADER + DEEPFOOL.format("a") + SINKHORN)
    cell = TableCell("6", "none", "transfer", "deepfool", "int8")
    assert found.of(cell).accuracy == 78.4
    assert found.of(cell).distances == {"l0": 3056.59, "l1": 3.2, "l2": 0.08, "linf": 0.01}
    assert found.of(replace(cell, width="int16")) is None
    assert figures("\ufeff" + HEADER + DEEPFOOL.format("a")).of(cell).accuracy == 78.4
    for name in ("sat", "sinkhorn_adversarial_training"):
        figure = found.of(TableCell("16-17", name, "direct", "square-linf", "int8"))
        assert (figure.accuracy, figure.distances) == (73.6, {})


def test_clean_accuracies_of_the_paper_belong_to_its_data_set(figures):
    cell = TableCell("4", "none", "clean", "", "int8")
    assert figures(HEADER + DEEPFOOL.format("cifar10")).of(cell).accuracy == 87.5
    assert figures(HEADER + DEEPFOOL.format("other")).of(cell) is None


@pytest.mark.parametrize(
    ("text", "dataset", "message"),
    [
        ("", None, "columns source, dataset"),
        ("a,b\n1,2\n", None, "columns source, dataset"),
        (HEADER + DEEPFOOL.format("a") + DEEPFOOL.format("b"), None, "dataset=None; .* has a, b"),
        (HEADER + DEEPFOOL.format("a"), "c", "dataset='c'; .* has a"),
        (HEADER + DEEPFOOL.format("a").replace("78.4", "x"), None, "line=2"),
        (HEADER + DEEPFOOL.format("a") + "Table 6,a,none\n", None, "all columns.*line=3"),
    ],
)
def test_a_bad_file_of_figures_is_one_line(figures, text, dataset, message):
    with pytest.raises(QnnRobustError, match=message):
        figures(text, dataset)


def row(accuracy, figure, defence="none", **distances):
    cell = TableCell("6", defence, "transfer", "deep_fool", "int8")
    interval = Interval(accuracy - 3, accuracy + 3, 0.95)
    known = published.Published(figure, {"l2": 0.08}) if figure is not None else None
    found = Measured(cell, 1000, accuracy, interval, distances, distances, 1.5)
    return render.Row(found, known)


def test_files_hold_measured_and_published_side_by_side():
    rows = [row(75.0, 78.4, l2=0.0912), row(60.0, 75.0, l2=math.nan), row(1.0, None, l2=2.0)]
    markdown = render.to_markdown([rows])
    assert "Table 6: 1 of 2 cells within 10 points of the published accuracy." in markdown
    line = "| deep_fool | transfer | int8 | 75.0 | 72.0-78.0 | 78.4 | -3.4 | 0.0912 (0.08) | 1000 |"
    assert line in markdown
    assert "| 60.0 | 57.0-63.0 | 75.0 | -15.0 | - (0.08) | 1000 |" in markdown
    assert "| 1.0 | -2.0-4.0 | - | - | 2 | 1000 |" in markdown
    latex = render.to_latex([rows])
    assert r"deep\_fool & transfer & int8 & 75.0 & 72.0-78.0 & 78.4 & -3.4" in latex
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 1
    first, second, third = csv.DictReader(render.to_csv(rows).splitlines())
    assert (first["published_pct"], first["difference_points"]) == ("78.4", "-3.4")
    assert (second["l2"], third["published_pct"], third["l2"]) == ("", "", "2")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    demo = options.from_command({"demo": True, "profile": "smoke", "samples": 24}, "")
    started = Session(replace(demo, cache_dir=tmp_path_factory.mktemp("cache")))
    started.load()
    return started


@pytest.mark.parametrize("defence", ["none", "pgd", "feature-squeezing"])
def test_cells_are_the_outcomes_of_the_suite(session, defence):
    cell = TableCell("x", defence, "transfer", "fgsm", "int8")
    attack, int8 = session.attacks.attack("fgsm"), session.subject("int8").model
    source = session.subject("float32").model
    if defence == "pgd":
        int8, source = (
            session.cells.defended("pgd", "int8"),
            session.cells.defended("pgd", "float32"),
        )
    if defence == "feature-squeezing":
        int8 = session.cells.squeezed(int8)
    crafted = session.craft(source, attack, 20)
    right = int8.classify(crafted.x_adv) == session.data.y[:20]
    found = measure(session, cell, Conditions((Limit("", "*", 20),)))
    assert (found.n, found.accuracy) == (20, 100 * right.mean())
    assert found.interval.low <= found.accuracy <= found.interval.high
    assert found.distances["linf"] == pytest.approx(crafted.linf[crafted.success].mean())


def test_squeezed_direct_cells_are_examples_for_the_plain_width(session):
    plain, squeezed = (
        measure(session, TableCell("x", name, "direct", "fgsm", "int8"))
        for name in ("none", "feature-squeezing")
    )
    assert squeezed.distances == plain.distances
    assert squeezed.accuracy > plain.accuracy


@pytest.mark.parametrize("width", ["float32", "int8"])
def test_with_predicted_labels_wrong_images_are_moved_too(width):
    asked = options.from_command({"demo": True, "profile": "smoke", "samples": 24}, "")
    before = Session(asked)
    attack, network = before.attacks.attack("deepfool"), before.subject("float32").model
    x, y = before.data
    moved = attack(network, x, network.classify(x))
    y = y.copy()
    y[:6] = moved.adv_label[:6]
    session = Session(asked)
    session.subjects.data = replace(session.clean_data, y=y)
    cell = TableCell("x", "none", "direct" if width == "float32" else "transfer", "deepfool", width)
    left, taken = (measure(session, cell, Conditions((), ids)) for ids in ((), ("deepfool",)))
    right = session.subject(width).model.classify(moved.x_adv) == y
    assert (left.predicted_labels, taken.predicted_labels) == (False, True)
    assert (taken.n, taken.accuracy) == (24, pytest.approx(100 * right.mean()))
    assert taken.distances_all == left.distances_all
    if width == "float32":
        assert left.accuracy == 0
        assert taken.accuracy == 25
    other = measure(session, cell, Conditions((), ("boundary",)))
    assert (other.accuracy, other.predicted_labels) == (left.accuracy, False)


def test_predicted_labels_are_marked():
    known = row(75.0, 78.4, l2=0.0912)
    marked = replace(known, measured=replace(known.measured, predicted_labels=True))
    assert "| deep_fool (predicted labels) | transfer |" in render.to_markdown([[marked]])
    lines = csv.DictReader(render.to_csv([known, marked]).splitlines())
    assert [line["labels"] for line in lines] == ["true", "predicted"]


def test_images_that_a_width_has_wrong_from_the_start_are_not_shown(session, monkeypatch):
    data = session.subjects.data
    wrong = data.y.copy()
    wrong[0] = (wrong[0] + 1) % 10
    monkeypatch.setattr(session.subjects, "data", replace(data, y=wrong))
    monkeypatch.setattr(session, "_right", {})
    monkeypatch.setattr(pictures, "IMAGES", 24)
    shown = pictures.triplets(session, "fgsm", Conditions())
    assert shown
    assert all(before != after for one in shown for before, after in one.labels.values())
    assert not any(np.array_equal(one.clean, data.x[0]) for one in shown)


def test_the_first_limit_that_fits_counts(session):
    limits = Conditions((Limit("16-17", "*", 5), Limit("", "boundary", 7), Limit("", "*", 9)))
    cells = [
        TableCell(table, "none", "direct", attack, "int8")
        for table, attack in (("16-17", "boundary"), ("5", "boundary"), ("5", "zoo"))
    ]
    assert [limits.samples_of(session, cell) for cell in cells] == [5, 7, 9]
    assert Conditions().samples_of(session, cells[0]) == session.attacks.samples == 24
    assert Conditions((Limit("", "*", 9999),)).samples_of(session, cells[0]) == 24


def test_one_command_writes_the_files_and_goes_on_from_its_cache(tmp_path, capsys, monkeypatch):
    attacked = [TableCell("5", "none", "direct", "square-linf", width) for width in WIDTHS]
    monkeypatch.setitem(cells.TABLES, "5", lambda _: attacked)
    output = tmp_path / "out"
    arguments = ["tables", "--demo", "--profile=smoke", "--samples=10", "--tables=4,5"]
    arguments += [f"--output={output}"]
    assert main([*arguments, "--processes=2"]) == 0
    first = capsys.readouterr().out
    assert re.search(r"6/6 table 5 square-linf direct int8: [0-9.]+ % of 10", first)
    names = {path.name for path in output.iterdir()}
    assert names == {
        "cache", "tables.csv", "tables.md", "tables.tex", "table_4.png", "table_5.png"
    }  # fmt: skip
    kept = {path: path.stat().st_ino for path in output.glob("cache/*.npz")}
    accepted = ("digits_float.keras", "digits_pgd_float.keras")
    asked = len(attacked) + len(WIDTHS)
    assert len(kept) == asked + len(accepted), "attacks, decisions on clean images, Keras files"
    assert main([*arguments, "--no-figures"]) == 0
    assert {path: path.stat().st_ino for path in output.glob("cache/*.npz")} == kept
    lines = [line for line in first.splitlines() if "/6 table" in line]
    assert lines == [line for line in capsys.readouterr().out.splitlines() if "/6 table" in line]


@pytest.mark.parametrize(("refused", "code"), [(1, 0), (2, 4)])
def test_a_disk_that_fills_costs_no_table(tmp_path, capsys, monkeypatch, refused, code):
    """What the disk refuses after the first table may be written after the second."""
    write, times = disk.write_text, []

    def full(path, text):
        if path.name == "tables.md":
            times.append(path)
            if len(times) <= refused:
                raise OSError(28, "No space left on device")
        write(path, text)

    monkeypatch.setattr(disk, "write_text", full)
    arguments = ["--demo", "--profile=smoke", "--samples=10", "--tables=4,8", "--no-figures"]
    assert main(["tables", *arguments, f"--output={tmp_path / 'out'}"]) == code
    said = capsys.readouterr()
    assert "6/6 table 8 pgd clean int8: " in said.out
    rule = "expected --output to be a folder that can be written"
    assert said.out.count(rule) == refused
    assert said.err.count(rule) == (code == 4)
    assert (tmp_path / "out" / "tables.md").exists() == (code == 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--demo", "--tables=7"], "expected tables among 4, 5"),
        (["--demo", "--tables="], "expected tables such as 5,6, got none"),
        (["--float=a.h5", "--tables=10"], "10 and 11 --squeeze"),
        (["--demo", "--output=published.csv"], "expected --output to be a folder"),
        (["--demo", "--profile=nope"], "expected --profile to be one of"),
        (["--int8=absent.tflite"], "expected --float FILE"),
        (["--float=absent.h5"], "expected a model file, got path="),
        (["--demo", "--limit=x=3"], "expected [TABLE:]ATTACK=N such as boundary=200"),
        (["--demo", "--limit=7:*=3"], "expected [TABLE:]ATTACK=N such as boundary=200"),
        (["--demo", "--predicted-labels=pgd"], "expected attacks among deepfool, jsma"),
        (["--demo", "--predicted-labels="], "expected attack ids such as pgd"),
        (["--demo", "--samples=0"], "argument --samples: expected an integer >= 1"),
        (["--demo", "--published=absent.csv"], "expected a CSV of published figures"),
        (["--demo", "--data=x.npz"], "--demo brings its own models and data; drop --data"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_4(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "published.csv").write_text("x")
    try:
        code = main(["tables", *arguments])
    except SystemExit as stopped:
        code = stopped.code
    said = capsys.readouterr().err.strip()
    assert code == 4
    assert message in said
    assert len(said.splitlines()) == 1
