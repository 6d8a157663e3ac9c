"""Broken files of every kind: each is read, or refused in one line; `tests/fuzz` does it at length.

The inputs are those of the fuzzer, drawn from fixed seeds.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pytest_qnnrobust as qnn
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import LONGEST, DataError, ModelFileError, QnnRobustError
from pytest_qnnrobust.gate.suppressions import read as read_suppressions
from pytest_qnnrobust.results.document import Results
from pytest_qnnrobust.tflite.builder import GraphBuilder
from pytest_qnnrobust.tflite.flatbuffer import MAX_OPERATORS
from tests.fuzz import targets
from tests.fuzz.targets import TARGETS
from tests.helpers.examples import examples

FINDINGS = Path(__file__).parent / "fuzz" / "findings"
EXAMPLES = {"tflite": 40, "keras": 3, "hdf5": 3, "images": 100, "data": 100, "results": 100}


def small_seeds(name: str) -> list[bytes]:
    """Of the networks the smallest, so that what is accepted is compiled in little time."""
    seeds = TARGETS[name].seeds()
    return sorted(seeds, key=len)[:60] if name == "tflite" else seeds


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "litert"])
def test_a_broken_file_is_read_or_refused_in_one_line(name: str) -> None:
    target, seeds = TARGETS[name], small_seeds(name)

    @settings(
        max_examples=examples(EXAMPLES.get(name, 60)),
        deadline=None,
        derandomize=True,
        database=None,
    )
    @given(st.integers(0, len(seeds) - 1), st.integers(0, 2**32 - 1))
    def broken(place: int, seed: int) -> None:
        assert target.run(target.mutate(seeds[place], Random(seed))) in ("accepted", "refused")

    broken()


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "litert"])
def test_a_whole_file_is_accepted(name: str) -> None:
    assert TARGETS[name].run(TARGETS[name].seeds()[0]) == "accepted"


def refused(name: str, data: bytes) -> str:
    """The line with which a target's reader refuses `data`, at once."""
    target = TARGETS[name]
    with targets._folder() as folder:
        path = folder / f"file{target.suffix}"
        path.write_bytes(data)
        started = time.monotonic()
        with pytest.raises(QnnRobustError) as caught:
            target.read(path)
        assert time.monotonic() - started < 60
    targets.check_line(str(caught.value))
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(FINDINGS.glob("*.tflite")), ids=lambda path: path.stem)
def test_a_file_that_crashes_tflite_is_refused_in_one_line(path: Path) -> None:
    """Found by the fuzzer: TensorFlow 2.21 ends its process with SIGSEGV."""
    line = refused("litert", path.read_bytes())
    assert "file='file.tflite'" in line


def graph(change: Callable[[GraphBuilder], list[int]]) -> bytes:
    builder = GraphBuilder()
    return builder.build(*([index] for index in change(builder)))


def pool(width: int) -> bytes:
    """A file of a few hundred bytes whose pool has `width` ** 2 cells for each of many outputs."""

    def change(builder: GraphBuilder) -> list[int]:
        x = builder.tensor((1, 2000, 2000, 4), "int8", 0.1)
        y = builder.tensor((1, 2000, 2000, 4), "int8", 0.1)
        z = builder.tensor((1, 16_000_000), "int8", 0.1)
        size = {"filter_height": width, "filter_width": width, "stride_h": 1, "stride_w": 1}
        builder.operator("MAX_POOL_2D", [x], [y], **size)
        builder.operator("RESHAPE", [y], [z], new_shape=[1, 16_000_000])
        return [x, z]

    return graph(change)


def same_table_often(count: int) -> bytes:
    """A file whose tensors are one table of 1 MB of constants, `count` times."""
    builder = GraphBuilder()
    x = builder.tensor((1, 1000, 1000), "int8", 0.1, data=np.zeros((1, 1000, 1000), np.int8))
    builder.graph.tensors.extend([builder.graph.tensors[x]] * count)
    return builder.build([x], [x])


def many_operators(count: int) -> bytes:
    builder = GraphBuilder()
    tensors = [builder.tensor((1, 4), "int8", 0.1) for _ in range(count + 1)]
    for one, other in itertools.pairwise(tensors):
        builder.operator("RELU", [one], [other])
    return builder.build([tensors[0]], [tensors[-1]])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pool(100), "multiply-accumulates"),
        (same_table_often(500), "overlap|already known"),
        (many_operators(MAX_OPERATORS + 1), f"at most {MAX_OPERATORS} tables"),
    ],
    ids=["work", "one table many times", "operators"],
)
def test_a_small_tflite_file_cannot_ask_for_much(data: bytes, reason: str) -> None:
    assert pytest.approx(0, abs=2_000_000) == len(data)
    with pytest.raises(ModelFileError, match=reason):
        qnn.load_model(written(data, ".tflite"))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(data: bytes, suffix: str) -> Path:
    path = Path(f"hostile{suffix}")
    path.write_bytes(data)
    return path


def test_names_of_a_file_end_no_line_and_move_no_cursor() -> None:
    builder = GraphBuilder()
    x = builder.tensor((1, 4), "int8", 0.1)
    y = builder.tensor((1, 4), "int8", 0.1, 300)
    builder.graph.tensors[y].name = "a\n::error::injected\x1b[2J" + "x" * 100_000
    builder.operator("RELU", [x], [y])
    path = written(builder.build([x], [y]), ".tflite")
    with pytest.raises(ModelFileError) as caught:
        qnn.load_model(path)
    assert r"a ::error::injected\x1b[2J" in str(caught.value)
    targets.check_line(str(caught.value))


