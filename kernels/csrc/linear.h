// Vector times matrix, the controller's work. Matrices are [rows, columns] with a row stride, as torch keeps weights: `multiply` goes along
// the rows, out = M v, and `multiply_transposed` down the columns, out = M^T v, so that no weight needs a transposed copy.
#pragma once

#include "block.h"

namespace mb {

// out[j] = start[j] + sum_k matrix[j, k] v[k], four rows at a time; ready after the next sync. `start` may be `out`.
MB_FN void multiply(const Block& block, Real* out, const Real* start, const Real* matrix, int64_t stride, const Real* v, int64_t rows, int64_t columns) {
    block.rows((rows + 3) / 4, [&](int64_t four, Group group) {
        const int64_t j = 4 * four, n = rows - j < 4 ? rows - j : 4;
        const Real *const a = matrix + j * stride, *const b = n > 1 ? a + stride : a, *const c = n > 2 ? b + stride : a, *const d = n > 3 ? c + stride : a;
        Real sums[4];
        group.sum4(columns, sums, [&](int64_t k) { return a[k] * v[k]; }, [&](int64_t k) { return b[k] * v[k]; }, [&](int64_t k) { return c[k] * v[k]; },
                   [&](int64_t k) { return d[k] * v[k]; });
        if (group.leads())
            for (int64_t i = 0; i < n; ++i) out[j + i] = start[j + i] + sums[i];
    });
}

template <int tile, class T>
MB_FN void sum_columns(Real* out, const Real* start, const Real* matrix, int64_t stride, const T* v, int64_t rows, int64_t from) {
    Real sums[tile];
    for (int j = 0; j < tile; ++j) sums[j] = 0;
    for (int64_t k = 0; k < rows; ++k) {
        const Real factor = v[k];
        const Real* row = matrix + k * stride;
        for (int j = 0; j < tile; ++j) sums[j] += factor * row[j];
    }
    for (int j = 0; j < tile; ++j)
        if (j >= from) out[j] = sums[j] + (start ? start[j] : Real(0));
}

// One unit of work of a transposed product: a tile of columns a thread holds in registers, or on CUDA 32 neighbouring columns of a warp, so that
// its loads are one. The last tile reaches back over columns that are another's, and leaves those.
constexpr int64_t part_tile = Block::tile < 16 ? Block::tile : 16;
MB_FN int64_t product_units(int64_t columns) {
    const int64_t whole = columns / Block::tile, rest = columns - whole * Block::tile;
    return Block::tile == 1 ? (columns + 31) / 32 : whole + (rest + part_tile - 1) / part_tile;
}
template <class T>
MB_FN void product_unit(const Group& group, int64_t unit, Real* out, const Real* start, const Real* matrix, int64_t stride, const T* v, int64_t rows, int64_t columns) {
    constexpr int64_t tile = Block::tile;
    if (tile == 1) {
        group.each(32, [&](int64_t lane) {
            const int64_t j = unit * 32 + lane;
            if (j < columns) sum_columns<1>(out + j, start ? start + j : start, matrix + j, stride, v, rows, 0);
        });
        return;
    }
    const int64_t whole = columns / tile;
    int64_t first = unit < whole ? unit * tile : whole * tile + (unit - whole) * part_tile, from = 0;
    if (unit < whole) return sum_columns<tile>(out + first, start ? start + first : start, matrix + first, stride, v, rows, 0);
    if (columns >= part_tile) {
        if (first + part_tile > columns) from = first + part_tile - columns, first = columns - part_tile;
        return sum_columns<part_tile>(out + first, start ? start + first : start, matrix + first, stride, v, rows, from);
    }
    for (int64_t j = 0; j < columns; ++j) sum_columns<1>(out + j, start ? start + j : start, matrix + j, stride, v, rows, 0);
}

// out[j] = start[j] + sum_k v[k] matrix[k, j]; ready after the next sync; `start` may be null.
MB_FN void multiply_transposed(const Block& block, Real* out, const Real* start, const Real* matrix, int64_t stride, const Real* v, int64_t rows, int64_t columns) {
    block.rows(product_units(columns), [&](int64_t unit, Group group) { product_unit(group, unit, out, start, matrix, stride, v, rows, columns); });
}

}  // namespace mb
