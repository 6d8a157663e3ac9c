"""The differentiable float twin of a graph, and straight-through gradients of exact integers.

Every operator is computed on dequantized weights. A float graph is its own twin. With `exact`
given, each activation takes the value that the integer graph computed while the gradient passes
as if through the float operator (straight-through estimator, Bengio et al. 2013): a fused RELU
passes it where the exact integer lies above the activation's minimum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_qnnrobust.errors import UnsupportedOperatorError
from pytest_qnnrobust.tflite.fixed_point import FUSED_ACTIVATIONS
from pytest_qnnrobust.tflite.folding import FOLDS, real_values
from pytest_qnnrobust.tflite.graph import Graph, Operator, Tensor
from pytest_qnnrobust.tflite.kernels.spatial import pad
from pytest_qnnrobust.tflite.plan import VALUE_WORK, check_size, check_work
from pytest_qnnrobust.tflite.workload import WEIGHTED

Apply = Callable[..., Any]
"""`apply(twin, operator, *activations)` -> tf.Tensor before its fused activation function."""


class FloatTwin:
    """The float twin of a graph from the tensor `start` to the tensor `end`.

    Raises UnsupportedOperatorError at construction for an operator that has no float form here,
    and for one that reads what is neither a constant nor computed from `start`.
    """

    def __init__(self, graph: Graph, start: Tensor, end: Tensor) -> None:
        self.graph = graph
        self.start = start
        self.end = end
        self._operators = _needed(graph, start.index, end.index)
        for operator in self._operators:
            if operator.name not in OPERATORS:
                raise UnsupportedOperatorError(
                    f"operator {operator.index} ({operator.name}) has no float twin; "
                    f"supported: {', '.join(sorted(OPERATORS))}"
                )
        self._check_operands()

    def _check_operands(self) -> None:
        known = {self.start.index, -1}
        for operator in self._operators:
            # What a RESHAPE reads beside its activation is a shape, which the file states too.
            read = operator.inputs[:1] if OPERATORS[operator.name] is _reshape else operator.inputs
            for index in read:
                if index not in known and not self.graph.tensors[index].is_constant:
                    raise UnsupportedOperatorError(self._computed_elsewhere(operator, index))
            known.update(operator.outputs)
        if self.end.index not in known:
            raise UnsupportedOperatorError(
                f"no operator computes tensor {self.end.index} ({self.end.name}) from the input"
            )

    def _computed_elsewhere(self, operator: Operator, index: int) -> str:
        writers = [f"operator {one.index} ({one.name})" for one in self.graph.operators
                   if index in one.outputs]  # fmt: skip
        return (
            f"operator {operator.index} ({operator.name}) reads tensor {index} "
            f"({self.graph.tensors[index].name}), which {', '.join(writers)} does not compute from "
            f"the input; constants are supported there, and {', '.join(FOLDS)} of them"
        )

    def __call__(self, x: Any, exact: Mapping[int, Any] | None = None) -> Any:
        """Real-valued tf.Tensor (n, *input_shape) -> the tensor `end` (n, ...).

        `exact` maps tensor index to the integers of that activation.
        """
        values = {self.start.index: x}
        # Counted while the graph is traced, before TensorFlow computes or folds anything.
        work = 0
        for operator in self._operators:
            output = self.graph.tensors[operator.outputs[0]]
            inputs = [values[i] for i in operator.inputs if i in values]
            y = OPERATORS[operator.name](self, operator, *inputs)
            work += self._work(operator, output, y)
            check_work(work)
            low, high = fused_range(operator)
            if exact is not None and output.index in exact:
                values[output.index] = _straight_through(y, output, exact[output.index], low, high)
            else:
                values[output.index] = _clip(y, low, high)
        return values[self.end.index]

    def _work(self, operator: Operator, output: Tensor, y: Any) -> int:
        """Multiply-accumulates of one sample, by the shapes that are really computed."""
        shape = tuple(size or 1 for size in y.shape[1:])
        check_size(output, shape)
        taps = VALUE_WORK
        if operator.name in WEIGHTED and shape[-1]:
            taps = max(self.constant(operator.inputs[1]).size // shape[-1], taps)
        return math.prod(shape) * taps

    def constant(self, index: int) -> NDArray[np.float32]:
        """The real values of a constant tensor, float32."""
        tensor = self.graph.tensors[index]
        if tensor.data is None:
            raise UnsupportedOperatorError(
                f"tensor {index} ({tensor.name}) is computed where a constant is supported"
            )
        return real_values(tensor)


def fused_range(operator: Operator) -> tuple[float | None, float | None]:
    name = operator.options.get("fused_activation_function", "NONE")
    if name not in FUSED_ACTIVATIONS:
        raise UnsupportedOperatorError(
            f"operator {operator.index} ({operator.name}) fuses {name}; "
            f"supported: {', '.join(FUSED_ACTIVATIONS)}"
        )
    return FUSED_ACTIVATIONS[name]


def _needed(graph: Graph, start: int, end: int) -> tuple[Operator, ...]:
    """The operators between two tensors, in order."""
    reached = {start}
    forward = []
    for operator in graph.operators:
        if operator.name != "SHAPE" and reached.intersection(operator.inputs):
            reached.update(operator.outputs)
            forward.append(operator)
    wanted = {end}
    needed: list[Operator] = []
    for operator in reversed(forward):
        if wanted.intersection(operator.outputs):
            wanted.update(operator.inputs)
            needed.insert(0, operator)
    return tuple(needed)


def _clip(y: Any, low: float | None, high: float | None) -> Any:
    import tensorflow as tf

    # At exactly 0 the gradient of tf.nn.relu is 0, that of tf.maximum is 1.
    if low == 0.0 and high is None:
        return tf.nn.relu(y)
    if low is not None:
        y = tf.maximum(y, low)
    return y if high is None else tf.minimum(y, high)


def _straight_through(
    y: Any, output: Tensor, integers: Any, low: float | None, high: float | None
) -> Any:
    import tensorflow as tf

    value = tf.cast(tf.cast(integers, tf.int32) - output.zero_point, tf.float32) * output.scale
    passes = tf.ones_like(value)
    if low is not None:
        passes *= tf.cast(value > low, tf.float32)
    if high is not None:
        passes *= tf.cast(value < high, tf.float32)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def replace(_: Any) -> tuple[Any, Callable[[Any], Any]]:
        return value, lambda upstream: upstream * passes

    return replace(y)


def _conv_2d(twin: FloatTwin, operator: Operator, x: Any) -> Any:
    import tensorflow as tf

    kernel = twin.constant(operator.inputs[1]).transpose(1, 2, 3, 0)
    y = tf.nn.conv2d(
        x,
        tf.constant(kernel),
        strides=_strides(operator),
        padding=operator.options["padding"],
        dilations=_dilations(operator),
    )
    return _add_bias(twin, operator, y)


def _depthwise_conv_2d(twin: FloatTwin, operator: Operator, x: Any) -> Any:
    import tensorflow as tf

    kernel = twin.constant(operator.inputs[1])
    _, height, width, _ = kernel.shape
    filters = tf.constant(kernel.reshape(height, width, x.shape[-1], -1))
    strides, dilations = _strides(operator), _dilations(operator)
    scheme = operator.options["padding"]
    if strides[0] == strides[1]:
        y = tf.nn.depthwise_conv2d(x, filters, (1, *strides, 1), scheme, dilations=dilations)
        return _add_bias(twin, operator, y)
    # Where oneDNN is off, as it is by default on many processors, TensorFlow has equal strides
    # only: compute every position, and keep those of the strides.
    if scheme == "SAME":
        axes = zip(x.shape[1:3], (height, width), strides, dilations, strict=True)
        x = tf.pad(x, ((0, 0), *(_same_padding(*axis) for axis in axes), (0, 0)))
    y = tf.nn.depthwise_conv2d(x, filters, (1, 1, 1, 1), "VALID", dilations=dilations)
    return _add_bias(twin, operator, y[:, :: strides[0], :: strides[1]])


def _same_padding(length: int, size: int, stride: int, dilation: int) -> tuple[int, int]:
    return pad(length, -(-length // stride), (size - 1) * dilation + 1, stride)


def _fully_connected(twin: FloatTwin, operator: Operator, x: Any) -> Any:
    import tensorflow as tf

    weights = tf.constant(twin.constant(operator.inputs[1]))
    y = tf.matmul(tf.reshape(x, (-1, weights.shape[1])), weights, transpose_b=True)
    y = _add_bias(twin, operator, y)
    return _file_shape(twin, operator, y)


def _add_bias(twin: FloatTwin, operator: Operator, y: Any) -> Any:
    has_bias = len(operator.inputs) > 2 and operator.inputs[2] >= 0
    return y + twin.constant(operator.inputs[2]) if has_bias else y


def _strides(operator: Operator) -> tuple[int, int]:
    return operator.options["stride_h"], operator.options["stride_w"]


def _dilations(operator: Operator) -> tuple[int, int]:
    return operator.options["dilation_h_factor"], operator.options["dilation_w_factor"]


def _binary(combine: Callable[[Any, Any], Any]) -> Apply:
    def apply(twin: FloatTwin, operator: Operator, *activations: Any) -> Any:
        given = iter(activations)
        operands = [
            twin.constant(index) if twin.graph.tensors[index].is_constant else next(given)
            for index in operator.inputs
        ]
        rank = max(operand.ndim for operand in operands)
        return combine(*(_align(operand, rank) for operand in operands))

    return apply


def _align(operand: Any, rank: int) -> Any:
    """Insert axes behind the batch axis of a lower-rank activation, as broadcasting of 1 does."""
    import tensorflow as tf

    if isinstance(operand, np.ndarray) or operand.ndim == rank:
        return operand
    return tf.reshape(operand, (-1, *(1,) * (rank - operand.ndim), *operand.shape[1:]))


def _pool(kind: str) -> Apply:
    def apply(twin: FloatTwin, operator: Operator, x: Any) -> Any:
        import tensorflow as tf

        window = (operator.options["filter_height"], operator.options["filter_width"])
        pool = tf.nn.avg_pool2d if kind == "average" else tf.nn.max_pool2d
        return pool(x, window, _strides(operator), operator.options["padding"])

    return apply


def _reduce(kind: str) -> Apply:
    def apply(twin: FloatTwin, operator: Operator, x: Any) -> Any:
        import tensorflow as tf

        axes = [int(axis) for axis in twin.constant(operator.inputs[1]).ravel()]
        reduce = tf.reduce_mean if kind == "mean" else tf.reduce_max
        return reduce(x, axis=axes, keepdims=operator.options["keep_dims"])

    return apply


def _softmax(twin: FloatTwin, operator: Operator, x: Any) -> Any:
    import tensorflow as tf

    return tf.nn.softmax(x * operator.options["beta"])


def _elementwise(function: str) -> Apply:
    def apply(twin: FloatTwin, operator: Operator, x: Any) -> Any:
        import tensorflow as tf

        return getattr(tf.nn, function)(x)

    return apply


def _leaky_relu(twin: FloatTwin, operator: Operator, x: Any) -> Any:
    import tensorflow as tf

    return tf.nn.leaky_relu(x, operator.options["alpha"])


def _prelu(twin: FloatTwin, operator: Operator, x: Any) -> Any:
    import tensorflow as tf

    return tf.nn.relu(x) - twin.constant(operator.inputs[1]) * tf.nn.relu(-x)


def _hard_swish(twin: FloatTwin, operator: Operator, x: Any) -> Any:
    import tensorflow as tf

    return x * tf.nn.relu6(x + 3) / 6


def _identity(twin: FloatTwin, operator: Operator, x: Any) -> Any:
    return x


def _pad(twin: FloatTwin, operator: Operator, x: Any) -> Any:
    import tensorflow as tf

    value = float(twin.constant(operator.inputs[2]).item()) if operator.name == "PADV2" else 0.0
    paddings = twin.graph.tensors[operator.inputs[1]].data
    return tf.pad(x, paddings, constant_values=value)


def _concatenation(twin: FloatTwin, operator: Operator, *activations: Any) -> Any:
    import tensorflow as tf

    given = iter(activations)
    samples = tf.shape(activations[0])[0]
    operands = [
        # A constant has a batch axis of 1 in the file.
        tf.repeat(twin.constant(index), samples, axis=0)
        if twin.graph.tensors[index].is_constant
        else next(given)
        for index in operator.inputs
    ]
    return tf.concat(operands, axis=operator.options["axis"])


def _transpose(twin: FloatTwin, operator: Operator, x: Any) -> Any:
    import tensorflow as tf

    return tf.transpose(x, twin.graph.tensors[operator.inputs[1]].data)


def _strided_slice(twin: FloatTwin, operator: Operator, x: Any) -> Any:
    import tensorflow as tf

    begin, end, strides = (
        np.array(twin.graph.tensors[index].data, np.int32) for index in operator.inputs[1:4]
    )
    # Bit 0 is the batch axis, whose bounds in the file are those of a batch of 1.
    masks = {
        name: operator.options[name] | (name in ("begin_mask", "end_mask"))
        for name in ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask")
    }
    shrink = operator.options["shrink_axis_mask"]
    return tf.strided_slice(x, begin, end, strides, **masks, shrink_axis_mask=shrink)


def _reshape(twin: FloatTwin, operator: Operator, x: Any) -> Any:
    return _file_shape(twin, operator, x)


def _file_shape(twin: FloatTwin, operator: Operator, y: Any) -> Any:
    """Give `y` the shape that the file states for the result, whatever the batch."""
    import tensorflow as tf

    shape = twin.graph.tensors[operator.outputs[0]].shape
    inner = shape[1:] if len(shape) > 1 and min(shape[1:]) > 0 else (-1,)
    if inner == (-1,):
        inner = (int(np.prod(y.shape[1:])),)
    return tf.reshape(y, (-1, *inner))


OPERATORS: Mapping[str, Apply] = {
    "ADD": _binary(lambda a, b: a + b),
    "AVERAGE_POOL_2D": _pool("average"),
    "CONCATENATION": _concatenation,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "DEQUANTIZE": _identity,
    "EXPAND_DIMS": _reshape,
    "FULLY_CONNECTED": _fully_connected,
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "LOGISTIC": _elementwise("sigmoid"),
    "MAX_POOL_2D": _pool("max"),
    "MEAN": _reduce("mean"),
    "MUL": _binary(lambda a, b: a * b),
    "PAD": _pad,
    "PADV2": _pad,
    "PRELU": _prelu,
    "QUANTIZE": _identity,
    "REDUCE_MAX": _reduce("max"),
    "RELU": _elementwise("relu"),
    "RELU6": _elementwise("relu6"),
    "RESHAPE": _reshape,
    "SOFTMAX": _softmax,
    "SQUEEZE": _reshape,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _binary(lambda a, b: a - b),
    "TANH": _elementwise("tanh"),
    "TRANSPOSE": _transpose,
}
