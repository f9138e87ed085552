// Vector times matrix, the controller's work: out[j] = start[j] + sum_k v[k] matrix[k, j].
#pragma once

#include "block.h"

namespace mb {

template <int tile, class T>
MB_FN void multiply_tile(Real* out, const Real* start, const Real* matrix, int64_t stride, const T* v, int64_t inputs, int64_t outputs) {
    Real sums[tile];
    for (int j = 0; j < tile; ++j) sums[j] = 0;
    for (int64_t k = 0; k < inputs; ++k) {
        const Real factor = v[k];
        const Real* row = matrix + k * stride;
        for (int j = 0; j < tile; ++j) sums[j] += factor * row[j];
    }
    for (int j = 0; j < tile && j < outputs; ++j) out[j] = sums[j] + (start ? start[j] : Real(0));
}

// One unit of work of a product: a tile of columns, or on CUDA 32 neighbouring columns of a warp, so that its loads are one.
constexpr int tail_tile = Block::tile < 16 ? Block::tile : 16;
MB_FN int64_t product_units(int64_t stride) {
    const int64_t whole = stride / Block::tile, rest = (stride - whole * Block::tile) / tail_tile;
    return Block::tile == 1 ? (stride + 31) / 32 : whole + rest;
}
template <class T>
MB_FN void product_unit(const Group& group, int64_t unit, Real* out, const Real* start, const Real* matrix, int64_t stride, const T* v, int64_t inputs, int64_t outputs) {
    constexpr int tile = Block::tile;
    const int64_t whole = stride / tile;
    group.each(tile == 1 ? 32 : 1, [&](int64_t lane) {
        const int64_t i = tile == 1 ? unit * 32 + lane : unit;
        const int64_t first = i < whole ? i * tile : whole * tile + (i - whole) * tail_tile;
        if (first >= outputs) return;
        const Real* offset = start ? start + first : start;
        if (i < whole) multiply_tile<tile>(out + first, offset, matrix + first, stride, v, inputs, outputs - first);
        else multiply_tile<tail_tile>(out + first, offset, matrix + first, stride, v, inputs, outputs - first);
    });
}

// matrix [inputs, stride] row-major; stride is a multiple of 16 >= outputs and the columns past `outputs` are zero, so that whole tiles
// can be read. `out` is ready after the next sync.
MB_FN void multiply(const Block& block, Real* out, const Real* start, const Real* matrix, int64_t stride, const Real* v, int64_t inputs, int64_t outputs) {
    block.rows(product_units(stride), [&](int64_t unit, Group group) { product_unit(group, unit, out, start, matrix, stride, v, inputs, outputs); });
}

}  // namespace mb
