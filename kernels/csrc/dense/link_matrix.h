// The temporal link matrix of the DNC, [N, N] with row i written after column j (Graves et al. 2016, Methods):
// L(i, j) = (1 - w(i) - w(j)) L_{t-1}(i, j) + w(i) p_{t-1}(j), zero on the diagonal. Forward updates it and takes both
// its products with the R read weights in one pass; backward is one pass over it and its gradient.
#pragma once

#include <type_traits>

#include "dense/vectors.h"

namespace mb {

// Rows of the matrix are worked on a tile at a time: `count` rows, past which the last one stands again.
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

// Both products of a tile with a vector, in one pass: out[k] = rows[k] . vector; sum += sum_k factors[k] rows[k].
template <class T>
MB_FN void multiply_tile(RowsOf<T> rows, const Real* vector, Factors factors, int64_t width, Real* out, Real* sum) {
    VectorSums<tile_rows> dots;
    for_each_columns(width, [&](auto zero, int64_t w) MB_INLINE {
        typedef decltype(zero) Vector;
        const Vector own = load_columns<Vector>(vector + w);
        Vector total = load_columns<Vector>(sum + w);
        for (int k = 0; k < tile_rows; ++k) {
            const Vector row = load_columns<Vector>(rows.at[k] + w);
            dots.add(k, row * own);
            total += factors.of[k] * row;
        }
        store_columns(sum + w, total);
    });
    for (int k = 0; k < tile_rows; ++k) out[k] = dots.of(k);
}

struct LinkMatrix {
    static constexpr int64_t block_columns = 1024;  // of a tile of rows, so that they stay in the nearest cache

    int64_t slots;
    Count heads;
    Real *before, *after;            // [N, N]; forward: may be the same
    const Real *write, *precedence;  // [N] w_t and p_{t-1}
    const Real* reads;               // [R, N] of step t - 1

    // Rows of a chunk: a function of N alone, so that sums do not depend on the number of threads.
    MB_FN static int64_t rows_of_chunk(int64_t slots) {
        const int64_t share = (slots + 31) / 32, tiles = (share + tile_rows - 1) / tile_rows * tile_rows;
        return tiles > Block::link_rows ? tiles : Block::link_rows;
    }
    MB_FN static int64_t chunks(int64_t slots) { return (slots + rows_of_chunk(slots) - 1) / rows_of_chunk(slots); }
    MB_FN int64_t first_row(int64_t chunk) const { return chunk * rows_of_chunk(slots); }
    MB_FN int64_t end_row(int64_t chunk) const {
        const int64_t end = first_row(chunk + 1);
        return end < slots ? end : slots;
    }
    // f(first row, count, first column, columns) for tiles of the rows of a chunk, each in blocks of columns. The count
    // of a whole tile is a constant, so that loops over its rows are none.
    template <class F>
    MB_LEAF void for_each_block(int64_t chunk, F f) const {
        for (int64_t i = first_row(chunk); i < end_row(chunk); i += tile_rows)
            for (int64_t j = 0; j < slots; j += block_columns) {
                const int64_t count = end_row(chunk) - i,
                              columns = slots - j < block_columns ? slots - j : block_columns;
                if (count < tile_rows)
                    f(i, count, j, columns);
                else
                    f(i, std::integral_constant<int64_t, tile_rows>{}, j, columns);
            }
    }

    // The new link in a block: to(k, w) is where row first + k, column + w goes.
    template <class Rows, class To>
    MB_LEAF void update(int64_t first, Rows count, int64_t column, int64_t columns, To to) const {
        const RowsOf<Real> old(before + column, first, count, slots);
        const Factors own(write + first, count);
        for_each_columns(columns, [&](auto zero, int64_t w) MB_INLINE {
            typedef decltype(zero) Vector;
            const Vector other = load_columns<Vector>(write + column + w);
            const Vector preceding = load_columns<Vector>(precedence + column + w);
            for (int64_t k = 0; k < count; ++k)
                store_columns(to(k) + w,
                              (1 - own.of[k] - other) * load_columns<Vector>(old.at[k] + w) + own.of[k] * preceding);
        });
        for (int64_t k = 0; k < count; ++k)
            if (first + k >= column && first + k < column + columns) to(k)[first + k - column] = 0;
    }

