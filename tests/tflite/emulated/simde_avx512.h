// AVX-512 for a processor without it: SIMDe, and in plain C++ what its release 0.7 lacks.
#pragma once
#include <simde/x86/avx512.h>

#include <cstdint>

template <class T>
inline simde__m512i shifted_right(simde__m512i values, simde__m512i bits) {
    constexpr int COUNT = 64 / sizeof(T);
    constexpr int LAST = 8 * sizeof(T) - 1;
    T value[COUNT], by[COUNT];
    simde_mm512_storeu_si512(value, values);
    simde_mm512_storeu_si512(by, bits);
    for (int i = 0; i < COUNT; ++i) value[i] >>= by[i] < 0 || by[i] > LAST ? LAST : by[i];
    return simde_mm512_loadu_si512(value);
}

inline simde__m512i widened(simde__m256i values) {
    int16_t narrow[16];
    int32_t wide[16];
    simde_mm256_storeu_si256(narrow, values);
    for (int i = 0; i < 16; ++i) wide[i] = narrow[i];
    return simde_mm512_loadu_si512(wide);
}

#define __mmask16 simde__mmask16
#define _mm512_srav_epi32 shifted_right<int32_t>
#define _mm512_srav_epi64 shifted_right<int64_t>
#define _mm512_srai_epi32(a, bits) shifted_right<int32_t>(a, simde_mm512_set1_epi32(bits))
#define _mm512_cvtepi16_epi32 widened
