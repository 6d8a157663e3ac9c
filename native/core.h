// The plain C interface of the core, and the structures that Python fills.
//
// Every activation is held as int16 values minus the zero point of its tensor: padding is zero, and
// int8 and int16x8 models run on the same kernels. Python decides every bound, multiplier and
// order of weights (pytest_qnnrobust/tflite/native/steps.py, which mirrors these structures).
#pragma once

#include <cstdint>

#if defined(_WIN32)
#define QNN_EXPORT extern "C" __declspec(dllexport)
#else
#define QNN_EXPORT extern "C" __attribute__((visibility("default")))
#endif

constexpr int32_t QNN_INTERFACE = 2;  // Changes with any structure or function of this file.

enum QnnKind : int32_t {
    QNN_CONV_2D,
    QNN_DEPTHWISE_CONV_2D,
    QNN_ADD,
    QNN_MUL,
    QNN_AVERAGE_POOL_2D,
    QNN_MAX_POOL_2D,
    QNN_MEAN,
    QNN_REDUCE_MAX,
    QNN_SOFTMAX,
    QNN_TABLE,
    QNN_MOVE,
};

struct QnnTensor {
    int64_t values;      // of one sample
    int64_t place;       // of the first value in the arena, in values
    int32_t zero_point;  // subtracted from the values that come in, added to those that go out
    int32_t bytes;       // 1: int8 outside of the core, 2: int16
};

// Scales accumulators, channel by channel. `wide` rounds once with a 16-bit multiplier (MBQM64).
struct QnnRequantization {
    const int32_t* multiplier;  // 31 bits, or 15 where it is wide
    const int32_t* left;        // bits to the left first; not read where it is wide
    const int32_t* right;       // bits to the right at last
    int32_t wide;
    int32_t minimum;  // of the result, minus the zero point
    int32_t maximum;
    int32_t reserved;
};

// An operand of ADD, scaled to what both have in common.
struct QnnOperand {
    int32_t raise;  // bits to the left before the multiplication
    int32_t multiplier;
    int32_t left;
    int32_t right;
};

// A window over an image; pads are cells outside of it.
struct QnnWindow {
    int32_t height, width, channels;
    int32_t size_h, size_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t top, bottom, left, right;
    int32_t output_h, output_w, output_channels;
};

struct QnnStep {
    int32_t kind;
    int32_t input;
    int32_t other;  // the second activation, or -1
    int32_t output;
    int32_t groups;  // of a convolution
    int32_t sign;    // of the second addend
    QnnWindow window;
    QnnRequantization requantization;
    QnnOperand first, second;
    const int16_t* weights;   // as kernels.h reads them
    const int32_t* bias;      // padded as the multipliers are
    const int16_t* constant;  // the second operand where it is no activation, or what is moved in
    const int16_t* table;     // results by value of the input; reciprocals, of int16 SOFTMAX
    const int32_t* exponentials;  // by the difference to the largest value
    const int32_t* source;    // of each value moved: a place in the input, or -1 - one in `constant`
    int64_t table_start;      // added to a value, or a difference, to find its result
    int64_t outer, length, inner;  // the middle axis is reduced, or has a sum of one
    int32_t shift;                 // added to values that are moved: input minus output zero point
    int32_t reserved;
};

// One call: `batch` samples through `steps`. `given` and `wanted` have an entry for each tensor,
// null where it is none: the samples' values, int8 or int16.
struct QnnRun {
    const QnnTensor* tensors;
    const QnnStep* steps;
    const void* const* given;
    void* const* wanted;
    int32_t tensor_count;
    int32_t step_count;
    int64_t arena;    // values of all activations
    int64_t scratch;  // values of the largest padded image
    int64_t batch;
};

// Instruction sets. AVX-512 is that with VNNI and the extensions of 16-bit and shorter registers.
enum QnnIsa : int32_t { QNN_PORTABLE, QNN_NEON, QNN_AVX2, QNN_AVX512 };

QNN_EXPORT int32_t qnn_interface();
// Accumulators of a register, which is the block of channels that weights are laid out in; 0 where
// the instruction set is not to be had.
QNN_EXPORT int32_t qnn_lanes(int32_t isa);
// 0, or 1 where there is no memory, 2 where the instruction set is not to be had.
QNN_EXPORT int32_t qnn_run(const QnnRun* run, int32_t isa);
