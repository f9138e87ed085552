// Copies of the rows with one byte a number, from which a scan bounds each score from above (bounded_topk.h), and how a
// row and a query are rounded to bytes. Twin: kernels/reference/byte_rows.py.
//
// A block has the copies of 8 rows: word w of all 8, four bytes each, then of each row its scale and error, two numbers
// of 16 bits (the upper halves of floats). So one vector, or 8 lanes of a GPU, has one word of each row.
//
// The bound. Let u = row / norm as the scan scores it, r = fl(1 / norm) and u = r row, q the query, m its largest
// magnitude and p = q / m. A row is kept as bytes c in -127..127 and a scale s, a query as bytes d in -63..63 of step
// 1/63. By the triangle and the Cauchy-Schwarz inequality,
//     u . p <= s (c . d) / 63 + |s c| |p - d / 63| + |u - s c| |p|,
// and with e >= |u - s c|, g >= |p - d / 63| and |s c| <= |u| + e <= 1.01 + e
//     u . p <= s (c . d) / 63 + e (|p| + g) + 1.01 g.
// What the scan computes, m (u . p) rounded, is larger by at most (W + 3) 2^-24 |u| |q|, in any order of additions,
// fused or not; rounding in the bound's own arithmetic adds at most 20 2^-24 (|p| + g) m, and g <= |p| as W <= 4096.
// Together that is less than `slack(W)` m |p|, four times over. The errors e and g are computed in float and made
// larger by more than the rounding of their sums. c . d is exact: a whole number below 2^31. None of this holds where a
// number overflows, underflows far or is NaN. So bounds are given only for rows whose norm is in [2^-10, 2^40] and for
// which |u| <= 1.005 was found, and for queries with m in [2^-40, 2^40]: sums then stay below 2^90, and what
// underflows, or is flushed to 0, is below 2^-60 m. Any other row has an infinite error, any other query an infinite
// constant: their bounds are infinite or NaN, and rows are left out only if their bound is less than the last score of
// a full list. A zero row has bytes 0, scale 2^-100 and a tiny error. bfloat16 rows are read as they are stored:
// rounding them was part of the write. In double precision all the above holds with room to spare.
#pragma once

#include "arguments.h"
#include "block/block.h"

