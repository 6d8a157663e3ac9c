// Eight int32 or sixteen int16 lanes in plain C++: for processors without a file of their own, and
// what the others are compared with.
#pragma once

#include <cstdint>
#include <cstring>

namespace {

struct Lanes {
    static constexpr int COUNT = 8;
    struct I32 {
        int32_t v[8];
    };
    struct I16 {
        int16_t v[16];
    };

    template <class F>
    static I32 each(F f) {
        I32 r;
        for (int i = 0; i < 8; ++i) r.v[i] = f(i);
        return r;
    }
    static int32_t wrap(int64_t x) { return static_cast<int32_t>(static_cast<uint32_t>(x)); }

    static I32 set(int32_t x) {
        return each([&](int) { return x; });
    }
    static I32 load(const int32_t* p) {
        return each([&](int i) { return p[i]; });
    }
    static I32 widen(const int16_t* p) {
        return each([&](int i) { return static_cast<int32_t>(p[i]); });
    }
    static I16 load16(const int16_t* p) {
        I16 r;
        std::memcpy(r.v, p, sizeof r.v);
        return r;
    }
    static I16 load_pairs(const int16_t* p) { return load16(p); }
    static I16 repeat_pair(const int16_t* p) {
        I16 r;
        for (int i = 0; i < 16; ++i) r.v[i] = p[i & 1];
        return r;
    }
    // Channels 0 to 3 and 8 to 11 of both, in turn; `high` has the others.
    static I16 interleave(I16 a, I16 b, int first) {
        I16 r;
        for (int half = 0; half < 2; ++half)
            for (int i = 0; i < 4; ++i) {
                r.v[8 * half + 2 * i] = a.v[8 * half + first + i];
                r.v[8 * half + 2 * i + 1] = b.v[8 * half + first + i];
            }
        return r;
    }
    static I16 low(I16 a, I16 b) { return interleave(a, b, 0); }
    static I16 high(I16 a, I16 b) { return interleave(a, b, 4); }
    static I32 add_products(I32 sum, I16 a, I16 b) {
        return each([&](int i) {
            return wrap(int64_t{sum.v[i]} + int32_t{a.v[2 * i]} * b.v[2 * i] +
                        int64_t{a.v[2 * i + 1]} * b.v[2 * i + 1]);
        });
    }
    static I32 add(I32 a, I32 b) {
        return each([&](int i) { return wrap(int64_t{a.v[i]} + b.v[i]); });
    }
    static I32 sub(I32 a, I32 b) {
        return each([&](int i) { return wrap(int64_t{a.v[i]} - b.v[i]); });
    }
    static I32 multiply(I32 a, I32 b) {
        return each([&](int i) { return wrap(int64_t{a.v[i]} * b.v[i]); });
    }
    static I32 raise(I32 a, I32 bits) {
        return each([&](int i) { return wrap(int64_t{a.v[i]} * (int64_t{1} << bits.v[i])); });
    }
    static I32 clamp(I32 a, I32 low, I32 high) {
        return each([&](int i) {
            const int32_t x = a.v[i] < low.v[i] ? low.v[i] : a.v[i];
            return x > high.v[i] ? high.v[i] : x;
        });
    }
    // (a * m + 2^30) >> 31
    static I32 high_product(I32 a, I32 m) {
        return each(
            [&](int i) { return wrap((int64_t{a.v[i]} * m.v[i] + (int64_t{1} << 30)) >> 31); });
    }
    // a / 2^bits, halves away from zero
    static I32 divide_by_power(I32 a, I32 bits) {
        return each([&](int i) {
            const int32_t mask = wrap((int64_t{1} << bits.v[i]) - 1);
            const int32_t threshold = (mask >> 1) + (a.v[i] < 0);
            return (a.v[i] >> bits.v[i]) + ((a.v[i] & mask) > threshold);
        });
    }
    // (a * m + 2^(bits - 1)) >> bits, the low 32 bits of it
    static I32 scale_once(I32 a, I32 m, I32 bits) {
        return each([&](int i) {
            const int64_t half = int64_t{1} << (bits.v[i] - 1);
            return wrap((int64_t{a.v[i]} * m.v[i] + half) >> bits.v[i]);
        });
    }
    static void store(int16_t* p, I32 a) {
        for (int i = 0; i < 8; ++i) p[i] = static_cast<int16_t>(a.v[i]);
    }
    // Of `low` and `high` the channels in their order.
    static void store16(int16_t* p, I32 low, I32 high) {
        for (int half = 0; half < 2; ++half)
            for (int i = 0; i < 4; ++i) {
                p[8 * half + i] = static_cast<int16_t>(low.v[4 * half + i]);
                p[8 * half + 4 + i] = static_cast<int16_t>(high.v[4 * half + i]);
            }
    }
};

}  // namespace
