// Eight int32 or sixteen int16 lanes of NEON registers. Names as in lanes_portable.h, which says
// what each computes.
#pragma once

#if !defined(QNN_EMULATED)
#include <arm_neon.h>
#endif

#include <cstdint>

namespace {

struct Lanes {
    static constexpr int COUNT = 8;
    struct I32 {
        int32x4_t low, high;
    };
    // Pairs apart: the first of each in `first`, the second in `second`. Sixteen values that are no
    // pairs lie one half in each.
    struct I16 {
        int16x8_t first, second;
    };

    static I32 set(int32_t x) { return {vdupq_n_s32(x), vdupq_n_s32(x)}; }
    static I32 load(const int32_t* p) { return {vld1q_s32(p), vld1q_s32(p + 4)}; }
    static I32 widen(const int16_t* p) {
        const int16x8_t values = vld1q_s16(p);
        return {vmovl_s16(vget_low_s16(values)), vmovl_s16(vget_high_s16(values))};
    }
    static I16 load16(const int16_t* p) { return {vld1q_s16(p), vld1q_s16(p + 8)}; }
    static I16 load_pairs(const int16_t* p) {
        const int16x8x2_t apart = vld2q_s16(p);
        return {apart.val[0], apart.val[1]};
    }
    static I16 repeat_pair(const int16_t* p) { return {vdupq_n_s16(p[0]), vdupq_n_s16(p[1])}; }
    static I16 low(I16 a, I16 b) { return {lows(a), lows(b)}; }
    static I16 high(I16 a, I16 b) { return {highs(a), highs(b)}; }
    static I32 add_products(I32 sum, I16 a, I16 b) {
        sum.low = vmlal_s16(sum.low, vget_low_s16(a.first), vget_low_s16(b.first));
        sum.high = vmlal_s16(sum.high, vget_high_s16(a.first), vget_high_s16(b.first));
        sum.low = vmlal_s16(sum.low, vget_low_s16(a.second), vget_low_s16(b.second));
        sum.high = vmlal_s16(sum.high, vget_high_s16(a.second), vget_high_s16(b.second));
        return sum;
    }
    static I32 add(I32 a, I32 b) { return {vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)}; }
    static I32 sub(I32 a, I32 b) { return {vsubq_s32(a.low, b.low), vsubq_s32(a.high, b.high)}; }
    static I32 multiply(I32 a, I32 b) {
        return {vmulq_s32(a.low, b.low), vmulq_s32(a.high, b.high)};
    }
    static I32 raise(I32 a, I32 bits) {
        return {vshlq_s32(a.low, bits.low), vshlq_s32(a.high, bits.high)};
    }
    static I32 clamp(I32 a, I32 low, I32 high) {
        return {vminq_s32(vmaxq_s32(a.low, low.low), high.low),
                vminq_s32(vmaxq_s32(a.high, low.high), high.high)};
    }
    static I32 high_product(I32 a, I32 m) {
        return {vqrdmulhq_s32(a.low, m.low), vqrdmulhq_s32(a.high, m.high)};
    }
    static I32 divide_by_power(I32 a, I32 bits) {
        return {divided(a.low, bits.low), divided(a.high, bits.high)};
    }
    static I32 scale_once(I32 a, I32 m, I32 bits) {
        return {scaled(a.low, m.low, bits.low), scaled(a.high, m.high, bits.high)};
    }
    static void store(int16_t* p, I32 a) {
        vst1q_s16(p, vcombine_s16(vqmovn_s32(a.low), vqmovn_s32(a.high)));
    }
    static void store16(int16_t* p, I32 low, I32 high) {
        vst1q_s16(p, vcombine_s16(vqmovn_s32(low.low), vqmovn_s32(high.low)));
        vst1q_s16(p + 8, vcombine_s16(vqmovn_s32(low.high), vqmovn_s32(high.high)));
    }

   private:
    static int16x8_t lows(I16 a) {
        return vcombine_s16(vget_low_s16(a.first), vget_low_s16(a.second));
    }
    static int16x8_t highs(I16 a) {
        return vcombine_s16(vget_high_s16(a.first), vget_high_s16(a.second));
    }
    // A rounding shift brings halves up; of a negative value one less does it away from zero.
    static int32x4_t divided(int32x4_t a, int32x4_t bits) {
        const int32x4_t down = vnegq_s32(bits);
        const int32x4_t negative = vandq_s32(vshrq_n_s32(a, 31), vshrq_n_s32(down, 31));
        return vrshlq_s32(vqaddq_s32(a, negative), down);
    }
    static int32x4_t scaled(int32x4_t a, int32x4_t m, int32x4_t bits) {
        const int64x2_t low = vmull_s32(vget_low_s32(a), vget_low_s32(m));
        const int64x2_t high = vmull_s32(vget_high_s32(a), vget_high_s32(m));
        const int64x2_t down_low = vnegq_s64(vmovl_s32(vget_low_s32(bits)));
        const int64x2_t down_high = vnegq_s64(vmovl_s32(vget_high_s32(bits)));
        return vcombine_s32(vmovn_s64(vrshlq_s64(low, down_low)),
                            vmovn_s64(vrshlq_s64(high, down_high)));
    }
};

}  // namespace
