"""Keys of the cache: digests of all that a result follows from, files, settings, samples, code."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.attacks import Attack
from pytest_qnnrobust.models.base import Model
from pytest_qnnrobust.tflite.native.shared_library import FILE as CORE

PACKAGE = Path(__file__).parents[1]
CHILDREN = ("models.litert_child", "models.hdf5_child")
"""Modules that no module imports: they run in processes of their own."""

RESULTS_FOLLOW_FROM = ("attacks", "defenses", "models.load", "models.convert", *CHILDREN)
LIBRARIES = ("numpy", "scipy", "tensorflow", "keras", "tf-keras", "adversarial-robustness-toolbox")
"""Libraries whose versions are part of a key: another version may compute other numbers."""

IMPORT = re.compile(
    rf"^ *from {PACKAGE.name}((?:\.\w+)*) import (\([^)]*\)|.*)$", flags=re.MULTILINE
)
"""Pattern of an import: to read the text is ten times as fast as to parse its syntax tree."""


def facts_key(content: str, suffix: str, runtime: str, scale_arithmetic: str) -> str:
    """The digest of a model file, of how it is to be loaded, and of the code that does so.

    `content` is the SHA-256 of the file, `suffix` that of its name.
    """
    return _digest({"facts": content, "as": [suffix, runtime, scale_arithmetic]})


def converted_key(content: str, suffix: str, width: str, calibration: NDArray[Any]) -> str:
    """The digest of a float file (as in `facts_key`), of the inputs (N, ...) that it is quantized
    on, of the target `width`, and of the code that does so.
    """
    return _digest({"converted": content, "as": [suffix, width], "with": _content(calibration)})


def answer_key(question: str, model: Model, *inputs: NDArray[Any]) -> str:
    """The digest of a question about inputs, of the model, and of the code that answers."""
    parts = {
        "question": question,
        "model": model.digest,
        "bounds": model.bounds,
        "gradient": model.gradient_source,
        "inputs": _content(*inputs),
    }
    return _digest(parts)


def labels_key(model: Model, x: NDArray[Any]) -> str:
    """The digest of a model, of inputs (N, ...), and of the code that classifies them."""
    return _digest({"model": model.digest, "bounds": model.bounds, "inputs": _content(x)})


def shard_key(
    model: Model, attack: Attack, x: NDArray[Any], y: NDArray[Any], index: NDArray[Any], seed: int
) -> str:
    """The digest of model, attack, samples and seed, and of the code that attacks."""
    parts = {
        "model": model.digest,
        "bounds": model.bounds,
        "gradient": model.gradient_source,
        "attack": repr(attack),
        "samples": _content(x, y, index),
        "seed": seed,
    }
    return _digest(parts)


def _digest(parts: dict[str, Any]) -> str:
    everything = parts | {"code": code_digest()}
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def _content(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def code_digest() -> str:
    """A digest of the sources that a result follows from, and of the libraries' versions.

    Another code may find other examples.
    """
    digest = hashlib.sha256(json.dumps(_versions()).encode())
    for file in code_files():
        digest.update(file.relative_to(PACKAGE).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    """Versions of Python and of those `LIBRARIES` that are installed."""
    installed = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def code_files() -> list[Path]:
    """The modules of `RESULTS_FOLLOW_FROM`, all of this package that they import, and the native
    core where there is one; sorted."""
    files = {CORE} if CORE.is_file() else set()
    todo = [PACKAGE.joinpath(*name.split(".")) for name in RESULTS_FOLLOW_FROM]
    while todo:
        path = todo.pop()
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if file.is_file() and file not in files:
            files.add(file)
            todo += [PACKAGE.joinpath(*name.split(".")) for name in _imported(file)]
    return sorted(files)


def _imported(file: Path) -> Iterator[str]:
    """Names inside this package that a module imports, anywhere in it; some are no modules."""
    for statement in IMPORT.finditer(file.read_text(encoding="utf-8")):
        module, names = statement[1], re.findall(r"\w+", statement[2])
        for name in filter(None, (module, *(f"{module}.{name}" for name in names))):
            yield name.removeprefix(".")
