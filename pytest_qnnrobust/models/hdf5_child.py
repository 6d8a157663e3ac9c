"""An HDF5 file read through once, in the process that `child.run` has started.

The HDF5 library can crash or hang on a broken file; what has been read here to the end is read
again by Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_qnnrobust.models.child import Answer
from pytest_qnnrobust.models.keras_files import check_hdf5


def serve() -> Answer:
    """The question holds the bytes of a file and its name; there is an answer if it is sound."""

    def answer(header: dict[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
        check_hdf5(payload, header["name"])
        return {}, b""

    return answer
