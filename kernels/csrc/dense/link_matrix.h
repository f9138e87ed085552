// The temporal link matrix of the DNC, [N, N] with row i written after column j (Graves et al. 2016, Methods):
// L(i, j) = (1 - w(i) - w(j)) L_{t-1}(i, j) + w(i) p_{t-1}(j), zero on the diagonal. Forward updates it and takes both
// its products with the R read weights in one pass; backward is one pass over its gradient and over the last link that
// was kept, from which it makes the links up to that of the step again, a few rows at a time.
#pragma once

#include <type_traits>

#include "dense/vectors.h"

namespace mb {

// Rows of the matrix are worked on a tile at a time: `count` rows, past which the last one stands again.
constexpr int64_t tile_rows = LaneTile::rows;

// Adjacent rows of a matrix [N, W].
struct RowsOf {
    Real* at[tile_rows];
    MB_FN RowsOf(Real* matrix, int64_t first, int64_t count, int64_t width) {
        for (int64_t k = 0; k < tile_rows; ++k) at[k] = matrix + (first + (k < count ? k : count - 1)) * width;
    }
};

// One number a row of a tile; 0 past the end.
struct Factors {
    Real of[tile_rows];
    Factors() = default;
    MB_FN Factors(const Real* from, int64_t count) {
        for (int64_t k = 0; k < tile_rows; ++k) of[k] = k < count ? from[k] : Real(0);
    }
};

// Of some heads, adjacent vectors over the slots, of which a tile takes one number a row.
template <int count>
struct FactorsOfHeads {
    Factors of[count];
    MB_FN FactorsOfHeads(const Real* from, int64_t slots, int64_t rows) : of{} {
        for (int h = 0; h < count; ++h) of[h] = Factors(from + h * slots, rows);
    }
};

// f(number, first) for all heads, several at once as long as there are as many; the number is a constant.
template <class F>
MB_LEAF void for_each_heads(Count heads, F f) {
    constexpr std::integral_constant<int, Block::link_heads> several;
    Count r = 0;
    for (; r + several <= heads; r += several) f(several, r);
    for (; r < heads; ++r) f(std::integral_constant<int, 1>{}, r);
}

// What changes the link in a step: [N] w_t and p_{t-1}.
struct LinkUpdate {
    const Real *write, *precedence;
};

struct LinkMatrix {
    static constexpr int64_t block_columns = 256;  // of a tile: a block and its vectors fit the nearest cache
    // Rows of a block made again are not a power of two apart: a processor takes addresses whose last twelve bits agree
    // for the same, and a load would wait for the store to the row before.
    static constexpr int64_t remade_stride = block_columns + 16;

    int64_t slots;
    Count heads;
    const Real* reads;  // [R, N] of step t - 1

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

    // The link of a block after an update; `before` may be `after`.
    template <class Rows>
    MB_LEAF static void update(const LinkUpdate& by, int64_t first, Rows count, int64_t column, int64_t columns,
                               RowsOf before, RowsOf after) {
        const Factors own(by.write + first, count);
        for_each_columns(columns, [&](auto zero, int64_t w) MB_INLINE {
            typedef decltype(zero) Vector;
            const Vector other = load_columns<Vector>(by.write + column + w);
            const Vector preceding = load_columns<Vector>(by.precedence + column + w);
            Vector link[tile_rows];
            for (int64_t k = 0; k < count; ++k) link[k] = load_columns<Vector>(before.at[k] + w);
            for (int64_t k = 0; k < count; ++k)
                store_columns(after.at[k] + w, (1 - own.of[k] - other) * link[k] + own.of[k] * preceding);
        });
        clear_diagonal(after, first, count, column, columns);
    }
    template <class Rows>
    MB_LEAF static void clear_diagonal(RowsOf rows, int64_t first, Rows count, int64_t column, int64_t columns) {
        for (int64_t k = 0; k < count; ++k)
            if (first + k >= column && first + k < column + columns) rows.at[k][first + k - column] = 0;
    }

