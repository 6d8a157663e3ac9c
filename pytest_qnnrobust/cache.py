"""Finished shards of attacks, and decisions, on disk: a run goes on where another stopped."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from pytest_qnnrobust import array_files
from pytest_qnnrobust.attacks import Attack, AttackResult
from pytest_qnnrobust.errors import expected
from pytest_qnnrobust.models import Model

T = TypeVar("T")

SUFFIX = ".npz"
LOCKS = "locks"
SINGLE = {"seconds": "float64", "model_seconds": "float64", "interrupted": "bool"}
PER_SAMPLE = {
    "x_adv": "float32",
    **dict.fromkeys(("success", "exhausted"), "bool"),
    **dict.fromkeys(("queries", "gradients", "clean_label", "adv_label"), "int64"),
    **dict.fromkeys(("l0", "l1", "l2", "linf"), "float64"),
}
"""The arrays of an AttackResult and their types."""
PACKAGE = Path(__file__).parent
RESULTS_FOLLOW_FROM = ("attacks", "defenses", "loading")
OWN = re.compile(r"[0-9a-f]{64}(\.npz|\..*\.part|\.lock)")
"""The names of files that a cache may remove: whatever else is in its folder is the user's."""


class ResultCache:
    """A folder with one file for each shard, named by a digest of everything it follows from.

    Files are written under another name and then moved, so that a killed run leaves no half of
    one. What is not, bit for bit, what was written is computed again. `hits` counts the shards
    that were read. Raises QnnRobustError where the folder cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.hits = 0
        try:
            (self.folder / LOCKS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            rule = "--qnn-cache-dir to be a folder that can be written"
            raise expected(rule, folder=str(folder), reason=error.strerror) from None

    def load(self, key: str, samples: int) -> AttackResult | None:
        """The result stored under `key`, None where there is no sound one of `samples` samples.

        Reading is a use: the file's time of change becomes now.
        """
        result = self._read(key, partial(_result, samples=samples))
        self.hits += result is not None
        return result

    def load_labels(self, key: str, samples: int) -> NDArray[np.int64] | None:
        """The decisions stored under `key`, None where there are no sound ones of `samples`."""
        return self._read(key, partial(_labels, samples=samples))

    @contextmanager
    def claim(self, key: str, wait: bool) -> Iterator[bool]:
        """While this lasts no other process computes `key`; False where one does and not `wait`.

        A process that is killed gives up what it had claimed.
        """
        lock = FileLock(self.folder / LOCKS / f"{key}.lock")
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def store(self, key: str, result: AttackResult) -> None:
        """Keep `result` under `key`, which the caller has claimed."""
        values = {field.name: getattr(result, field.name) for field in fields(result)}
        array_files.write(self.folder / (key + SUFFIX), values)

    def store_labels(self, key: str, labels: NDArray[np.int64]) -> None:
        """Keep decisions under `key`; two processes that do so write the same."""
        array_files.write(self.folder / (key + SUFFIX), {"labels": labels})

    def _read(self, key: str, parse: Callable[[dict[str, NDArray[Any]]], T]) -> T | None:
        path = self.folder / (key + SUFFIX)
        try:
            found = parse(array_files.read(path))
        except (OSError, array_files.DamagedError, ValueError, KeyError, TypeError):
            return None
        with suppress(OSError):
            os.utime(path)
        return found

    def tidy(self, limit: int | None = None) -> None:
        """Remove what killed processes left, and the entries used longest ago above `limit` bytes.

        What a running process has claimed stays, and so does every file that is not the cache's.
        """
        for path in self._own(self.folder):
            if path.suffix != SUFFIX:
                self._remove(path)
        if limit is not None:
            self._shrink(limit)
        for path in self._own(self.folder / LOCKS):
            self._remove(path)

    def _shrink(self, limit: int) -> None:
        entries = []
        for path in self._own(self.folder):
            with suppress(OSError):
                found = path.stat()
                entries.append((found.st_mtime_ns, found.st_size, path))
        held = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if held > limit and self._remove(path):
                held -= size

    def _own(self, folder: Path) -> list[Path]:
        return [path for path in folder.iterdir() if OWN.fullmatch(path.name) and path.is_file()]

    def _remove(self, path: Path) -> bool:
        """Whether `path` is gone: not where a running process has claimed its key."""
        key = path.name.partition(".")[0]
        with self.claim(key, wait=False) as mine:
            if not mine:
                return False
            with suppress(OSError):
                path.unlink(missing_ok=True)
                return True
        return False


def _result(found: dict[str, NDArray[Any]], samples: int) -> AttackResult:
    """Arrays as a result; ValueError for another number of samples or of values, or another type,
    KeyError or TypeError for other names."""
    for name, kind in SINGLE.items():
        if found[name].shape != () or found[name].dtype != kind:
            raise ValueError(f"{name} is no {kind}")
    for name, array in found.items():
        if name not in SINGLE and (
            len(array) != samples
            or array.dtype != PER_SAMPLE[name]
            or (array.ndim > 1) != (name == "x_adv")
        ):
            raise ValueError(f"{name} has no {PER_SAMPLE[name]} for each of {samples} samples")
    values: dict[str, Any] = {k: v.item() if k in SINGLE else v for k, v in found.items()}
    return AttackResult(**values)


def _labels(found: dict[str, NDArray[Any]], samples: int) -> NDArray[np.int64]:
    labels = found["labels"]
    if labels.shape != (samples,) or labels.dtype != np.int64:
        raise ValueError(f"no label for each of {samples} samples")
    return labels


def labels_key(model: Model, x: NDArray[Any]) -> str:
    """The digest of model, inputs and of the code that decides."""
    return _digest({"model": model.digest, "bounds": model.bounds, "inputs": _content(x)})


def shard_key(
    model: Model, attack: Attack, x: NDArray[Any], y: NDArray[Any], index: NDArray[Any], seed: int
) -> str:
    """The digest of model, attack, samples, seed and of the code that computes it."""
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
    """A digest of the sources that a result follows from: another code may find other examples."""
    digest = hashlib.sha256()
    for file in code_files():
        digest.update(file.relative_to(PACKAGE).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def code_files() -> list[Path]:
    """The modules of `RESULTS_FOLLOW_FROM` and all of this package that they import, sorted."""
    found: set[Path] = set()
    todo = [PACKAGE.joinpath(*name.split(".")) for name in RESULTS_FOLLOW_FROM]
    while todo:
        path = todo.pop()
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if file.is_file() and file not in found:
            found.add(file)
            todo += [PACKAGE.joinpath(*name.split(".")) for name in _imported(file)]
    return sorted(found)


def _imported(file: Path) -> Iterator[str]:
    """Names inside this package that a module imports, anywhere in it; some are no modules."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                if name.startswith(f"{PACKAGE.name}."):
                    yield name.removeprefix(f"{PACKAGE.name}.")
