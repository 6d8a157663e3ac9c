// NEON for a processor without it: SIMDe, and in plain C++ the rounding shift of 32 bits, which
// overflows in its release 0.7 where the processor's has room.
#pragma once
#include <simde/arm/neon.h>

#include <cstdint>

inline simde_int32x4_t rounding_shift(simde_int32x4_t values, simde_int32x4_t bits) {
    int32_t value[4], by[4];
    simde_vst1q_s32(value, values);
    simde_vst1q_s32(by, bits);
    for (int i = 0; i < 4; ++i) {
        const int right = -by[i];  // No shift to the left is asked for.
        const int64_t half = right > 0 ? int64_t{1} << (right - 1) : 0;
        value[i] = static_cast<int32_t>((value[i] + half) >> right);
    }
    return simde_vld1q_s32(value);
}

#undef vrshlq_s32
#define vrshlq_s32 rounding_shift
