// Dot products of a query with as many rows as a vector has lanes. The rows lie one behind another, so that no address
// is looked up, and their sums are transposed: the vector that is left has the dot product of one row in each lane.
//
// A row's sum adds the same numbers in the same order as `dot_rows` does: all scans of a memory must give a row the
// same score.
#pragma once

#include "block/simd.h"

namespace mb {

#if defined(__clang__)
#define MB_SHUFFLE_MANY(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define MB_SHUFFLE_MANY(a, b, ...) __builtin_shuffle(a, b, LaneIndex{__VA_ARGS__})
#endif

// Whether the rows of this build can be scored so, if they have this width.
template <int width>
constexpr bool in_many_rows = sizeof(Real) == 4 && sizeof(Store) == sizeof(Real) && width > 0 && width % simd == 0;

#if defined(__AVX512F__)
typedef int32_t LaneIndex __attribute__((vector_size(64)));

// sums[j] = the sum over part[j], for 16 vectors of floats.
template <class Vector>
inline __attribute__((always_inline)) Vector totals(const Vector* part) {
    Vector eights[8], fours[4];  // lanes left of each row
    for (int j = 0; j < 8; ++j) {
        const int row = j % 4 + j / 4 * 8;  // so that the lanes come out in the order of the rows
        const Vector a = part[row], b = part[row + 4];
        eights[j] = MB_SHUFFLE_MANY(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                    MB_SHUFFLE_MANY(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    }
    for (int j = 0; j < 4; ++j) {
        const Vector a = eights[j], b = eights[j + 4];
        fours[j] = MB_SHUFFLE_MANY(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
                   MB_SHUFFLE_MANY(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    }
    const auto two_of_each = [](Vector a, Vector b) {
        return MB_SHUFFLE_MANY(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
               MB_SHUFFLE_MANY(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    };
    const Vector ab = two_of_each(fours[0], fours[1]), cd = two_of_each(fours[2], fours[3]);
    return MB_SHUFFLE_MANY(ab, cd, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
           MB_SHUFFLE_MANY(ab, cd, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
}
#else
typedef int32_t LaneIndex __attribute__((vector_size(32)));

// The same for 8.
template <class Vector>
inline __attribute__((always_inline)) Vector totals(const Vector* part) {
    Vector fours[4];
    for (int j = 0; j < 4; ++j)
        fours[j] = MB_SHUFFLE_MANY(part[j], part[j + 4], 0, 1, 2, 3, 8, 9, 10, 11) +
                   MB_SHUFFLE_MANY(part[j], part[j + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    const auto two_of_each = [](Vector a, Vector b) {
        return MB_SHUFFLE_MANY(a, b, 0, 8, 1, 9, 4, 12, 5, 13) + MB_SHUFFLE_MANY(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
    };
    const Vector ab = two_of_each(fours[0], fours[1]), cd = two_of_each(fours[2], fours[3]);
    return MB_SHUFFLE_MANY(ab, cd, 0, 1, 8, 9, 4, 5, 12, 13) + MB_SHUFFLE_MANY(ab, cd, 2, 3, 10, 11, 6, 7, 14, 15);
}
#endif

// Rows of a scan that are scored at once; `rows` is 0 where they cannot be.
template <int width>
struct ManyRows {
    static constexpr int64_t rows = in_many_rows<width> ? lanes_of<ColumnVector> : 0;
    const Store* first;

    template <class LaneTile>
    void dot(const LaneTile&, const Real* query, int64_t, int64_t, Real* dots) const {
        constexpr int64_t lanes = lanes_of<ColumnVector>, parts = simd / lanes, together = 16 / parts / parts;
        ColumnVector sums[rows];
        for (int64_t begin = 0; begin < rows; begin += together) {  // as many as the registers hold
            ColumnVector part[parts][together] = {};
            for (int64_t w = 0; w < width; w += simd)
                for (int64_t p = 0; p < parts; ++p) {
                    const ColumnVector factor = load_columns<ColumnVector>(query + w + p * lanes);
                    for (int64_t j = 0; j < together; ++j)
                        part[p][j] += load_columns<ColumnVector>(first + (begin + j) * width + w + p * lanes) * factor;
                }
            for (int64_t j = 0; j < together; ++j)
                sums[begin + j] = parts == 1 ? part[0][j] : part[0][j] + part[parts - 1][j];
        }
        store_columns(dots, totals(sums));
    }
    // Multiplies the dot products; as bits, which are not at most `limit`.
    static uint32_t scale(Real* dots, const Real* factors, Real limit) {
        const ColumnVector scaled = load_columns<ColumnVector>(dots) * load_columns<ColumnVector>(factors);
        store_columns(dots, scaled);
        return lanes_where(scaled <= broadcast(limit)) ^ ((1u << rows) - 1);
    }
};

}  // namespace mb
