// SDNC's temporal links: two row-sparse matrices with L entries a row (Rae et al. 2016, supplement D, eq 17-22); twin of
// kernels/reference/links.py. A missing entry has column -1 and value 0.
#pragma once

#include "memory/topk.h"
#include "memory/rows.h"

namespace mb {

MB_FN int64_t max_mixed_columns(const Arguments& a) { return a.reads * (1 + 2 * a.links); }
MB_FN int64_t links_scratch(const Arguments& a) {
    const int64_t update = a.links + 3 * a.links * 4 * a.links + 3 * (written_size(a) + a.links), mix_reads = a.heads * (5 * max_mixed_columns(a) + 2 * a.reads);
    return update > mix_reads ? update : mix_reads;
}

// Add `value` at `column` of a sparse vector of `count` entries.
MB_FN void add_at_column(int32_t* columns, Real* values, int64_t& count, int32_t column, Real value) {
    for (int64_t i = 0; i < count; ++i)
        if (columns[i] == column) {
            values[i] += value;
            return;
        }
    columns[count] = column, values[count] = value, ++count;
}

// Keep the largest of `count` entries above zero in places [L].
MB_FN void keep_largest(const int32_t* columns, const Real* values, int64_t count, int32_t* kept_columns, Real* kept_values, int64_t places) {
    TopK best{kept_values, kept_columns, places};
    best.clear();
    for (int64_t i = 0; i < count; ++i)
        if (values[i] > 0) best.push(values[i], columns[i]);
    for (int64_t i = 0; i < places; ++i)
        if (best.rows[i] < 0) best.scores[i] = 0;
}

// The same by a group, the lanes an entry each: where one comes to stand is how many are larger, of equals those before it.
MB_FN void keep_largest(const Warp& warp, const int32_t* columns, const Real* values, int64_t count, int32_t* kept_columns, Real* kept_values, int64_t places) {
    warp.for_each(places, [&](int64_t i) { kept_columns[i] = -1, kept_values[i] = 0; });
    warp.for_each(count, [&](int64_t i) {
        const Real own = values[i];
        if (!(own > 0)) return;
        int64_t larger = 0;
        for (int64_t j = 0; j < count; ++j) larger += values[j] > own || (values[j] == own && j < i);
        if (larger < places) kept_columns[larger] = columns[i], kept_values[larger] = own;
    });
}

// Sum those of `count` entries that have the same column (-1: none), of which the first `distinct` have columns of their own, and keep the largest
// sums above zero in places [L], of equals the first. The entries are used up; scratch [count].
MB_FN void merge_duplicates(const Warp& warp, int32_t* columns, Real* values, int64_t count, int64_t distinct, Real* scratch, int32_t* kept_columns, Real* kept_values,
                       int64_t places) {
    if constexpr (Warp::lanes == 1) {
        int64_t found = 0;
        for (int64_t i = 0; i < count; ++i) {
            if (columns[i] < 0) continue;
            if (i < distinct) columns[found] = columns[i], values[found] = values[i], ++found;
            else add_at_column(columns, values, found, columns[i], values[i]);
        }
        keep_largest(columns, values, found, kept_columns, kept_values, places);
    } else {
        warp.for_each(count, [&](int64_t i) {
            Real sum = 0;
            bool first = columns[i] >= 0;  // of its column: it has the sum
            for (int64_t j = 0; j < count; ++j)
                if (columns[j] == columns[i]) sum += values[j], first = first && j >= i;
            scratch[i] = first ? sum : 0;
        });
        keep_largest(warp, columns, scratch, count, kept_columns, kept_values, places);
    }
}

struct Links {
    const Arguments& a;
    int64_t L, element;
    int32_t *after_columns, *before_columns;
    Real *after_values, *before_values;

    MB_FN Links(const Arguments& a, int64_t element)
        : a(a), L(a.links), element(element), after_columns(a.after_columns + element * a.slots * L), before_columns(a.before_columns + element * a.slots * L),
          after_values(a.after_values + element * a.slots * L), before_values(a.before_values + element * a.slots * L) {}

