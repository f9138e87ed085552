// Products with a matrix in panels, for the cpu build. A panel holds as many columns as fill a vector of 64 bytes, row
// after row, so that a product reads the matrix from its first byte to its last, once for up to eight right-hand sides.
#pragma once

#include "block/simd.h"

namespace mb {

// Right-hand sides of a product, and the panels that are then summed at once: the sums of all stay in registers, and
// are so many that the latency of an addition is hidden.
#if defined(__AVX512F__)
constexpr int panel_rhs = 8;
constexpr int panels_at_once(int num_rhs) { return num_rhs == 2 ? 4 : num_rhs < 4 ? 8 : 24 / num_rhs; }
#else
constexpr int panel_rhs = 4;
constexpr int panels_at_once(int num_rhs) { return num_rhs == 1 ? 4 : num_rhs == 2 ? 3 : num_rhs == 3 ? 2 : 1; }
#endif

// out[j] = start[j] + sum; of the last panel `fresh` columns are of the matrix.
inline void store_panel(Real* out, const Real* start, const ColumnVector* parts, int64_t fresh) {
    SimdVector sum;
    __builtin_memcpy(&sum, parts, sizeof sum);
    if (fresh == panel_columns) return store(out, start ? sum + load(start) : sum);
    for (int64_t j = 0; j < fresh; ++j) out[j] = start ? sum[j] + start[j] : sum[j];
}

// Panels `panel` to `end`, as long as there are `at_once` and then the rest.
template <int num_rhs, int at_once>
inline void multiply_panels(const RhsBatch& x, const Real* panels, int64_t rows, int64_t columns, int64_t panel,
                            int64_t end) {
    constexpr int64_t lanes = lanes_of<ColumnVector>, parts = panel_columns / lanes;
    for (; panel + at_once <= end; panel += at_once) {
        const Real* const from = panels + panel * rows * panel_columns;
        ColumnVector sums[num_rhs][at_once * parts] = {};
        for (int64_t k = 0; k < rows; ++k) {
            ColumnVector row[at_once * parts];
            for (int j = 0; j < at_once * parts; ++j)
                row[j] = keep_in_register(
                    load_columns<ColumnVector>(from + (j / parts * rows + k) * panel_columns + j % parts * lanes));
            for (int i = 0; i < num_rhs; ++i) {
                const ColumnVector factor = keep_in_register(broadcast(x.v[i][k]));
                for (int j = 0; j < at_once * parts; ++j) sums[i][j] += factor * row[j];
            }
        }
        for (int i = 0; i < num_rhs; ++i)
            for (int j = 0; j < at_once; ++j) {
                const int64_t first = (panel + j) * panel_columns, rest = columns - first;
                store_panel(x.out[i] + first, x.start[i] ? x.start[i] + first : nullptr, sums[i] + j * parts,
                            rest < panel_columns ? rest : panel_columns);
            }
    }
    if constexpr (at_once > 1) multiply_panels<num_rhs, at_once / 2>(x, panels, rows, columns, panel, end);
}

// As many right-hand sides as x has, which the compiler is to know: `most` or fewer, but not none.
template <int most>
inline void multiply_panels(const RhsBatch& x, const Real* panels, int64_t rows, int64_t columns, int64_t panel,
                            int64_t end) {
    if (most == 1 || x.count == most)
        return multiply_panels<most, panels_at_once(most)>(x, panels, rows, columns, panel, end);
    if constexpr (most > 1) multiply_panels<most - 1>(x, panels, rows, columns, panel, end);
}

// out[j] = start[j] + sum_k v[k] matrix[k, j]; `start` may be null, or `out`. Each sum is that of its right-hand side
// alone, to the bit.
inline void matvec_panels(const RhsBatch& x, const Real* panels, int64_t rows, int64_t columns) {
    // More than `panel_rhs` are two batches, of which the second finds a panel in the nearest cache.
    const int64_t end = (columns + panel_columns - 1) / panel_columns, together = x.count <= panel_rhs ? end : 1;
    const int in_first = x.count <= panel_rhs ? x.count : (x.count + 1) / 2;
    const RhsBatch batches[] = {x.part(0, in_first), x.part(in_first, panel_rhs)};
    for (int64_t panel = 0; panel < end; panel += together)
        for (const RhsBatch& some : batches)
            if (some.count > 0) multiply_panels<panel_rhs>(some, panels, rows, columns, panel, panel + together);
}

}  // namespace mb
