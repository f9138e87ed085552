// Vector times matrix, the controller's work. Matrices are [rows, columns] with a row stride, as torch keeps weights: `multiply` goes along
// the rows, out = M v, and `multiply_transposed` down the columns, out = M^T v, so that no weight needs a transposed copy.
#pragma once

#include "block.h"

namespace mb {

// out[j] = start[j] + sum_k matrix[j, k] v[k]; ready after the next sync. `start` may be `out`.
MB_FN void multiply(const Block& block, const Vectors& x, const Real* matrix, int64_t stride, int64_t rows, int64_t columns) {
    block.rows((rows + Group::unit_rows - 1) / Group::unit_rows, [&](int64_t unit, Group group) {
        const int64_t first = unit * Group::unit_rows, rest = rows - first, count = rest < Group::unit_rows ? rest : Group::unit_rows;
        group.sum_rows(x, first, matrix + first * stride, stride, count, columns);
    });
}

// One unit of work of a transposed product: `unit_columns` neighbouring columns.
MB_FN int64_t product_units(int64_t columns) { return (columns + Group::unit_columns - 1) / Group::unit_columns; }
template <class T>
MB_FN void product_unit(const Group& group, int64_t unit, Real* out, const Real* start, const Real* matrix, int64_t stride, const T* v, int64_t rows, int64_t columns) {
    const int64_t first = unit * Group::unit_columns, rest = columns - first, count = rest < Group::unit_columns ? rest : Group::unit_columns;
    group.sum_columns(out + first, start ? start + first : nullptr, matrix + first, stride, v, rows, count, first);
}

#if !defined(__CUDACC__)
// out[j] = start[j] + sum_k v[k] matrix[k, j]; ready after the next sync; `start` may be null.
MB_FN void multiply_transposed(const Block& block, const Vectors& x, const Real* matrix, int64_t stride, int64_t rows, int64_t columns) {
    block.rows(product_units(columns), [&](int64_t unit, Group group) {
        const int64_t first = unit * Group::unit_columns, rest = columns - first, count = rest < Group::unit_columns ? rest : Group::unit_columns;
        group.sum_columns(x, first, matrix + first, stride, rows, count);
    });
}
#endif

}  // namespace mb