    // forward [R, N]: L w, in the rows of the chunk; to backward [R, N]: the chunk's part of L^T w.
    MB_FN void run(int64_t chunk, Real* forward, Real* backward) const {
        for_vector(heads * slots, [=](int64_t j) MB_INLINE { backward[j] = 0; });
        for_each_block(chunk, [&](int64_t first, auto count, int64_t column, int64_t columns) {
            const RowsOf<Real> rows(after + column, first, count, slots);
            update(first, count, column, columns, [&](int64_t k) MB_INLINE { return rows.at[k]; });
            for (Count r = 0; r < heads; ++r) {
                Real numbers[tile_rows];
                multiply_tile(rows, reads + r * slots + column, Factors(reads + r * slots + first, count), columns,
                              numbers, backward + r * slots + column);
                for (int64_t k = 0; k < count; ++k) {
                    Real* const sum = forward + r * slots + first + k;
                    *sum = column == 0 ? numbers[k] : *sum + numbers[k];
                }
            }
        });
    }

    // Sums that backward leaves: of rows [R + 1, N], in the rows of the chunk: gradients of the read weights and of the
    // write weights; of columns [R + 2, N]: the chunk's part of the same, and of the gradient of the precedence.
    struct Sums {
        Real *of_rows, *of_columns;
    };
    // grad_link [N, N] becomes that of the link before. grad_forward, grad_backward [R, N]. `workspace`: of
    // tile_rows * block_columns Reals.
    MB_FN void run_backward(int64_t chunk, Real* grad_link, const Real* grad_forward, const Real* grad_backward,
                            const Sums& sums, Real* workspace) const {
        Real* const of_columns = sums.of_columns;
        for_vector((heads + 2) * slots, [=](int64_t j) MB_INLINE { of_columns[j] = 0; });
        for_each_block(chunk, [&](int64_t first, auto count, int64_t column, int64_t columns) {
            const RowsOf<Real> scratch(workspace, 0, tile_rows, block_columns);
            const RowsOf<Real> old(before + column, first, count, slots),
                grads(grad_link + column, first, count, slots);
            const Factors own(write + first, count);
            const auto add = [&](Count number, const Real* numbers) {
                for (int64_t k = 0; k < count; ++k) {
                    Real* const sum = sums.of_rows + number * slots + first + k;
                    *sum = column == 0 ? numbers[k] : *sum + numbers[k];
                }
            };
            Real numbers[tile_rows];
            update(first, count, column, columns, [&](int64_t k) MB_INLINE { return scratch.at[k]; });
            const RowsOf<Real> links(workspace, 0, count, block_columns);
            for (Count r = 0; r < heads; ++r) {
                multiply_tile(links, grad_backward + r * slots + column,
                              Factors(grad_forward + r * slots + first, count), columns, numbers,
                              of_columns + r * slots + column);
                add(r, numbers);
            }
            for (Count r = 0; r < heads; ++r) {
                const Factors of_forward(grad_forward + r * slots + first, count),
                    read(reads + r * slots + first, count);
                for_each_columns(columns, [&](auto zero, int64_t w) MB_INLINE {
                    typedef decltype(zero) Vector;
                    const Vector other = load_columns<Vector>(reads + r * slots + column + w);
                    const Vector of_backward = load_columns<Vector>(grad_backward + r * slots + column + w);
                    for (int64_t k = 0; k < count; ++k)
                        store_columns(grads.at[k] + w, load_columns<Vector>(grads.at[k] + w) +
                                                           of_forward.of[k] * other + read.of[k] * of_backward);
                });
            }
            for (int64_t k = 0; k < count; ++k)
                if (first + k >= column && first + k < column + columns) grads.at[k][first + k - column] = 0;
            // Through the update, to the gradient of the link before, of the write weights and of the precedence.
            Real *const of_decay = of_columns + heads * slots + column, *const of_precedence = of_decay + slots;
            VectorSums<tile_rows> of_rows;
            for_each_columns(columns, [&](auto zero, int64_t w) MB_INLINE {
                typedef decltype(zero) Vector;
                const Vector other = load_columns<Vector>(write + column + w);
                const Vector preceding = load_columns<Vector>(precedence + column + w);
                Vector decay = load_columns<Vector>(of_decay + w), precedes = load_columns<Vector>(of_precedence + w);
                for (int64_t k = 0; k < count; ++k) {
                    const Vector grad = load_columns<Vector>(grads.at[k] + w),
                                 link = load_columns<Vector>(old.at[k] + w);
                    of_rows.add(k, grad * (preceding - link));
                    decay -= grad * link;
                    precedes += own.of[k] * grad;
                    store_columns(grads.at[k] + w, (1 - own.of[k] - other) * grad);
                }
                store_columns(of_decay + w, decay), store_columns(of_precedence + w, precedes);
            });
            for (int64_t k = 0; k < count; ++k) numbers[k] = of_rows.of(k);
            add(heads, numbers);
        });
    }
};

}  // namespace mb
