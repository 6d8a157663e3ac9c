"""Keras model files -> Keras models, without running anything that the file brings along.

A `.keras` file is a zip archive, an `.h5` file an HDF5 one; both hold the architecture as JSON.
It is read and judged before Keras sees the file: every class in it has to be one that Keras itself
ships and that computes (layer, operation, initializer, regularizer, constraint, dtype policy), or a
quantized layer of this package.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_qnnrobust.errors import ModelFileError, expected
from pytest_qnnrobust.models.child import Child, ChildError
from pytest_qnnrobust.models.files import MAX_KERAS_BYTES as MAX_BYTES
from pytest_qnnrobust.models.files import ModelFile, read_model_file

READ_WITHIN = 60.0
"""Seconds in which an HDF5 file has to be read."""

MAX_ITEMS = 1 << 14
"""Groups and datasets of an HDF5 file: links can make any number of a few."""

MEMBERS = frozenset({"config.json", "metadata.json", "model.weights.h5"})
"""Members of a `.keras` archive, exactly: any other name may lead out of a folder."""

PUBLIC_MODULES = ("layers", "initializers", "regularizers", "constraints", "dtype_policies")
TRAINING_MODULES = ("optimizers", "optimizers.schedules", "losses", "metrics")
"""Modules of classes that a compiled model inside of a model brings along."""

OPERATIONS = ("keras.src.ops.nn", "keras.src.ops.numpy", "keras.src.ops.core")
"""Modules in which Keras 3 keeps the classes behind `keras.ops` (`relu`, `+`, ...)."""

MODELS = frozenset({"Sequential", "Functional", "Model"})
MARKERS = frozenset(
    {"__keras_tensor__", "__tensor__", "__numpy__", "__tuple__", "__slice__", "__ellipsis__"}
)
"""Class names of plain values in a config: another layer's output, a constant, an index."""

CODE_OR_FILES = frozenset(
    {"Lambda", "TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer", "StringLookup"}
    | {"IntegerLookup", "TextVectorization"}
)
"""Keras's own layers that run code of the file or open other files."""

OWN_LAYERS = "pytest_qnnrobust.quantizers.layers"
OWN_CLASSES = frozenset(
    {"QuantizedActivation", "QuantizedConv2D", "QuantizedDense", "QuantizedDepthwiseConv2D"}
)
"""The layers of this package; their module registers them with Keras when a file names one."""

NO_CODE = "a model file never runs code here: rebuild the model from Keras's own layers"


def load_network(source: str | Path | ModelFile) -> Any:
    """Read a `.keras` or `.h5` file as an uncompiled Keras model (of tf_keras for Keras-2 files).

    Raises ModelFileError, one line, for a file that is missing, malformed, oversized, needs code
    of its own (Lambda, custom object) or needs tf-keras where that is not installed.
    """
    file = source if isinstance(source, ModelFile) else read_model_file(source)
    name = file.path.name
    if file.path.suffix == ".keras":
        config, version = _read_archive(file.content, name)
    elif file.path.suffix in (".h5", ".hdf5"):
        config, version = _read_hdf5(file.content, name)
    else:
        raise expected("a .keras or .h5 file", file=name, error=ModelFileError)
    check_config(config, name)
    with _copied(file) as path:
        return _load(path, version)


def check_config(config: Any, file: str) -> None:
    """Refuse an architecture that names anything but Keras's own computing classes and ours.

    The model is loaded uncompiled, so what its top level says about training is never read.
    """
    try:
        if isinstance(config, dict):
            config = {key: config[key] for key in config if key != "compile_config"}
        for node in _classes(config):
            _check_class(node, file)
    except RecursionError:
        raise _malformed(file, "its architecture is nested too deeply") from None


def _classes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "class_name" in node or "module" in node:
            yield node
        for value in node.values():
            yield from _classes(value)
    elif isinstance(node, list):
        for value in node:
            yield from _classes(value)


