"""What a stranger's file is given to: each public reader, from the bytes to the last use.

A target returns, or raises QnnRobustError in one printable line. Anything else is a finding.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import pytest_qnnrobust as qnn
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import QnnRobustError
from pytest_qnnrobust.models.keras_files import READ_WITHIN
from tests.fuzz import mutations
from tests.fuzz.mutations import Mutation

LONGEST_LINE = 2000

SCORES = {"outputs": (3, 10), "logits": (3, 10)}
"""The shapes of the scores that an entry of a cache holds."""


class FindingError(Exception):
    """A reader did something other than what it promises."""


@dataclass(frozen=True)
class Target:
    """`read` is given a file whose name ends in `suffix`; `seeds` are whole files."""

    suffix: str
    seeds: Callable[[], list[bytes]]
    mutate: Mutation
    read: Callable[[Path], Any]
    seconds: float = 10
    """What one file may take."""

    def run(self, data: bytes) -> str:
        """ "accepted" or "refused"; raises what the reader should not have raised."""
        with _folder() as folder:
            path = folder / f"file{self.suffix}"
            path.write_bytes(data)
            try:
                self.read(path)
            except QnnRobustError as error:
                check_line(str(error))
                return "refused"
        return "accepted"


def check_line(text: str) -> None:
    """One printable line of a length that a person reads."""
    if not text or not text.isprintable() or len(text) > LONGEST_LINE:
        raise FindingError(f"no printable line: {text[:200]!r}")


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="qnn-fuzz-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_tflite(path: Path) -> None:
    """Zero and random inputs, on the exact integers both ways, which have to agree."""
    model = qnn.load_model(path)
    rng = np.random.default_rng(0)
    x = np.stack([np.zeros(model.input_shape), rng.uniform(*model.bounds, model.input_shape)])
    scores = model.predict(x.astype(np.float32))
    if scores.shape != (2, model.classes):
        raise FindingError(f"scores of shape {scores.shape} for {model.classes} classes")
    if model.grid is None:
        return
    from pytest_qnnrobust.tflite.interpreter import Interpreter

    q = model.grid.quantize(x.astype(np.float32))
    reference = Interpreter(model.interpreter.plan.graph, engine="reference").invoke(q)
    np.testing.assert_array_equal(model.predict_quantized(q), reference)


def read_litert(path: Path) -> None:
    """TFLite's own kernels, without the delegate, on two inputs."""
    model = qnn.load_model(path, runtime="litert-builtin")
    model.predict(np.zeros((2, *model.input_shape), np.float32))


def read_keras(path: Path) -> None:
    model = qnn.load_model(path)
    model.predict(np.zeros((2, *model.input_shape), np.float32))


def read_results(path: Path) -> None:
    """Read, judged against itself, written and read again."""
    from pytest_qnnrobust.results import document

    found = document.read(path)
    for outcome in found.outcomes:
        outcome.interval()
        outcome.mean_distance("l2")
    document.Results.from_text(found.to_text())


def read_data(path: Path) -> None:
    data = qnn.load_data(path)
    if data.x.dtype != np.float32 or data.y.dtype != np.int64 or len(data.x) != len(data.y):
        raise FindingError("data of another type or length")


def read_images(path: Path) -> None:
    """One image beside a good one, in a folder of two classes."""
    root = path.parent / "images"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    (root / "a" / "0.png").write_bytes(_image("PNG"))
    shutil.move(path, root / "b" / "0.png")
    read_data(root)


def read_suppressions(path: Path) -> None:
    from datetime import date

    from pytest_qnnrobust.gate import suppressions

    for one in suppressions.read(path):
        one.fits("int8-pgd-direct")
        one.expired(date(2030, 1, 1))
        check_line(str(one) or "-")


