"""The Keras layers: forward the NumPy quantizers, backward straight through; files; attacks."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pytest_qnnrobust as qnn
from pytest_qnnrobust.errors import ModelFileError, QnnRobustError
from pytest_qnnrobust.quantizers import create
from tests.helpers import digits

WEIGHTS = (
    *(f"dorefa:{bits}" for bits in (1, 2, 4, 8, 12, 16)),
    *("binary", "ternary", "stochastic-binary", "stochastic-ternary"),
    *("affine:4", "affine:8", "affine:16"),
)


DRAWS = 60


def layers() -> Any:
    from pytest_qnnrobust.quantizers import layers

    return layers


def built(name: str, kernel: np.ndarray, **options: Any) -> Any:
    """A dense or convolutional layer with this kernel."""
    if kernel.ndim == 2:
        layer = layers().QuantizedDense(kernel.shape[-1], weights=name, **options)
        layer.build((None, kernel.shape[0]))
    else:
        layer = layers().QuantizedConv2D(kernel.shape[-1], 3, weights=name, **options)
        layer.build((None, 8, 8, kernel.shape[2]))
    layer.kernel.assign(kernel)
    return layer


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


class TestForward:
    @pytest.mark.parametrize("name", WEIGHTS)
    @pytest.mark.parametrize("shape", [(7, 5), (3, 3, 4, 6)])
    def test_kernel_is_that_of_the_numpy_quantizer(self, name: str, shape: tuple[int, ...]) -> None:
        import tensorflow as tf

        for seed, kernel in enumerate(
            (normal(*shape), -1e-16 * abs(normal(*shape)), np.zeros(shape))
        ):
            layer = built(name, kernel.astype(np.float32))
            fitted = create(name).fit(kernel.astype(np.float32))
            expected = fitted.dequantize(fitted.quantize(kernel))
            np.testing.assert_array_equal(np.asarray(layer.quantized_kernel()), expected)
            traced = tf.function(layer.quantized_kernel, autograph=False)()
            np.testing.assert_array_equal(traced.numpy(), expected, err_msg=str(seed))

    @pytest.mark.parametrize("name", ["dorefa:1", "dorefa:4", "dorefa:16", "affine:8", "binary"])
    def test_activation_is_that_of_the_numpy_quantizer(self, name: str) -> None:
        import tensorflow as tf

        x = np.concatenate([np.linspace(-8, 8, 4001), normal(500), [0.5, -0.0]]).astype(np.float32)
        layer = layers().QuantizedActivation(name, low=-1.0, high=6.0)
        quantizer = create(name, activations=True)
        if name == "affine:8":
            quantizer = quantizer.fit(np.array([-1.0, 6.0]))
        expected = quantizer.dequantize(quantizer.quantize(x))
        np.testing.assert_array_equal(np.asarray(layer(x)), expected)
        traced = tf.function(layer, autograph=False)(tf.constant(x))
        np.testing.assert_array_equal(traced.numpy(), expected)

    def test_dense_and_convolution_multiply_with_those_values(self) -> None:
        import keras

        kernel, x = normal(7, 5), normal(4, 7, seed=1)
        layer = built("ternary", kernel, activation="relu", bias_initializer="ones")
        values = np.asarray(layer.quantized_kernel())
        expected = np.maximum(x @ values + 1, 0)
        np.testing.assert_allclose(np.asarray(layer(x)), expected, atol=1e-6)

        images = normal(2, 8, 8, 4, seed=2)
        quantized = built("dorefa:2", normal(3, 3, 4, 6), strides=2, padding="same")
        plain = keras.layers.Conv2D(6, 3, strides=2, padding="same")
        plain.build(images.shape)
        plain.kernel.assign(np.asarray(quantized.quantized_kernel()))
        np.testing.assert_allclose(
            np.asarray(quantized(images)), np.asarray(plain(images)), atol=1e-5
        )

    def test_depthwise_scales_are_per_channel(self) -> None:
        layer = layers().QuantizedDepthwiseConv2D(3, weights="affine:8")
        layer.build((None, 8, 8, 4))
        kernel = normal(3, 3, 4, 1) * np.array([1, 10, 100, 1000], np.float32)[:, None]
        layer.kernel.assign(kernel)
        fitted = create("affine:8").fit(kernel[..., 0])
        expected = fitted.dequantize(fitted.quantize(kernel[..., 0]))
        np.testing.assert_array_equal(np.asarray(layer.quantized_kernel())[..., 0], expected)
        assert layer.weight_scales == 4

    @pytest.mark.parametrize("name", ["stochastic-binary", "stochastic-ternary"])
    def test_training_draws_anew_and_inference_does_not(self, name: str) -> None:
        layer = built(name, normal(40, 30), seed=5)
        first, second = (np.asarray(layer.quantized_kernel(training=True)) for _ in range(2))
        assert (first != second).any()
        fitted = create(name).fit(normal(40, 30))
        drawn = fitted.dequantize(
            fitted.quantize(
                np.broadcast_to(normal(40, 30), (DRAWS, 40, 30)), np.random.default_rng(0)
            )
        )
        ours = np.mean([np.asarray(layer.quantized_kernel(training=True)) for _ in range(DRAWS)], 0)
        sigma = np.sqrt(2 * drawn.var(axis=0).max() / DRAWS)
        assert np.abs(ours - drawn.mean(axis=0)).max() < 6 * sigma
        again = built(name, normal(40, 30), seed=5)
        np.testing.assert_array_equal(np.asarray(again.quantized_kernel(training=True)), first)


class TestBackward:
    @pytest.mark.parametrize("name", [n for n in WEIGHTS if not n.startswith("dorefa:")])
    def test_gradient_of_a_kernel_is_straight_through(self, name: str) -> None:
        gradient, upstream = kernel_gradient(built(name, normal(7, 5)))
        np.testing.assert_allclose(gradient, upstream, rtol=1e-6)

    def test_one_bit_passes_the_gradient_as_it_is(self) -> None:
        gradient, upstream = kernel_gradient(built("dorefa:1", normal(7, 5)))
        np.testing.assert_allclose(gradient, upstream, rtol=1e-6)

    @pytest.mark.parametrize("bits", [2, 8])
    def test_dorefa_goes_through_tanh_and_the_maximum(self, bits: int) -> None:
        """Against central differences of tanh(w) / max |tanh w|, which is what is rounded."""
        kernel = normal(7, 5)
        gradient, upstream = kernel_gradient(built(f"dorefa:{bits}", kernel))

        def warped(w: np.ndarray) -> float:
            bounded = np.tanh(w)
            return float((upstream * bounded / np.abs(bounded).max()).sum())

        step = 1e-6
        for place in [(0, 0), (3, 2), np.unravel_index(np.abs(kernel).argmax(), kernel.shape)]:
            moved = np.zeros(kernel.shape)
            moved[place] = step
            w = kernel.astype(np.float64)
            slope = (warped(w + moved) - warped(w - moved)) / (2 * step)
            assert gradient[place] == pytest.approx(slope, rel=1e-4)

    @pytest.mark.parametrize(
        ("name", "ends"), [("dorefa:2", (0, 1)), ("binary", (-1, 1)), ("affine:4", (0, 6))]
    )
    def test_gradient_of_an_activation_is_1_within_its_range(
        self, name: str, ends: tuple[float, float]
    ) -> None:
        import tensorflow as tf

        x = tf.constant(np.linspace(-9, 9, 199), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(x)
            values = layers().QuantizedActivation(name)(x)
        gradient = tape.gradient(values, x).numpy()
        inside = (x.numpy() > ends[0]) & (x.numpy() < ends[1])
        np.testing.assert_array_equal(gradient[inside], 1)
        outside = (x.numpy() < ends[0]) | (x.numpy() > ends[1])
        np.testing.assert_array_equal(gradient[outside], 0)


def kernel_gradient(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """d loss / d kernel, and d loss / d quantized kernel, of a random linear loss."""
    import tensorflow as tf

    upstream = normal(*layer.kernel.shape, seed=4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer.quantized_kernel(training=True) * upstream)
    return tape.gradient(loss, layer.kernel.value).numpy(), upstream


def network(weights: str, activations: str) -> Any:
    import keras

    made = layers()
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same"),
            made.QuantizedActivation(activations),
            made.QuantizedDepthwiseConv2D(3, weights=weights, use_bias=False),
            keras.layers.BatchNormalization(momentum=0.7),
            made.QuantizedActivation(activations),
            made.QuantizedConv2D(24, 3, weights=weights, use_bias=False),
            keras.layers.BatchNormalization(momentum=0.7),
            made.QuantizedActivation(activations),
            keras.layers.Flatten(),
            made.QuantizedDense(32, weights=weights, use_bias=False),
            keras.layers.BatchNormalization(momentum=0.7),
            keras.layers.ReLU(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


@pytest.fixture(
    scope="module",
    params=[
        "dorefa:2 dorefa:2",
        pytest.param("stochastic-ternary affine:8", marks=pytest.mark.nightly),
    ],
)
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path]:
    """A network trained on 400 digits, and its file."""
    import keras

    keras.utils.set_random_seed(0)
    model = network(*request.param.split())
    model.compile(keras.optimizers.Adam(4e-3), "sparse_categorical_crossentropy")
    x, y = digits.images()
    model.fit(x[:400], y[:400], epochs=8, batch_size=50, verbose=0)
    path = tmp_path_factory.mktemp("quantized") / "m.keras"
    model.save(path)
    return model, path


def test_trains_saves_loads_and_is_attacked(trained: Any) -> None:
    original, path = trained
    x, y = (values[400:] for values in digits.images())
    model = qnn.load_model(path)
    np.testing.assert_allclose(model.predict(x), np.asarray(original(x)), atol=1e-6)
    clean = float(np.mean(model.classify(x) == y))
    assert clean > 0.8
    attack = qnn.attacks.create("pgd", eps=0.2, step=0.05, restarts=1)
    result = attack(model, x[:60], y[:60])
    assert np.mean(~result.success) < clean - 0.3
    assert result.linf.max() <= 0.2 + 1e-6


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small network that was not trained."""
    import keras

    dense = layers().QuantizedDense(3, weights="dorefa:4", activation="softmax")
    path = tmp_path_factory.mktemp("saved") / "m.keras"
    keras.Sequential([keras.Input((4,)), dense]).save(path)
    return path