namespace mb {

constexpr float row_levels = 127, query_levels = 63;

MB_FN int64_t byte_words(int64_t width) { return (width + 3) / 4; }
MB_FN float slack(int64_t width) { return static_cast<float>(width + 64) * 2.3841858e-7f; }  // 2^-22
MB_FN uint32_t bits_of(float number) {
    union {
        float number;
        uint32_t bits;
    } whole;
    whole.number = number;
    return whole.bits;
}
// The upper half of the least number with 16 bits that is not below one >= 0.
MB_FN uint32_t half_above(float number) { return (bits_of(number) + 0xffffu) >> 16; }

// The largest magnitude as bits of a float: those of infinity or NaN are the largest.
template <class F>
MB_FN uint32_t largest_bits(int64_t n, F f) {
    uint32_t largest = 0;
    for (int64_t w = 0; w < n; ++w) {
        const uint32_t bits = bits_of(static_cast<float>(f(w))) & 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

// Four bytes as a word; byte(w) of the numbers below `width`, `none` beyond.
template <class F>
MB_FN int32_t word_of(int64_t first, int64_t width, int32_t none, F byte) {
    uint32_t word = 0;
    for (int64_t i = 0; i < 4; ++i) {
        const int32_t value = first + i < width ? byte(first + i) : none;
        word |= (static_cast<uint32_t>(value) & 255u) << (8 * i);
    }
    return static_cast<int32_t>(word);
}

struct ByteRows {
#ifdef MB_NO_BYTE_ROWS  // builds for a GPU, where none are kept
    static constexpr bool may_be_kept = false;
#else
    static constexpr bool may_be_kept = true;
#endif
    int32_t* const blocks;  // null: none are kept
    const int64_t width, words;

    MB_FN ByteRows(const Arguments& a, int64_t element)
        : blocks(copies_of(a, element)), width(a.width), words(byte_words(a.width)) {}

    // Of the 8 rows from `row` on, a multiple of 8.
    MB_FN int32_t* block_at(int64_t row) const { return blocks + row * (words + 1); }

    // Make the copy of a row anew, by a warp that sees what it now contains.
    MB_FN void renew(const Warp& warp, int64_t row, const Store* content, Real norm) const {
        const Real reciprocal = Real(1) / norm;
        const auto unit = [&](int64_t w) { return static_cast<float>(static_cast<Real>(content[w]) * reciprocal); };
        const float largest = float_of_bits(largest_bits(width, unit));
        float scale = 0, error = infinity_bits();
        if (largest < 2 && norm >= Real(0x1p-10) && norm <= Real(0x1p40)) {
            const float least = largest / row_levels;
            scale = float_of_bits(half_above(least > 0x1p-100f ? least : 0x1p-100f) << 16);
        }
        const float levels = scale > 0 ? 1 / scale : 0;
        const auto level = [&](int64_t w) { return rintf(unit(w) * levels); };
        int32_t* const to = block_at(row / byte_block_rows * byte_block_rows) + row % byte_block_rows;
        if (scale > 0) {
            const float square = static_cast<float>(warp.sum(width, [&](int64_t w) { return unit(w) * unit(w); }));
            const float rest = static_cast<float>(warp.sum(width, [&](int64_t w) {
                const float missing = unit(w) - scale * level(w);
                return missing * missing;
            }));
            if (square <= 1.01f) error = static_cast<float>(sqrt(rest)) * (1 + slack(width)) + slack(width);
            warp.for_each(words, [&](int64_t k) {
                to[k * byte_block_rows] =
                    word_of(4 * k, width, 127, [&](int64_t w) { return static_cast<int32_t>(level(w)) + 127; });
            });
        } else {
            warp.for_each(words, [&](int64_t k) { to[k * byte_block_rows] = 0x7f7f7f7f; });
        }
        if (warp.is_leader())
            to[words * byte_block_rows] =
                static_cast<int32_t>(bits_of(scale) | (error < infinity_bits() ? half_above(error) : 0x7f80u));
    }

  private:
    MB_FN static int32_t* copies_of(const Arguments& a, int64_t element) {
        if (!may_be_kept || !a.byte_rows) return nullptr;
        const int64_t blocks = (a.slots + byte_block_rows - 1) / byte_block_rows;
        return a.byte_rows + element * blocks * byte_block_rows * (byte_words(a.width) + 1);
    }
    MB_FN static float infinity_bits() { return float_of_bits(0x7f800000u); }
};

// A query as bytes, and how bounds of scores are made of products with it: sum * scale * step + error * per_error +
// constant. Its words, four signed bytes each, follow it.
struct ByteQuery {
    float step, per_error, constant;
    int32_t start;  // of the sum: -127 times the sum of its bytes, as those of rows have 127 added

    MB_FN const int32_t* words() const { return reinterpret_cast<const int32_t*>(this + 1); }
    MB_FN int32_t* words() { return reinterpret_cast<int32_t*>(this + 1); }
    // Reals of a query, with its words.
    MB_FN static int64_t size(int64_t width) { return static_cast<int64_t>(sizeof(ByteQuery)) / 4 + byte_words(width); }

    // Visible after the next sync.
    MB_FN void round(const Warp& warp, const Real* query, int64_t width) {
        const float largest = float_of_bits(largest_bits(width, [&](int64_t w) { return query[w]; }));
        const bool bounded = largest >= 0x1p-40f && largest <= 0x1p40f;
        const float levels = bounded ? query_levels / largest : 0;
        const auto level = [&](int64_t w) { return rintf(static_cast<float>(query[w]) * levels); };
        int32_t sum = 0;
        if (bounded) {
            const float inverse = 1 / largest;
            const auto part = [&](int64_t w) { return static_cast<float>(query[w]) * inverse; };
            const float square = static_cast<float>(warp.sum(width, [&](int64_t w) { return part(w) * part(w); }));
            const float rest = static_cast<float>(warp.sum(width, [&](int64_t w) {
                const float missing = part(w) - level(w) * (1 / query_levels);
                return missing * missing;
            }));
            for (int64_t w = 0; w < width; ++w) sum += static_cast<int32_t>(level(w));
            if (warp.is_leader()) {
                const float more = slack(width), size = static_cast<float>(sqrt(square)) * (1 + more) + more;
                const float missing = static_cast<float>(sqrt(rest)) * (1 + more) + more;
                step = largest / query_levels, per_error = largest * (size + missing) * (1 + more);
                constant = largest * (1.01f * missing + more * size) * (1 + more), start = -127 * sum;
            }
            warp.for_each(byte_words(width), [&](int64_t k) {
                words()[k] = word_of(4 * k, width, 0, [&](int64_t w) { return static_cast<int32_t>(level(w)); });
            });
        } else {
            warp.for_each(byte_words(width), [&](int64_t k) { words()[k] = 0; });
            if (warp.is_leader()) step = 0, per_error = 0, constant = float_of_bits(0x7f800000u), start = 0;
        }
    }
};

}  // namespace mb
