"""`qnnrobust replay`: a recorded cell comes out again, and kept examples judge a new model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pytest_qnnrobust import disk, options
from pytest_qnnrobust.cli import REPLAY_OPTIONS, main
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import DataError
from pytest_qnnrobust.evaluation import array_files
from pytest_qnnrobust.options.values import (
    Squeezing,
    parse_defended,
    parse_limits,
    parse_thresholds,
)
from pytest_qnnrobust.results import document, kept_examples
from pytest_qnnrobust.run import replay
from pytest_qnnrobust.run.session import Session
from tests.helpers.digits import broken_int8

pytestmark = pytest.mark.usefixtures("models_compiled_once")

FLOAT, INT8, PGD_INT8, PGD_FLOAT = (
    demo_path(f"digits_{name}")
    for name in ("float.keras", "int8.tflite", "pgd_int8.tflite", "pgd_float.keras")
)
N = 40
DIRECT = "int8-square-linf-direct"
CELLS = (
    DIRECT,
    "int8-deepfool-transfer",
    "squeezed-int8-square-linf-direct",
    "squeezed-int8-square-linf-transfer",
    "squeezed-int8-deepfool-transfer",
    "pgd-int8-square-linf-direct",
    "pgd-int8-deepfool-transfer",
)


def evaluate_all(session: Session) -> None:
    """The cells of `CELLS`, each as a test of the suite asks for it."""
    session.load()
    float32, int8 = (session.subject(width).model for width in ("float32", "int8"))
    square, deepfool = session.attacks.attack("square-linf"), session.attacks.attack("deepfool")
    squeezed, defended = session.cells.squeezed(int8), session.cells.defended("pgd", "int8")
    for target, attack, mode, source in (
        (int8, square, "direct", None),
        (int8, deepfool, "transfer", None),
        (squeezed, square, "direct", None),
        (squeezed, square, "transfer", int8),
        (squeezed, deepfool, "transfer", float32),
        (defended, square, "direct", None),
        (defended, deepfool, "transfer", None),
    ):
        session.evaluate(session.cells.cell(target, attack, mode, source))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with d.npz, results.json and the examples of `CELLS` in `kept`."""
    folder = tmp_path_factory.mktemp("recorded")
    with np.load(demo_path("digits.npz")) as data:
        np.savez(folder / "d.npz", x=data["x"][:N], y=data["y"][:N])
    found = options.from_command(
        {
            "float32": FLOAT,
            "model": INT8,
            "data": "d.npz",
            "samples": N,
            "eps": (0.05,),
            "attacks": ("square-linf", "deepfool"),
            "defended": [parse_defended(f"pgd={PGD_INT8},{PGD_FLOAT}")],
            "squeeze": Squeezing(2, 1),
            "min_accuracy": parse_thresholds("int8-deepfool:0.01,float32-square:0.9"),
            "keep_examples": "kept",
        },
        folder,
    )
    session = Session(found)
    evaluate_all(session)
    session.close("pytest", True)
    document.write(folder / "results.json", session.closed)
    return folder


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]):
    """`said(*args)` -> exit code and everything that `qnnrobust replay` printed."""

    def start(*args: object) -> tuple[int, str]:
        try:
            code = main(["replay", *map(str, args)])
        except SystemExit as ended:
            code = int(ended.code)
        printed = capfd.readouterr()
        return code, printed.out + printed.err

    return start


@pytest.mark.parametrize("cell", CELLS)
def test_a_recorded_cell_is_reproduced_from_its_report_alone(recorded, said, cell: str) -> None:
    code, text = said(cell, "--from", recorded / "results.json")
    assert code == 0
    assert text.startswith(f"{cell}: ")
    assert f"reproduced: each of {N} samples as recorded on " in text


def test_samples_that_differ_are_named_and_fail(recorded, said, tmp_path: Path) -> None:
    found = document.read(recorded / "results.json")
    cells = found.cells
    labels = cells[DIRECT].adv_label.copy()
    labels[[3, 7]] = (labels[[3, 7]] + 1) % 10
    cells[DIRECT] = replace(cells[DIRECT], adv_label=labels)
    document.write(tmp_path / "other.json", replace(found, outcomes=tuple(cells.values())))
    code, text = said(DIRECT, "--from", tmp_path / "other.json")
    assert code == 1
    assert f"NOT REPRODUCED: 2 of {N} samples differ (number 3, 7) in adv_label; recorded" in text


