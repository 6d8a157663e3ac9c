"""Multiply-accumulates and constants of graphs whose counts are known."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.tflite.flatbuffer import read_graph
from pytest_qnnrobust.tflite.workload import workload


def keras_count(path) -> int:
    """Multiply-accumulates of the float network, from the shapes that Keras reports."""
    import keras

    total = 0
    for layer in keras.saving.load_model(path, compile=False).layers:
        out = int(np.prod(layer.output.shape[1:])) if hasattr(layer, "output") else 0
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            total += out * int(np.prod(layer.kernel_size))
        elif isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            total += out * int(np.prod(layer.kernel.shape[:-1]))
    return total


@pytest.mark.parametrize("width", ["int8", "int16"])
def test_a_quantized_graph_multiplies_as_often_as_its_keras_network(width):
    graph = read_graph(demo_path(f"digits_{width}.tflite").read_bytes())
    found = workload(graph)
    assert found.multiply_accumulates == keras_count(demo_path("digits_float.keras"))
    assert found.operators == len(graph.operators)
    assert 0 < found.constant_bytes < demo_path(f"digits_{width}.tflite").stat().st_size
    assert str(found).startswith(f"{found.multiply_accumulates:,} multiply-accumulates")


def test_the_resnet_of_the_paper_and_its_defended_versions_cost_the_same(shared):
    """Takeaway 10: a train-based defence adds nothing to inference."""
    names = ("resnet", "adv_train", "distil", "ens_adv", "sat")
    found = [
        workload(read_graph((shared / "models" / f"cifar_{name}_int8.tflite").read_bytes()))
        for name in names
    ]
    assert found[0].multiply_accumulates == pytest.approx(12.5e6, rel=0.01)
    assert len({each.multiply_accumulates for each in found}) == 1