    // From the link before to that after, [N, N], which may be at the same place. forward [R, N]: L w, in the rows of
    // the chunk; to backward [R, N]: the chunk's part of L^T w.
    MB_FN void run(int64_t chunk, const LinkUpdate& by, Real* before, Real* after, Real* forward,
                   Real* backward) const {
        for_vector(heads * slots, [=](int64_t j) MB_INLINE { backward[j] = 0; });
        for_each_block(chunk, [&](int64_t first, auto count, int64_t column, int64_t columns) {
            const RowsOf rows(after + column, first, count, slots);
            update(by, first, count, column, columns, RowsOf(before + column, first, count, slots), rows);
            multiply(rows, first, count, column, columns, reads, reads, forward, backward);
        });
    }
    // Both products of a block of the link with each head's vectors [R, N], in one pass: to `products`, in its rows,
    // row . vector, and to `sums`, in its columns, the sum over rows of factor * row. Of the first block of columns the
    // products begin.
    template <class Rows>
    MB_LEAF void multiply(RowsOf rows, int64_t first, Rows count, int64_t column, int64_t columns, const Real* vectors,
                          const Real* factors, Real* products, Real* sums) const {
        const int64_t stride = slots;  // a copy: of the member the compiler could not know that no store changes it
        for_each_heads(heads, [&](auto number, Count r) MB_INLINE {
            constexpr int at_once = decltype(number)::value;
            const FactorsOfHeads<at_once> factor(factors + r * slots + first, slots, count);
            const Real* const own = vectors + r * slots + column;
            Real* const to = sums + r * slots + column;
            VectorSums<at_once * tile_rows> dots;
            for_each_columns(columns, [&](auto zero, int64_t w) MB_INLINE {
                typedef decltype(zero) Vector;
                Vector row[tile_rows];
                for (int k = 0; k < tile_rows; ++k) row[k] = load_columns<Vector>(rows.at[k] + w);
                for (int h = 0; h < at_once; ++h) {
                    const Vector vector = load_columns<Vector>(own + h * stride + w);
                    Vector total = load_columns<Vector>(to + h * stride + w);
                    for (int k = 0; k < tile_rows; ++k) {
                        dots.add(h * tile_rows + k, row[k] * vector);
                        total += factor.of[h].of[k] * row[k];
                    }
                    store_columns(to + h * stride + w, total);
                }
            });
            Real numbers[at_once * tile_rows];
            dots.store(numbers);
            for (int h = 0; h < at_once; ++h)
                add(column, count, numbers + h * tile_rows, products + (r + h) * slots + first);
        });
    }
    // To the sums of `count` rows, which begin with the first block of columns.
    template <class Rows>
    MB_LEAF static void add(int64_t column, Rows count, const Real* numbers, Real* sums) {
        for (int64_t k = 0; k < count; ++k) sums[k] = column == 0 ? numbers[k] : sums[k] + numbers[k];
    }

