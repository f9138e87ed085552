// Bucket entries of the hash index: a row number and a 32-bit sketch, the signs of 32 projections; eight entries a
// cache line. The distance of an entry from a query is the sum, over the signs that differ, of the query's certainty of
// each, 0 to 3: a sign means little where the projection is near zero (Dong, Charikar & Li 2008, asymmetric distance).
// The distances of a line are the bytes of one uint64, so that eight are compared at once.
#pragma once

#include "block/block.h"
#if defined(__AVX512VPOPCNTDQ__) && defined(__AVX512DQ__)
#include <immintrin.h>
#endif

namespace mb {

constexpr Count sketch_bits = 32, entries_per_line = 8, max_distance = 63;
constexpr uint64_t empty_distance = 127;  // of an empty entry

MB_FN int32_t row_of(int64_t entry) { return static_cast<int32_t>(entry >> 32); }
MB_FN uint32_t sketch_of(int64_t entry) { return static_cast<uint32_t>(entry); }
MB_FN int64_t make_entry(int64_t row, uint32_t sketch) {
    return static_cast<int64_t>(static_cast<uint64_t>(row) << 32 | sketch);
}
MB_FN Count count_bits(uint64_t bits) {
#if defined(__CUDACC__)
    return __popcll(bits);
#else
    return __builtin_popcountll(bits);
#endif
}
MB_FN Count lowest_bit(uint64_t bits) {
#if defined(__CUDACC__)
    return __ffsll(static_cast<int64_t>(bits)) - 1;
#else
    return __builtin_ctzll(bits);
#endif
}

// The signs of 32 projections as bits; a table uses the first `bits`.
MB_FN uint32_t signs(const Real* projections) {
    uint32_t code = 0;
    for (Count i = 0; i < sketch_bits; ++i) code |= static_cast<uint32_t>(projections[i] > 0) << i;
    return code;
}

// A query's sketch, and the signs certain to degree 1, 2 and 3: |projection| above 0.34, 1.02 and 1.7 of the mean. Not
// 1: with words of one number all projections are equal, and rounding would decide.
struct QuerySketch {
    uint32_t signs, certain[3];
};

// The least share of the sum of all |projections| for a degree of certainty.
MB_FN Real least_share(Count degree) { return static_cast<Real>((2 * degree + 1) * 0.34 / sketch_bits); }

MB_FN QuerySketch sketch_query(const Real* projections) {
    Real total = 0;
    for (Count i = 0; i < sketch_bits; ++i) total += projections[i] < 0 ? -projections[i] : projections[i];
    QuerySketch sketch{signs(projections), {0, 0, 0}};
    for (Count degree = 0; degree < 3; ++degree) {
        const Real least = total * least_share(degree);
        uint32_t bits = 0;
        for (Count i = 0; i < sketch_bits; ++i)
            bits |= static_cast<uint32_t>((projections[i] < 0 ? -projections[i] : projections[i]) > least) << i;
        sketch.certain[degree] = bits;
    }
    return sketch;
}

// Both by a warp, a lane a sign.
MB_FN uint32_t signs(Warp warp, const Real* projections) {
    return warp.ballot([&](Count i) { return projections[i] > 0; });
}
MB_FN QuerySketch sketch_query(Warp warp, const Real* projections) {
    const auto size = [&](Count i) { return projections[i] < 0 ? -projections[i] : projections[i]; };
    Real total = 0;
    for (Count i = 0; i < sketch_bits; ++i) total += size(i);
    QuerySketch sketch{signs(warp, projections), {0, 0, 0}};
    for (Count degree = 0; degree < 3; ++degree) {
        const Real least = total * least_share(degree);
        sketch.certain[degree] = warp.ballot([&](Count i) { return size(i) > least; });
    }
    return sketch;
}

// The distances of the 8 entries of a line.
MB_FN uint64_t line_distances(const int64_t* line, const QuerySketch& query) {
#if defined(__AVX512VPOPCNTDQ__) && defined(__AVX512DQ__)
    const __m512i entries = _mm512_loadu_si512(line),
                  differing = _mm512_xor_si512(entries, _mm512_set1_epi64(query.signs));
    const auto counted = [&](int64_t degree) {
        return _mm512_popcnt_epi64(_mm512_and_si512(differing, _mm512_set1_epi64(query.certain[degree])));
    };
    const __m512i sums = _mm512_add_epi64(_mm512_add_epi64(counted(0), counted(1)), counted(2));
    const __m512i bytes = _mm512_mask_mov_epi64(sums, _mm512_movepi64_mask(entries), _mm512_set1_epi64(empty_distance));
    return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm512_cvtepi64_epi8(bytes)));
#else
    uint64_t distances = 0;
    for (Count c = 0; c < entries_per_line; ++c) {
        const uint64_t differing = static_cast<uint32_t>(line[c]) ^ query.signs;
        Count sum = 0;
        for (Count degree = 0; degree < 3; ++degree) sum += count_bits(differing & query.certain[degree]);
        distances |= (line[c] < 0 ? empty_distance : static_cast<uint64_t>(sum)) << (8 * c);
    }
    return distances;
#endif
}

// The highest bit of each byte: set where the distance is at most `limit`.
MB_FN uint64_t within(uint64_t distances, Count limit) {
    constexpr uint64_t ones = 0x0101010101010101u, highest = 0x8080808080808080u;
    return ((static_cast<uint64_t>(limit) * ones | highest) - distances) & highest;
}

}  // namespace mb
