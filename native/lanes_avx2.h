// Eight int32 or sixteen int16 lanes of an AVX2 register. Names as in lanes_portable.h, which says
// what each computes.
#pragma once

#if !defined(QNN_EMULATED)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

namespace {

struct Lanes {
    static constexpr int COUNT = 8;
    using I32 = __m256i;
    using I16 = __m256i;

    static I32 set(int32_t x) { return _mm256_set1_epi32(x); }
    static I32 load(const int32_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static I32 widen(const int16_t* p) {
        return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static I16 load16(const int16_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static I16 load_pairs(const int16_t* p) { return load16(p); }
    static I16 repeat_pair(const int16_t* p) {
        int32_t pair;
        std::memcpy(&pair, p, sizeof pair);
        return _mm256_set1_epi32(pair);
    }
    static I16 low(I16 a, I16 b) { return _mm256_unpacklo_epi16(a, b); }
    static I16 high(I16 a, I16 b) { return _mm256_unpackhi_epi16(a, b); }
    static I32 add_products(I32 sum, I16 a, I16 b) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
    }
    static I32 add(I32 a, I32 b) { return _mm256_add_epi32(a, b); }
    static I32 sub(I32 a, I32 b) { return _mm256_sub_epi32(a, b); }
    static I32 multiply(I32 a, I32 b) { return _mm256_mullo_epi32(a, b); }
    static I32 raise(I32 a, I32 bits) { return _mm256_sllv_epi32(a, bits); }
    static I32 clamp(I32 a, I32 low, I32 high) {
        return _mm256_min_epi32(_mm256_max_epi32(a, low), high);
    }
    static I32 high_product(I32 a, I32 m) {
        // The upper half of 2 * a * m + 2^31, once for the even lanes and once for the odd ones.
        const __m256i half = _mm256_set1_epi64x(int64_t{1} << 31);
        __m256i even = _mm256_mul_epi32(a, m);
        __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(m, 32));
        even = _mm256_add_epi64(_mm256_add_epi64(even, even), half);
        odd = _mm256_add_epi64(_mm256_add_epi64(odd, odd), half);
        return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
    }
    static I32 divide_by_power(I32 a, I32 bits) {
        const __m256i one = _mm256_set1_epi32(1);
        const __m256i mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, bits), one);
        const __m256i threshold =
            _mm256_sub_epi32(_mm256_srai_epi32(mask, 1), _mm256_srai_epi32(a, 31));
        const __m256i above = _mm256_cmpgt_epi32(_mm256_and_si256(a, mask), threshold);
        return _mm256_sub_epi32(_mm256_srav_epi32(a, bits), above);
    }
    static I32 scale_once(I32 a, I32 m, I32 bits) {
        const __m256i even = shifted(_mm256_mul_epi32(a, m), _mm256_and_si256(bits, low_half()));
        const __m256i odd =
            shifted(_mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(m, 32)),
                    _mm256_srli_epi64(bits, 32));
        return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    }
    static void store(int16_t* p, I32 a) {
        const __m128i packed =
            _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
    }
    static void store16(int16_t* p, I32 low, I32 high) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_packs_epi32(low, high));
    }

   private:
    static __m256i low_half() { return _mm256_set1_epi64x(0xFFFFFFFF); }
    // (product + 2^(bits - 1)) >> bits; there is no arithmetic shift of 64 bits, so the sign is
    // moved out of the way first.
    static __m256i shifted(__m256i product, __m256i bits) {
        const __m256i one = _mm256_set1_epi64x(1);
        const __m256i sign = _mm256_set1_epi64x(INT64_MIN);
        const __m256i half = _mm256_sllv_epi64(one, _mm256_sub_epi64(bits, one));
        const __m256i moved = _mm256_xor_si256(_mm256_add_epi64(product, half), sign);
        return _mm256_sub_epi64(_mm256_srlv_epi64(moved, bits), _mm256_srlv_epi64(sign, bits));
    }
};

}  // namespace