def test_a_scale_beyond_float32_is_refused() -> None:
    builder = GraphBuilder()
    x, y = (builder.tensor((1, 4), "int8", 3e38) for _ in range(2))
    builder.operator("RELU", [x], [y])
    data = builder.build([x], [y])
    for runtime in ("tflm", "litert"):
        with pytest.raises(ModelFileError, match="range of float32"):
            qnn.load_model(written(data, ".tflite"), runtime=runtime)  # type: ignore[arg-type]


def test_weights_that_the_file_does_not_hold_are_not_allocated() -> None:
    """512 GB by the architecture, 40 kB in the file."""

    def swollen(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: 2_000_000_000 if k == "units" else swollen(v) for k, v in node.items()}
        return [swollen(value) for value in node] if isinstance(node, list) else node

    import io
    import zipfile

    from tests.fuzz.mutations import zipped

    with zipfile.ZipFile(io.BytesIO(demo_path("digits_float.keras").read_bytes())) as file:
        members = [(name, file.read(name)) for name in file.namelist()]
    changed = [
        (name, json.dumps(swollen(json.loads(data))).encode() if "config" in name else data)
        for name, data in members
    ]
    with pytest.raises(ModelFileError, match="512 MiB"):
        qnn.load_model(written(zipped(changed), ".keras"))


@pytest.mark.parametrize(
    ("network", "layer"),
    [("my net", "scores"), ("_net", "scores"), ("n\x1b[2J", "scores"), ("net", "my scores")],
)
def test_a_name_that_makes_no_graph_is_refused(network: str, layer: str) -> None:
    """Found by the fuzzer: TensorFlow's ValueError at the first prediction, control codes in it."""
    save_named(network, layer, "named.keras")
    with pytest.raises(ModelFileError, match=r"that TensorFlow accepts.*; rename it") as caught:
        qnn.load_model("named.keras")
    targets.check_line(str(caught.value))


@pytest.mark.parametrize("layer", ["_scores", "-scores", ".scores", "s>c"])
def test_a_layer_may_have_any_name_that_makes_a_graph(layer: str) -> None:
    save_named("net", layer, "named.keras")
    assert qnn.load_model("named.keras").predict(np.zeros((2, 4), np.float32)).shape == (2, 3)


def save_named(network: str, layer: str, path: str) -> None:
    import keras

    layers = [keras.Input((4,)), keras.layers.Dense(3, activation="softmax", name=layer)]
    keras.Sequential(layers, name=network).save(path)


def test_layers_that_fill_memory_are_refused() -> None:
    import keras

    layers = [
        keras.layers.Input((8, 8, 1)),
        keras.layers.ZeroPadding2D(50_000),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3),
    ]
    keras.Sequential(layers).save("padded.keras")
    with pytest.raises(ModelFileError, match="values per sample"):
        qnn.load_model("padded.keras")


def test_hdf5_groups_that_link_to_each_other_are_refused_in_time() -> None:
    """Twenty groups, each linked twice from the one before: a million paths."""
    import h5py

    Path("m.h5").write_bytes(TARGETS["hdf5"].seeds()[0])
    with h5py.File("m.h5", "r+") as file:
        group = file
        for _ in range(20):
            group["a"] = inner = file.create_group(None)
            group["b"] = inner
            group = inner
    with pytest.raises(ModelFileError, match="groups and datasets"):
        qnn.load_model("m.h5")


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
@pytest.mark.parametrize("kind", ["circle", "pipe"])
def test_links_in_a_circle_and_pipes_are_no_images(kind: str) -> None:
    for name in ("a", "b"):
        Path("images", name).mkdir(parents=True)
    image = Path("images", "a", "x.png")
    image.symlink_to("x.png") if kind == "circle" else os.mkfifo(image)
    with pytest.raises(DataError):
        qnn.load_data("images")


def test_a_number_of_too_many_digits_is_no_json() -> None:
    text = TARGETS["results"].seeds()[0].decode().replace('"seed": 0', f'"seed": {"1" * 6000}', 1)
    with pytest.raises(DataError, match="JSON in results"):
        Results.from_text(text)


def test_nan_in_a_packed_value_is_read_as_it_is() -> None:
    values = json.loads(TARGETS["results"].seeds()[0])
    nan = np.full(4, np.nan).tobytes()
    values["outcomes"][0]["l2"]["base64"] = base64.b64encode(nan).decode()
    found = Results.from_text(json.dumps(values))
    assert np.isnan(found.outcomes[0].l2).all()
    assert Results.from_text(found.to_text()).to_text() == found.to_text()


def test_control_characters_of_a_section_make_no_long_line() -> None:
    """Found by the fuzzer: each is shown as four characters, after the name was shortened."""
    line = refused("suppressions", b"[" + b"\x01" * 900 + b"]\nowner = a\n")
    assert len(line) <= LONGEST
    assert line.startswith("expected owner, reason, expires in section [")


def test_a_suppression_is_one_line_and_its_file_small() -> None:
    path = written(TARGETS["suppressions"].seeds()[0], ".ini")
    assert str(read_suppressions(path)[0]) == "new stem ticket 12 (team, until 2027-03-31)"
    with pytest.raises(QnnRobustError, match="at most"):
        read_suppressions(written(b"#" * (1 << 21), ".ini"))
