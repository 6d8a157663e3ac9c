"""Finished shards of attacks and answers of models on disk: a run goes on where another stopped."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from pytest_qnnrobust import disk
from pytest_qnnrobust.attacks import AttackResult
from pytest_qnnrobust.evaluation import array_files
from pytest_qnnrobust.evaluation.sample_arrays import from_arrays
from pytest_qnnrobust.models.lazy import FileFacts

T = TypeVar("T")

FLAG = "--qnn-cache-dir"
SUFFIX = ".npz"
LOCKS = "locks"
OWN = re.compile(r"[0-9a-f]{64}(\.npz|\..*\.part|\.lock)")
"""Names of the files that a cache may remove: whatever else is in its folder is the user's."""


class ResultCache:
    """A folder with one file for each shard, named by a digest of everything it follows from.

    Files are written under another name and then moved, so that a killed run leaves no half of
    one. What is not, bit for bit, what was written is computed again. `hits` counts the shards
    that were read.

    Where the disk refuses it, a cache is left aside: `refusal` says why, nothing more is written,
    and what is there is still read. Raises OutputError where `folder` is, or is below, a file.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.hits = 0
        self.refusal = ""
        try:
            (self.folder / LOCKS).mkdir(parents=True, exist_ok=True)
        except (NotADirectoryError, FileExistsError) as error:
            raise disk.refusal(FLAG, "folder", self.folder, error) from None
        except OSError as error:
            self._leave_aside(error)

    @contextmanager
    def left_aside_if_refused(self) -> Iterator[None]:
        """Leave the cache aside where the disk refuses what is written to it inside."""
        try:
            yield
        except OSError as error:
            self._leave_aside(error)

    def load(self, key: str, samples: int) -> AttackResult | None:
        """The result stored under `key`, None where there is no sound one of `samples` samples.

        Reading is a use: the file's time of change becomes now.
        """
        result = self._read(key, partial(_result, samples=samples))
        self.hits += result is not None
        return result

    def has(self, key: str) -> bool:
        """Whether there is a file of `key`, sound or not."""
        return (self.folder / (key + SUFFIX)).is_file()

    def load_labels(self, key: str, samples: int) -> NDArray[np.int64] | None:
        """The decisions stored under `key`, None where there are no sound ones of `samples`."""
        return self._read(key, partial(_labels, samples=samples))

    def load_floats(
        self, key: str, shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, NDArray[np.float32]] | None:
        """The float32 arrays stored under `key`, None where there are none of these shapes."""
        return self._read(key, partial(_floats, shapes=shapes))

    def load_facts(self, key: str) -> FileFacts | None:
        """The facts about a model file stored under `key`; None where nothing sound is."""
        return self._read(key, _facts)

    def load_file(self, key: str) -> bytes | None:
        """The content of a file stored under `key`; None where nothing sound is."""
        return self._read(key, _file)

    @contextmanager
    def claim(self, key: str, wait: bool) -> Iterator[bool]:
        """Claim `key`, so that no other process computes it while this lasts; yields success.

        Where another process has claimed it, wait for that one or, without `wait`, give up. A
        process that is killed loses what it had claimed. In a cache that was left aside nobody has
        to wait for what is not going to be there.
        """
        lock = None if self.refusal else self._lock(key, wait)
        try:
            yield lock is not None or bool(self.refusal)
        finally:
            if lock is not None:
                lock.release()

    def _lock(self, key: str, wait: bool) -> FileLock | None:
        """The lock of `key`; None where another process has it, or the disk refuses it."""
        lock = FileLock(self.folder / LOCKS / f"{key}.lock")
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            return None
        except (OSError, NotImplementedError) as error:
            self._leave_aside(error)
            return None
        return lock

    def _leave_aside(self, error: Exception) -> None:
        if not self.refusal:
            cure = "the run goes on and keeps nothing there"
            self.refusal = str(disk.refusal(FLAG, "folder", self.folder, error, cure))

    def store(self, key: str, result: AttackResult) -> None:
        """Keep `result` under `key`, which the caller has claimed."""
        values = {field.name: getattr(result, field.name) for field in fields(result)}
        self._store(key, values)

    def store_labels(self, key: str, labels: NDArray[np.int64]) -> None:
        """Keep decisions under `key`; two processes that do so write the same."""
        self._store(key, {"labels": labels})

    def store_floats(self, key: str, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep float32 arrays by name under `key`; two processes that do so write the same."""
        self._store(key, arrays)

    def store_facts(self, key: str, facts: FileFacts) -> None:
        """Keep facts about a model file under `key`."""
        shape = np.asarray(facts.input_shape, np.int64)
        bounds = np.asarray(facts.bounds, np.float64)
        classes = np.asarray(facts.classes, np.int64)
        self._store(key, {"input_shape": shape, "classes": classes, "bounds": bounds})

    def store_file(self, key: str, content: bytes) -> None:
        """Keep the content of a file under `key`."""
        self._store(key, {"content": np.frombuffer(content, np.uint8)})

    def _store(self, key: str, values: Mapping[str, Any]) -> None:
        if not self.refusal:
            with self.left_aside_if_refused():
                array_files.write(self.folder / (key + SUFFIX), values)

    def _read(self, key: str, parse: Callable[[dict[str, NDArray[Any]]], T]) -> T | None:
        path = self.folder / (key + SUFFIX)
        try:
            value = parse(array_files.read(path))
        except (OSError, array_files.DamagedError, ValueError, KeyError, TypeError):
            return None
        with suppress(OSError):
            os.utime(path)
        return value

    def tidy(self, limit: int | None = None) -> None:
        """Remove what killed processes left, and the entries used longest ago above `limit` bytes.

        What a running process has claimed stays, and so does every file that is not the cache's.
        """
        with self.left_aside_if_refused():
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
                status = path.stat()
                entries.append((status.st_mtime_ns, status.st_size, path))
        held = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if held > limit and self._remove(path):
                held -= size

    def _own(self, folder: Path) -> list[Path]:
        return [path for path in folder.iterdir() if OWN.fullmatch(path.name) and path.is_file()]

    def _remove(self, path: Path) -> bool:
        """Remove `path` unless a running process has claimed its key; return whether it is gone."""
        lock = self._lock(path.name.partition(".")[0], wait=False)
        if lock is None:
            return False
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return False
        finally:
            lock.release()
        return True