    // What a write links: of its support [n] rows (-1: none) the L with the largest weights, and the precedence after it (eq 11).
    MB_FN void update_precedence(const Block& block, const int32_t* rows, const Real* weights, int64_t n, const int32_t* previous, const Real* previous_weights, int32_t* next,
                      Real* next_weights, int32_t* linked, Real* linked_weights, Real* scratch) const {
        const int64_t most = n > L ? n + L : 2 * L;
        int32_t* const columns = reinterpret_cast<int32_t*>(scratch);
        Real *const values = scratch + most, *const sums = values + most;
        block.for_each_by_warp(1, [&](int64_t, Warp warp) {
            warp.for_each(n, [&](int64_t i) { columns[i] = rows[i], values[i] = rows[i] < 0 ? Real(0) : weights[i]; });
            const Real total = warp.sum(n, [&](int64_t i) { return values[i]; });
            merge_duplicates(warp, columns, values, n, 0, sums, linked, linked_weights, L);
            const Real decay = total < 1 ? 1 - total : 0;  // p_t = (1 - sum w) p_{t-1} + w (eq 11)
            warp.for_each(L, [&](int64_t i) {
                columns[i] = previous[i], values[i] = decay * previous_weights[i];
                columns[L + i] = linked[i], values[L + i] = linked_weights[i];
            });
            merge_duplicates(warp, columns, values, 2 * L, L, sums, next, next_weights, L);
        });
    }

    // `choose`, then `apply`; linked may not be null.
    MB_FN void update(const Block& block, const int32_t* rows, const Real* weights, int64_t n, const int32_t* previous, const Real* previous_weights, int32_t* next,
                      Real* next_weights, int32_t* linked, int32_t* decayed_offsets, Real* decayed_values, int32_t* old_columns, Real* old_values, Real* scratch) const {
        update_precedence(block, rows, weights, n, previous, previous_weights, next, next_weights, linked, scratch, scratch + L);
        block.sync();
        update_matrices(block, linked, scratch, previous, previous_weights, decayed_offsets, decayed_values, old_columns, old_values, scratch + L);
    }

    // One write's effect on both matrices (eq 19, 20): linked and previous rows [L] are distinct or -1. What is overwritten goes to decayed_* [L L]
    // and old_* [2 L, L], which may be null.
    MB_FN void update_matrices(const Block& block, const int32_t* linked, const Real* linked_weights, const int32_t* previous, const Real* previous_weights, int32_t* decayed_offsets,
                     Real* decayed_values, int32_t* old_columns, Real* old_values, Real* scratch) const {
        int32_t* const merged_columns = reinterpret_cast<int32_t*>(scratch);  // [2 L, 2 L]
        Real *const merged_values = scratch + 4 * L * L, *const merged_sums = merged_values + 4 * L * L;
        // before(i, j) *= 1 - w(j): row j of `after` names the rows i that hold column j
        block.for_each(L * L, [&](int64_t i) {
            const int64_t j = linked[i / L], holder = j < 0 ? -1 : after_columns[j * L + i % L];
            int64_t place = -1;
            for (int64_t q = 0; holder >= 0 && q < L; ++q)
                if (before_columns[holder * L + q] == j) place = holder * L + q;
            if (decayed_offsets) decayed_offsets[i] = static_cast<int32_t>(place);
            if (place < 0) return;
            if (decayed_values) decayed_values[i] = before_values[place];
            before_values[place] *= 1 - linked_weights[i / L];
        });
        block.sync();
        // before(i, :) += w(j) p(i) for the precedence rows i;  after(i, :) = (1 - w(i)) after(i, :) + w(i) p
        block.for_each_by_warp(2 * L, [&](int64_t i, Warp warp) {
            const bool after = i >= L;
            const int64_t at = i % L, row = after ? linked[at] : previous[at];
            if (row < 0) return;
            int32_t* const columns = (after ? after_columns : before_columns) + row * L;
            Real* const values = (after ? after_values : before_values) + row * L;
            const Real keep = after ? 1 - linked_weights[at] : 1, scale = after ? linked_weights[at] : previous_weights[at];
            const int32_t* others = after ? previous : linked;
            const Real* more = after ? previous_weights : linked_weights;
            int32_t* const own_columns = merged_columns + i * 2 * L;
            Real* const own_values = merged_values + i * 2 * L;
            warp.for_each(L, [&](int64_t q) {
                if (old_columns) old_columns[i * L + q] = columns[q], old_values[i * L + q] = values[q];
                own_columns[q] = columns[q], own_values[q] = keep * values[q];
                own_columns[L + q] = others[q] == row ? -1 : others[q], own_values[L + q] = scale * more[q];
            });
            merge_duplicates(warp, own_columns, own_values, 2 * L, L, merged_sums + i * 2 * L, columns, values, L);
        });
    }

