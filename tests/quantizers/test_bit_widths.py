"""The script of the second paper's tables: its networks, its protocol, its layout."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import bit_widths
from benchmarks.dorefa_networks import BITS, CLIPPED, mnist_a, resnet20
from pytest_qnnrobust.models.keras import KerasModel
from pytest_qnnrobust.models.load import load_model
from tests.helpers.outcomes import outcome


@pytest.mark.parametrize("bits", [None, CLIPPED, 1, 4])
def test_first_and_last_layer_are_not_quantized(bits: int | None) -> None:
    network = mnist_a(bits, (8, 8, 1))
    kernels = [layer for layer in network.layers if hasattr(layer, "kernel")]
    names = [str(getattr(layer, "quantizer", "float")) for layer in kernels]
    inner = "float" if bits in (None, CLIPPED) else f"dorefa:{bits}"
    assert names == ["float", *[inner] * 4, "float"]


@pytest.mark.nightly
def test_resnet20_has_twenty_weight_layers_and_loads(tmp_path: Path) -> None:
    network = resnet20(2)
    kernels = [layer for layer in network.layers if hasattr(layer, "kernel")]
    assert len(kernels) == 20
    assert sum(int(np.prod(layer.kernel.shape)) for layer in kernels) == 268_336
    assert [str(layer.quantizer) for layer in kernels[1:-1]] == ["dorefa:2"] * 18
    network.save(tmp_path / "m.keras")
    x = np.random.default_rng(0).random((3, 32, 32, 3)).astype(np.float32)
    loaded = load_model(tmp_path / "m.keras").predict(x)
    np.testing.assert_allclose(loaded, np.asarray(network(x)), atol=1e-5)


def test_activations_between_quantized_layers_have_few_values() -> None:
    import keras

    network = mnist_a(2, (8, 8, 1))
    inner = [layer for layer in network.layers if hasattr(layer, "activation_bits")]
    outputs = keras.Model(network.inputs[0], [layer.output for layer in inner])
    x = np.random.default_rng(0).random((20, 8, 8, 1)).astype(np.float32)
    for values in outputs(x):
        np.testing.assert_allclose(np.unique(values) * 3 % 1, 0, atol=1e-6)


def test_runs_share_the_images_out() -> None:
    runs = bit_widths.drawn(100, samples=1000, seed=0)
    assert [len(rows) for rows in runs] == [33, 33, 33]
    assert len(set(np.concatenate(runs).tolist())) == 99
    assert [len(rows) for rows in bit_widths.drawn(100, samples=5, seed=0)] == [5, 5, 5]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the script on two widths that were not trained; the folder it writes."""

    def untrained(task: Any, bits: int | None, *_: Any) -> Any:
        import keras

        keras.utils.set_random_seed(0)
        return KerasModel(f"m{bits}", task.build(bits, (8, 8, 1)))

    def run() -> Path:
        command = ["bit_widths", "--output", str(tmp_path), "--bits", "FP,2"]
        command += ["--samples", "20", "--attacks", "fgsm,boundary"]
        monkeypatch.setattr(sys, "argv", command)
        monkeypatch.setattr(bit_widths, "trained", untrained)
        bit_widths.main()
        return tmp_path

    return run


@pytest.mark.nightly
def test_tables_and_resumption(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small()
    text = (folder / "mnist-a.md").read_text()
    assert "| attack | bits | adversarial accuracy | L2 | Linf |" in text
    assert "O3 fgsm is weaker on 2 bits" in text
    with (folder / "mnist-a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 3
    for row in rows:
        assert 0 <= int(row["attacked"]) <= 20
        if row["attack"] == "fgsm" and row["linf"] != "nan":
            assert float(row["linf"]) <= 0.25 + 1e-6

    def nothing(*_: Any, **__: Any) -> Any:
        raise AssertionError("attacked again")

    monkeypatch.setattr("pytest_qnnrobust.evaluation.evaluator.Evaluator.evaluate", nothing)
    small()
    assert (folder / "mnist-a.md").read_text() == text


@pytest.mark.nightly
def test_a_network_is_trained_once(tmp_path: Path) -> None:
    (x, y), _ = bit_widths.digits()
    task = replace(bit_widths.TASKS["mnist-a"], epochs=1)
    model = bit_widths.trained(task, 4, x[:300], y[:300], tmp_path, 0)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    again = bit_widths.trained(task, 4, x[:300], y[:300], tmp_path, 0)
    np.testing.assert_array_equal(again.logits(x[:9]), model.logits(x[:9]))
    assert file.stat().st_mtime_ns == written


def test_only_right_images_count_and_distances_are_of_fooled_ones() -> None:
    network = KerasModel("m", mnist_a(1, (8, 8, 1)))
    from pytest_qnnrobust.attacks import preset
    from pytest_qnnrobust.evaluation.cells import Cell
    from pytest_qnnrobust.evaluation.evaluator import evaluate

    x = np.random.default_rng(0).random((12, 8, 8, 1)).astype(np.float32)
    y = network.classify(x)
    y[:5] = (y[:5] + 1) % 10
    outcome = evaluate(Cell(network, preset("fgsm", "direct-mnist")), (x, y))
    right = outcome.clean_correct
    assert right.sum() == 7
    cells = bit_widths.Cells(1, 0.0, {"fgsm": [outcome, outcome]}, 64)
    assert cells.accuracy_of("fgsm") == np.mean(outcome.adv_label[right] == y[right])
    fooled = right & (outcome.adv_label != y)
    if fooled.any():
        assert cells.distance_of("fgsm", "l2") == pytest.approx(outcome.l2[fooled].mean())


@pytest.mark.parametrize(("factor", "value"), [(0.5, "holds"), (2.0, "violated")])
def test_natural_images_need_less_distortion(factor: float, value: str) -> None:
    rng = np.random.default_rng(0)
    far = outcome("float32", np.zeros(40, bool), l2=rng.uniform(1, 2, 40))
    far = replace(far, attack="cw-l2")
    near = replace(far, l2=far.l2 * factor * np.sqrt(3072 / 64))
    digits = bit_widths.Cells(None, 0.9, {"cw-l2": [far]}, 64)
    natural = bit_widths.Cells(None, 0.5, {"cw-l2": [near]}, 3072)
    (verdict,) = bit_widths.of_data(digits, natural)
    assert verdict.value == value


def test_every_width_of_the_paper_is_there() -> None:
    assert set(BITS) == {None, CLIPPED, 1, 2, 4, 8, 12, 16}
