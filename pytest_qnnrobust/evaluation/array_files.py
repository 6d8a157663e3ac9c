"""Arrays by name in one file, whole or not at all: an `.npz` without pickle, and its checksum."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust import disk

SEAL_BYTES = hashlib.sha256().digest_size
MAX_BYTES = 1 << 31
"""Largest size of all arrays of a file together, uncompressed: 2 GiB."""


class DamagedError(Exception):
    """The bytes of a file are not those that were written."""


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Write arrays and scalars, whole or not at all. Raises OSError where the disk refuses.

    The SHA-256 of the `.npz` follows its last byte, where `numpy.load` does not look.
    """
    content = BytesIO()
    np.savez_compressed(content, **values)
    body = content.getbuffer()
    disk.write(path, body, hashlib.sha256(body).digest())


def read(path: Path) -> dict[str, NDArray[Any]]:
    """Read what `write` wrote. Nothing is parsed before the checksum agrees.

    Raises OSError for a file that cannot be read, DamagedError for any other content.
    """
    if path.stat().st_size > MAX_BYTES:
        raise DamagedError(f"more than {MAX_BYTES} bytes")
    content = path.read_bytes()
    body, seal = content[:-SEAL_BYTES], content[-SEAL_BYTES:]
    if hashlib.sha256(body).digest() != seal:
        raise DamagedError("its checksum does not agree")
    try:
        with zipfile.ZipFile(BytesIO(body)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise DamagedError(f"more than {MAX_BYTES} bytes")
        with np.load(BytesIO(body), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except Exception as error:  # zipfile, zlib and NumPy raise what they like
        raise DamagedError(str(error)) from None
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise DamagedError("a member that is no array")
    return arrays
