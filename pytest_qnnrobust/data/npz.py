"""Arrays of an `.npz` archive, unpacked from their start: what is not asked for fills no memory.

`numpy.load` unpacks a whole array before anything is known of it.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

PART = 1 << 20
"""Bytes that are unpacked at a time."""

MAX_HEADER = 1 << 16
SUFFIX = ".npy"


@dataclass(frozen=True)
class Stored:
    """An array in an archive, known by its header; `columns`: its first axis varies fastest."""

    archive: zipfile.ZipFile
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    columns: bool
    start: int

    def first(self, n: int, dtype: DTypeLike) -> NDArray[Any]:
        """The first n of the array along its first axis, as `dtype`.

        The rest is unpacked too, part by part: the checksum in the archive is that of everything.
        Raises ValueError, or what zipfile and zlib raise, for a damaged member.
        """
        rows = self.shape[1:]
        with self.archive.open(self.member) as file, np.errstate(over="ignore"):
            file.read(self.start)
            if self.columns:
                values = np.empty((math.prod(rows), n), dtype)
                self._read_columns(file, values)
                values = np.ascontiguousarray(values.reshape((*rows[::-1], n)).T)
            else:
                values = np.empty((n, *rows), dtype)
                self._read_flat(file, values.reshape(-1))
            while file.read(PART):
                pass
        return values

    def _read_flat(self, file: IO[bytes], into: NDArray[Any]) -> None:
        step = max(1, PART // self.dtype.itemsize)
        for start in range(0, into.size, step):
            part = into[start : start + step]
            part[...] = _read(file, self.dtype, part.size)

    def _read_columns(self, file: IO[bytes], into: NDArray[Any]) -> None:
        height, n = self.shape[0], into.shape[1]
        step = max(1, PART // (self.dtype.itemsize * height))
        for start in range(0, len(into), step):
            part = into[start : start + step]
            part[...] = _read(file, self.dtype, len(part) * height).reshape(-1, height)[:, :n]


def headers(archive: zipfile.ZipFile, names: tuple[str, ...]) -> Mapping[str, Stored]:
    """The arrays of these names, those that there are. Raises ValueError for what is no array."""
    members = {member.removesuffix(SUFFIX): member for member in archive.namelist()}
    return {name: _header(archive, members[name]) for name in names if name in members}


def _header(archive: zipfile.ZipFile, member: str) -> Stored:
    with archive.open(member) as file:
        head = io.BytesIO(file.read(MAX_HEADER))
    version = npy.read_magic(head)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{member} is of version {version} of its format; 1.0 and 2.0 are read")
    shape, columns, dtype = readers[version](head)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    if any(extent < 0 for extent in shape):
        raise ValueError(f"{member} has the shape {shape}")
    return Stored(archive, member, shape, dtype, columns, head.tell())


def _read(file: IO[bytes], dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    content = file.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise ValueError("an array is shorter than its header says")
    return np.frombuffer(content, dtype)
