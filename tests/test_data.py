"""Test data: where it is read from, the domain it is scaled into, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from pytest_qnnrobust.data.domain import resolve_domain, usual
from pytest_qnnrobust.data.samples import Data, load_data
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import DataError
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.models.grid import InputGrid

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 4, 4, 3), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


class Brightness(Model):
    """Three classes by mean input, thirds of `span`: right only in that domain."""

    runtime = "keras"

    def __init__(
        self,
        name: str = "toy",
        shape: tuple[int, ...] = (4, 4, 3),
        width: Literal["float32", "int16", "int8"] = "float32",
        scale: float | None = None,
        zero_point: int = 0,
        span: tuple[float, float] = (0.0, 1.0),
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(name, shape, 3, bounds)
        self.width = width
        self.span = span
        if scale is not None:
            self.grid = InputGrid(scale, zero_point, width)

    def _evaluate(self, x: Any) -> tuple[Any, Any]:
        low, high = self.span
        third = np.floor((x.reshape(len(x), -1).mean(axis=1) - low) / (high - low) * 3)
        logits = np.eye(3, dtype=np.float32)[np.clip(third, 0, 2).astype(int)]
        return logits, logits


def levels() -> tuple[np.ndarray, np.ndarray]:
    """Grey images whose class is the third of 0..255 that they lie in."""
    grey = np.array([10, 60, 100, 140, 190, 240], np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (6, 4, 4, 3)).copy(), np.arange(6) // 2


def int8(scale: float, zero_point: int, **options: Any) -> Brightness:
    return Brightness(width="int8", scale=scale, zero_point=zero_point, **options)


def write_images(root: Path, classes: dict[str, int], size: tuple[int, int] = (4, 4)) -> Path:
    from PIL import Image

    for value, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.full((*size, 3), 10 * value + index, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


class TestSources:
    def test_npz(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=IMAGES, y=LABELS)
        data = load_data(tmp_path / "d.npz")
        x, y = data
        np.testing.assert_array_equal(x, (IMAGES / 255).astype(np.float32))
        np.testing.assert_array_equal(y, LABELS)
        assert (x.dtype, y.dtype, data.name, len(data)) == (np.float32, np.int64, "d.npz", 6)

    @pytest.mark.parametrize("kind", ["<u1", "<f2", ">f4", "<f8"])
    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("limit", [None, 4, 99])
    def test_npz_of_any_layout(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, order: Any, limit: Any
    ) -> None:
        monkeypatch.setattr("pytest_qnnrobust.data.npz.PART", 64)
        x = IMAGES if kind == "<u1" else IMAGES / 255
        y = np.asarray(np.eye(3)[LABELS], order=order)
        np.savez_compressed(tmp_path / "d.npz", x=np.asarray(x, kind, order=order), y=y)
        found, labels = load_data(tmp_path / "d.npz", limit=limit)
        expected = x.astype(kind).astype(np.float32) if kind != "<u1" else (x / 255)
        np.testing.assert_array_equal(found, expected.astype(np.float32)[:limit])
        np.testing.assert_array_equal(labels, LABELS[:limit])
        assert found.flags.c_contiguous

    def test_digits(self) -> None:
        data = load_data("digits", limit=20)
        with np.load(demo_path("digits.npz")) as arrays:
            np.testing.assert_array_equal(data.x, (arrays["x"][:20] / 255).astype(np.float32))
            np.testing.assert_array_equal(data.y, arrays["y"][:20])
        assert data.name == "digits"

    def test_arrays(self) -> None:
        assert len(load_data((IMAGES, LABELS))) == 6

    def test_function(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        code = "import numpy as np\ndef get(): return np.zeros((2, 5), 'f4'), np.array([0, 1])"
        (tmp_path / "qnn_my_data.py").write_text(code)
        monkeypatch.chdir(tmp_path)
        assert load_data("qnn_my_data:get").x.shape == (2, 5)

    def test_folder_sorts_classes_and_lets_them_take_turns(self, tmp_path: Path) -> None:
        data = load_data(write_images(tmp_path / "d", {"ant": 3, "bee": 1, "cat": 2}))
        assert data.y.tolist() == [0, 1, 2, 0, 2, 0]
        values = np.round(data.x[:, 0, 0, 0] * 255).astype(int).tolist()
        assert values == [0, 10, 20, 1, 21, 2]
        assert load_data(tmp_path / "d", limit=2).y.tolist() == [0, 1]

    def test_folder_in_grey_for_a_model_of_one_channel(self, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "d", {"a": 1, "b": 1})
        assert load_data(folder, model=Brightness(shape=(4, 4, 1))).x.shape == (2, 4, 4, 1)
        assert load_data(folder, model=Brightness()).x.shape == (2, 4, 4, 3)

    def test_link_inside_of_the_folder_is_fine(self, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "d", {"a": 1, "b": 1})
        (folder / "a" / "9.png").symlink_to(folder / "a" / "0.png")
        assert load_data(folder).y.tolist() == [0, 1, 0]

    def test_digest_depends_on_the_values(self) -> None:
        data = load_data((IMAGES, LABELS))
        assert data.digest == load_data((IMAGES.copy(), LABELS.astype(np.uint8))).digest
        assert data.digest != data.first(5).digest
        assert data.digest != load_data((IMAGES, LABELS[::-1])).digest

    def test_first(self) -> None:
        assert len(load_data((IMAGES, LABELS)).first(2)) == 2


class TestShapesAndLabels:
    @pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (8, 8, 1)])
    def test_axes_of_length_one(self, shape: tuple[int, ...]) -> None:
        model = Brightness(shape=(8, 8, 1))
        x = np.zeros((2, *shape), np.uint8)
        assert load_data((x, [0, 1]), model=model).x.shape == (2, 8, 8, 1)

    @pytest.mark.parametrize(
        "labels",
        [
            LABELS.astype(np.uint8),
            LABELS[:, None],
            LABELS.astype(np.float32),
            np.eye(3)[LABELS],
            np.eye(3, dtype=int)[LABELS],
        ],
    )
    def test_accepted_labels(self, labels: np.ndarray) -> None:
        y = load_data((IMAGES, labels), model=Brightness()).y
        assert y.dtype == np.int64
        assert y.tolist() == LABELS.tolist()


class TestDomain:
    @pytest.mark.parametrize(
        ("scale", "zero_point", "bounds"),
        [
            (1 / 255, -128, (0.0, 1.0)),
            (0.00389, -128, (0.0, 1.0)),
            (2 / 255, 0, (-1.0, 1.0)),
            (1.0, -128, (0.0, 255.0)),
            (1.0, 0, (-128.0, 127.0)),
            (0.02, -28, (-2.0, 3.1)),
        ],
    )
    def test_int8_quantization_implies_it(
        self, scale: float, zero_point: int, bounds: tuple[float, float]
    ) -> None:
        model = int8(float(np.float32(scale)), zero_point)
        data = load_data((IMAGES, LABELS), model=model)
        np.testing.assert_allclose(data.bounds, bounds, rtol=1e-6)
        low, high = data.bounds
        expected = IMAGES.astype(np.float64) * (high - low) / 255 + low
        np.testing.assert_array_equal(data.x, expected.astype(np.float32))
        assert "what the int8 input of toy covers" in data.domain

    def test_int8_decides_for_its_siblings(self) -> None:
        models = [
            Brightness("float"),
            Brightness("int16", width="int16", scale=1 / 32767),
            int8(2 / 255, 0, name="int8"),
        ]
        assert load_data((IMAGES, LABELS), model=models).bounds == (-1.0, 1.0)

    @pytest.mark.parametrize("span", [(0.0, 1.0), (-1.0, 1.0)])
    def test_int16_is_judged_by_clean_accuracy(self, span: tuple[float, float]) -> None:
        model = Brightness(width="int16", scale=1 / 32767, span=span)
        data = load_data(levels(), model=model)
        assert data.bounds == span
        assert "toy is right on 100.0% of 6 images there" in data.domain
        assert model.queries == 0

    @pytest.mark.parametrize("span", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
    def test_float_is_judged_by_clean_accuracy(self, span: tuple[float, float]) -> None:
        assert load_data(levels(), model=Brightness(span=span)).bounds == span

    def test_stated_bounds_come_before_judging(self) -> None:
        data = load_data(levels(), model=Brightness(bounds=(0.0, 255.0)))
        assert data.bounds == (0.0, 255.0)
        assert "what toy states" in data.domain

    def test_override(self) -> None:
        data = load_data((IMAGES, LABELS), model=int8(1 / 255, -128), domain=(0, 255))
        np.testing.assert_array_equal(data.x, IMAGES)
        assert data.domain == "uint8 images, inputs in 0..255: as given"

    def test_spectrogram_floats_stay(self) -> None:
        model = int8(0.58, 83, shape=(49, 10, 1))
        low, high = (-128 - 83) * 0.58, (127 - 83) * 0.58
        x = RNG.uniform(low, high, (5, 49, 10, 1)).astype(np.float32)
        data = load_data((x, np.zeros(5, int)), model=model)
        np.testing.assert_array_equal(data.x, x)
        np.testing.assert_allclose(data.bounds, (low, high), rtol=1e-6)

    def test_few_values_outside_are_clipped_and_told(self) -> None:
        x = np.full((2, 4, 4, 3), 0.5, np.float32)
        x[0, 0, 0, 0] = 7
        data = load_data((x, [0, 1]), model=int8(1 / 255, -128))
        assert data.x.max() == 1
        assert data.domain.startswith("floats, 1 of 96 values clipped, inputs in 0..1:")

    @pytest.mark.parametrize(
        ("low", "high", "bounds"),
        [(0, 0.9, (0, 1)), (-0.3, 0.9, (-1, 1)), (0, 200, (0, 255)), (-300, 40, (-300, 40))],
    )
    def test_floats_alone(self, low: float, high: float, bounds: tuple[float, float]) -> None:
        x = np.array([[low, high], [low, low]])
        assert resolve_domain([], x).bounds == bounds

    def test_int16_floats(self) -> None:
        model = Brightness(width="int16", scale=2.64 / 32768)
        x = np.full((1, 4, 4, 3), 0.5, np.float32)
        np.testing.assert_allclose(resolve_domain([model], x).bounds, (0, 2.64))
        np.testing.assert_allclose(resolve_domain([model], -x).bounds, (-2.64, 2.64), rtol=1e-4)

    @pytest.mark.parametrize(
        ("scale", "recorded", "expected"),
        [
            (0.3 / 255, (0, 1), (0, 1)),
            (1 / 255, (0, 1), (0, 1)),
            (1 / 255, (-2.1, 2.6), (0, 1)),
            (1.0, (0, 1), (0, 255)),
            (0.3 / 255, None, (0, 0.3)),
        ],
    )
    def test_what_a_baseline_records(
        self, scale: float, recorded: tuple[float, float] | None, expected: tuple[float, float]
    ) -> None:
        found = resolve_domain([int8(scale, -128)], *levels(), recorded=recorded)
        np.testing.assert_allclose(found.bounds, expected, rtol=1e-6)

    def test_models_that_disagree_are_refused_beside_a_baseline_as_well(self) -> None:
        models = [int8(1 / 255, -128), Brightness("symmetric", bounds=(-1.0, 1.0))]
        for recorded in (None, (0, 1)):
            with pytest.raises(DataError, match="models of one input domain"):
                resolve_domain(models, *levels(), recorded=recorded)

    def test_a_given_domain_goes_before_a_recorded_one(self) -> None:
        found = resolve_domain([int8(1 / 255, -128)], *levels(), (0, 2), recorded=(0, 1))
        assert found.bounds == (0, 2)

    def test_usual(self) -> None:
        assert usual((0.01, 0.98)) == (0.0, 1.0)
        assert usual((0.0, 0.5)) == (0.0, 0.5)

    def test_cifar(self, shared: Path) -> None:
        from pytest_qnnrobust.models.keras import load_keras

        model = load_keras(shared / "models" / "cifar_resnet_float.h5")
        data = load_data(shared / "data" / "cifar10_test.npz", model=model, limit=200)
        assert data.bounds == (0.0, 1.0)
        assert len(data) == 200
        assert data.y.shape == (200,)


def with_nan() -> np.ndarray:
    x = np.zeros((6, 4, 4, 3), np.float32)
    x[4, 0, 0, 0] = np.nan
    return x


BAD_ARRAYS = [
    (
        IMAGES[:, :3],
        LABELS,
        "expected samples of shape (4, 4, 3), the input of toy, got data='arrays', shape=(3, 4, 3)",
    ),
    (
        np.zeros((6, 3, 4, 4), np.uint8),
        LABELS,
        "expected samples of shape (4, 4, 3), the input of toy, got data='arrays', "
        "shape=(3, 4, 4); move the channels last: np.moveaxis(x, 1, -1)",
    ),
    (IMAGES[0, 0, 0], LABELS, "expected x of shape (N, ...), got data='arrays', shape=(3,)"),
    (
        IMAGES[:0],
        LABELS[:0],
        "expected at least one sample, got data='arrays', shape=(0, 4, 4, 3)",
    ),
    (
        IMAGES.astype(np.int64),
        LABELS,
        "expected x of dtype uint8 or float, got data='arrays', dtype='int64'; "
        "convert pixels to uint8, or inputs in model units to float32",
    ),
    (
        with_nan(),
        LABELS,
        "expected finite values in x, got data='arrays', samples_with_nan_or_infinity=1, first=4",
    ),
    (
        np.full((6, 4, 4, 3), 1e300),
        LABELS,
        "expected finite values in x, got data='arrays', samples_with_nan_or_infinity=6, first=0",
    ),
    (
        IMAGES.astype(np.float32),
        LABELS,
        "expected inputs in 0..1 (what the int8 input of toy covers), got data='arrays', "
        f"smallest={float(IMAGES.min())}, largest={float(IMAGES.max())}; scale them, or give "
        "pixels as uint8; give domain=(low, high) (--qnn-domain) to override",
    ),
    (
        IMAGES,
        LABELS[:5],
        "expected one label for each of 6 samples, got data='arrays', shape=(5,)",
    ),
    (IMAGES, 3, "expected one label for each of 6 samples, got data='arrays', shape=()"),
    (
        IMAGES,
        LABELS + 1,
        "expected labels in 0..2, got data='arrays', smallest=1, largest=3; "
        "labels count the classes from 0",
    ),
    (IMAGES, LABELS - 1, "expected labels in 0..2, got data='arrays', smallest=-1, largest=1"),
    (
        IMAGES,
        LABELS + 0.5,
        "expected integer labels, got data='arrays', label=0.5",
    ),
    (
        IMAGES,
        np.array(list("abcabc")),
        "expected integer labels, got data='arrays', dtype='<U1'",
    ),
    (
        IMAGES,
        np.eye(5)[LABELS],
        "expected one-hot labels of 3 classes, the output of toy, got data='arrays', classes=5",
    ),
    (
        IMAGES,
        np.ones((6, 3)),
        "expected labels of shape (N,), or one-hot rows of one 1 and zeros, got data='arrays', "
        "shape=(6, 3)",
    ),
]


@pytest.mark.parametrize(("x", "y", "message"), BAD_ARRAYS)
def test_bad_arrays(x: Any, y: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        load_data((x, y), model=int8(float(np.float32(1 / 255)), -128))
    assert str(error.value) == message


def test_models_that_state_different_domains() -> None:
    models = [int8(1 / 255, -128, name="a"), int8(1.0, -128, name="b")]
    with pytest.raises(DataError) as error:
        load_data((IMAGES, LABELS), model=models)
    assert str(error.value) == (
        "expected models of one input domain, got domains={'a': '0..1', 'b': '0..255'}; "
        "give domain=(low, high) (--qnn-domain) to override"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "expected limit to be 1 or more, got limit=0"),
        ({"domain": (1, 0)}, "expected domain with low < high, got low=1.0, high=0.0"),
    ],
)
def test_bad_options(options: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        load_data((IMAGES, LABELS), **options)
    assert str(error.value) == message


SOURCES = "an .npz file with keys x and y, a folder of class folders, module:function or digits"


class TestBadSources:
    @pytest.mark.parametrize("source", ["missing.npz", "/no/such/folder"])
    def test_missing(self, source: str) -> None:
        with pytest.raises(DataError) as error:
            load_data(source)
        assert (
            str(error.value) == f"expected data to be {SOURCES}, got data={source!r}; no such file"
        )

    def test_wrong_type(self) -> None:
        with pytest.raises(DataError) as error:
            load_data(3)
        assert str(error.value) == f"expected data to be {SOURCES}, got type='int'"

    def test_missing_keys(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", images=IMAGES, y=LABELS)
        assert self.refusal(tmp_path / "d.npz") == (
            "expected keys x and y, or images and labels, or x_test and y_test, got file='d.npz', "
            "keys=['images', 'y']"
        )

    @pytest.mark.parametrize("keys", [("images", "labels"), ("x_test", "y_test")])
    def test_other_usual_keys(self, tmp_path: Path, keys: tuple[str, str]) -> None:
        np.savez(tmp_path / "d.npz", **dict(zip(keys, (IMAGES, LABELS), strict=True)), other=LABELS)
        data = load_data(tmp_path / "d.npz")
        np.testing.assert_array_equal(data.y, LABELS)
        assert len(data.x) == len(IMAGES)

    def test_pickle_is_not_loaded(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=np.array([{}], object), y=LABELS)
        assert self.refusal(tmp_path / "d.npz") == (
            "d.npz cannot be read: Object arrays cannot be loaded when allow_pickle=False"
        )

    @pytest.mark.parametrize("content", [b"", b"no archive"])
    def test_not_an_archive(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "d.npz").write_bytes(content)
        assert self.refusal(tmp_path / "d.npz") == (
            "expected an .npz file, got file='d.npz'; save it with numpy.savez"
        )

    def test_truncated(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=IMAGES, y=LABELS)
        content = bytearray((tmp_path / "d.npz").read_bytes())
        content[200:260] = bytes(60)
        (tmp_path / "d.npz").write_bytes(content)
        assert self.refusal(tmp_path / "d.npz").startswith("d.npz cannot be read: ")

    @pytest.mark.parametrize("limit", [None, 1])
    def test_damage_anywhere(self, tmp_path: Path, limit: int | None) -> None:
        np.savez(tmp_path / "d.npz", x=IMAGES, y=LABELS)
        content = bytearray((tmp_path / "d.npz").read_bytes())
        content[content.index(IMAGES[-1].tobytes())] ^= 1
        (tmp_path / "d.npz").write_bytes(content)
        assert self.refusal(tmp_path / "d.npz", limit).startswith("d.npz cannot be read: Bad CRC")

    def test_labels_for_other_samples_than_those_that_are_used(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", x=IMAGES, y=LABELS[:5])
        assert self.refusal(tmp_path / "d.npz", 2) == (
            "expected one label for each of 6 samples, got data='d.npz', shape=(5,)"
        )

    @pytest.mark.parametrize(
        ("shape", "reason"),
        [("(7, 4, 4, 3)", "an array is shorter than its header says"), ("(-6, 4, 4, 3)", "shape")],
    )
    def test_header_that_lies(self, tmp_path: Path, shape: str, reason: str) -> None:
        np.savez(tmp_path / "honest.npz", x=IMAGES, y=np.zeros(7, int))
        with (
            zipfile.ZipFile(tmp_path / "honest.npz") as honest,
            zipfile.ZipFile(tmp_path / "d.npz", "w") as lying,
        ):
            for name in honest.namelist():
                content = honest.read(name)
                lying.writestr(name, content.replace(b"(6, 4, 4, 3)", shape.encode()))
        message = self.refusal(tmp_path / "d.npz")
        assert message.startswith("d.npz cannot be read: ")
        assert reason in message

    def test_labels_that_fill_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pytest_qnnrobust.data.sources.MAX_LABEL_BYTES", 1 << 20)
        np.savez_compressed(tmp_path / "d.npz", x=IMAGES, y=np.zeros((6, 1 << 18)))
        assert self.refusal(tmp_path / "d.npz") == (
            "expected at most 1 MiB of labels, got data='d.npz', bytes=12582912; "
            "save the class of each sample: y of shape (N,)"
        )

    def test_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pytest_qnnrobust.data.sources.MAX_BYTES", 1 << 20)
        np.savez_compressed(tmp_path / "d.npz", x=np.zeros((2048, 1024), np.uint8), y=LABELS)
        message = self.refusal(tmp_path / "d.npz")
        assert message.startswith("expected at most 1 MiB of uncompressed data, got data='d.npz'")
        assert message.endswith("; save the samples that are to be used: x[:N], y[:N]")

    def test_samples_that_fill_memory_as_float32(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pytest_qnnrobust.data.sources.MAX_BYTES", 1 << 20)
        x = np.zeros((6, 1 << 17), np.uint8)
        np.savez_compressed(tmp_path / "d.npz", x=x, y=LABELS)
        assert "at most 1 MiB" in self.refusal(tmp_path / "d.npz")
        assert len(load_data(tmp_path / "d.npz", limit=2)) == 2

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("raise RuntimeError('two\\nlines')", "{}:get cannot be called: RuntimeError: two"),
            ("return 3", "expected {}:get to return (x, y), got returned='int'"),
        ],
    )
    def test_function(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
    ) -> None:
        module = f"qnn_bad_data_{abs(hash(body))}"
        (tmp_path / f"{module}.py").write_text(f"def get(): {body}")
        monkeypatch.chdir(tmp_path)
        assert self.refusal(f"{module}:get") == message.format(module)

    def test_missing_module(self) -> None:
        assert self.refusal("qnn_no_such_module:get") == (
            "qnn_no_such_module:get cannot be called: "
            "ModuleNotFoundError: No module named 'qnn_no_such_module'"
        )

    def test_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "d").mkdir()
        assert self.refusal(tmp_path / "d") == (
            "expected PNG or JPEG images in class folders, got folder='d', images=0; "
            "put the images of each class into a folder of its own"
        )

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_link_out_of_the_folder(self, tmp_path: Path, kind: str) -> None:
        folder = write_images(tmp_path / "d", {"a": 1, "b": 1})
        outside = write_images(tmp_path / "outside", {"c": 1})
        link, target = ("a/z.png", "c/0.png") if kind == "file" else ("c", "c")
        (folder / link).symlink_to(outside / target)
        assert self.refusal(folder) == (
            f"expected images inside of the folder, got link={link!r}; copy what the link points to"
        )

    def test_sizes_differ(self, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "d", {"a": 1})
        write_images(folder, {"b": 1}, (5, 4))
        assert self.refusal(folder) == (
            "expected images of one size, (4, 4, 3) like 0.png, got file='b/0.png', shape=(5, 4, 3)"
        )

    def test_broken_image(self, tmp_path: Path) -> None:
        folder = write_images(tmp_path / "d", {"a": 1})
        (folder / "a" / "0.png").write_bytes(b"GIF89a")
        assert self.refusal(folder).startswith("a/0.png cannot be read: cannot identify image file")

    def test_image_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pytest_qnnrobust.data.sources.MAX_PIXELS", 15)
        assert self.refusal(write_images(tmp_path / "d", {"a": 1})) == (
            "expected images of at most 15 pixels, got file='a/0.png', size=(4, 4)"
        )

    def test_sixteen_bits(self, tmp_path: Path) -> None:
        from PIL import Image

        (tmp_path / "d" / "a").mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "d" / "a" / "0.png")
        assert self.refusal(tmp_path / "d") == (
            "expected 8-bit grey or colour images, got file='a/0.png', mode='I;16'"
        )

    def refusal(self, source: Any, limit: int | None = None) -> str:
        with pytest.raises(DataError) as error:
            load_data(source, limit=limit)
        assert "\n" not in str(error.value)
        return str(error.value)


PEAK = """
import resource, sys
from pytest_qnnrobust.data.samples import load_data

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