def test_flags_win_over_what_was_recorded(recorded, said) -> None:
    took = ("--from", recorded / "results.json")
    code, text = said(DIRECT, *took, "--samples=8")
    assert code == 0
    assert "of 8 samples" in text
    assert "reproduced: each of 8 samples" in text
    code, text = said(DIRECT, *took, "--samples=8", "--seed=1")
    assert code == 0
    assert "NOT COMPARED with the recorded outcome: other seed: 1, recorded with 0" in text
    code, text = said(DIRECT, *took, "--samples=8", "--min-accuracy=1", "--eps=0.3")
    assert code == 1
    assert "BELOW --min-accuracy: 0." in text
    code, text = said(DIRECT, *took, f"--int8={PGD_INT8}")
    assert code == 0
    assert f"another model than recorded: 35 of {N} samples differ" in text


def test_a_zero_on_the_command_line_is_a_value(recorded, said, tmp_path: Path) -> None:
    values = json.loads((recorded / "results.json").read_text())
    values["options"]["seed"] = 5
    (tmp_path / "r.json").write_text(json.dumps(values))
    _, text = said(DIRECT, "--from", tmp_path / "r.json", "--samples=4", "--seed=0")
    assert "reproduced: each of 4" in text


def test_data_that_changed_under_a_report_fail(recorded, said, tmp_path: Path) -> None:
    shutil.copytree(recorded, tmp_path / "moved")
    text = (recorded / "results.json").read_text().replace(str(recorded), str(tmp_path / "moved"))
    (tmp_path / "moved" / "results.json").write_text(text)
    with np.load(recorded / "d.npz") as data:
        np.savez(tmp_path / "moved" / "d.npz", x=255 - data["x"], y=data["y"])
    code, text = said(DIRECT, "--from", tmp_path / "moved" / "results.json")
    assert code == 1
    assert f"NOT COMPARED with the recorded outcome: other data than {N} samples of" in text


def test_the_options_by_hand_give_the_recorded_cell(recorded, said) -> None:
    given = (f"--int8={INT8}", f"--data={recorded / 'd.npz'}", f"--samples={N}", "--eps=0.05")
    outcome = document.read(recorded / "results.json").cells[DIRECT]
    code, text = said(DIRECT, *given, f"--min-accuracy={outcome.accuracy}")
    assert code == 0
    assert f"{DIRECT}: {100 * outcome.accuracy:.1f} % right under attack [" in text
    assert f"of {N} samples, {outcome.fooled.sum()} fooled, mean L2 " in text
    above = outcome.accuracy + 0.01
    assert said(DIRECT, *given, f"--min-accuracy={DIRECT}:{above}")[0] == 1


def test_the_cache_is_used_and_said_so(recorded, said, tmp_path: Path) -> None:
    args = (DIRECT, "--from", recorded / "results.json", f"--cache-dir={tmp_path / 'kept'}")
    assert "read from the cache" not in said(*args)[1]
    code, text = said(*args)
    assert code == 0
    assert "read from the cache" in text
    assert "reproduced" in text
    assert "read from the cache" not in said(*args, "--no-cache")[1]
    kept = list((tmp_path / "kept").glob("*.npz"))
    assert len(kept) == 3, "a shard, and what the two Keras files hold"
    assert said(*args, "--cache-size=1")[0] == 0
    assert not list((tmp_path / "kept").glob("*.npz"))


def test_the_recorded_model_is_right_on_the_examples_that_it_was_right_on(recorded, said) -> None:
    defended = f"--defended=pgd={PGD_INT8}"
    code, text = said("--examples", recorded / "kept", f"--int8={INT8}", defended,
                      f"--data={recorded / 'd.npz'}")  # fmt: skip
    assert code == 0
    for cell in CELLS:
        assert f"kept: {cell} accuracy. the same on each of {N} samples" in text
    assert f"\n{len(CELLS)} kept\n" in text
    assert "green is necessary and not sufficient" in text


