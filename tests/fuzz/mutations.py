"""Whole files -> broken files: byte by byte, and where the format has structure, by structure.

Every function takes the bytes of a file and a `random.Random`, and returns other bytes. The same
functions serve the fuzzer and the test with hypothesis, so that a finding of one is one of both.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

from pytest_qnnrobust.evaluation.array_files import SEAL_BYTES

Mutation = Callable[[bytes, Random], bytes]

INTEGERS = (0, 1, -1, 2, 3, 7, 127, 128, 255, 1 << 15, 1 << 16, 1 << 24, (1 << 31) - 1, -(1 << 31))
FLOATS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    1e-45,
    1e-38,
    3e38,
    -3e38,
    float("inf"),
    float("-inf"),
    float("nan"),
)
JSON_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1 << 40, 10**30, 1e308, float("nan"), float("inf"), "", "x" * 3000, [], {},
    [[]], "\ud800", "line\nline", "\x1b[2J", {"base64": "AAAA", "type": "int64"},
)  # fmt: skip


def bytes_at_random(data: bytes, random: Random) -> bytes:
    """Flip, overwrite, cut, repeat or splice; a few times over."""
    content = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        random.choice((_flip, _word, _cut, _insert, _splice))(content, random)
    return bytes(content)


def _flip(content: bytearray, random: Random) -> None:
    if content:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)


def _word(content: bytearray, random: Random) -> None:
    """A number where an offset, a length or a size may stand."""
    if len(content) >= 8:
        size = random.choice((2, 4, 8))
        at = random.randrange(len(content) - 7) // size * size
        value = random.choice((*INTEGERS, len(content), at, random.getrandbits(16)))
        content[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")


def _cut(content: bytearray, random: Random) -> None:
    if content:
        at = random.randrange(len(content))
        del content[at : random.choice((at + 1, at + 4, len(content)))]


def _insert(content: bytearray, random: Random) -> None:
    at = random.randrange(len(content) + 1)
    content[at:at] = random.randbytes(random.choice((1, 4, 64)))


def _splice(content: bytearray, random: Random) -> None:
    """One part of the file over another."""
    if len(content) > 8:
        size = random.randrange(1, len(content) // 2)
        start, end = random.randrange(len(content) - size), random.randrange(len(content) - size)
        content[end : end + size] = content[start : start + size]


def tflite(data: bytes, random: Random) -> bytes:
    """Fields of the flatbuffer: shapes, types, scales, options, indices, buffers."""
    from pytest_qnnrobust.tflite.builder import schema_module

    if random.random() < 0.3:
        return bytes_at_random(data, random)
    try:
        import flatbuffers

        model = schema_module().ModelT.InitFromPackedBuf(data)
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            _tflite_field(model, random)
        builder = flatbuffers.Builder(1 << 12)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
    except Exception:
        return bytes_at_random(data, random)


def _tflite_field(model: Any, random: Random) -> None:
    graph = model.subgraphs[0]
    place = random.choice(("tensor", "tensor", "operator", "operator", "graph"))
    if place == "tensor":
        _tflite_tensor(model, random.choice(graph.tensors), random)
    elif place == "operator":
        _tflite_operator(graph, random.choice(graph.operators), random)
    else:
        _tflite_graph(model, graph, random)


def _tflite_tensor(model: Any, tensor: Any, random: Random) -> None:
    kind = random.choice(("shape", "type", "scale", "zero", "buffer", "data", "name", "signature"))
    quantization = tensor.quantization
    if kind == "shape" and tensor.shape is not None and len(tensor.shape):
        tensor.shape = _number(list(tensor.shape), random)
    elif kind == "signature" and tensor.shape is not None:
        tensor.shapeSignature = [random.choice((-1, size)) for size in tensor.shape]
    elif kind == "type":
        tensor.type = random.randrange(18)
    elif kind == "name":
        tensor.name = random.choice((b"a\nb", b"\x1b[31m", b"x" * 3000, b"\xff\xfe"))
    elif kind == "buffer":
        tensor.buffer = random.randrange(len(model.buffers) + 1)
    elif kind == "data" and model.buffers[tensor.buffer].data is not None:
        raw = bytearray(bytes(np.asarray(model.buffers[tensor.buffer].data, np.uint8)))
        if random.random() < 0.5:
            raw = bytearray(random.choice((b"\x00", b"\x7f", b"\x80", b"\xff")) * len(raw))
        _word(raw, random)
        model.buffers[tensor.buffer].data = np.frombuffer(bytes(raw), np.uint8)
    elif quantization is not None and quantization.scale is not None:
        if kind == "zero":
            zero = random.choice((*INTEGERS, 1 << 62, -(1 << 63)))
            quantization.zeroPoint = [zero] * len(quantization.scale)
        else:
            scales = [float(scale) for scale in quantization.scale]
            scales[random.randrange(len(scales))] = random.choice(
                (*FLOATS, scales[0] * 1e6, scales[0] * 1e-6, random.random())
            )
            quantization.scale = scales


def _tflite_operator(graph: Any, operator: Any, random: Random) -> None:
    options = operator.builtinOptions
    if options is not None and vars(options) and random.random() < 0.6:
        name = random.choice(sorted(vars(options)))
        value = getattr(options, name)
        if isinstance(value, float):
            setattr(options, name, random.choice(FLOATS))
        elif isinstance(value, bool):
            setattr(options, name, not value)
        elif isinstance(value, int):
            small = name in ("padding", "fusedActivationFunction", "weightsFormat", "outType")
            setattr(options, name, random.randrange(7) if small else random.choice(INTEGERS))
        return
    field = random.choice(("inputs", "outputs", "opcodeIndex"))
    if field == "opcodeIndex":
        operator.opcodeIndex = random.randrange(8)
        return
    indices = list(getattr(operator, field))
    change = random.choice(("replace", "drop", "add"))
    other = random.choice((-1, random.randrange(len(graph.tensors)), len(graph.tensors), -2))
    if change == "add" or not indices:
        indices.append(other)
    elif change == "drop":
        del indices[random.randrange(len(indices))]
    else:
        indices[random.randrange(len(indices))] = other
    setattr(operator, field, indices)


def _tflite_graph(model: Any, graph: Any, random: Random) -> None:
    change = random.choice(("swap", "drop", "again", "ends", "code", "subgraph", "many"))
    operators = graph.operators
    if change == "swap" and len(operators) > 1:
        one, other = random.sample(range(len(operators)), 2)
        operators[one], operators[other] = operators[other], operators[one]
    elif change == "drop" and operators:
        del operators[random.randrange(len(operators))]
    elif change == "again" and operators:
        operators.append(random.choice(operators))
    elif change == "ends":
        field = random.choice(("inputs", "outputs"))
        setattr(graph, field, [random.randrange(len(graph.tensors) + 1)])
    elif change == "code":
        code = random.choice(model.operatorCodes)
        code.builtinCode = random.randrange(210)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    elif change == "subgraph":
        model.subgraphs.append(graph)
    elif change == "many":
        graph.tensors.extend([random.choice(graph.tensors)] * random.choice((10, 5000)))


def _number(values: list[Any], random: Random) -> list[Any]:
    at = random.randrange(len(values))
    change = random.choice(("replace", "drop", "add", "double"))
    if change == "drop":
        del values[at]
    elif change == "add":
        values.insert(at, random.choice(INTEGERS))
    else:
        values[at] = random.choice(INTEGERS) if change == "replace" else int(values[at]) * 2
    return values


def text(data: bytes, random: Random) -> bytes:
    """JSON: a value, a key, a list or a nesting changed somewhere; else bytes."""
    if random.random() < 0.2:
        return bytes_at_random(data, random)
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return bytes_at_random(data, random)
    for _ in range(random.choice((1, 1, 2, 4))):
        values = _json_value(values, random)
    if random.random() < 0.02:
        depth = random.choice((50, 900, 100_000))
        return b'{"options":' * depth + json.dumps(values).encode() + b"}" * depth
    written = json.dumps(values)
    if random.random() < 0.02:
        written = written.replace("1", "1" * 6000, 1)
    return written.encode()


def _json_value(node: Any, random: Random, depth: int = 0) -> Any:
    """`node` with one value below it changed."""
    if isinstance(node, dict) and node and (depth < 1 or random.random() < 0.9):
        key = random.choice(sorted(node))
        if random.random() < 0.05:
            return {k: v for k, v in node.items() if k != key}
        if random.random() < 0.05:
            return {**node, random.choice(sorted(node)): node[key]}
        if random.random() < 0.03:
            return {**node, random.choice(("x", "__proto__", "class_name", "module")): node[key]}
        return {**node, key: _json_value(node[key], random, depth + 1)}
    if isinstance(node, list) and node and random.random() < 0.9:
        at = random.randrange(len(node))
        if random.random() < 0.1:
            return node[:at] + node[at + 1 :]
        if random.random() < 0.1:
            return node + node[at:]
        return [*node[:at], _json_value(node[at], random, depth + 1), *node[at + 1 :]]
    if isinstance(node, str) and random.random() < 0.5:
        return _string(node, random)
    if isinstance(node, int) and not isinstance(node, bool) and random.random() < 0.7:
        return random.choice((*INTEGERS, node * 1000, -node, float(node) + 0.5))
    return random.choice(JSON_VALUES)


def _string(value: str, random: Random) -> str:
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError:
        raw = b""
    if len(raw) >= 8:
        special = struct.pack("<d", random.choice(FLOATS))
        changed = random.choice((raw[:-1], raw + raw, special * (len(raw) // 8), raw[8:]))
        return base64.b64encode(changed).decode()
    return random.choice((value + "\n", value[:-1], value * 2, "relu", "keras", "\u202e" + value))


def sealed(body: Mutation) -> Mutation:
    """What `array_files` wrote, changed by `body`; mostly with a checksum that agrees."""

    def mutate(data: bytes, random: Random) -> bytes:
        changed = body(data[:-SEAL_BYTES], random)
        seal = hashlib.sha256(changed).digest() if random.random() < 0.9 else data[-SEAL_BYTES:]
        return changed + seal

    return mutate


def archive(member: Mutation) -> Mutation:
    """A zip archive with one member changed by `member`, renamed, doubled or swollen."""

    def mutate(data: bytes, random: Random) -> bytes:
        if random.random() < 0.3:
            return bytes_at_random(data, random)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as file:
                members = [(name, file.read(name)) for name in file.namelist()]
        except Exception:
            return bytes_at_random(data, random)
        if not members:
            return bytes_at_random(data, random)
        at = random.randrange(len(members))
        name, content = members[at]
        change = random.choice(("content",) * 8 + ("name", "drop", "double", "bomb"))
        if change == "content":
            members[at] = name, member(content, random)
        elif change == "name":
            members[at] = random.choice(("../" + name, "/x", name + "/", name * 2)), content
        elif change == "drop":
            del members[at]
        elif change == "double":
            members.append((name, content))
        else:
            members[at] = name, content + bytes(random.choice((1 << 16, 1 << 24)))
        return zipped(members)

    return mutate


def zipped(members: list[tuple[str, bytes]]) -> bytes:
    import warnings

    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members:
                file.writestr(name, content)
    return written.getvalue()


def keras_member(content: bytes, random: Random) -> bytes:
    return text(content, random) if content[:1] == b"{" else bytes_at_random(content, random)


def hdf5(data: bytes, random: Random) -> bytes:
    """The architecture of an `.h5` file, or its bytes.

    The HDF5 library hangs on some files that were broken before: only a sound one is opened here.
    """
    from tests.fuzz.targets import hdf5_seeds

    if random.random() < 0.5:
        return bytes_at_random(data, random)
    try:
        import h5py

        data = hdf5_seeds()[0]

        content = io.BytesIO(data)
        with h5py.File(content, "r+") as file:
            config = text(str(file.attrs["model_config"]).encode(), random)
            file.attrs["model_config"] = config.decode(errors="replace")
        return content.getvalue()
    except Exception:
        return bytes_at_random(data, random)


HEADERS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (0, 1000000000000), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<U1', 'fortran_order': False, 'shape': (4,), }",
    "{'descr': [('x', '<f4'), ('y', '|O')], 'fortran_order': False, 'shape': (4,), }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (2,), }",
    "{'descr': '|V0', 'fortran_order': False, 'shape': (2,), }",
    "{'descr': '<c16', 'fortran_order': False, 'shape': (2,), }",
    "{" * 3000,
    "(" * 200 + ")" * 200,
    "{'descr': '<f4', 'fortran_order': False, 'shape': " + "1" * 5000 + ", }",
)


def npy(content: bytes, random: Random) -> bytes:
    """An `.npy` member: its header, its values, its bytes."""
    choice = random.random()
    if choice < 0.3:
        header = random.choice(HEADERS).encode("latin1") + b"\n"
        version = random.choice((1, 2, 3))
        size = struct.pack("<H" if version == 1 else "<I", len(header))
        return b"\x93NUMPY" + bytes((version, 0)) + size + header + content[128:]
    if choice < 0.6 and len(content) > 140:
        body = bytearray(content[128:])
        special = struct.pack("<f", random.choice(FLOATS))
        body[: len(special)] = special
        _word(body, random)
        return content[:128] + bytes(body)
    return bytes_at_random(content, random)


def ini(data: bytes, random: Random) -> bytes:
    """Lines dropped, doubled, indented, joined with lines that no ini file has; else bytes."""
    if random.random() < 0.3:
        return bytes_at_random(data, random)
    lines = data.splitlines(keepends=True) or [b"\n"]
    for _ in range(random.choice((1, 2, 4))):
        at = random.randrange(len(lines))
        odd = random.choice(INI_LINES)
        random.choice(
            (
                lambda at=at: lines.pop(at) if len(lines) > 1 else None,
                lambda at=at: lines.insert(at, lines[at]),
                lambda at=at: lines.__setitem__(at, b"   " + lines[at]),
                lambda at=at, odd=odd: lines.insert(at, odd),
            )
        )()
    return b"".join(lines)


INI_LINES = (
    b"[DEFAULT]\n", b"owner = x\n", b"expires = 9999-12-31\n", b"expires = 0000-00-00\n", b"[]\n",
    b"[[]]\n", b"[z-a[]\n", b"= x\n", b"\xff\xfe\n", b"%(owner)s\n", b"reason = %(x)s\n",
    b"[" + b"*a" * 5000 + b"]\n", b"\x00\n", b"   more\n", b"[\x1b[2J]\n", b"# note\n", b"\x85\n",
)  # fmt: skip