def read_entry(path: Path) -> None:
    """What is returned is a whole entry of the kind that is asked for, or nothing."""
    from pytest_qnnrobust.evaluation.cache import ResultCache

    cache, key = ResultCache(path.parent), path.stem
    if (shard := cache.load(key, 3)) is not None:
        for field in fields(shard):
            value = getattr(shard, field.name)
            if isinstance(value, np.ndarray) and len(value) != 3:
                raise FindingError(f"{field.name} of shape {value.shape}")
    labels = cache.load_labels(key, 3)
    if labels is not None and (labels.shape != (3,) or labels.dtype != np.int64):
        raise FindingError(f"labels of shape {labels.shape} and type {labels.dtype}")
    for name, array in (cache.load_floats(key, SCORES) or {}).items():
        if array.shape != SCORES[name] or array.dtype != np.float32:
            raise FindingError(f"{name} of shape {array.shape} and type {array.dtype}")
    facts = cache.load_facts(key)
    if facts is not None:
        low, high = facts.bounds
        if not (facts.classes >= 2 and low < high and all(n > 0 for n in facts.input_shape)):
            raise FindingError(f"no classifier: {facts}")
    content = cache.load_file(key)
    if content is not None and not isinstance(content, bytes):
        raise FindingError(f"a file of type {type(content).__name__}")


@lru_cache(maxsize=1)
def tflite_seeds() -> list[bytes]:
    """The demo's networks, and a classifier around each one-operator graph of one input."""
    from tests.tflite.cases import CASES

    names = ("digits_int8.tflite", "digits_int16.tflite")
    around = (_classifier(build) for build in CASES.values())
    return [demo_path(name).read_bytes() for name in names] + [one for one in around if one]


def _classifier(build: Any) -> bytes | None:
    """The graph and a RESHAPE of its output to (1, classes); None for a graph of two inputs."""
    from pytest_qnnrobust.tflite.builder import GraphBuilder

    builder = GraphBuilder()
    inputs, output = build(builder, np.random.default_rng(0))
    if len(set(inputs)) != 1:
        return None
    whole = builder.graph.tensors[output]
    flat = builder.tensor((1, int(np.prod(whole.shape))))
    result = builder.graph.tensors[flat]
    result.type, result.quantization = whole.type, whole.quantization
    builder.operator("RESHAPE", [output], [flat], new_shape=list(result.shape))
    return builder.build(inputs, [flat])


@lru_cache(maxsize=1)
def keras_seeds() -> list[bytes]:
    return [demo_path("digits_float.keras").read_bytes()]


