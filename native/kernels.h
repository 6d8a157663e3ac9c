// The kernels over `Lanes`, and the loop over samples and steps. Included once for an instruction
// set, behind its lanes; all of it has internal linkage, so that no object lends its code to another.
#pragma once

#include <cstdint>
#include <cstring>

#include "core.h"
#include "softmax.h"

namespace {

constexpr int BLOCK = Lanes::COUNT;   // output channels of a block of CONV_2D
constexpr int CHANNELS = 2 * BLOCK;  // channels of a block of DEPTHWISE_CONV_2D
constexpr int PIXELS = 4;            // outputs that share a load of weights

using I32 = Lanes::I32;
using I16 = Lanes::I16;

inline int32_t clip(int32_t x, int32_t low, int32_t high) {
    return x < low ? low : (x > high ? high : x);
}

// Accumulators to the values of an activation, minus its zero point.
template <bool WIDE>
inline I32 requantize(const QnnRequantization& q, I32 sum, int64_t channel) {
    const I32 multiplier = Lanes::load(q.multiplier + channel);
    const I32 right = Lanes::load(q.right + channel);
    I32 scaled;
    if (WIDE) {
        scaled = Lanes::scale_once(sum, multiplier, right);
    } else {
        const I32 raised = Lanes::raise(sum, Lanes::load(q.left + channel));
        scaled = Lanes::divide_by_power(Lanes::high_product(raised, multiplier), right);
    }
    return Lanes::clamp(scaled, Lanes::set(q.minimum), Lanes::set(q.maximum));
}

inline void store_some(int16_t* out, I32 values, int64_t count) {
    if (count >= BLOCK) {
        Lanes::store(out, values);
        return;
    }
    int16_t some[BLOCK];
    Lanes::store(some, values);
    std::memcpy(out, some, static_cast<size_t>(count) * sizeof(int16_t));
}

// The image with its padding of zeros, every channel `repeat` times; the image itself where that
// changes nothing.
inline const int16_t* padded(const QnnWindow& w, int64_t repeat, const int16_t* image,
                             int16_t* scratch) {
    if (repeat == 1 && !(w.top || w.bottom || w.left || w.right)) return image;
    const int64_t row = int64_t{w.width} * w.channels;
    const int64_t channels = w.channels * repeat;
    const int64_t before = w.left * channels, after = w.right * channels;
    const int64_t pitch = before + row * repeat + after;
    int16_t* out = scratch;
    std::memset(out, 0, static_cast<size_t>(w.top * pitch) * sizeof(int16_t));
    out += w.top * pitch;
    for (int64_t y = 0; y < w.height; ++y, out += pitch, image += row) {
        std::memset(out, 0, static_cast<size_t>(before) * sizeof(int16_t));
        if (repeat == 1) {
            std::memcpy(out + before, image, static_cast<size_t>(row) * sizeof(int16_t));
        } else {
            for (int64_t i = 0; i < row; ++i)
                for (int64_t k = 0; k < repeat; ++k) out[before + i * repeat + k] = image[i];
        }
        std::memset(out + pitch - after, 0, static_cast<size_t>(after) * sizeof(int16_t));
    }
    std::memset(out, 0, static_cast<size_t>(w.bottom * pitch) * sizeof(int16_t));
    return scratch;
}

// ---- CONV_2D, and FULLY_CONNECTED as one of a single pixel ----

// Values that lie side by side below one output: `count` runs, `pairs` pairs of values each.
struct Runs {
    int64_t count, pairs;
    int64_t across;         // runs of a row of the window
    int64_t next, next_row;  // from one run to the next, from a row of the window to the next
};

// Sums of P pixels and Q blocks of output channels. Weights: [block][run][pair][channel][2].
template <int P, int Q, bool WIDE>
inline void sums(const QnnStep& s, const Runs& runs, const int16_t* const* pixel,
                 const int16_t* weights, int64_t channel, int64_t channels, int16_t* const* out) {
    I32 sum[P][Q];
    for (int q = 0; q < Q; ++q)
        for (int p = 0; p < P; ++p) sum[p][q] = Lanes::load(s.bias + channel + q * BLOCK);
    const int64_t block = runs.count * runs.pairs * 2 * BLOCK;
    for (int64_t run = 0; run < runs.count; ++run) {
        const int64_t offset = run / runs.across * runs.next_row + run % runs.across * runs.next;
        for (int64_t pair = 0; pair < runs.pairs; ++pair, weights += 2 * BLOCK) {
            I16 w[Q];
            for (int q = 0; q < Q; ++q) w[q] = Lanes::load_pairs(weights + q * block);
            for (int p = 0; p < P; ++p) {
                const I16 x = Lanes::repeat_pair(pixel[p] + offset + 2 * pair);
                for (int q = 0; q < Q; ++q)
                    sum[p][q] = Lanes::add_products(sum[p][q], x, w[q]);
            }
        }
    }
    for (int q = 0; q < Q; ++q)
        for (int p = 0; p < P; ++p)
            store_some(out[p] + q * BLOCK,
                       requantize<WIDE>(s.requantization, sum[p][q], channel + q * BLOCK),
                       channels - q * BLOCK);
}

template <int Q, bool WIDE>
inline void conv_blocks(const QnnStep& s, const Runs& runs, const int16_t* image,
                        const int16_t* weights, int64_t channel, int64_t channels, int16_t* out) {
    const QnnWindow& w = s.window;
    const int64_t pitch = (int64_t{w.left} + w.width + w.right) * w.channels;
    const int64_t pixels = int64_t{w.output_h} * w.output_w;
    const int64_t step = int64_t{w.stride_w} * w.channels;
    const int16_t* from[PIXELS];
    int16_t* to[PIXELS];
    int waiting = 0;
    int64_t x = 0, y = 0;
    for (int64_t i = 0; i < pixels; ++i) {
        from[waiting] = image + y * w.stride_h * pitch + x * step;
        to[waiting] = out + i * w.output_channels;
        if (++x == w.output_w) x = 0, ++y;
        if (++waiting == PIXELS) {
            sums<PIXELS, Q, WIDE>(s, runs, from, weights, channel, channels, to);
            waiting = 0;
        }
    }
    for (int i = 0; i < waiting; ++i)
        sums<1, Q, WIDE>(s, runs, from + i, weights, channel, channels, to + i);
}

template <bool WIDE>
void conv_2d(const QnnStep& s, const int16_t* in, int16_t* scratch, int16_t* out) {
    const QnnWindow& w = s.window;
    const int16_t* image = padded(w, 1, in, scratch);
    const int64_t width = int64_t{w.left} + w.width + w.right;
    const int64_t depth = w.channels / s.groups;
    // The taps of a row lie side by side where nothing is left out between them.
    const bool joined = s.groups == 1 && w.dilation_w == 1;
    const int64_t length = joined ? w.size_w * depth : depth;
    Runs runs;
    runs.across = joined ? 1 : w.size_w;
    runs.count = w.size_h * runs.across;
    runs.pairs = (length + 1) / 2;
    runs.next = int64_t{w.dilation_w} * w.channels;
    runs.next_row = w.dilation_h * width * w.channels;
    const int64_t each = w.output_channels / s.groups;
    const int64_t blocks = (each + BLOCK - 1) / BLOCK;
    const int64_t size = runs.count * runs.pairs * 2 * BLOCK;
    for (int64_t group = 0; group < s.groups; ++group) {
        const int16_t* from = image + group * depth;
        for (int64_t block = 0; block < blocks;) {
            const int64_t number = group * blocks + block;
            const int16_t* weights = s.weights + number * size;
            const int64_t left = each - block * BLOCK;
            int16_t* to = out + group * each + block * BLOCK;
            if (left > BLOCK) {
                conv_blocks<2, WIDE>(s, runs, from, weights, number * BLOCK, left, to);
                block += 2;
            } else {
                conv_blocks<1, WIDE>(s, runs, from, weights, number * BLOCK, left, to);
                block += 1;
            }
        }
    }
}

// ---- DEPTHWISE_CONV_2D ----

// Weights: [block][pair of taps][low, high][channel][2]; bias and multipliers in that order of
// channels, too.
template <bool WIDE>
void depthwise_conv_2d(const QnnStep& s, const int16_t* in, int16_t* scratch, int16_t* out) {
    const QnnWindow& w = s.window;
    const int64_t channels = w.output_channels;
    const int16_t* image = padded(w, channels / w.channels, in, scratch);
    const int64_t pitch = (int64_t{w.left} + w.width + w.right) * channels;
    const int64_t taps = int64_t{w.size_h} * w.size_w, pairs = (taps + 1) / 2;
    const int64_t right = w.dilation_w * channels, down = w.dilation_h * pitch;
    for (int64_t y = 0; y < w.output_h; ++y) {
        for (int64_t x = 0; x < w.output_w; ++x, out += channels) {
            const int16_t* pixel = image + y * w.stride_h * pitch + x * w.stride_w * channels;
            const int16_t* weights = s.weights;
            for (int64_t c = 0; c < channels; c += CHANNELS) {
                I32 low = Lanes::load(s.bias + c), high = Lanes::load(s.bias + c + BLOCK);
                int64_t row = 0, column = 0;
                const int16_t* tap[2];
                for (int64_t pair = 0; pair < pairs; ++pair, weights += 4 * BLOCK) {
                    for (int k = 0; k < 2; ++k) {
                        tap[k] = pixel + c + row * down + column * right;
                        // The last of an odd number is read twice, with a weight of zero.
                        if (2 * pair + k + 1 < taps && ++column == w.size_w) column = 0, ++row;
                    }
                    const I16 a = Lanes::load16(tap[0]), b = Lanes::load16(tap[1]);
                    low = Lanes::add_products(low, Lanes::low(a, b), Lanes::load_pairs(weights));
                    high = Lanes::add_products(high, Lanes::high(a, b),
                                               Lanes::load_pairs(weights + 2 * BLOCK));
                }
                low = requantize<WIDE>(s.requantization, low, c);
                high = requantize<WIDE>(s.requantization, high, c + BLOCK);
                if (c + CHANNELS <= channels) {
                    Lanes::store16(out + c, low, high);
                } else {
                    int16_t some[CHANNELS];
                    Lanes::store16(some, low, high);
                    std::memcpy(out + c, some, static_cast<size_t>(channels - c) * sizeof(int16_t));
                }
            }
        }
    }
}

// ---- elementwise ----

inline I32 scaled(const QnnOperand& o, I32 x) {
    const I32 raised = Lanes::raise(Lanes::raise(x, Lanes::set(o.raise)), Lanes::set(o.left));
    return Lanes::divide_by_power(Lanes::high_product(raised, Lanes::set(o.multiplier)),
                                  Lanes::set(o.right));
}

// The multipliers hold one value in every lane: all channels have the same.
template <bool PRODUCT>
void binary(const QnnStep& s, int64_t count, const int16_t* a, const int16_t* b, int16_t* out) {
    for (int64_t i = 0; i < count; i += BLOCK) {
        const I32 x = Lanes::widen(a + i), y = Lanes::widen(b + i);
        I32 sum;
        if (PRODUCT) {
            sum = Lanes::multiply(x, y);
        } else {
            const I32 first = scaled(s.first, x), second = scaled(s.second, y);
            sum = s.sign < 0 ? Lanes::sub(first, second) : Lanes::add(first, second);
        }
        store_some(out + i, requantize<false>(s.requantization, sum, 0), count - i);
    }
}

void look_up(const QnnStep& s, int64_t count, const int16_t* in, int16_t* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = s.table[in[i] + s.table_start];
}

void move(const QnnStep& s, int64_t count, const int16_t* in, int16_t* out, const int16_t* other,
          int64_t first) {
    if (s.source == nullptr) {
        for (int64_t i = 0; i < count; ++i) out[i] = static_cast<int16_t>(in[i] + s.shift);
        return;
    }
    for (int64_t i = 0; i < count; ++i) {
        const int64_t from = s.source[i];
        if (from < 0)
            out[i] = s.constant[-1 - from];
        else if (from < first)
            out[i] = static_cast<int16_t>(in[from] + s.shift);
        else
            out[i] = static_cast<int16_t>(other[from - first] + s.shift);
    }
}

// ---- pools and reductions ----

template <bool AVERAGE>
void pool(const QnnStep& s, int32_t zero_point, const int16_t* in, int16_t* out) {
    const QnnWindow& w = s.window;
    for (int64_t y = 0; y < w.output_h; ++y) {
        for (int64_t x = 0; x < w.output_w; ++x) {
            for (int64_t c = 0; c < w.channels; ++c) {
                int32_t sum = 0, peak = INT16_MIN, cells = 0;
                for (int64_t i = 0; i < w.size_h; ++i) {
                    const int64_t row = y * w.stride_h - w.top + i;
                    if (row < 0 || row >= w.height) continue;
                    for (int64_t j = 0; j < w.size_w; ++j) {
                        const int64_t column = x * w.stride_w - w.left + j;
                        if (column < 0 || column >= w.width) continue;
                        const int32_t value = in[(row * w.width + column) * w.channels + c];
                        sum += value;
                        peak = value > peak ? value : peak;
                        ++cells;
                    }
                }
                int32_t result = peak;
                if (AVERAGE) {
                    // Halves away from zero: of the sum itself, not of what is left without the
                    // zero point.
                    const int32_t total = sum + zero_point * cells, half = cells / 2;
                    result = total > 0 ? (total + half) / cells : -((half - total) / cells);
                    result -= zero_point;
                }
                *out++ = static_cast<int16_t>(
                    clip(result, s.requantization.minimum, s.requantization.maximum));
            }
        }
    }
}

template <bool MEAN>
void reduce(const QnnStep& s, const int16_t* in, int16_t* out) {
    const int64_t inner = s.inner;
    for (int64_t o = 0; o < s.outer; ++o, in += s.length * inner, out += inner) {
        for (int64_t i = 0; i < inner; i += BLOCK) {
            const int16_t* from = in + i;
            I32 result = Lanes::widen(from);
            for (int64_t k = 1; k < s.length; ++k) {
                const I32 next = Lanes::widen(from + k * inner);
                result = MEAN ? Lanes::add(result, next)
                              : Lanes::clamp(next, result, Lanes::set(INT16_MAX));
            }
            if (MEAN) result = requantize<false>(s.requantization, result, 0);
            store_some(out + i, result, inner - i);
        }
    }
}

// ---- the loop over samples and steps ----

template <class T>
inline void bring_in(const void* given, int64_t sample, const QnnTensor& t, int16_t* to) {
    const T* from = static_cast<const T*>(given) + sample * t.values;
    for (int64_t i = 0; i < t.values; ++i) to[i] = static_cast<int16_t>(from[i] - t.zero_point);
}

template <class T>
inline void bring_out(const int16_t* from, int64_t sample, const QnnTensor& t, void* wanted) {
    T* to = static_cast<T*>(wanted) + sample * t.values;
    for (int64_t i = 0; i < t.values; ++i) to[i] = static_cast<T>(from[i] + t.zero_point);
}

void run_step(const QnnRun& run, const QnnStep& s, int16_t* arena, int16_t* scratch) {
    const QnnTensor& from = run.tensors[s.input];
    const QnnTensor& to = run.tensors[s.output];
    const int16_t* in = arena + from.place;
    const int16_t* other = s.other < 0 ? s.constant : arena + run.tensors[s.other].place;
    int16_t* out = arena + to.place;
    const bool wide = s.requantization.wide != 0;
    switch (s.kind) {
        case QNN_CONV_2D:
            wide ? conv_2d<true>(s, in, scratch, out) : conv_2d<false>(s, in, scratch, out);
            break;
        case QNN_DEPTHWISE_CONV_2D:
            wide ? depthwise_conv_2d<true>(s, in, scratch, out)
                 : depthwise_conv_2d<false>(s, in, scratch, out);
            break;
        case QNN_ADD:
            binary<false>(s, to.values, in, other, out);
            break;
        case QNN_MUL:
            binary<true>(s, to.values, in, other, out);
            break;
        case QNN_AVERAGE_POOL_2D:
            pool<true>(s, from.zero_point, in, out);
            break;
        case QNN_MAX_POOL_2D:
            pool<false>(s, from.zero_point, in, out);
            break;
        case QNN_MEAN:
            reduce<true>(s, in, out);
            break;
        case QNN_REDUCE_MAX:
            reduce<false>(s, in, out);
            break;
        case QNN_SOFTMAX:
            softmax(s, in, out);
            break;
        case QNN_TABLE:
            look_up(s, to.values, in, out);
            break;
        case QNN_MOVE:
            move(s, to.values, in, out, other, from.values);
            break;
    }
}

void run_samples(const QnnRun& run, int16_t* arena, int16_t* scratch) {
    for (int64_t sample = 0; sample < run.batch; ++sample) {
        for (int32_t i = 0; i < run.tensor_count; ++i) {
            if (run.given[i] == nullptr) continue;
            const QnnTensor& t = run.tensors[i];
            if (t.bytes == 1)
                bring_in<int8_t>(run.given[i], sample, t, arena + t.place);
            else
                bring_in<int16_t>(run.given[i], sample, t, arena + t.place);
        }
        for (int32_t i = 0; i < run.step_count; ++i) {
            const QnnStep& step = run.steps[i];
            run_step(run, step, arena, scratch);
            // At once: what is computed later may lie in its place.
            if (run.wanted[step.output] == nullptr) continue;
            const QnnTensor& t = run.tensors[step.output];
            if (t.bytes == 1)
                bring_out<int8_t>(arena + t.place, sample, t, run.wanted[step.output]);
            else
                bring_out<int16_t>(arena + t.place, sample, t, run.wanted[step.output]);
        }
    }
}

}  // namespace
