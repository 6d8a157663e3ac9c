"""Keras files: what they predict, their derivatives, and what is refused before it runs."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_qnnrobust.attacks import score_losses
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.errors import ModelFileError, QnnRobustError
from pytest_qnnrobust.models.differentiable import Differentiable
from pytest_qnnrobust.models.keras import KerasModel, load_keras
from pytest_qnnrobust.models.losses import LOSSES
from tests.attacks.linear import loss_slopes
from tests.helpers import digits


@pytest.fixture(scope="module")
def digits_network() -> KerasModel:
    return load_keras(demo_path("digits_float.keras"))


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    return digits.images()


def save(path: Path, layers: Callable[[Any], list[Any]], shape: tuple[int, ...] = (4,)) -> Any:
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(shape), *layers(keras.layers)])
    model.save(path)
    return model


class TestOutputs:
    def test_output_is_what_keras_returns(self, digits_network: KerasModel, images: Any) -> None:
        import keras

        original = keras.saving.load_model(demo_path("digits_float.keras"), compile=False)
        x, _ = images
        expected = np.asarray(original(x[:50], training=False))
        np.testing.assert_allclose(digits_network.predict(x[:50]), expected, atol=1e-6)
        assert digits_network.final == "softmax"

    def test_output_is_the_softmax_of_the_logits(
        self, digits_network: KerasModel, images: Any
    ) -> None:
        logits = digits_network.logits(images[0][:20]).astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        np.testing.assert_allclose(
            digits_network.predict(images[0][:20]),
            powers / powers.sum(axis=1, keepdims=True),
            atol=1e-6,
        )

    @pytest.mark.parametrize("suffix", ["keras", "h5"])
    @pytest.mark.parametrize(
        ("final", "layers"),
        [
            ("softmax", lambda k: [k.Dense(3, activation="softmax")]),
            ("softmax", lambda k: [k.Dense(3), k.Softmax()]),
            ("softmax", lambda k: [k.Dense(3), k.Activation("softmax")]),
            ("sigmoid", lambda k: [k.Dense(3, activation="sigmoid")]),
            ("linear", lambda k: [k.Dense(3)]),
            ("distribution", lambda k: [k.Dense(3, activation="softmax"), k.Reshape((3,))]),
        ],
    )
    def test_final_activation(self, tmp_path: Path, suffix: str, final: str, layers: Any) -> None:
        original = save(tmp_path / f"m.{suffix}", layers)
        model = load_keras(tmp_path / f"m.{suffix}")
        x = np.random.default_rng(0).random((9, 4), np.float32)
        assert model.final == final
        np.testing.assert_allclose(model.predict(x), np.asarray(original(x)), atol=1e-6)
        assert (model.logits(x).argmax(axis=1) == model.classify(x)).all()
        assert final in ("linear", "sigmoid") or (model.logits(x) != model.predict(x)).all()

    # The nested network is saved with its own optimizer, which has not trained anything.
    @pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer:UserWarning")
    def test_nested_model(self, tmp_path: Path) -> None:
        import keras

        inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
        inputs = keras.Input((4,))
        inner.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        outer = keras.Model(inputs, inner(inputs))
        outer.save(tmp_path / "m.keras")
        model = load_keras(tmp_path / "m.keras")
        assert model.final == "softmax"
        x = np.eye(4, dtype=np.float32)
        np.testing.assert_allclose(model.predict(x), np.asarray(outer(x)), atol=1e-6)

    def test_operations_of_keras(self, tmp_path: Path) -> None:
        import keras

        inputs = keras.Input((4,))
        hidden = keras.ops.relu(keras.layers.Dense(3)(inputs)) + 1
        shifted = hidden[:, :2] + np.ones(2, np.float32)
        keras.Model(inputs, keras.ops.softmax(shifted)).save(tmp_path / "m.keras")
        assert load_keras(tmp_path / "m.keras").final == "softmax"

    @pytest.mark.parametrize(
        ("scale", "offset", "bounds"),
        [(1 / 255, 0, (0.0, 255.0)), (1 / 127.5, -1, (0.0, 255.0)), (2, -1, (0.0, 1.0))],
    )
    def test_rescaling_implies_the_domain(
        self, tmp_path: Path, scale: float, offset: float, bounds: tuple[float, float]
    ) -> None:
        save(tmp_path / "m.keras", lambda k: [k.Rescaling(scale, offset), k.Dense(2)])
        assert load_keras(tmp_path / "m.keras").bounds == bounds

    @pytest.mark.parametrize("n", [0, 1, 17, 300])
    def test_any_batch_gives_the_same_bits(
        self, digits_network: KerasModel, images: Any, n: int
    ) -> None:
        x, y = np.resize(images[0], (300, 8, 8, 1)), np.resize(images[1], 300)
        whole = digits_network.loss_gradient(x, y)
        part = digits_network.loss_gradient(x[:n], y[:n])
        np.testing.assert_array_equal(part.gradient, whole.gradient[:n])
        np.testing.assert_array_equal(digits_network.logits(x[:n]), whole.logits[:n])

    def test_accuracy_on_cifar(self, shared: Path) -> None:
        model = load_keras(shared / "models" / "cifar_resnet_float.h5")
        with np.load(shared / "data" / "cifar10_test.npz") as data:
            x, y = (data["x"][:1000] / 255).astype(np.float32), data["y"][:1000]
        assert np.count_nonzero(model.classify(x) == y) == 883
        assert model.queries == 1000


class TestDerivatives:
    @pytest.mark.parametrize("loss", LOSSES)
    def test_loss_and_gradient_follow_from_logits_and_jacobian(
        self, digits_network: KerasModel, images: Any, loss: str
    ) -> None:
        x, y, rival = images[0][:12], (images[1][:12] + 3) % 10, (images[1][:12] + 4) % 10
        result = digits_network.loss_gradient(x, y, loss, rival)
        logits, jacobian = digits_network.jacobian(x)
        np.testing.assert_allclose(
            result.loss, score_losses.value(loss, logits, y, rival), rtol=1e-5, atol=1e-6
        )
        slopes = loss_slopes(loss, logits.astype(np.float64), y, rival)
        expected = np.einsum("nk,nkhwc->nhwc", slopes, jacobian)
        np.testing.assert_allclose(result.gradient, expected, atol=2e-4)
        np.testing.assert_array_equal(result.logits, logits)

    def test_weighted_sums_of_the_jacobian(self, digits_network: KerasModel, images: Any) -> None:
        x = images[0][:5]
        weights = np.random.default_rng(0).normal(size=(5, 2, 10)).astype(np.float32)
        before = digits_network.gradients
        logits, sums = digits_network.jacobian(x, weights)
        assert digits_network.gradients == before + 10
        whole_logits, jacobian = digits_network.jacobian(x)
        np.testing.assert_array_equal(logits, whole_logits)
        np.testing.assert_allclose(
            sums, np.einsum("nmk,nkhwc->nmhwc", weights, jacobian), atol=1e-4
        )
        assert digits_network.jacobian(x[:0], weights[:0])[1].shape == (0, 2, 8, 8, 1)

    def test_jacobian_of_a_linear_model_is_its_kernel(self, tmp_path: Path) -> None:
        original = save(tmp_path / "m.h5", lambda k: [k.Dense(3)])
        _, jacobian = load_keras(tmp_path / "m.h5").jacobian(np.ones((2, 4), np.float32))
        kernel = np.asarray(original.layers[-1].kernel)
        np.testing.assert_array_equal(jacobian, np.stack([kernel.T, kernel.T]))

    def test_unknown_loss_lists_the_ones_that_exist(self, digits_network: KerasModel) -> None:
        listed = ", ".join(sorted(LOSSES))
        with pytest.raises(QnnRobustError, match=f"one of {listed}, got loss='hinge'"):
            digits_network.loss_gradient(np.zeros((1, 8, 8, 1), np.float32), np.zeros(1), "hinge")

    def test_a_new_batch_size_traces_nothing(self) -> None:
        traces = []

        def logits(x: Any) -> Any:
            traces.append(x.shape)
            return x * 2.0

        function = Differentiable(logits, (3,), 3)
        for n in (1, 5, 16, 17, 255, 256):
            np.testing.assert_array_equal(function.logits(np.ones((n, 3), np.float32)), 2)
        assert len(traces) == 1


def edit_config(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the architecture inside a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def last_layer(config: dict[str, Any]) -> dict[str, Any]:
    layer: dict[str, Any] = config["config"]["layers"][-1]
    return layer


NO_CODE = "; a model file never runs code here: rebuild the model from Keras's own layers"


class TestHostileFiles:
    @pytest.mark.parametrize("suffix", ["keras", "h5"])
    def test_lambda_is_not_run(
        self, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / f"m.{suffix}"
        save(path, lambda k: [k.Lambda(lambda x: os.environ.update(QNN_RAN="1") or x), k.Dense(2)])
        monkeypatch.delenv("QNN_RAN")
        with pytest.raises(ModelFileError) as error:
            load_keras(path)
        found = "Lambda" if suffix == "h5" else "keras.layers.Lambda"
        assert str(error.value) == (
            f"expected only Keras's own layers, got file='m.{suffix}', found='{found}'{NO_CODE}"
        )
        assert "QNN_RAN" not in os.environ

    @pytest.mark.parametrize(
        ("changes", "found"),
        [
            ({"registered_name": "mine>Layer"}, "mine>Layer"),
            ({"module": "mine", "class_name": "Dense"}, "mine.Dense"),
            ({"module": "os", "class_name": "system"}, "os.system"),
            ({"module": "keras.utils", "class_name": "get_file"}, "keras.utils.get_file"),
            (
                {"module": "keras.config", "class_name": "enable_unsafe_deserialization"},
                "keras.config.enable_unsafe_deserialization",
            ),
            ({"class_name": "TFSMLayer"}, "keras.layers.TFSMLayer"),
            ({"class_name": "StringLookup"}, "keras.layers.StringLookup"),
            (
                {"config": {"activation": {"class_name": "function", "module": "builtins",
                                           "config": "eval", "registered_name": "function"}}},
                "builtins.function",
            ),
            ({"config": {"activation": {"class_name": "__lambda__", "config": {}}}}, "__lambda__"),
        ],
    )  # fmt: skip
    def test_foreign_class(self, tmp_path: Path, changes: dict[str, Any], found: str) -> None:
        save(tmp_path / "m.keras", lambda k: [k.Dense(2)])
        edit_config(tmp_path / "m.keras", lambda config: last_layer(config).update(changes))
        with pytest.raises(ModelFileError) as error:
            load_keras(tmp_path / "m.keras")
        assert str(error.value) == (
            f"expected only Keras's own layers, got file='m.keras', found='{found}'{NO_CODE}"
        )

    def test_foreign_class_in_a_compiled_model_inside(self, tmp_path: Path) -> None:
        save(tmp_path / "m.keras", lambda k: [k.Dense(2)])
        evil = {"optimizer": {"module": "os", "class_name": "system", "config": {}}}
        edit_config(tmp_path / "m.keras", lambda c: last_layer(c).update(compile_config=evil))
        with pytest.raises(ModelFileError, match=r"found='os\.system'"):
            load_keras(tmp_path / "m.keras")

    def test_deep_architecture(self, tmp_path: Path) -> None:
        path = tmp_path / "m.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", '{"a":' * 100_000)
            archive.writestr("metadata.json", '{"keras_version": "3.0"}')
            archive.writestr("model.weights.h5", b"")
        with pytest.raises(
            ModelFileError, match=r"m\.keras is not a readable Keras model: .*recursion"
        ):
            load_keras(path)

    def test_zip_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pytest_qnnrobust.models.keras_files.MAX_BYTES", 1 << 20)
        with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", b" " * (2 << 20))
        with pytest.raises(ModelFileError) as error:
            load_keras(tmp_path / "m.keras")
        assert str(error.value) == (
            "expected at most 1 MiB of uncompressed content, got file='m.keras', bytes=2097152"
        )

    def test_hdf5_bomb(self, tmp_path: Path) -> None:
        import h5py

        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.create_dataset("w", (1 << 40,), "f4", chunks=(1 << 10,), compression="gzip")
        with pytest.raises(ModelFileError, match=r"^expected at most 512 MiB of uncompressed"):
            load_keras(tmp_path / "m.h5")

    @pytest.mark.parametrize("kind", ["external link", "soft link", "external data", "virtual"])
    def test_hdf5_that_points_elsewhere(self, tmp_path: Path, kind: str) -> None:
        import h5py

        with h5py.File(tmp_path / "m.h5", "w") as file:
            if kind == "external link":
                file["w"] = h5py.ExternalLink("/etc/passwd", "/")
            elif kind == "soft link":
                file["w"] = h5py.SoftLink("/v")
            elif kind == "external data":
                file.create_dataset("w", (8,), "u1", external=[("/etc/passwd", 0, 8)])
            else:
                layout = h5py.VirtualLayout((8,), "u1")
                layout[:] = h5py.VirtualSource("other.h5", "w", (8,))
                file.create_virtual_dataset("w", layout)
        with pytest.raises(ModelFileError, match=r"^m\.h5 is not a readable Keras model: it point"):
            load_keras(tmp_path / "m.h5")

    def test_extra_members(self, tmp_path: Path) -> None:
        save(tmp_path / "m.keras", lambda k: [k.Dense(2)])
        with zipfile.ZipFile(tmp_path / "m.keras", "a") as archive:
            archive.writestr("../evil", b"")
        with pytest.raises(ModelFileError) as error:
            load_keras(tmp_path / "m.keras")
        assert str(error.value) == (
            "m.keras is not a readable Keras model: its members are not "
            "config.json, metadata.json, model.weights.h5"
        )


class TestBadFiles:
    @pytest.mark.parametrize("suffix", ["keras", "h5"])
    @pytest.mark.parametrize("damage", ["empty", "text", "truncated", "flipped"])
    def test_malformed(self, tmp_path: Path, suffix: str, damage: str) -> None:
        path = tmp_path / f"m.{suffix}"
        save(path, lambda k: [k.Dense(2)])
        content = bytearray(path.read_bytes())
        for position in range(40, len(content), 97):
            content[position] ^= 0x55
        damaged = {
            "empty": b"",
            "text": b"not a model",
            "truncated": path.read_bytes()[: path.stat().st_size // 2],
            "flipped": bytes(content),
        }
        path.write_bytes(damaged[damage])
        with pytest.raises(ModelFileError) as error:
            load_keras(path)
        assert "\n" not in str(error.value)
        assert path.name in str(error.value)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError) as error:
            load_keras(tmp_path / "m.keras")
        path = tmp_path / "m.keras"
        assert str(error.value) == f"expected a model file, got path='{path}'; no such file"

    def test_weights_alone(self, tmp_path: Path) -> None:
        save(tmp_path / "m.h5", lambda k: [k.Dense(2)]).save_weights(tmp_path / "m.weights.h5")
        with pytest.raises(ModelFileError) as error:
            load_keras(tmp_path / "m.weights.h5")
        assert str(error.value) == (
            "expected an .h5 file with an architecture, got file='m.weights.h5'; "
            "save the whole model, not its weights alone"
        )

    @pytest.mark.parametrize(
        ("layers", "shape", "message"),
        [
            (
                lambda k: [k.Dense(1, activation="sigmoid")],
                (4,),
                "expected a classifier with one output per class, two or more, got model='m', "
                "output_shape=(1,); end the model in Dense(classes, activation='softmax')",
            ),
            (
                lambda k: [k.Conv2D(2, 3)],
                (8, 8, 1),
                "expected a classifier with one output per class, two or more, got model='m', "
                "output_shape=(6, 6, 2); end the model in Dense(classes, activation='softmax')",
            ),
            (
                lambda k: [k.GlobalAveragePooling2D(), k.Dense(2)],
                (None, 8, 1),
                "expected a fixed input shape, got model='m', shape=(None, 8, 1); "
                "give the Input layer its sizes",
            ),
        ],
    )
    def test_not_a_classifier(
        self, tmp_path: Path, layers: Any, shape: tuple[int, ...], message: str
    ) -> None:
        save(tmp_path / "m.keras", layers, shape)
        with pytest.raises(ModelFileError) as error:
            load_keras(tmp_path / "m.keras")
        assert str(error.value) == message

    def test_two_outputs(self, tmp_path: Path) -> None:
        import keras

        inputs = keras.Input((4,))
        outputs = [keras.layers.Dense(2)(inputs), keras.layers.Dense(3)(inputs)]
        keras.Model(inputs, outputs).save(tmp_path / "m.keras")
        with pytest.raises(ModelFileError, match=r"one output, got .*inputs=1, outputs=2"):
            load_keras(tmp_path / "m.keras")

    def test_keras_2_file_names_the_extra(self, tmp_path: Path) -> None:
        import h5py

        try:
            import tf_keras  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("tf-keras is installed: the file loads")
        save(tmp_path / "m.h5", lambda k: [k.DepthwiseConv2D(3), k.Flatten()], (4, 4, 1))
        with h5py.File(tmp_path / "m.h5", "r+") as file:
            config = json.loads(file.attrs["model_config"])
            config["config"]["layers"][-2]["config"]["groups"] = 1
            file.attrs["model_config"] = json.dumps(config)
            file.attrs["keras_version"] = "2.9.0"
        with pytest.raises(ModelFileError) as error:
            load_keras(tmp_path / "m.h5")
        assert str(error.value) == (
            "expected a model that Keras 3 can load, got file='m.h5', keras_version='2.9.0'; "
            "pip install 'pytest-qnnrobust[keras2]' for Keras-2 files"
        )


def test_hdf5_weights_inside_an_archive_are_checked(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "m.keras"
    save(path, lambda k: [k.Dense(2)])
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["model.weights.h5"] = stream.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ModelFileError, match="it points to data elsewhere"):
        load_keras(path)
