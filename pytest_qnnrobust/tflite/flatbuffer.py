"""Read the bytes of a `.tflite` file as a frozen `Graph`; every offset is checked.

Layout: https://flatbuffers.dev/internals; field numbers: `schema.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import ModelFileError
from pytest_qnnrobust.tflite import schema
from pytest_qnnrobust.tflite.graph import Graph, Operator, QuantizationParameters, Tensor

MAX_FILE_BYTES = 256 << 20
MAX_TENSOR_ELEMENTS = 1 << 28
MAX_RANK = 8
MAX_OPERATORS = 1024
MAX_TENSORS = 16384
MAX_NAME = 4096
READ_AHEAD = 64 << 20
"""Bytes of memory that a file may fill beyond four times its size.

Offsets that all point to one large vector would fill any memory.
"""
PYTHON_OBJECT = {"table": 400, "int": 40}
"""Bytes that a table or an integer takes once it is read, about."""

_FORMATS = {"bool": "<?", "int8": "<b", "uint8": "<B", "int32": "<i", "uint32": "<I",
            "float32": "<f"}  # fmt: skip


def read_graph(data: bytes, name: str = "model") -> Graph:
    """Read the one subgraph of a TFLite file.

    Raises ModelFileError, in one line that begins with `name`, for anything that is not a whole,
    consistent TFLite file of schema version 3.
    """
    try:
        return _read_model(data)
    except _MalformedError as error:
        raise ModelFileError(f"{name} is not a readable TFLite model: {error}") from None


class _MalformedError(Exception):
    pass


def _read_model(data: bytes) -> Graph:
    if len(data) < 8 or data[4:8] != schema.FILE_IDENTIFIER:
        raise _MalformedError("expected the identifier TFL3 at byte 4")
    if len(data) > MAX_FILE_BYTES:
        raise _MalformedError(f"expected at most {MAX_FILE_BYTES} bytes, got {len(data)}")
    buffer = _Bytes(data)
    model = _Table(buffer, buffer.scalar("uint32", 0))
    version = model.scalar(0, "uint32")
    if version != schema.SCHEMA_VERSION:
        raise _MalformedError(f"expected schema version 3, got {version}")
    subgraphs = model.tables(2, MAX_OPERATORS)
    if len(subgraphs) != 1:
        raise _MalformedError(f"expected one subgraph, got {len(subgraphs)}")
    names = [_operator_name(code) for code in model.tables(1, MAX_OPERATORS)]
    buffers = model.tables(4, 2 * MAX_TENSORS)
    tensors = _read_tensors(subgraphs[0].tables(0, MAX_TENSORS), buffers)
    operators = _read_operators(subgraphs[0].tables(3, MAX_OPERATORS), names)
    graph = Graph(
        name=subgraphs[0].string(4),
        tensors=tensors,
        operators=operators,
        inputs=subgraphs[0].ints(1),
        outputs=subgraphs[0].ints(2),
        description=model.string(3),
    )
    _check_order(graph)
    return graph


def _operator_name(code: _Table) -> str:
    # Codes up to 127 may stand in the old 8-bit field alone, larger ones only in the new field.
    number = max(code.scalar(0, "int8"), code.scalar(3, "int32"))
    if not 0 <= number < len(schema.OPERATORS):
        return f"BUILTIN_{number}"
    name = schema.OPERATORS[number]
    return f"CUSTOM:{code.string(1)}" if name == "CUSTOM" else name


def _read_tensors(tables: Sequence[_Table], buffers: Sequence[_Table]) -> tuple[Tensor, ...]:
    return tuple(_read_tensor(index, table, buffers) for index, table in enumerate(tables))


def _read_tensor(index: int, table: _Table, buffers: Sequence[_Table]) -> Tensor:
    where = f"tensor {index}"
    name = table.string(3)
    type_code = table.scalar(1, "int8")
    if type_code not in schema.TENSOR_TYPES:
        raise _MalformedError(f"{where} ({name}) has the unsupported type {type_code}")
    if table.table(6) is not None:
        raise _MalformedError(f"{where} ({name}) is sparse, which is not supported")
    dtype = schema.TENSOR_TYPES[type_code]
    static, signature = table.ints(0), table.ints(7)
    constant = _constant_bytes(table.scalar(2, "uint32"), buffers, where)
    # Only the signature marks a dynamic axis, by -1; the static shape has a 1 there.
    shape = signature if signature and len(signature) == len(static) else static
    if constant is not None:
        shape = static
    _check_shape(where, static)
    data = None if constant is None else _constant(where, constant, dtype, static)
    quantization = _read_quantization(where, table.table(4), static)
    return Tensor(index, name, dtype, shape, quantization, data)


def _check_shape(where: str, shape: tuple[int, ...]) -> None:
    size = 1
    for extent in shape:
        if extent < 0:
            raise _MalformedError(f"{where} has a negative extent in shape {shape}")
        size *= extent
    if len(shape) > MAX_RANK or size > MAX_TENSOR_ELEMENTS:
        raise _MalformedError(f"{where} is too large: shape {shape}")


def _constant_bytes(number: int, buffers: Sequence[_Table], where: str) -> bytes | None:
    if number >= len(buffers):
        raise _MalformedError(f"{where} names buffer {number} of {len(buffers)}")
    # Field 1 is an offset into the file behind the flatbuffer; the schema keeps 0 and 1 as unset.
    if buffers[number].scalar(1, "uint32") > 1:
        raise _MalformedError(
            f"{where} keeps its data outside the flatbuffer, which is not supported"
        )
    return buffers[number].bytes(0) if number else None


def _constant(where: str, raw: bytes, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    count = int(np.prod(shape, dtype=np.int64))
    if dtype == "int4":
        values = _unpack_int4(where, raw, count)
    else:
        kind = np.dtype(dtype).newbyteorder("<")
        if len(raw) != count * kind.itemsize:
            raise _MalformedError(f"{where} of shape {shape} has {len(raw)} bytes of {dtype}")
        values = np.frombuffer(raw, kind).astype(np.dtype(dtype))
    values = values.reshape(shape)
    # A frozen graph holds frozen values.
    values.setflags(write=False)
    return values


def _unpack_int4(where: str, raw: bytes, count: int) -> NDArray[np.int8]:
    """Two signed nibbles a byte, the low one first."""
    if len(raw) != (count + 1) // 2:
        raise _MalformedError(f"{where} has {len(raw)} bytes for {count} int4 values")
    packed = np.frombuffer(raw, np.int8)
    low, high = np.left_shift(packed, 4) >> 4, packed >> 4
    return np.stack([low, high], axis=1).reshape(-1)[:count]


def _read_quantization(
    where: str, table: _Table | None, shape: tuple[int, ...]
) -> QuantizationParameters | None:
    if table is None or not (scale := table.vector(2, "<f4")).size:
        return None
    zero_point = table.vector(3, "<i8").astype(np.int64)
    if not zero_point.size:
        zero_point = np.zeros(len(scale), np.int64)
    if len(zero_point) not in (1, len(scale)):
        raise _MalformedError(f"{where} has {len(scale)} scales and {len(zero_point)} zero points")
    if not (np.isfinite(scale).all() and (scale >= 0).all()):
        raise _MalformedError(f"{where} has a scale that is not a finite number >= 0")
    # Old converters wrote a filter's dimension with its bias, which has but one; TFLM ignores it.
    axis = table.scalar(6, "int32") if len(shape) > 1 else 0
    if len(scale) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scale)):
        raise _MalformedError(
            f"{where} of shape {shape} has {len(scale)} scales along dimension {axis}"
        )
    zero_points = np.broadcast_to(zero_point, scale.shape)
    return QuantizationParameters(scale.astype(np.float32), zero_points, axis)


def _read_operators(tables: Sequence[_Table], names: Sequence[str]) -> tuple[Operator, ...]:
    return tuple(_read_operator(index, table, names) for index, table in enumerate(tables))


def _read_operator(index: int, table: _Table, names: Sequence[str]) -> Operator:
    code = table.scalar(0, "uint32")
    if code >= len(names):
        raise _MalformedError(f"operator {index} names operator code {code} of {len(names)}")
    options: dict[str, Any] = {}
    kind = table.scalar(3, "uint8")
    if kind in schema.OPTIONS:
        _, fields = schema.OPTIONS[kind]
        options = _read_options(f"operator {index} ({names[code]})", table.table(4), fields)
    return Operator(index, names[code], table.ints(1), table.ints(2), options)


def _read_options(
    where: str, table: _Table | None, fields: Sequence[schema.OptionField]
) -> dict[str, Any]:
    return {
        field.name: _read_option(where, table, place, field) for place, field in enumerate(fields)
    }


def _read_option(where: str, table: _Table | None, place: int, field: schema.OptionField) -> Any:
    if field.kind == "int32[]":
        values = () if table is None else table.ints(place)
        return values or field.default
    value = field.default if table is None else table.scalar(place, field.kind, field.default)
    if field.names is None:
        return value
    try:
        return field.names[int(value or 0)]
    except (KeyError, IndexError):
        raise _MalformedError(f"{where} has the unknown {field.name} {value}") from None


def _check_order(graph: Graph) -> None:
    """Raise unless every operator reads tensors that are written before it, and writes its own."""
    count = len(graph.tensors)
    written = {t.index for t in graph.tensors if t.is_constant}
    for index in (*graph.inputs, *graph.outputs):
        _check_index("the graph", index, count)
    written |= set(graph.inputs)
    for operator in graph.operators:
        where = f"operator {operator.index} ({operator.name})"
        for index in operator.inputs:
            if index == -1:
                continue
            _check_index(where, index, count)
            if index not in written:
                raise _MalformedError(f"{where} reads tensor {index} before it is written")
        for index in operator.outputs:
            _check_index(where, index, count)
            if index in written:
                raise _MalformedError(f"{where} writes tensor {index}, which is already known")
            written.add(index)
    for index in graph.outputs:
        if index not in written:
            raise _MalformedError(f"no operator writes the output tensor {index}")


def _check_index(where: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise _MalformedError(f"{where} names tensor {index} of {count}")


class _Bytes:
    """Bounds-checked little-endian access, which counts what becomes of the bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = READ_AHEAD + 4 * len(data)

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _MalformedError("its parts overlap: they are many times the size of the file")

    def scalar(self, kind: str, at: int) -> Any:
        layout = _FORMATS[kind]
        self.check(at, struct.calcsize(layout))
        try:
            return struct.unpack_from(layout, self.data, at)[0]
        except struct.error as error:
            raise _MalformedError(str(error)) from None

    def uint16(self, at: int) -> int:
        self.check(at, 2)
        return int.from_bytes(self.data[at : at + 2], "little")

    def check(self, at: int, size: int) -> None:
        # A slice beyond the end would come back short, without an error.
        if at < 0 or at + size > len(self.data):
            raise _MalformedError(
                f"an offset points to byte {at + size} of {len(self.data)}; is the file truncated?"
            )