    // Sums that backward leaves: of rows [R + 1, N], in the rows of the chunk: gradients of the read weights and of the
    // write weights; of columns [R + 2, N]: the chunk's part of the same, and of the gradient of the precedence.
    struct Sums {
        Real *of_rows, *of_columns;
    };
    // grad_link [N, N] becomes that of the link before. grad_forward, grad_backward [R, N]. `kept` [N, N] is the link
    // that updates(0), ..., updates(number - 1) changed since, the last of them in this step.
    template <class Updates>
    MB_FN void run_backward(int64_t chunk, Real* kept, int64_t number, Updates updates, Real* grad_link,
                            const Real* grad_forward, const Real* grad_backward, const Sums& sums) const {
        const LinkUpdate by = updates(number - 1);
        Real* const of_columns = sums.of_columns;
        Real links_before[tile_rows * remade_stride], links_after[tile_rows * remade_stride];
        for_vector((heads + 2) * slots, [=](int64_t j) MB_INLINE { of_columns[j] = 0; });
        for_each_block(chunk, [&](int64_t first, auto count, int64_t column, int64_t columns) {
            const RowsOf remade(links_before, 0, count, remade_stride);
            RowsOf old(kept + column, first, count, slots);
            for (int64_t u = 0; u < number - 1; ++u) {
                update(updates(u), first, count, column, columns, old, remade);
                old = remade;
            }
            const RowsOf links(links_after, 0, count, remade_stride), grads(grad_link + column, first, count, slots);
            update(by, first, count, column, columns, old, links);
            multiply(links, first, count, column, columns, grad_backward, grad_forward, sums.of_rows, of_columns);
            multiply_backward(grads, first, count, column, columns, grad_forward, grad_backward);
            update_backward(by, first, count, column, columns, old, grads, sums);
        });
    }
    // Adds to the gradient of a block of the link after the step what its products with the read weights give.
    template <class Rows>
    MB_LEAF void multiply_backward(RowsOf grads, int64_t first, Rows count, int64_t column, int64_t columns,
                                   const Real* grad_forward, const Real* grad_backward) const {
        const int64_t stride = slots;  // as in `multiply`
        for_each_heads(heads, [&](auto number, Count r) MB_INLINE {
            constexpr int at_once = decltype(number)::value;
            const FactorsOfHeads<at_once> of_forward(grad_forward + r * slots + first, slots, count);
            const FactorsOfHeads<at_once> own(reads + r * slots + first, slots, count);
            const Real *const others = reads + r * slots + column, *const of_backward =
                                                                       grad_backward + r * slots + column;
            for_each_columns(columns, [&](auto zero, int64_t w) MB_INLINE {
                typedef decltype(zero) Vector;
                Vector grad[tile_rows];
                for (int64_t k = 0; k < count; ++k) grad[k] = load_columns<Vector>(grads.at[k] + w);
                for (int h = 0; h < at_once; ++h) {
                    const Vector read = load_columns<Vector>(others + h * stride + w);
                    const Vector from = load_columns<Vector>(of_backward + h * stride + w);
                    for (int64_t k = 0; k < count; ++k) {
                        grad[k] += of_forward.of[h].of[k] * read;
                        grad[k] += own.of[h].of[k] * from;
                    }
                }
                for (int64_t k = 0; k < count; ++k) store_columns(grads.at[k] + w, grad[k]);
            });
        });
    }
    // From the gradient of a block after an update to that of `before`, the same block before it; to the sums those of
    // the write weights, of its rows and of its columns, and of the precedence.
    template <class Rows>
    MB_LEAF void update_backward(const LinkUpdate& by, int64_t first, Rows count, int64_t column, int64_t columns,
                                 RowsOf before, RowsOf grads, const Sums& sums) const {
        clear_diagonal(grads, first, count, column, columns);
        const Factors own(by.write + first, count);
        Real *const of_decay = sums.of_columns + heads * slots + column, *const of_precedence = of_decay + slots;
        VectorSums<tile_rows> of_rows;
        for_each_columns(columns, [&](auto zero, int64_t w) MB_INLINE {
            typedef decltype(zero) Vector;
            const Vector other = load_columns<Vector>(by.write + column + w);
            const Vector preceding = load_columns<Vector>(by.precedence + column + w);
            Vector decay = load_columns<Vector>(of_decay + w), precedes = load_columns<Vector>(of_precedence + w);
            Vector grad[tile_rows], link[tile_rows];
            for (int64_t k = 0; k < count; ++k)
                grad[k] = load_columns<Vector>(grads.at[k] + w), link[k] = load_columns<Vector>(before.at[k] + w);
            for (int64_t k = 0; k < count; ++k) {
                of_rows.add(k, grad[k] * (preceding - link[k]));
                decay -= grad[k] * link[k];
                precedes += own.of[k] * grad[k];
                store_columns(grads.at[k] + w, (1 - own.of[k] - other) * grad[k]);
            }
            store_columns(of_decay + w, decay), store_columns(of_precedence + w, precedes);
        });
        Real numbers[tile_rows];
        of_rows.store(numbers);
        add(column, count, numbers, sums.of_rows + heads * slots + first);
    }
};

}  // namespace mb
