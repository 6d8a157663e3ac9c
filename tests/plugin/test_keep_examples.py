"""`--qnn-keep-examples`: the examples of every recorded cell, whichever process made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pytest_qnnrobust as qnn
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.results import kept_examples

INT8 = demo_path("digits_int8.tflite")
FLOAT = demo_path("digits_float.keras")
CELLS = ("int8-fgsm-direct", "int8-fgsm-transfer", "int8-noise-direct", "int8-noise-transfer")
GATE = (
    "--qnn-attack=noise,fgsm",
    "--qnn-eps=0.2",
    "--qnn-samples=20",
    "robustness_tests/test_direct.py",
    "robustness_tests/test_transfer.py",
    "-k",
    "int8",
)


def test_examples_are_what_the_attacked_model_saw(gate, digits) -> None:
    assert gate("--qnn-keep-examples=kept").ret == 0
    assert sorted(path.name for path in Path("kept").iterdir()) == [f"{c}.npz" for c in CELLS]
    assert {path.stat().st_mode for path in Path("kept").iterdir()} == {Path(digits).stat().st_mode}
    model, source = qnn.load_model(INT8), qnn.load_model(FLOAT)
    data = qnn.load_data(digits, model=[source, model]).first(20)
    for cell in CELLS:
        found = kept_examples.read(Path("kept") / f"{cell}.npz")
        with np.load(Path("kept") / f"{cell}.npz", allow_pickle=False) as plain:
            np.testing.assert_array_equal(plain["x_adv"], found.x_adv)
        assert found.x_adv.dtype == np.float32
        np.testing.assert_array_equal(found.index, np.arange(20))
        np.testing.assert_array_equal(found.label, data.y)
        np.testing.assert_array_equal(found.clean_label, model.classify(data.x))
        np.testing.assert_array_equal(found.adv_label, model.classify(np.clip(found.x_adv, 0, 1)))
        assert (found.cell, found.width, found.seed) == (cell, "int8", 0)
        assert found.target_digest == model.digest
        assert found.data_digest == data.digest
        assert found.settings.startswith(("FGSM(", "NoiseAttack("))
        assert tuple(found.bounds) == (0, 1)
        if cell.endswith("direct"):
            np.testing.assert_array_equal(model.grid.snap(found.x_adv), found.x_adv)
            assert found.source_digest == ""
        else:
            assert found.source_digest == source.digest
    assert (found.right != found.clean_label).any()


@pytest.mark.nightly
def test_workers_write_the_same_examples(gate, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xdist")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    assert gate("--qnn-keep-examples=one").ret == gate("--qnn-keep-examples=two", "-n2").ret == 0
    for cell in CELLS:
        one, two = (
            vars(kept_examples.read(Path(folder) / f"{cell}.npz")) for folder in ("one", "two")
        )
        for name, value in one.items():
            np.testing.assert_array_equal(value, two[name])
    assert len(list(Path("two").iterdir())) == len(CELLS)


def test_other_settings_of_a_test_of_ones_own_have_files_of_their_own(
    run, digits, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import pytest_qnnrobust as qnn

        def test_mine(qnn_int8, qnn_session, qnn_evaluate):
            own = qnn_session.attacks.attack("fgsm")
            for eps in (0.1, 0.2):
                qnn_evaluate(qnn_int8, qnn_session.attacks.scaled(own, eps))
            qnn_evaluate(qnn_int8, own, samples=3)
            qnn_evaluate(qnn_int8, own, samples=4, record=False)
        """
    )
    mine = next(pytester.path.glob("test_*.py"))
    args = (f"--qnn-int8={INT8}", f"--qnn-data={digits}", "--qnn-eps=0.2", mine)
    result = run(*args, "--qnn-keep-examples=kept")
    result.assert_outcomes(passed=1)
    found = dict(kept_examples.read_folder(Path("kept")))
    assert len(found) == 3
    assert "eps=0.2" in found["int8-fgsm-direct"].settings
    others = [each for name, each in found.items() if "~" in name]
    assert sorted(len(each) for each in others) == [3, 40]
