"""Arrays with a value for each sample, as a dataclass declares them: checked, and as JSON.

The annotations of a dataclass are the schema. Fields annotated `NDArray[np.int64]` hold arrays of
that type, the others scalars. Attack results, outcomes and kept examples are read by this one rule.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

PACKED = {np.dtype(kind).name: np.dtype(kind) for kind in ("<i8", "<f8", "?")}
"""Types that arrays are packed in, by their names in JSON."""

SCALARS = {str: "U", int: "i", float: "f", bool: "b"}
"""NumPy's kind of the 0-d array in which an `.npz` keeps a scalar."""


def array_types(cls: type) -> dict[str, np.dtype[Any]]:
    """Field -> dtype, for the fields of a dataclass that are annotated as arrays."""
    return {
        name: np.dtype(get_args(get_args(hint)[1])[0])
        for name, hint in get_type_hints(cls).items()
        if get_origin(hint) is np.ndarray
    }


def check_arrays(
    cls: type, values: Mapping[str, Any], inputs: Collection[str] = (), other: Collection[str] = ()
) -> None:
    """Raise ValueError for an array of `cls` that has another type or length than it should.

    Arrays named in `inputs` are (N, *input_shape), those in `other` have nothing to do with
    samples, all others are (N,), with the N of the first of them.
    """
    types = array_types(cls)
    per_sample = {name: values[name] for name in types if name not in other}
    count = next(len(array) for name, array in per_sample.items() if name not in inputs)
    for name, array in values.items():
        if name in types and array.dtype != types[name]:
            raise ValueError(f"{name} is {array.dtype}, not {types[name]}")
    for name, array in per_sample.items():
        if len(array) != count or (array.ndim > 1) != (name in inputs):
            raise ValueError(f"{name} has no value for each of {count} samples")


def from_arrays(
    cls: type[T],
    stored: Mapping[str, NDArray[Any]],
    inputs: Collection[str] = (),
    other: Collection[str] = (),
) -> T:
    """Make an instance of a dataclass from the arrays of an `.npz`, where a scalar is 0-d.

    Raises ValueError where a field is missing, unknown, or of another type or length.
    """
    hints = get_type_hints(cls)
    if set(stored) != set(hints):
        raise ValueError(f"missing or unknown: {sorted(set(stored) ^ set(hints))}")
    types = array_types(cls)
    for name, array in stored.items():
        scalar = SCALARS.get(hints[name])
        if (array.ndim == 0) != (name not in types) or scalar not in (None, array.dtype.kind):
            raise ValueError(f"{name} is {array.dtype} {array.shape}")
    check_arrays(cls, stored, inputs, other)
    return cls(**{name: stored[name] if name in types else stored[name].item() for name in hints})


def pack(values: NDArray[Any]) -> dict[str, str]:
    """Pack an array (N,) as the name of its type and its little-endian bytes in base64."""
    name = {"i": "int64", "u": "int64", "f": "float64", "b": "bool"}[values.dtype.kind]
    content = np.ascontiguousarray(values, PACKED[name]).tobytes()
    return {"type": name, "base64": base64.b64encode(content).decode()}


def unpack(packed: Mapping[str, str]) -> NDArray[Any]:
    """Restore an array that `pack` packed; ValueError for bytes that are not whole values."""
    content = base64.b64decode(packed["base64"], validate=True)
    if packed["type"] == "bool":
        # Any other byte than 0 and 1 would be a boolean that is neither.
        return np.asarray(np.frombuffer(content, np.uint8) != 0)
    return np.array(np.frombuffer(content, PACKED[packed["type"]]))