@lru_cache(maxsize=1)
def hdf5_seeds() -> list[bytes]:
    import keras

    layers = [
        keras.layers.Input((6, 6, 1)),
        keras.layers.Conv2D(2, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(3, activation="softmax"),
    ]
    with _folder() as folder:
        keras.Sequential(layers).save(folder / "m.h5")
        return [(folder / "m.h5").read_bytes()]


@lru_cache(maxsize=1)
def results_seeds() -> list[bytes]:
    """The results of one cell with everything that a document may hold."""
    from dataclasses import asdict

    from pytest_qnnrobust.claims.verdicts import Verdict
    from pytest_qnnrobust.evaluation.cells import Outcome
    from pytest_qnnrobust.results.document import (
        CompareRecord,
        DataRecord,
        Example,
        ModelRecord,
        Results,
    )
    from pytest_qnnrobust.statistics.paired import Interval

    names = ("index", "label", "clean_label", "adv_label", "queries", "gradients")
    integers = {name: np.arange(4, dtype=np.int64) for name in names}
    reals = {name: np.linspace(0, 1, 4) for name in ("l0", "l1", "l2", "linf")}
    outcome = Outcome(
        id="int8-pgd-direct", target="m", width="int8", runtime="tflm", attack="pgd",
        settings="PGD()", mode="direct", defense="", source=None, gradient="straight-through",
        seed=0, seconds=1.5, exhausted=np.zeros(4, bool), **integers, **reals,
    )  # fmt: skip
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    found = Results(
        package="0.1.0", command="pytest", created="2026-01-01T00:00:00Z",
        versions={"numpy": "2"}, options={"seed": 0, "samples": [1, 2]},
        data=DataRecord("d", "00", 4, 4, 0.0, 1.0, "uint8"),
        models=(ModelRecord("m", "int8", "tflm", None, "file"),), outcomes=(outcome,),
        verdicts=(
            Verdict("T1", "holds", "s", 0.1, Interval(0.0, 0.2, 0.9), 0.01, 0.1, 4),
        ),
        findings=("T1",), notes={"a": "b"}, skipped={"t": "r"}, failed={"u": "m"},
        comparison=(CompareRecord("int8-pgd-direct", "kept", "t"),),
        examples=(Example("int8-pgd-direct", 0, 1, 2, pixels, pixels),),
    )  # fmt: skip
    assert asdict(found.models[0])
    return [found.to_text().encode()]


@lru_cache(maxsize=1)
def data_seeds() -> list[bytes]:
    rng = np.random.default_rng(0)
    seeds = []
    for x in (
        rng.integers(0, 256, (4, 3, 3, 1)).astype(np.uint8),
        rng.random((4, 5)).astype(np.float32),
        rng.random((4, 2, 2, 3)),
    ):
        for y in (np.arange(4), np.eye(4), np.arange(4.0)):
            content = io.BytesIO()
            np.savez_compressed(content, x=x, y=y)
            seeds.append(content.getvalue())
    return seeds


def image_seeds() -> list[bytes]:
    return [_image(kind, mode) for kind in ("PNG", "JPEG") for mode in ("RGB", "L")] + [
        _image("PNG", mode) for mode in ("1", "P", "LA", "RGBA")
    ]


def _image(kind: str, mode: str = "RGB") -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.new(mode, (8, 8)).save(content, kind)
    return content.getvalue()


def suppressions_seeds() -> list[bytes]:
    section = b"[int8-pgd-*]\nowner = team\nreason = new stem\n  ticket 12\nexpires = 2027-03-31\n"
    return [section, section + b"\n[x[!a-c]?]\nowner=a\nreason=b\nexpires=2027-01-01\n"]


@lru_cache(maxsize=1)
def entry_seeds() -> list[bytes]:
    """An entry of each kind that a cache holds."""
    from pytest_qnnrobust.attacks import AttackResult
    from pytest_qnnrobust.evaluation.cache import ResultCache
    from pytest_qnnrobust.models.lazy import FileFacts

    integers = dict.fromkeys(("queries", "gradients", "clean_label", "adv_label"), np.arange(3))
    reals = dict.fromkeys(("l0", "l1", "l2", "linf"), np.linspace(0, 1, 3))
    flags = dict.fromkeys(("success", "exhausted"), np.ones(3, bool))
    x = np.zeros((3, 2, 2, 1), np.float32)
    result = AttackResult(x_adv=x, seconds=1.0, model_seconds=0.5, **integers, **reals, **flags)
    scores = {name: np.ones(shape, np.float32) for name, shape in SCORES.items()}
    with _folder() as folder:
        cache = ResultCache(folder)
        cache.store("shard", result)
        cache.store_labels("labels", np.arange(3))
        cache.store_floats("scores", scores)
        cache.store_facts("accepted", FileFacts((2, 2, 1), 10, (0.0, 1.0)))
        cache.store_file("file", demo_path("digits_int8.tflite").read_bytes()[:500])
        return [path.read_bytes() for path in sorted(folder.glob("*.npz"))]


ENTRY = mutations.archive(mutations.npy)

HDF5 = READ_WITHIN + 15
"""The HDF5 library's process is ended after `READ_WITHIN`."""

TARGETS: dict[str, Target] = {
    "tflite": Target(".tflite", tflite_seeds, mutations.tflite, read_tflite),
    "litert": Target(".tflite", tflite_seeds, mutations.tflite, read_litert),
    "keras": Target(
        ".keras", keras_seeds, mutations.archive(mutations.keras_member), read_keras, HDF5
    ),
    "hdf5": Target(".h5", hdf5_seeds, mutations.hdf5, read_keras, HDF5),
    "results": Target(".json", results_seeds, mutations.text, read_results),
    "data": Target(".npz", data_seeds, mutations.archive(mutations.npy), read_data),
    "images": Target(".png", image_seeds, mutations.bytes_at_random, read_images),
    "suppressions": Target(".ini", suppressions_seeds, mutations.ini, read_suppressions),
    "cache": Target(".npz", entry_seeds, mutations.sealed(ENTRY), read_entry),
}
