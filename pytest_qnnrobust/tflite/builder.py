"""Build `.tflite` bytes from tensors and operators, with TensorFlow's own schema and serializer."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TENSOR_TYPES = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "int8": "INT8",
    "uint8": "UINT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "int4": "INT4",
}
ENUMS = {
    "padding": "Padding",
    "fused_activation_function": "ActivationFunctionType",
    "quantized_bias_type": "TensorType",
    "out_type": "TensorType",
}
OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "MEAN": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "PADV2": "PadV2Options",
}
"""Options table of an operator, where its name is not the operator's in CamelCase."""
WITHOUT_OPTIONS = {"LOGISTIC", "TANH", "PRELU", "RELU", "RELU6"}


class GraphBuilder:
    """Collects tensors and operators of one subgraph; `build` serializes them."""

    def __init__(self) -> None:
        self.schema: Any = schema_module()
        self.graph = self.schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.codes: list[Any] = []
        # Buffer 0 is empty by convention: tensors without constant values refer to it.
        self.buffers: list[Any] = [self.schema.BufferT()]

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str = "int8",
        scale: float | Sequence[float] | None = None,
        zero_point: int = 0,
        data: Any = None,
        *,
        quantized_dimension: int = 0,
        signature: Sequence[int] | None = None,
    ) -> int:
        """Add a tensor, a constant where `data` is given; returns its index."""
        tensor = self.schema.TensorT()
        tensor.name = f"t{len(self.graph.tensors)}"
        tensor.shape = list(shape)
        tensor.shapeSignature = None if signature is None else list(signature)
        tensor.type = getattr(self.schema.TensorType, TENSOR_TYPES[dtype])
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            quantization = self.schema.QuantizationParametersT()
            quantization.scale = scales.tolist()
            quantization.zeroPoint = [zero_point] * len(scales)
            quantization.quantizedDimension = quantized_dimension
            tensor.quantization = quantization
        if data is not None:
            tensor.buffer = self._buffer(np.asarray(data), dtype)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _buffer(self, data: NDArray[Any], dtype: str) -> int:
        if dtype == "int4":
            nibbles = np.append(data.reshape(-1), np.zeros(data.size % 2)).astype(np.uint8) & 15
            raw = (nibbles[::2] | nibbles[1::2] << 4).astype(np.uint8)
        else:
            raw = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
        buffer = self.schema.BufferT()
        buffer.data = raw
        self.buffers.append(buffer)
        return len(self.buffers) - 1

    def operator(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any
    ) -> None:
        """Add an operator; options in snake_case, enums by name."""
        operator = self.schema.OperatorT()
        operator.opcodeIndex = self._code(name)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if name not in WITHOUT_OPTIONS:
            kind = OPTIONS.get(name) or _camel(name.lower()) + "Options"
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, kind)
            operator.builtinOptions = getattr(self.schema, kind + "T")()
        for option, value in options.items():
            if option in ENUMS:
                value = getattr(getattr(self.schema, ENUMS[option]), value)
            attribute = _camel(option)
            attribute = attribute[0].lower() + attribute[1:]
            if not hasattr(operator.builtinOptions, attribute):
                raise AttributeError(f"{name} has no option {option}")
            setattr(operator.builtinOptions, attribute, value)
        self.graph.operators.append(operator)

    def _code(self, name: str) -> int:
        code = self.schema.OperatorCodeT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, name)
        # The old field has 8 bits; 127 sends readers to the new one.
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 1
        self.codes.append(code)
        return len(self.codes) - 1

    def build(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The bytes of the model."""
        import flatbuffers

        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        self.graph.name = "main"
        model = self.schema.ModelT()
        model.version, model.description = 3, "pytest_qnnrobust"
        model.subgraphs, model.operatorCodes = [self.graph], self.codes
        model.buffers = self.buffers
        builder = flatbuffers.Builder(1 << 12)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


@lru_cache(maxsize=1)
def schema_module() -> Any:
    """TensorFlow's `schema_py_generated`, loaded by path: importing TensorFlow takes seconds."""
    package = importlib.util.find_spec("tensorflow")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("tensorflow is not installed")
    path = Path(package.origin).parent / "lite" / "python" / "schema_py_generated.py"
    spec = importlib.util.spec_from_file_location("schema_py_generated", path)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"no schema at {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _camel(name: str) -> str:
    return re.sub(r"(?:^|_)(\w)", lambda match: match[1].upper(), name)