class _Table:
    """A flatbuffer table: `scalar`, `string`, `vector`, `table` take the field's number."""

    def __init__(self, buffer: _Bytes, at: int) -> None:
        self._buffer = buffer
        self._at = at
        # Spent before anything is read: any number of offsets may point to one table.
        buffer.spend(PYTHON_OBJECT["table"])
        self._vtable = at - buffer.scalar("int32", at)
        # Negative where the table states less than the 4 bytes of its own header.
        self._fields = (buffer.uint16(self._vtable) - 4) // 2
        buffer.check(self._vtable, 4 + 2 * max(self._fields, 0))

    def _field(self, number: int) -> int | None:
        if number >= self._fields:
            return None
        offset = self._buffer.uint16(self._vtable + 4 + 2 * number)
        return self._at + offset if offset else None

    def scalar(self, number: int, kind: str, default: Any = 0) -> Any:
        at = self._field(number)
        return default if at is None else self._buffer.scalar(kind, at)

    def table(self, number: int) -> _Table | None:
        at = self._field(number)
        return None if at is None else self._follow(at)

    def tables(self, number: int, most: int) -> list[_Table]:
        start, count = self._span(number, 4)
        if count > most:
            raise _MalformedError(f"expected at most {most} tables in a list, got {count}")
        return [self._follow(start + 4 * i) for i in range(count)]

    def string(self, number: int) -> str:
        return (self.bytes(number) or b"")[:MAX_NAME].decode("utf-8", errors="replace")

    def bytes(self, number: int) -> bytes | None:
        """The bytes of a byte vector or a string; None where the field is absent or empty."""
        start, count = self._span(number, 1)
        self._buffer.spend(2 * count)
        return self._buffer.data[start : start + count] or None

    def ints(self, number: int) -> tuple[int, ...]:
        values = self.vector(number, "<i4")
        self._buffer.spend(PYTHON_OBJECT["int"] * len(values))
        return tuple(values.tolist())

    def vector(self, number: int, dtype: str) -> NDArray[Any]:
        kind = np.dtype(dtype)
        start, count = self._span(number, kind.itemsize)
        self._buffer.spend(2 * count * kind.itemsize)
        return np.frombuffer(self._buffer.data, kind, count, start) if count else np.empty(0, kind)

    def _span(self, number: int, item_size: int) -> tuple[int, int]:
        """Start and length of a vector field; (0, 0) where it is absent."""
        at = self._field(number)
        if at is None:
            return 0, 0
        start = at + self._buffer.scalar("uint32", at)
        count = self._buffer.scalar("uint32", start)
        self._buffer.check(start + 4, count * item_size)
        return start + 4, count

    def _follow(self, at: int) -> _Table:
        return _Table(self._buffer, at + self._buffer.scalar("uint32", at))
