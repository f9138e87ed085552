// SDNC's temporal links: two row-sparse matrices with L entries a row (Rae et al. 2016, supplement D, eq 17-22). A
// missing entry has column -1 and value 0. Twin: kernels/reference/links.py.
#pragma once

#include "memory/links_mix.h"

namespace mb {

MB_FN int64_t links_scratch(const Arguments& a) {
    const int64_t update = a.links + 3 * a.links * 4 * a.links + 3 * (written_size(a) + a.links);
    const int64_t mix = a.heads * (5 * max_mixed_columns(a) + 2 * a.reads);
    return update > mix ? update : mix;
}

// A sparse vector of L rows, -1: none.
struct Precedence {
    int32_t* rows;
    Real* weights;
};

// What an update overwrites; the pointers may be null, then nothing is kept.
struct LinkLog {
    int32_t* offsets;     // [L, L] entries of `before` that were decayed, -1: none
    Real* values;         // [L, L] their values before
    int32_t* columns;     // [2 L, L] rows of `before`, then of `after`
    Real* column_values;  // [2 L, L]
};

struct Links : LinkRows {
    const Arguments& a;
    Count L;
    int64_t element;

    MB_FN Links(const Arguments& a, int64_t element)
        : LinkRows{a.after_columns + element * a.slots * a.links, a.before_columns + element * a.slots * a.links,
                   a.after_values + element * a.slots * a.links, a.before_values + element * a.slots * a.links},
          a(a),
          L(a.links),
          element(element) {}

    // A whole write of n rows (-1: none). linked [L] out.
    MB_FN void update(const Block& block, const int32_t* rows, const Real* weights, Count n, Precedence previous,
                      Precedence next, int32_t* linked, LinkLog log, Real* scratch) const {
        update_precedence(block, rows, weights, n, previous, next, linked, scratch, scratch + L);
        block.sync();
        update_matrices(block, linked, scratch, previous, log, scratch + L);
    }

    // linked [L]: the rows of a write [n] with the largest weights. next: the precedence after it,
    // p_t = (1 - sum w) p_{t-1} + w (eq 11).
    MB_FN void update_precedence(const Block& block, const int32_t* rows, const Real* weights, Count n,
                                 Precedence previous, Precedence next, int32_t* linked, Real* linked_weights,
                                 Real* scratch) const {
        const Count most = n > L ? n + L : 2 * L;
        int32_t* const columns = reinterpret_cast<int32_t*>(scratch);
        Real *const values = scratch + most, *const sums = values + most;
        block.for_each_by_warp(1, [&](Count, Warp warp) {
            warp.for_each(n, [&](Count i) { columns[i] = rows[i], values[i] = rows[i] < 0 ? Real(0) : weights[i]; });
            const Real total = warp.sum(n, [&](Count i) { return values[i]; });
            add_duplicates_keep_largest(warp, columns, values, n, 0, sums, linked, linked_weights, L);
            const Real decay = total > 1 ? 0 : 1 - total;
            warp.for_each(L, [&](Count i) {
                columns[i] = previous.rows[i], values[i] = decay * previous.weights[i];
                columns[L + i] = linked[i], values[L + i] = linked_weights[i];
            });
            add_duplicates_keep_largest(warp, columns, values, 2 * L, L, sums, next.rows, next.weights, L);
        });
    }