    // Forward and backward weights f = N w, b = P w (eq 21, 22) as sparse vectors [R, K L] with repeated columns, -1: none.
    template <class Index>
    MB_FN void read(const Block& block, const Index* index, const Real* weights, int64_t heads, int64_t reads, int64_t* forward, Real* forward_values, int64_t* backward,
                    Real* backward_values) const {
        block.for_each(heads * reads * L, [&](int64_t i) {
            const int64_t row = index[i / L], place = row * L + i % L;
            const Real weight = row < 0 ? 0 : weights[i / L];
            forward[i] = row < 0 ? -1 : before_columns[place];
            backward[i] = row < 0 ? -1 : after_columns[place];
            forward_values[i] = row < 0 ? 0 : weight * before_values[place];
            backward_values[i] = row < 0 ? 0 : weight * after_values[place];
        });
    }

    // Swap what an update overwrote with its journal: undoes it; with `forward`, makes it again.
    MB_FN void swap(const Block& block, const int32_t* linked, const int32_t* previous, int32_t* decayed_offsets, Real* decayed_values, int32_t* old_columns, Real* old_values,
                    bool forward) const {
        for (int64_t half = 0; half < 2; ++half) {
            if ((half == 0) == forward)
                block.for_each(L * L, [&](int64_t i) {
                    if (decayed_offsets[i] >= 0) swap_values(before_values[decayed_offsets[i]], decayed_values[i]);
                });
            else
                block.for_each(2 * L, [&](int64_t i) {
                    const bool after = i >= L;
                    const int64_t row = after ? linked[i % L] : previous[i % L];
                    for (int64_t q = 0; row >= 0 && q < L; ++q) {
                        swap_values((after ? after_columns : before_columns)[row * L + q], old_columns[i * L + q]);
                        swap_values((after ? after_values : before_values)[row * L + q], old_values[i * L + q]);
                    }
                });
            block.sync();
        }
    }

