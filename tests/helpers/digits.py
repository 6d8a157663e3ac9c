"""The embedded digits: their files, their samples, and a version that lost its robustness."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust import load_model
from pytest_qnnrobust.demo import demo_path
from pytest_qnnrobust.models import Model
from pytest_qnnrobust.models.convert import convert

FILES = {
    "float32": demo_path("digits_float.keras"),
    "int16": demo_path("digits_int16.tflite"),
    "int8": demo_path("digits_int8.tflite"),
}
FLOAT, INT16, INT8 = FILES.values()


@cache
def images() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All test digits in 0..1, of shape (597, 8, 8, 1), and their labels; not to be written to."""
    with np.load(demo_path("digits.npz")) as data:
        x, y = (data["x"] / np.float32(255)).astype(np.float32), data["y"].astype(np.int64)
    x.flags.writeable = y.flags.writeable = False
    return x, y


def network(width: str) -> Model:
    """The network of this width in 0..1, loaded once a process, with counters of its own."""
    return _loaded(width).with_bounds(0.0, 1.0)


@cache
def _loaded(width: str) -> Model:
    return load_model(FILES[width])


def broken_int8(path: Path) -> Path:
    """Write the int8 network with its last weights in another order to `path`."""
    path.write_bytes(_broken_int8())
    return path


@cache
def _broken_int8() -> bytes:
    import keras

    float_network = keras.saving.load_model(FLOAT, compile=False)
    kernel = next(w for w in reversed(float_network.trainable_weights) if len(w.shape) == 2)
    kernel.assign(np.random.default_rng(0).permutation(np.ravel(kernel)).reshape(kernel.shape))
    with np.load(demo_path("digits_calibration.npz")) as data:
        inputs = (data["x"] / np.float32(255)).astype(np.float32)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "broken.keras"
        float_network.save(file)
        return convert(file, "int8", inputs)
