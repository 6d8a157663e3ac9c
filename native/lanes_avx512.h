// Sixteen int32 or thirty-two int16 lanes of an AVX-512 register. Names as in lanes_portable.h,
// which says what each computes.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 warns of the undefined values in its own header, which nothing reads.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#if !defined(QNN_EMULATED)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

namespace {

struct Lanes {
    static constexpr int COUNT = 16;
    using I32 = __m512i;
    using I16 = __m512i;

    static I32 set(int32_t x) { return _mm512_set1_epi32(x); }
    static I32 load(const int32_t* p) { return _mm512_loadu_si512(p); }
    static I32 widen(const int16_t* p) {
        return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static I16 load16(const int16_t* p) { return _mm512_loadu_si512(p); }
    static I16 load_pairs(const int16_t* p) { return load16(p); }
    static I16 repeat_pair(const int16_t* p) {
        int32_t pair;
        std::memcpy(&pair, p, sizeof pair);
        return _mm512_set1_epi32(pair);
    }
    static I16 low(I16 a, I16 b) { return _mm512_unpacklo_epi16(a, b); }
    static I16 high(I16 a, I16 b) { return _mm512_unpackhi_epi16(a, b); }
    static I32 add_products(I32 sum, I16 a, I16 b) { return _mm512_dpwssd_epi32(sum, a, b); }
    static I32 add(I32 a, I32 b) { return _mm512_add_epi32(a, b); }
    static I32 sub(I32 a, I32 b) { return _mm512_sub_epi32(a, b); }
    static I32 multiply(I32 a, I32 b) { return _mm512_mullo_epi32(a, b); }
    static I32 raise(I32 a, I32 bits) { return _mm512_sllv_epi32(a, bits); }
    static I32 clamp(I32 a, I32 low, I32 high) {
        return _mm512_min_epi32(_mm512_max_epi32(a, low), high);
    }
    static I32 high_product(I32 a, I32 m) {
        // The upper half of 2 * a * m + 2^31, once for the even lanes and once for the odd ones.
        const __m512i half = _mm512_set1_epi64(int64_t{1} << 31);
        __m512i even = _mm512_mul_epi32(a, m);
        __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(m, 32));
        even = _mm512_add_epi64(_mm512_add_epi64(even, even), half);
        odd = _mm512_add_epi64(_mm512_add_epi64(odd, odd), half);
        return _mm512_mask_blend_epi32(ODD, _mm512_srli_epi64(even, 32), odd);
    }
    static I32 divide_by_power(I32 a, I32 bits) {
        const __m512i one = _mm512_set1_epi32(1);
        const __m512i mask = _mm512_sub_epi32(_mm512_sllv_epi32(one, bits), one);
        const __m512i threshold =
            _mm512_sub_epi32(_mm512_srai_epi32(mask, 1), _mm512_srai_epi32(a, 31));
        const __mmask16 above = _mm512_cmpgt_epi32_mask(_mm512_and_si512(a, mask), threshold);
        const __m512i quotient = _mm512_srav_epi32(a, bits);
        return _mm512_mask_add_epi32(quotient, above, quotient, one);
    }
    static I32 scale_once(I32 a, I32 m, I32 bits) {
        const __m512i low_half = _mm512_set1_epi64(0xFFFFFFFF);
        const __m512i even = shifted(_mm512_mul_epi32(a, m), _mm512_and_si512(bits, low_half));
        const __m512i odd =
            shifted(_mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(m, 32)),
                    _mm512_srli_epi64(bits, 32));
        return _mm512_mask_blend_epi32(ODD, even, _mm512_slli_epi64(odd, 32));
    }
    static void store(int16_t* p, I32 a) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtsepi32_epi16(a));
    }
    static void store16(int16_t* p, I32 low, I32 high) {
        _mm512_storeu_si512(p, _mm512_packs_epi32(low, high));
    }

   private:
    static constexpr __mmask16 ODD = 0xAAAA;
    // (product + 2^(bits - 1)) >> bits
    static __m512i shifted(__m512i product, __m512i bits) {
        const __m512i one = _mm512_set1_epi64(1);
        const __m512i half = _mm512_sllv_epi64(one, _mm512_sub_epi64(bits, one));
        return _mm512_srav_epi64(_mm512_add_epi64(product, half), bits);
    }
};

}  // namespace