def test_a_broken_model_fails_on_them(recorded, said, tmp_path: Path) -> None:
    broken = broken_int8(tmp_path / "new.tflite")
    args = ("--examples", recorded / "kept", f"--int8={broken}")
    code, text = said(*args, "--cell", "square-linf-direct")
    assert code == 1
    assert f"WORSE: {DIRECT} accuracy. now " in text
    assert text.count(f"{DIRECT} accuracy. now ") == 2  # its own, and that behind squeezing
    assert "no model was given for pgd-int8-square-linf-direct\n" in text
    assert "deepfool" not in text
    assert said(*args, "--cell", DIRECT, "--fail-if=accuracy:-99pt")[0] == 0
    (tmp_path / "known.ini").write_text(
        "[*int8-*]\nowner = ml\nreason = new head\nexpires = 2999-01-01\n"
    )
    code, text = said(*args, f"--suppressions={tmp_path / 'known.ini'}")
    assert code == 0
    assert f"ACCEPTED: {DIRECT} accuracy (worse). suppressed: new head" in text


def altered(recorded: Path, folder: Path, **changes: object) -> Path:
    """A folder with the examples of `DIRECT`, changed."""
    examples = replace(kept_examples.read(recorded / "kept" / f"{DIRECT}.npz"), **changes)
    kept_examples.write(folder / "altered", DIRECT, examples)
    return folder / "altered"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 7}, f"expected the inputs and classes of {DIRECT}: ((8, 8, 1), 7), got"),
        ({"bounds": np.array([0.0, 255.0])}, "got model='digits_int8', domain='0..1'; the exam"),
        ({"adv_label": np.zeros(N, int)}, "of the recorded integer model what it answered"),
        ({"x_adv": np.full((N, 8, 8, 1), np.nan, np.float32)}, "x_adv is not finite"),
        ({"x_adv": np.zeros((N, 8, 8), np.float32)}, "x_adv is (40, 8, 8), inputs are (8, 8, 1)"),
        ({"label": np.zeros(N)}, "label is float64"),
        ({"label": np.zeros(3, int)}, f"label has no value for each of {N} samples"),
        ({"seed": "x"}, "seed is <U1"),
    ],
)
def test_examples_that_do_not_fit_are_refused(recorded, said, tmp_path, changes, message) -> None:
    folder = altered(recorded, tmp_path, **changes)
    code, text = said("--examples", folder, f"--int8={INT8}")
    assert code == 4
    assert message in text
    assert len(text.splitlines()) == 1


def test_examples_of_other_data_are_refused(recorded, said, tmp_path) -> None:
    with np.load(recorded / "d.npz") as data:
        np.savez(tmp_path / "d.npz", x=data["x"][::-1], y=data["y"][::-1])
    args = ("--examples", recorded / "kept", f"--int8={INT8}", f"--data={tmp_path / 'd.npz'}")
    code, text = said(*args)
    assert code == 4
    assert "the data that the examples were made from" in text


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b"\0" + b[1:]])
def test_a_damaged_file_of_examples_is_one_line(recorded, said, tmp_path, damage) -> None:
    folder = altered(recorded, tmp_path)
    path = folder / f"{DIRECT}.npz"
    path.write_bytes(damage(path.read_bytes()))
    code, text = said("--examples", folder, f"--int8={INT8}")
    assert code == 4
    assert "expected examples that --keep-examples wrote" in text
    assert "its checksum does not agree" in text


