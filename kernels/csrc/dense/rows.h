// Passes over the rows of a memory, a tile of rows at a time: `count` rows, past which the last one stands again.
#pragma once

#include "dense/vectors.h"

namespace mb {

constexpr int64_t tile_rows = LaneTile::rows;

// Adjacent rows of a matrix [N, W].
template <class T>
struct RowsOf {
    T* at[tile_rows];
    MB_FN RowsOf(T* matrix, int64_t first, int64_t count, int64_t width) {
        for (int64_t k = 0; k < tile_rows; ++k) at[k] = matrix + (first + (k < count ? k : count - 1)) * width;
    }
};

// One number a row of a tile; 0 past the end.
struct Factors {
    Real of[tile_rows];
    MB_FN Factors(const Real* from, int64_t count) {
        for (int64_t k = 0; k < tile_rows; ++k) of[k] = k < count ? from[k] : Real(0);
    }
};

// f(first, count) for tiles of the rows of a chunk.
template <class F>
MB_LEAF void for_each_tile(const Chunk& chunk, F f) {
    for (int64_t i = chunk.first; i < chunk.end; i += tile_rows)
        f(i, chunk.end - i < tile_rows ? chunk.end - i : tile_rows);
}

// The numbers of the rows that there are.
MB_LEAF void store_tile(Real* out, const Real* values, int64_t count) {
    for (int64_t k = 0; k < count; ++k) out[k] = values[k];
}

// out[k] = rows[k] . vector.
template <class T>
MB_LEAF void dot_tile(const RowsOf<T>& rows, const Real* vector, int64_t width, Real* out) {
    if constexpr (tile_rows == 4) {
        dot_rows(rows.at, vector, width, out);
    } else {
        for (int64_t k = 0; k < tile_rows; ++k)
            out[k] = Warp{}.sum(width, [&](int64_t w) { return rows.at[k][w] * vector[w]; });
    }
}

// out[k] = sqrt(|rows[k]|^2 + epsilon).
template <class T>
MB_LEAF void norm_tile(const RowsOf<T>& rows, int64_t width, Real* out) {
    if constexpr (tile_rows == 4) {
        square_four(rows.at, width, out);
    } else {
        for (int64_t k = 0; k < tile_rows; ++k)
            out[k] = Warp{}.sum(width, [&](int64_t w) { return rows.at[k][w] * rows.at[k][w]; });
    }
    for (int64_t k = 0; k < tile_rows; ++k) out[k] = square_root(out[k] + epsilon);
}

// out += sum_k factors[k] rows[k].
template <class T>
MB_LEAF void accumulate_tile(Real* out, const RowsOf<T>& rows, const Factors& factors, int64_t width) {
    for_each_columns(width, [&](auto zero, int64_t w) MB_INLINE {
        typedef decltype(zero) Vector;
        Vector sum = load_columns<Vector>(out + w);
        for (int64_t k = 0; k < tile_rows; ++k) sum += factors.of[k] * load_columns<Vector>(rows.at[k] + w);
        store_columns(out + w, sum);
    });
}

}  // namespace mb
