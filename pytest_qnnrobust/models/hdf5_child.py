"""Read an HDF5 file to its end, in the process that `child.run` has started.

The HDF5 library can crash or hang on a broken file. Keras reads only a file that passed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_qnnrobust.models.child import Answer
from pytest_qnnrobust.models.keras_files import check_hdf5


def serve() -> Answer:
    """Answer questions that hold the bytes of a file and its name, if the file is sound."""

    def answer(header: dict[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
        check_hdf5(payload, header["name"])
        return {}, b""

    return answer