def _result(stored: dict[str, NDArray[Any]], samples: int) -> AttackResult:
    """The stored arrays as a result; ValueError for another number of samples or another type."""
    result = from_arrays(AttackResult, stored, inputs=("x_adv",))
    if len(result) != samples:
        raise ValueError(f"{len(result)} samples, not {samples}")
    return result


def _labels(stored: dict[str, NDArray[Any]], samples: int) -> NDArray[np.int64]:
    labels = stored["labels"]
    if labels.shape != (samples,) or labels.dtype != np.int64:
        raise ValueError(f"no label for each of {samples} samples")
    return labels


def _floats(
    stored: dict[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[np.float32]]:
    if set(stored) != set(shapes):
        raise ValueError(f"no {', '.join(shapes)}")
    for name, shape in shapes.items():
        if stored[name].shape != shape or stored[name].dtype != np.float32:
            raise ValueError(f"{name} is no float32 of shape {shape}")
    return stored


def _facts(stored: dict[str, NDArray[Any]]) -> FileFacts:
    shape, classes, bounds = stored["input_shape"], stored["classes"], stored["bounds"]
    if [array.dtype.name for array in (shape, classes, bounds)] != ["int64", "int64", "float64"]:
        raise ValueError("no integers and bounds")
    if shape.ndim != 1 or classes.shape != () or bounds.shape != (2,):
        raise ValueError("no input shape, classes and bounds")
    if classes < 2 or np.any(shape < 1) or not bounds[0] < bounds[1]:
        raise ValueError("no classifier")
    low, high = bounds.tolist()
    return FileFacts(tuple(shape.tolist()), int(classes), (low, high))


def _file(stored: dict[str, NDArray[Any]]) -> bytes:
    content = stored["content"]
    if content.dtype != np.uint8 or content.ndim != 1:
        raise ValueError("no bytes")
    return content.tobytes()
