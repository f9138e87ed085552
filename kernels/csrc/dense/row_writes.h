// Rows written by a step, with what is taken of them while they are in registers: norms, and products with read keys.
#pragma once

#include "dense/rows.h"

namespace mb {

struct RowWrites {
    int64_t width;
    Inputs keys;  // of some heads
    Count heads;
    bool streamed;  // the rows after are not read again soon

    // The rows of a block after the write, which may take the place of those before; to `squares` their squared norms,
    // to `scores` of each head the products with its key. Change: of some vectors of rows, `after(j, w, column)` makes
    // column w of vector j.
    template <class Change>
    MB_FN void run(const Real* before, int64_t size, Real* after, Real* squares, Outputs scores,
                   const Change& change) const {
        for_count(heads < 4 ? heads : 4, [&](auto group) MB_INLINE {
            if (streamed && heads <= 4 && size == Block::block_rows)
                run_group<group(), true>(before, size, after, squares, scores, change);
            else
                run_group<group(), false>(before, size, after, squares, scores, change);
        });
        if (heads > 4) score_rows(after, size, width, {keys[4], keys.stride}, heads - 4, {scores[4], scores.stride});
    }

    template <int count, bool past_caches, class Change>
    MB_FN void run_group(const Real* before, int64_t size, Real* after, Real* squares, Outputs scores,
                         const Change& change) const {
        for_each_vectors(size, [&](auto zero, auto vectors_at_once, int64_t i) MB_INLINE {
            typedef decltype(zero) Vector;
            constexpr int at_once = vectors_at_once();
            constexpr int64_t lanes = lanes_of<Vector>;
            const auto changed = change.template of<Vector, at_once>(i);
            Vector sums[count][at_once] = {}, lengths[at_once] = {};
            for (int64_t w = 0; w < width; ++w)
                for (int j = 0; j < at_once; ++j) {
                    const int64_t at = w * size + i + j * lanes;
                    const Vector row = changed.after(j, w, load_columns<Vector>(before + at));
                    if constexpr (past_caches)
                        stream_columns(after + at, row);
                    else
                        store_columns(after + at, row);
                    lengths[j] += row * row;
                    for (int h = 0; h < count; ++h) sums[h][j] += keys[h][w] * row;
                }
            for (int j = 0; j < at_once; ++j) {
                store_columns(squares + i + j * lanes, lengths[j]);
                for (int h = 0; h < count; ++h) store_columns(scores[h] + i + j * lanes, sums[h][j]);
            }
        });
    }
};

// Whether rows of a memory of `numbers` numbers, which begin at `rows`, are stored past the caches.
inline bool is_streamed(const Real* rows, int64_t numbers) {
    return numbers * static_cast<int64_t>(sizeof(Real)) >= Block::streamed_bytes &&
           reinterpret_cast<uintptr_t>(rows) % sizeof(ColumnVector) == 0;
}

// The same for rows that are ready: `to` past the caches, visible to other threads.
inline void stream_numbers(const Real* from, int64_t count, Real* to) {
    int64_t i = 0;
    for (; i + lanes_of<ColumnVector> <= count; i += lanes_of<ColumnVector>)
        stream_columns(to + i, load_columns<ColumnVector>(from + i));
    for (; i < count; ++i) to[i] = from[i];
    end_of_streams();
}

}  // namespace mb