    // Forward and backward weights f = N w, b = P w (eq 21, 22) mixed with content weights, cut to the K largest, for each head.
    // read_index, read_weights [R, K] of t-1, content [R, K], modes [R, 3] backward, content, forward -> index, weights [R, K], parts [R, K, 2].
    MB_FN void mix_reads(const Block& block, const int32_t* read_index, const Real* read_weights, const int32_t* content_index, const Real* content_weights, const Real* modes,
                   int32_t* index, Real* weights, Real* parts, Real* scratch) const {
        const int64_t K = a.reads, most = max_mixed_columns(a);
        if constexpr (Warp::lanes > 1)
            return block.for_each_by_warp(a.heads, [&](int64_t r, Warp warp) {
                mix_reads_by_warp(warp, read_index + r * K, read_weights + r * K, content_index + r * K, content_weights + r * K, modes + r * 3, index + r * K, weights + r * K,
                             parts ? parts + r * K * 2 : nullptr, scratch + r * (5 * most + 2 * K));
            });
        block.for_each(a.heads, [&](int64_t r) {
            Real* const back = scratch + r * (5 * most + 2 * K);
            Real *const forth = back + most, *const total = forth + most;
            int32_t* const columns = reinterpret_cast<int32_t*>(total + most);
            int32_t* const chosen = columns + most;
            int64_t count = 0;
            const auto place_of = [&](int32_t column) {
                for (int64_t i = 0; i < count; ++i)
                    if (columns[i] == column) return i;
                columns[count] = column, back[count] = forth[count] = total[count] = 0;
                return count++;
            };
            for (int64_t k = 0; k < K; ++k) {
                const int32_t row = content_index[r * K + k];
                if (row >= 0) total[place_of(row)] += modes[r * 3 + 1] * content_weights[r * K + k];
            }
            for (int64_t k = 0; k < K; ++k) {
                const int64_t row = read_index[r * K + k];
                const Real weight = read_weights[r * K + k];
                for (int64_t q = 0; row >= 0 && q < L; ++q) {
                    if (after_columns[row * L + q] >= 0) back[place_of(after_columns[row * L + q])] += after_values[row * L + q] * weight;
                    if (before_columns[row * L + q] >= 0) forth[place_of(before_columns[row * L + q])] += before_values[row * L + q] * weight;
                }
            }
            for (int64_t i = 0; i < count; ++i) total[i] += modes[r * 3] * back[i] + modes[r * 3 + 2] * forth[i], chosen[i] = static_cast<int32_t>(i);
            keep_largest(chosen, total, count, index + r * K, weights + r * K, K);
            for (int64_t k = 0; k < K; ++k) {
                int32_t* const at = index + r * K + k;
                if (parts) parts[(r * K + k) * 2] = *at < 0 ? 0 : back[*at], parts[(r * K + k) * 2 + 1] = *at < 0 ? 0 : forth[*at];
                if (*at >= 0) *at = columns[*at];
            }
        });
    }

  private:
    // `mix` of one head by a group: first the content's entries, then in turn those of `after` and `before`.
    MB_FN void mix_reads_by_warp(const Warp& warp, const int32_t* read_index, const Real* read_weights, const int32_t* content_index, const Real* content_weights,
                            const Real* modes, int32_t* index, Real* weights, Real* parts, Real* scratch) const {
        const int64_t K = a.reads, n = max_mixed_columns(a);
        int32_t* const columns = reinterpret_cast<int32_t*>(scratch);
        Real *const values = scratch + n, *const totals = values + n;
        warp.for_each(K, [&](int64_t k) { columns[k] = content_index[k], values[k] = modes[1] * content_weights[k]; });
        warp.for_each(K * L, [&](int64_t i) {
            const int64_t row = read_index[i / L], place = row * L + i % L, to = K + 2 * i;
            const Real weight = read_weights[i / L];
            columns[to] = row < 0 ? -1 : after_columns[place], values[to] = row < 0 ? 0 : after_values[place] * weight;
            columns[to + 1] = row < 0 ? -1 : before_columns[place], values[to + 1] = row < 0 ? 0 : before_values[place] * weight;
        });
        struct Sums {
            Real content, back, forth;
            int64_t first;  // entry
        };
        const auto sums_of = [&](int32_t column) {
            Sums sums{0, 0, 0, n};
            for (int64_t i = n; i-- > 0;)
                if (columns[i] == column) sums.first = i;
            for (int64_t i = sums.first; i < n; ++i)
                if (columns[i] == column) (i < K ? sums.content : (i - K) % 2 ? sums.forth : sums.back) += values[i];
            return sums;
        };
        warp.for_each(n, [&](int64_t i) {
            const Sums sums = sums_of(columns[i]);
            totals[i] = columns[i] < 0 || sums.first < i ? 0 : sums.content + (modes[0] * sums.back + modes[2] * sums.forth);
        });
        keep_largest(warp, columns, totals, n, index, weights, K);
        if (!parts) return;
        warp.for_each(K, [&](int64_t k) {
            const Sums sums = sums_of(index[k]);
            parts[2 * k] = index[k] < 0 ? 0 : sums.back, parts[2 * k + 1] = index[k] < 0 ? 0 : sums.forth;
        });
    }
};

}  // namespace mb