def _check_class(node: dict[str, Any], file: str) -> None:
    name = node.get("class_name")
    module = node.get("module")
    if not isinstance(name, str) or not isinstance(module, str | None):
        raise _malformed(file, "a class without a name")
    registered = node.get("registered_name")
    if module == OWN_LAYERS and name in OWN_CLASSES and registered == f"pytest_qnnrobust>{name}":
        importlib.import_module(OWN_LAYERS)
        return
    if registered not in (None, name) or not _is_keras_class(module, name):
        where = f"{module}.{name}" if module else name
        if isinstance(registered, str) and registered not in (name, "function"):
            where = registered
        raise expected(
            "only Keras's own layers", file=file, found=where, cure=NO_CODE, error=ModelFileError
        )


def _is_keras_class(module: str | None, name: str) -> bool:
    """Whether Keras itself ships `module.name` and it computes; old files name no module."""
    import keras

    library = "keras" if module is None else module.split(".")[0]
    if name in MARKERS:
        return library in ("keras", "builtins")
    if library not in ("keras", "tf_keras") or name in CODE_OR_FILES:
        return False
    if name in MODELS:
        return True
    # A module of Keras holds more than its own classes (imports, functions): only these compute.
    bases = (
        keras.Operation,
        keras.initializers.Initializer,
        keras.regularizers.Regularizer,
        keras.constraints.Constraint,
        keras.dtype_policies.DTypePolicy,
        keras.optimizers.Optimizer,
        keras.optimizers.schedules.LearningRateSchedule,
        keras.losses.Loss,
        keras.metrics.Metric,
    )
    public = [f"keras.{place}" for place in PUBLIC_MODULES + TRAINING_MODULES]
    # Only modules of these lists are imported, never one because a file names it.
    places = [str(module)] if module in OPERATIONS else public
    candidates = (getattr(importlib.import_module(place), name, None) for place in places)
    return any(isinstance(kind, type) and issubclass(kind, bases) for kind in candidates)


def _read_archive(content: bytes, file: str) -> tuple[Any, str]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = {member.filename for member in archive.infolist()}
            # zipfile reads no more of a member than the size that it claims: claims are enough.
            total = sum(member.file_size for member in archive.infolist())
            _check_size(total, file)
            if names != MEMBERS or len(archive.infolist()) != len(MEMBERS):
                raise _malformed(file, f"its members are not {', '.join(sorted(MEMBERS))}")
            config = json.loads(archive.read("config.json"))
            version = str(json.loads(archive.read("metadata.json"))["keras_version"])
            _dry_run_hdf5(archive.read("model.weights.h5"), file)
    except ModelFileError:
        raise
    except Exception as error:
        raise _malformed(file, error) from None
    return config, version


def _read_hdf5(content: bytes, name: str) -> tuple[Any, str]:
    import h5py

    _dry_run_hdf5(content, name)
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            if "model_config" not in file.attrs:
                cure = "save the whole model, not its weights alone"
                raise expected(
                    "an .h5 file with an architecture",
                    file=name,
                    cure=cure,
                    error=ModelFileError,
                )
            config = json.loads(file.attrs["model_config"])
            version = file.attrs.get("keras_version", "2")
    except ModelFileError:
        raise
    except Exception as error:
        raise _malformed(name, error) from None
    return config, version.decode() if isinstance(version, bytes) else str(version)


def _dry_run_hdf5(content: bytes, name: str) -> None:
    """`check_hdf5` in another process: the HDF5 library may crash or hang on a broken file."""
    child = Child("pytest_qnnrobust.models.hdf5_child", READ_WITHIN)
    try:
        child.ask({"name": name}, content)
    except ChildError as error:
        text = str(error)
        raise ModelFileError(text if name in text else f"{name}: {text}") from None
    finally:
        child.close()