    // Effect of one write on both matrices (eq 19, 20). linked [L] and previous.rows are distinct or -1.
    MB_FN void update_matrices(const Block& block, const int32_t* linked, const Real* linked_weights,
                               Precedence previous, LinkLog log, Real* scratch) const {
        int32_t* const merged_columns = reinterpret_cast<int32_t*>(scratch);  // [2 L, 2 L]
        Real *const merged_values = scratch + 4 * L * L, *const merged_sums = merged_values + 4 * L * L;
        // before(i, j) *= 1 - w(j): row j of `after` names the rows i that hold column j
        block.for_each(L * L, [&](Count i) {
            const int64_t j = linked[i / L], holder = j < 0 ? -1 : after_columns[j * L + i % L];
            int64_t offset = -1;
            for (Count q = 0; holder >= 0 && q < L; ++q)
                if (before_columns[holder * L + q] == j) offset = holder * L + q;
            if (log.offsets) log.offsets[i] = static_cast<int32_t>(offset);
            if (offset < 0) return;
            if (log.values) log.values[i] = before_values[offset];
            before_values[offset] *= 1 - linked_weights[i / L];
        });
        block.sync();
        // before(i, :) += w(j) p(i) for the precedence rows i;  after(i, :) = (1 - w(i)) after(i, :) + w(i) p
        block.for_each_by_warp(2 * L, [&](Count i, Warp warp) {
            const bool after = i >= L;
            const Count at = i % L;
            const int64_t row = after ? linked[at] : previous.rows[at];
            if (row < 0) return;
            int32_t* const columns = (after ? after_columns : before_columns) + row * L;
            Real* const values = (after ? after_values : before_values) + row * L;
            const Real keep = after ? 1 - linked_weights[at] : 1;
            const Real scale = after ? linked_weights[at] : previous.weights[at];
            const int32_t* added = after ? previous.rows : linked;
            const Real* added_weights = after ? previous.weights : linked_weights;
            int32_t* const own_columns = merged_columns + i * 2 * L;
            Real* const own_values = merged_values + i * 2 * L;
            warp.for_each(L, [&](Count q) {
                if (log.columns) log.columns[i * L + q] = columns[q], log.column_values[i * L + q] = values[q];
                own_columns[q] = columns[q], own_values[q] = keep * values[q];
                own_columns[L + q] = added[q] == row ? -1 : added[q], own_values[L + q] = scale * added_weights[q];
            });
            add_duplicates_keep_largest(warp, own_columns, own_values, 2 * L, L, merged_sums + i * 2 * L, columns,
                                        values, L);
        });
    }

    // Exchange the matrices with the log: undoes an update; with `forward`, makes it again.
    MB_FN void undo_or_redo(const Block& block, const int32_t* linked, const int32_t* previous, LinkLog log,
                            bool forward) const {
        for (Count half = 0; half < 2; ++half) {
            if ((half == 0) == forward)
                block.for_each(L * L, [&](Count i) {
                    if (log.offsets[i] >= 0) swap_values(before_values[log.offsets[i]], log.values[i]);
                });
            else
                block.for_each(2 * L, [&](Count i) {
                    const bool after = i >= L;
                    const int64_t row = after ? linked[i % L] : previous[i % L];
                    for (Count q = 0; row >= 0 && q < L; ++q) {
                        swap_values((after ? after_columns : before_columns)[row * L + q], log.columns[i * L + q]);
                        swap_values((after ? after_values : before_values)[row * L + q], log.column_values[i * L + q]);
                    }
                });
            block.sync();
        }
    }

    // Forward and backward weights f = N w, b = P w (eq 21, 22) as sparse vectors [R, K L] with repeated columns, -1:
    // none.
    template <class Index>
    MB_FN void read(const Block& block, const Index* index, const Real* weights, Count heads, Count reads,
                    int64_t* forward, Real* forward_values, int64_t* backward, Real* backward_values) const {
        block.for_each(heads * reads * L, [&](Count i) {
            const int64_t row = index[i / L], q = row * L + i % L;
            const Real weight = row < 0 ? 0 : weights[i / L];
            forward[i] = row < 0 ? -1 : before_columns[q];
            backward[i] = row < 0 ? -1 : after_columns[q];
            forward_values[i] = row < 0 ? 0 : weight * before_values[q];
            backward_values[i] = row < 0 ? 0 : weight * after_values[q];
        });
    }

    // Read weights of all heads, see links_mix.h: read_index, read_weights, content_* [R, K], modes [R, 3] -> index,
    // weights [R, K], parts [R, K, 2] (may be null).
    MB_FN void mix(const Block& block, const int32_t* read_index, const Real* read_weights,
                   const int32_t* content_index, const Real* content_weights, const Real* modes, int32_t* index,
                   Real* weights, Real* parts, Real* scratch) const {
        const Count K = a.reads, head_scratch = 5 * max_mixed_columns(a) + 2 * K;
        const auto inputs = [&](Count r) {
            return MixInputs{read_index + r * K, read_weights + r * K, content_index + r * K, content_weights + r * K,
                             modes + r * 3};
        };
        const auto parts_of = [&](Count r) { return parts ? parts + r * K * 2 : nullptr; };
        if constexpr (Warp::lanes == 1)
            block.for_each(a.heads, [&](Count r) {
                mix_by_thread(a, *this, inputs(r), index + r * K, weights + r * K, parts_of(r),
                              scratch + r * head_scratch);
            });
        else
            block.for_each_by_warp(static_cast<Count>(a.heads), [&](Count r, Warp warp) {
                mix_by_warp(warp, a, *this, inputs(r), index + r * K, weights + r * K, parts_of(r),
                            scratch + r * head_scratch);
            });
    }
};

}  // namespace mb
