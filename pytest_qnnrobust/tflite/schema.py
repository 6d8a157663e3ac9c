"""Numbers of the TFLite flatbuffer schema (`tensorflow/lite/schema/schema.fbs`, version 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3

TENSOR_TYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    9: "int8",
    10: "float64",
    12: "uint64",
    15: "uint32",
    16: "uint16",
    17: "int4",
}
PADDING = ("SAME", "VALID")
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")
WEIGHTS_FORMATS = ("DEFAULT", "SHUFFLED4x16INT8")


@dataclass(frozen=True)
class OptionField:
    """One scalar or int32-vector field of an options table; its place is its position."""

    name: str
    kind: Literal["bool", "int8", "int32", "float32", "int32[]"]
    default: bool | int | float | None = 0
    names: tuple[str, ...] | dict[int, str] | None = None


_PADDING = OptionField("padding", "int8", names=PADDING)
_STRIDES = (OptionField("stride_w", "int32"), OptionField("stride_h", "int32"))
_ACTIVATION = OptionField("fused_activation_function", "int8", names=ACTIVATIONS)
_DILATION = (
    OptionField("dilation_w_factor", "int32", 1),
    OptionField("dilation_h_factor", "int32", 1),
)
_BIAS_TYPE = OptionField("quantized_bias_type", "int8", names=TENSOR_TYPES)
_POT_SCALE = OptionField("pot_scale_int16", "bool", True)

OPTIONS: dict[int, tuple[str, tuple[OptionField, ...]]] = {
    1: ("Conv2DOptions", (_PADDING, *_STRIDES, _ACTIVATION, *_DILATION, _BIAS_TYPE)),
    2: (
        "DepthwiseConv2DOptions",
        (_PADDING, *_STRIDES, OptionField("depth_multiplier", "int32"), _ACTIVATION, *_DILATION),
    ),
    5: (
        "Pool2DOptions",
        (
            _PADDING,
            *_STRIDES,
            OptionField("filter_width", "int32"),
            OptionField("filter_height", "int32"),
            _ACTIVATION,
        ),
    ),
    8: (
        "FullyConnectedOptions",
        (
            _ACTIVATION,
            OptionField("weights_format", "int8", names=WEIGHTS_FORMATS),
            OptionField("keep_num_dims", "bool", False),
            OptionField("asymmetric_quantize_inputs", "bool", False),
            _BIAS_TYPE,
        ),
    ),
    9: ("SoftmaxOptions", (OptionField("beta", "float32", 0.0),)),
    10: ("ConcatenationOptions", (OptionField("axis", "int32"), _ACTIVATION)),
    11: ("AddOptions", (_ACTIVATION, _POT_SCALE)),
    17: ("ReshapeOptions", (OptionField("new_shape", "int32[]", None),)),
    21: ("MulOptions", (_ACTIVATION,)),
    27: ("ReducerOptions", (OptionField("keep_dims", "bool", False),)),
    28: ("SubOptions", (_ACTIVATION, _POT_SCALE)),
    30: ("SqueezeOptions", (OptionField("squeeze_dims", "int32[]", None),)),
    32: (
        "StridedSliceOptions",
        (
            OptionField("begin_mask", "int32"),
            OptionField("end_mask", "int32"),
            OptionField("ellipsis_mask", "int32"),
            OptionField("new_axis_mask", "int32"),
            OptionField("shrink_axis_mask", "int32"),
            OptionField("offset", "bool", False),
        ),
    ),
    55: ("ShapeOptions", (OptionField("out_type", "int8", names=TENSOR_TYPES),)),
    58: (
        "FakeQuantOptions",
        (
            OptionField("min", "float32", 0.0),
            OptionField("max", "float32", 0.0),
            OptionField("num_bits", "int32"),
            OptionField("narrow_range", "bool", False),
        ),
    ),
    59: ("PackOptions", (OptionField("values_count", "int32"), OptionField("axis", "int32"))),
    75: ("LeakyReluOptions", (OptionField("alpha", "float32", 0.0),)),
}
"""`BuiltinOptions` union type -> table name and fields, for the operators with kernels here."""

OPERATORS = tuple(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
    EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
    LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU
    RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH
    CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD
    UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB
    DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP
    TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX
    MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV
    SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN
    FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK
    REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE
    RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL
    REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE
    MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5
    SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES
    CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE
    HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
    READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE
    RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD
    UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST
    BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE
    STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP
    STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE
    STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE
    STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE
    STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT
    STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT
    STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA
    STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE
    STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW
    STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
    """.split()  # noqa: SIM905
)
"""`BuiltinOperator` names; the position is the code."""