def test_examples_of_a_later_version_are_refused(recorded, said, tmp_path) -> None:
    folder = altered(recorded, tmp_path)
    path = folder / f"{DIRECT}.npz"
    array_files.write(path, {**array_files.read(path), "version": 2})
    code, text = said("--examples", folder, f"--int8={INT8}")
    assert code == 4
    assert "version 2, this package reads 1" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "expected either CELL or --examples DIR, got cell=None"),
        ((DIRECT, "--examples=kept"), "expected either CELL or --examples DIR"),
        ((DIRECT, "--cell=x"), "expected no --cell with CELL"),
        ((DIRECT, "--fail-if=accuracy:-3pt"), "expected no --fail-if with CELL"),
        (("--examples=kept", "--seed=0"), "expected no --seed with --examples"),
        (("--examples=kept", "--from=r.json"), "expected no --from with --examples"),
        (("--examples=absent", f"--int8={INT8}"), "expected a folder that --keep-examples wrote"),
        (("int8-direct",), "expected the id of a cell such as int8-square-linf-direct"),
        (("int8-nonsense-direct",), "expected the id of a cell such as int8-square-linf-direct"),
        ((DIRECT, "--from=absent.json"), "expected a file of results"),
        ((DIRECT, "--data=digits"), "no model: give --model or --int8"),
        ((DIRECT, f"--int8={INT8}"), "expected data to attack, got data=None; give --data SOURCE"),
        ((DIRECT, "--int8=absent.tflite"), "absent.tflite"),
        (
            (f"sat-{DIRECT}", f"--int8={INT8}", "--data=digits"),
            "give --defended sat=FILE[,FILE...]",
        ),
        ((f"squeezed-{DIRECT}", f"--int8={INT8}", "--data=digits"), "give --squeeze BITS,WINDOW"),
        (
            (DIRECT, f"--int8={INT8}", "--min-accuracy=int16:0.5"),
            f"--min-accuracy to name {DIRECT}",
        ),
        (
            (DIRECT, f"--int8={INT8}", "--data=digits", "--eps=0.001"),
            "less than one int8 input step",
        ),
        (
            ("int8-fgsm-transfer", f"--int8={INT8}", "--data=digits"),
            "expected a cell of this run, got cell='int8-fgsm-transfer'; with these models it is "
            "int8-fgsm-2/255-surrogate",
        ),
    ],
)
def test_a_mistake_is_one_line(said, args, message: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = said(*args)
    assert code == 4
    assert message in text
    assert len(text.splitlines()) == 1
    assert text.startswith("qnnrobust replay: error: ")


def test_a_cell_that_was_not_recorded_names_those_that_were(recorded, said) -> None:
    code, text = said("int8-pgd-direct", "--from", recorded / "results.json")
    assert code == 4
    assert f"recorded are {', '.join(sorted(CELLS))}" in text


def test_no_cell_for_the_model_is_no_pass(recorded, said) -> None:
    int16 = demo_path("digits_int16.tflite")
    for more in ((f"--int16={int16}",), (f"--int8={INT8}", "--cell=pgd-int16")):
        code, text = said("--examples", recorded / "kept", *more)
        assert code == 4
        assert "expected cells for int" in text


def test_options_are_read_back_from_a_report(tmp_path) -> None:
    given = {
        "int8": "m.tflite",
        "data": "digits",
        "seed": 0,
        "eps": (0.1,),
        "domain": (-1.0, 1.0),
        "attacks": ("pgd", "noise"),
        "defended": [parse_defended("sat=a.h5,b.tflite")],
        "squeeze": Squeezing(None, 2),
        "min_accuracy": parse_thresholds("int8:0.5,0.1"),
        "fail_if": parse_limits("accuracy:-3pt,int8:distance:-1%"),
        "cache_size": 5,
        "cache_dir": "kept",
        "no_cache": True,
    }
    made = options.from_command(given, tmp_path)
    values = options.from_json(json.loads(json.dumps(made.to_json())))
    assert options.Options(**values) == made
    with pytest.raises(DataError, match="option='unknown'"):
        options.from_json({"unknown": 1})
    with pytest.raises(DataError, match="option='squeeze'"):
        options.from_json({"squeeze": {"bits": 1}})


def test_every_option_that_is_taken_from_a_report_can_be_given() -> None:
    assert set(replay.RECORDED) < set(REPLAY_OPTIONS)


def test_a_disk_that_refuses_is_one_line(recorded, said, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    args = (DIRECT, "--from", recorded / "results.json", "--samples=4")
    code, text = said(*args, f"--keep-examples={tmp_path / 'file' / 'kept'}")
    assert code == 4
    assert text.startswith("qnnrobust replay: error: expected --keep-examples to be a folder that")

    def full(path: Path, *contents: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "write", full)
    folders = (f"--keep-examples={tmp_path / 'kept'}", f"--cache-dir={tmp_path / 'cache'}")
    code, text = said(*args, *folders)
    assert code == 4
    assert "reproduced: each of 4 samples" in text
    assert "expected --cache-dir to be a folder that can be written" in text
    last = text.splitlines()[-1]
    assert last.startswith("qnnrobust replay: error: expected --keep-examples to be a folder that")