def check_hdf5(content: bytes, name: str) -> None:
    """Read everything; refuse links and data outside of the file, and more than `MAX_BYTES`."""
    import h5py

    total = 0
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            # Attributes and values are read for nothing but to let a broken one fail here.
            dict(file.attrs)
            for count, item in enumerate(_hdf5_items(file, name)):
                if count > MAX_ITEMS:
                    raise _malformed(name, f"it has more than {MAX_ITEMS} groups and datasets")
                dict(item.attrs)
                if not isinstance(item, h5py.Dataset):
                    continue
                if item.external or item.is_virtual:
                    raise _malformed(name, "it points to data in other files")
                total += item.nbytes
                _check_size(total, name)
                item[()]
    except ModelFileError:
        raise
    except Exception as error:
        raise _malformed(name, error) from None


def _hdf5_items(group: Any, file: str, depth: int = 0) -> Iterator[Any]:
    """Groups and datasets below a group; one that is linked twice comes twice."""
    import h5py

    # Hard links can make a circle of groups.
    if depth > 64:
        raise _malformed(file, "its groups are nested too deeply")
    for key in group:
        # A soft or external link would be followed by the next line.
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise _malformed(file, "it points to data elsewhere")
        item = group[key]
        yield item
        if isinstance(item, h5py.Group):
            yield from _hdf5_items(item, file, depth + 1)


@contextmanager
def _copied(file: ModelFile) -> Iterator[Path]:
    """A copy of the bytes that were checked: at the path itself may be another file by now."""
    with tempfile.TemporaryDirectory(prefix="qnnrobust-") as folder:
        copy = Path(folder) / file.path.name
        try:
            copy.write_bytes(file.content)
        except OSError as error:
            rule = "room for a copy of the model in the folder of temporary files"
            raise expected(rule, file=str(copy), reason=error.strerror) from None
        yield copy


def _load(path: Path, version: str) -> Any:
    import keras

    try:
        return _built(keras.saving.load_model, path)
    except _NotBuiltError as error:
        if not version.startswith(("1.", "2")):
            raise _malformed(path.name, error) from None
    try:
        tf_keras = importlib.import_module("tf_keras")
    except ImportError:
        raise expected(
            "a model that Keras 3 can load",
            file=path.name,
            keras_version=version,
            cure="pip install 'pytest-qnnrobust[keras2]' for Keras-2 files",
            error=ModelFileError,
        ) from None
    try:
        return _built(tf_keras.models.load_model, path)
    except _NotBuiltError as error:
        raise _malformed(path.name, error) from None


class _NotBuiltError(Exception):
    """A refusal of one version of Keras to load a file."""


def _built(load_model: Callable[..., Any], path: Path) -> Any:
    try:
        with _counted_variables(path.name):
            # A compiled model would bring losses and optimizers, which are classes to judge too.
            return load_model(path, compile=False, safe_mode=True)
    except ModelFileError:
        raise
    except Exception as error:
        raise _NotBuiltError(error) from None


@contextmanager
def _counted_variables(file: str) -> Iterator[None]:
    """Limit TensorFlow's variables to `MAX_BYTES` in all inside a `with` block.

    An architecture can claim any number of weights, and they are allocated before they are read.
    """
    import tensorflow as tf

    total = 0

    def create(following: Any, **values: Any) -> Any:
        nonlocal total
        shape, first = values.get("shape"), values.get("initial_value")
        # Traced, an initializer tells its shape without allocating it.
        if shape is None and callable(first):
            traced = tf.function(lambda: tf.convert_to_tensor(first()), autograph=False)
            shape = traced.get_concrete_function().outputs[0].shape
        total += 4 * math.prod(size or 1 for size in (() if shape is None else shape))
        _check_size(total, file)
        return following(**values)

    with tf.variable_creator_scope(create):
        yield


def _check_size(total: int, file: str) -> None:
    if total > MAX_BYTES:
        rule = f"at most {MAX_BYTES >> 20} MiB of uncompressed content"
        raise expected(rule, file=file, bytes=total, error=ModelFileError)


def _malformed(file: str, reason: object) -> ModelFileError:
    """Report a broken file in one line: the first of a long reason, cut at 160 characters."""
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return ModelFileError(f"{file} is not a readable Keras model: {lines[0][:160]}")