class TestFiles:
    def test_file_holds_plain_values_only(self, saved: Path) -> None:
        with zipfile.ZipFile(saved) as archive:
            config = archive.read("config.json").decode()
        assert "Lambda" not in config
        assert '"registered_name": "pytest_qnnrobust>QuantizedDense"' in config

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("pytest_qnnrobust>QuantizedDense", "evil>QuantizedDense"),
            ('"class_name": "QuantizedDense"', '"class_name": "JacobianRegularized"'),
            ("pytest_qnnrobust.quantizers.layers", "pytest_qnnrobust.quantizers.jacobian"),
        ],
    )
    def test_nothing_else_of_the_package_is_let_in(
        self, saved: Path, tmp_path: Path, old: str, new: str
    ) -> None:
        path = changed(saved, tmp_path, old, new)
        with pytest.raises(ModelFileError, match="only Keras's own layers"):
            qnn.load_model(path)

    def test_a_bad_quantizer_in_a_file_is_one_line(self, saved: Path, tmp_path: Path) -> None:
        path = changed(saved, tmp_path, "dorefa:4", "dorefa:99")
        with pytest.raises(QnnRobustError) as error:
            qnn.load_model(path)
        assert "\n" not in str(error.value)

    @pytest.mark.nightly
    def test_a_new_process_loads_it_without_importing_the_layers_first(self, saved: Path) -> None:
        code = "import sys, pytest_qnnrobust as q; print(q.load_model(sys.argv[1]).classes)"
        command = [sys.executable, "-c", code, str(saved)]
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert found.stdout.split() == ["3"], found.stderr


def changed(source: Path, folder: Path, old: str, new: str) -> Path:
    """A copy of a Keras file with another text in its architecture."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    text = members["config.json"].decode()
    assert old in text
    members["config.json"] = text.replace(old, new).encode()
    with zipfile.ZipFile(folder / "m.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return folder / "m.keras"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda k: k.QuantizedDense(3, weights="dorefa"), "a quantizer among"),
        (lambda k: k.QuantizedActivation("ternary"), "activations to be dorefa:k"),
        (lambda k: k.QuantizedActivation("affine:8", low=1.0), "low <= 0 <= high"),
        (
            lambda k: k.QuantizedConv2D(3, 3, weights="binary", data_format="channels_first"),
            "data_format to be channels_last",
        ),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(QnnRobustError, match=message):
        make(layers())