small, large, limit = sys.argv[1:]
load_data(small)
before = peak()
data = load_data(large, limit=int(limit))
data.digest
print((peak() - before) / data.x.nbytes)
"""
"""Prints how many times the bytes of the samples that are used are taken at once."""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in kilobytes on Linux")
@pytest.mark.parametrize(("kind", "limit"), [("u1", 32), ("u1", 8), ("f4", 32), ("f8", 32)])
def test_no_more_memory_than_twice_the_samples_that_are_used(
    tmp_path: Path, kind: str, limit: int
) -> None:
    x = np.zeros((32, 512, 512), kind)
    np.savez_compressed(tmp_path / "large.npz", x=x, y=np.zeros(32, int))
    np.savez(tmp_path / "small.npz", x=x[:2, :2], y=np.zeros(2, int))
    files = [str(tmp_path / name) for name in ("small.npz", "large.npz")]
    child = [sys.executable, "-c", PEAK, *files, str(limit)]
    run = subprocess.run(child, capture_output=True, text=True, check=True)
    assert float(run.stdout) < 2


def test_arrays_of_the_caller_stay_as_they_are() -> None:
    x = np.full((2, 4, 4, 3), 0.5, np.float32)
    x[0, 0, 0, 0] = 7
    data = load_data((x, [0, 1]), model=int8(1 / 255, -128))
    assert (data.x.max(), x.max()) == (1, 7)
    x[:] = 0
    assert data.x.min() == 0.5


def test_data_is_frozen() -> None:
    data = load_data((IMAGES, LABELS))
    assert isinstance(data, Data)
    with pytest.raises(AttributeError):
        data.name = "other"  # type: ignore[misc]
