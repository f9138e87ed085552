// Matrix-vector products. Matrices are [rows, columns] with a row stride, as torch keeps weights. `matvec` is M v,
// `matvec_transposed` is M^T v, so no weight needs a transposed copy.
#pragma once

#include "block/block.h"

namespace mb {

// out[j] = start[j] + sum_k matrix[j, k] v[k]; visible after the next sync. `start` may be `out`.
MB_FN void matvec(const Block& block, const RhsBatch& x, const Real* matrix, int64_t stride, Count rows,
                  Count columns) {
    block.for_each_by_warp((rows + Warp::rows_per_warp - 1) / Warp::rows_per_warp, [&](Count unit, Warp warp) {
        const Count first = unit * Warp::rows_per_warp, rest = rows - first,
                    count = rest < Warp::rows_per_warp ? rest : Warp::rows_per_warp;
        warp.matvec(x, first, matrix + first * stride, stride, count, columns);
    });
}

// One warp's share of M^T v: `columns_per_warp` adjacent columns.
MB_FN Count column_blocks(Count columns) { return (columns + Warp::columns_per_warp - 1) / Warp::columns_per_warp; }
template <class T>
MB_FN void matvec_transposed_block(const Warp& warp, Count unit, Real* out, const Real* start, const Real* matrix,
                                   int64_t stride, const T* v, Count rows, Count columns) {
    const Count first = unit * Warp::columns_per_warp, rest = columns - first,
                count = rest < Warp::columns_per_warp ? rest : Warp::columns_per_warp;
    warp.matvec_transposed(out + first, start ? start + first : nullptr, matrix + first, stride, v, rows, count, first);
}

#if !defined(__CUDACC__)
// out[j] = start[j] + sum_k v[k] matrix[k, j]; visible after the next sync; `start` may be null.
MB_FN void matvec_transposed(const Block& block, const RhsBatch& x, const Real* matrix, int64_t stride, Count rows,
                             Count columns) {
    block.for_each_by_warp(column_blocks(columns), [&](Count unit, Warp warp) {
        const Count first = unit * Warp::columns_per_warp, rest = columns - first,
                    count = rest < Warp::columns_per_warp ? rest : Warp::columns_per_warp;
        warp.matvec_transposed(x, first, matrix + first, stride, rows, count);
    });
}
#endif

// The same with a matrix in panels (block/panels.h).
#if defined(__CUDACC__) || defined(MB_EMULATE)
MB_FN void matvec_panels(const Block& block, const RhsBatch& x, const Real* panels, Count rows, Count columns) {
    constexpr Count size = panel_columns;
    block.for_each(columns, [&](Count j) {
        const Real* const column = panels + j / size * size * rows + j % size;
        for (int i = 0; i < x.count; ++i) {
            Real sum = 0;
            for (Count k = 0; k < rows; ++k) sum += x.v[i][k] * column[k * size];
            x.out[i][j] = x.start[i] ? x.start[i][j] + sum : sum;
        }
    });
}
#else
MB_FN void matvec_panels(const Block&, const RhsBatch& x, const Real* panels, Count rows, Count columns) {
    matvec_panels(x, panels, rows, columns);
}
#endif

}  // namespace mb
