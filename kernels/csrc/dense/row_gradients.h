// Gradients of the rows of a memory in one pass over them: completed for the rows after a step, then taken back through
// its write.
#pragma once

#include "dense/rows.h"

namespace mb {

// What some heads have scored rows with: of each a key, and vectors over rows `to_key`: a row's gradient is the sum of
// to_key * key.
struct ScoredKeys {
    Count heads;
    const Real* keys;
    int64_t key_stride;
    const Real* to_key;  // [heads, N]
};

struct RowGradients {
    int64_t slots, width;
    Real *rows, *grads;                // [N, W] after the step
    const Real *weights, *grad_reads;  // [R, N], [R, W] of the R heads of `reads`
    ScoredKeys reads, late;            // of the read heads, and of those that scored the rows in the step after

    MB_FN Factors factors(const Real* vectors, Count h, int64_t first, int64_t count) const {
        return Factors(vectors + h * slots + first, count);
    }

    // Complete the gradients of a tile; `to_row`: minus its product with a row is the rest of the row's gradient. To
    // sums [R, W]: of to_key * row.
    MB_LEAF void complete(int64_t first, int64_t count, const Factors& to_row, Real* sums) const {
        const RowsOf<Real> tile(rows, first, count, width), grad_rows(grads, first, count, width);
        for_each_columns(width, [&](auto zero, int64_t w) MB_INLINE {
            typedef decltype(zero) Vector;
            Vector grad[tile_rows];
            for (int64_t k = 0; k < tile_rows; ++k)
                grad[k] =
                    load_columns<Vector>(grad_rows.at[k] + w) - to_row.of[k] * load_columns<Vector>(tile.at[k] + w);
            const auto add_outer = [&](const Factors& factor, const Real* vector) MB_INLINE {
                const Vector own = load_columns<Vector>(vector + w);
                for (int64_t k = 0; k < tile_rows; ++k) grad[k] += factor.of[k] * own;
            };
            for (Count r = 0; r < reads.heads; ++r) {
                add_outer(factors(weights, r, first, count), grad_reads + r * width);
                add_outer(factors(reads.to_key, r, first, count), reads.keys + r * reads.key_stride);
            }
            for (Count v = 0; v < late.heads; ++v)
                add_outer(factors(late.to_key, v, first, count), late.keys + v * late.key_stride);
            for (int64_t k = 0; k < count; ++k) store_columns(grad_rows.at[k] + w, grad[k]);
        });
        for (Count r = 0; r < reads.heads; ++r)
            accumulate_tile(sums + r * width, tile, factors(reads.to_key, r, first, count), width);
    }
};

// A write of V heads that erases and adds.
struct ErasesAndAdds {
    Count heads;
    int64_t slots, width;
    const Real *weights, *erase, *add;  // [V, N], [V, W], [V, W]
    Real* before;                       // [N, W] rows
    Real *grads, *grad_weights;         // [N, W], [V, N], to which is added

    // From the gradients of a tile of rows after the write to those before. To sums [V, W]: gradients of add, and minus
    // those of erase. `decayed` [rows of a tile, W] is scratch.
    MB_LEAF void undo(int64_t first, int64_t count, Real* of_add, Real* of_erase, Real* decayed) const {
        const RowsOf<Real> rows(before, first, count, width), grad_rows(grads, first, count, width);
        const RowsOf<Real> products(decayed, 0, tile_rows, width);
        const auto weight = [&](Count v, int64_t k) {
            return weights[v * slots + first + (k < count ? k : count - 1)];
        };
        for (Count v = 0; v < heads; ++v) {
            const Factors own(weights + v * slots + first, count);
            // What this erase multiplies: the rows before, as the other heads have erased them.
            for_each_columns(width, [&](auto zero, int64_t w) MB_INLINE {
                typedef decltype(zero) Vector;
                for (int64_t k = 0; k < tile_rows; ++k) {
                    Vector row = load_columns<Vector>(grad_rows.at[k] + w) * load_columns<Vector>(rows.at[k] + w);
                    for (Count u = 0; u < heads; ++u)
                        if (u != v) row *= 1 - weight(u, k) * load_columns<Vector>(erase + u * width + w);
                    store_columns(products.at[k] + w, row);
                }
            });
            Real added[tile_rows], erased[tile_rows];
            dot_tile(grad_rows, add + v * width, width, added);
            dot_tile(products, erase + v * width, width, erased);
            for (int64_t k = 0; k < count; ++k) grad_weights[v * slots + first + k] += added[k] - erased[k];
            accumulate_tile(of_add + v * width, grad_rows, own, width);
            accumulate_tile(of_erase + v * width, products, own, width);
        }
        for_each_columns(width, [&](auto zero, int64_t w) MB_INLINE {
            typedef decltype(zero) Vector;
            for (int64_t k = 0; k < count; ++k) {
                Vector grad = load_columns<Vector>(grad_rows.at[k] + w);
                for (Count v = 0; v < heads; ++v)
                    grad *= 1 - weight(v, k) * load_columns<Vector>(erase + v * width + w);
                store_columns(grad_rows.at[k] + w, grad);
            }
        });
    }
    // The write itself: all erases, then all adds. Reads `before`, writes `after`.
    MB_LEAF void run(int64_t first, int64_t count, Real* after) const {
        const RowsOf<Real> from(before, first, count, width), to(after, first, count, width);
        for_each_columns(width, [&](auto zero, int64_t w) MB_INLINE {
            typedef decltype(zero) Vector;
            for (int64_t k = 0; k < count; ++k) {
                Vector row = load_columns<Vector>(from.at[k] + w);
                for (Count v = 0; v < heads; ++v)
                    row *= 1 - weights[v * slots + first + k] * load_columns<Vector>(erase + v * width + w);
                for (Count v = 0; v < heads; ++v)
                    row += weights[v * slots + first + k] * load_columns<Vector>(add + v * width + w);
                store_columns(to.at[k] + w, row);
            }
        });
    }
};

}  // namespace mb
