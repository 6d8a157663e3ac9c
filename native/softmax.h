// SOFTMAX of int8 and of int16, in plain C++: gemmlowp's fixed point (fixedpoint/fixedpoint.h) and
// TFLM's 16-bit tables. Included by kernels.h; all of it has internal linkage.
#pragma once

#include <cstdint>

#include "core.h"

namespace {

constexpr int64_t INT32_TOP = INT32_MAX;

// (a * b + 2^30) >> 31, saturated
inline int64_t high_product(int64_t a, int64_t b) {
    const int64_t high = (a * b + (int64_t{1} << 30)) >> 31;
    return high > INT32_TOP ? INT32_TOP : high;
}

// a / 2^bits for a >= 0, halves up
inline int64_t divide_by_power(int64_t a, int64_t bits) {
    return bits == 0 ? a : (a + (int64_t{1} << (bits - 1))) >> bits;
}

inline int64_t raise_saturated(int64_t a, int bits) {
    const int64_t raised = a * (int64_t{1} << bits);
    return raised > INT32_TOP ? INT32_TOP : (raised < INT32_MIN ? INT32_MIN : raised);
}

// Zeros before the first bit of 0 < x < 2^32, in 32 bits.
inline int64_t leading_zeros(uint64_t x) {
    int64_t zeros = 32;
    for (; x != 0; x >>= 1) --zeros;
    return zeros;
}

// 1 / (1 + a), Q0.31 to Q0.31, a in [0, 1]: three steps of Newton's division.
inline int64_t one_over_one_plus(int64_t a) {
    const int64_t half = (a + (int64_t{1} << 31)) >> 1;
    int64_t x = 1515870810 + high_product(half, -1010580540);  // 48/17 - 32/17 * half in Q2.29
    for (int step = 0; step < 3; ++step) {
        const int64_t error = (int64_t{1} << 29) - high_product(half, x);
        const int64_t next = x + raise_saturated(high_product(x, error), 2);
        x = static_cast<int32_t>(static_cast<uint32_t>(next));
    }
    return raise_saturated(x, 1);
}

// int16 x in a table of 513 entries, linear between them.
inline int64_t interpolate(const int16_t* table, int64_t x) {
    const int64_t index = 256 + (x >> 7), base = table[index];
    return base + (((table[index + 1] - base) * (x & 127) + 64) >> 7);
}

// One row of values to the levels above the output's zero point.
inline void softmax_row(const QnnStep& s, const int16_t* in, int16_t* out) {
    const bool wide = s.requantization.wide != 0;
    constexpr int SUM_BITS = 12;  // of int8: integer bits of the sum
    int64_t peak = in[0];
    for (int64_t i = 1; i < s.length; ++i) peak = in[i] > peak ? in[i] : peak;
    const int32_t* exponentials = s.exponentials + s.table_start - peak;
    int64_t total = 0;
    for (int64_t i = 0; i < s.length; ++i)
        total += wide ? exponentials[in[i]] : divide_by_power(exponentials[in[i]], SUM_BITS);
    const int64_t headroom = leading_zeros(static_cast<uint64_t>(total));
    int64_t reciprocal;
    if (wide) {
        // 1 + a has 17 bits here; a in [0, 1) becomes the table's int16 argument.
        const int64_t raised = (total << (headroom - 1)) + (int64_t{1} << 13);
        int64_t a = (raised >> 14) - (int64_t{1} << 15) - (int64_t{1} << 16);
        a = a < INT16_MIN ? INT16_MIN : (a > INT16_MAX ? INT16_MAX : a);
        reciprocal = interpolate(s.table, a);
    } else {
        reciprocal = one_over_one_plus((total << headroom) - (int64_t{1} << 31));
    }
    for (int64_t i = 0; i < s.length; ++i) {
        const int64_t e = exponentials[in[i]];
        int64_t level;
        if (wide)
            level = divide_by_power(e * reciprocal, 31 - headroom);
        else
            level = divide_by_power(high_product(reciprocal, e), SUM_BITS - headroom + 23);
        const int64_t top = s.requantization.maximum;
        out[i] = static_cast<int16_t>(level > top ? top : level);
    }
}

void softmax(const QnnStep& s, const int16_t* in, int16_t* out) {
    for (int64_t o = 0; o < s.outer; ++o, in += s.length, out += s.length) softmax_row(s, in, out);
}

}  // namespace
