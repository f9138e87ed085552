// The gradients of the rows of a memory after a step, completed and taken back through the step's write.
#pragma once

#include "dense/rows.h"

namespace mb {

// What some heads have scored the rows of a block with: of each a key, and numbers of the rows, `to_key`: a row's
// gradient is the sum of to_key * key.
struct ScoredKeys {
    Count heads;
    Inputs keys, to_key;
};

// No write to be taken back.
struct NoWrite {
    template <class Vector, int at_once>
    struct Of {
        MB_FN Vector after(int, int64_t, Vector row) const { return row; }
        MB_FN void undo(int64_t, const Vector (&)[at_once], Vector (&)[at_once]) {}
        MB_FN void end() const {}
    };
    template <class Vector, int at_once>
    MB_FN Of<Vector, at_once> of(int64_t) const {
        return {};
    }
};

struct RowGradients {
    int64_t width;
    const Real *rows, *to_row;   // minus to_row * row is a part of the row's gradient
    Inputs weights, grad_reads;  // of the heads of `reads`
    ScoredKeys reads, late;      // of the read heads, and of those that scored the rows in the step after

    // Complete the gradients of a block, and make of them those of the rows before the write. To sums [R, W], in lanes:
    // of to_key * row. Write: of some vectors of `rows`, which it chooses, `after(j, w, row)` is column w of vector j
    // after the write, and `undo(w, rows, grads)` takes column w of the gradients back.
    template <class Write>
    MB_FN void complete(int64_t size, Real* grads, Outputs sums, const Write& write) const {
        const bool is_late_alone = late.heads == 1;
        if (late.heads > 1) add_outer(grads, size, width, late.to_key, late.keys, late.heads);
        Count first = 0;
        for (; first + 4 < reads.heads; first += 4)
            complete_group<4, false>(size, grads, sums, write, first, first == 0, first == 0 && is_late_alone);
        for_count(reads.heads - first, [&](auto group) MB_INLINE {
            complete_group<group(), true>(size, grads, sums, write, first, first == 0, first == 0 && is_late_alone);
        });
    }

  private:
    template <int count, bool is_last, class Write>
    MB_FN void complete_group(int64_t size, Real* grads, Outputs sums, const Write& write, Count first, bool with_rows,
                              bool with_late) const {
        for_each_vectors(size, [&](auto zero, auto vectors_at_once, int64_t i) MB_INLINE {
            typedef decltype(zero) Vector;
            constexpr int at_once = vectors_at_once();
            constexpr int64_t lanes = lanes_of<Vector>;
            auto written = write.template of<Vector, at_once>(i);
            Vector weight[count + 1][at_once], key[count + 1][at_once], rest[at_once] = {}, to_late[at_once] = {};
            for (int j = 0; j < at_once; ++j) {
                const int64_t at = i + j * lanes;
                for (int h = 0; h < count; ++h) {
                    weight[h][j] = load_columns<Vector>(weights[first + h] + at);
                    key[h][j] = load_columns<Vector>(reads.to_key[first + h] + at);
                }
                if (with_rows) rest[j] = load_columns<Vector>(to_row + at);
                if (with_late) to_late[j] = load_columns<Vector>(late.to_key[0] + at);
            }
            for (int64_t w = 0; w < width; ++w) {
                Vector row[at_once], grad[at_once], parts[count + 1] = {};
                for (int j = 0; j < at_once; ++j) {
                    const int64_t at = w * size + i + j * lanes;
                    row[j] = load_columns<Vector>(rows + at);
                    grad[j] = load_columns<Vector>(grads + at);
                    const Vector after = written.after(j, w, row[j]);
                    if (with_rows) grad[j] -= rest[j] * after;
                    if (with_late) grad[j] += late.keys[0][w] * to_late[j];
                    for (int h = 0; h < count; ++h) {
                        grad[j] += grad_reads[first + h][w] * weight[h][j];
                        grad[j] += reads.keys[first + h][w] * key[h][j];
                        parts[h] += key[h][j] * after;
                    }
                }
                for (int h = 0; h < count; ++h) add_to_lanes(sums[first + h] + w * sum_lanes, parts[h]);
                if constexpr (is_last) written.undo(w, row, grad);
                for (int j = 0; j < at_once; ++j) store_columns(grads + w * size + i + j * lanes, grad[j]);
            }
            if constexpr (is_last) written.end();
        });
    }
};

}  // namespace mb
