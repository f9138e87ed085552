// SDNC's read weights of one head: forward and backward weights f = N w, b = P w (Rae et al. 2016, supplement D, eq 21,
// 22) mixed with the content weights and cut to the K largest. Scratch: 5 max_mixed_columns + 2 K Reals.
#pragma once

#include "memory/rows.h"
#include "memory/sparse_vector.h"

namespace mb {

MB_FN Count max_mixed_columns(const Arguments& a) { return a.reads * (1 + 2 * a.links); }

// Link matrices of one element [N, L].
struct LinkRows {
    int32_t *after_columns, *before_columns;
    Real *after_values, *before_values;
};

// Of one head: [K] read weights of t-1, [K] content weights, [3] modes: backward, content, forward.
struct MixInputs {
    const int32_t* read_index;
    const Real* read_weights;
    const int32_t* content_index;
    const Real* content_weights;
    const Real* modes;
};

// index, weights [K] and parts [K, 2] out: backward and forward weight of each row; parts may be null.
MB_FN void mix_by_thread(const Arguments& a, LinkRows m, MixInputs in, int32_t* index, Real* weights, Real* parts,
                         Real* scratch) {
    const Count K = a.reads, L = a.links, most = max_mixed_columns(a);
    Real *const back = scratch, *const forth = back + most, *const total = forth + most;
    int32_t* const columns = reinterpret_cast<int32_t*>(total + most);
    Count count = 0;
    const auto find = [&](int32_t column) {
        Count i = 0;
        while (i < count && columns[i] != column) ++i;
        return i;
    };
    const auto find_or_add = [&](int32_t column) {
        const Count i = find(column);
        if (i == count) columns[i] = column, back[i] = forth[i] = total[i] = 0, ++count;
        return i;
    };
    for (Count k = 0; k < K; ++k) {
        const int32_t row = in.content_index[k];
        if (row >= 0) total[find_or_add(row)] += in.modes[1] * in.content_weights[k];
    }
    for (Count k = 0; k < K; ++k) {
        const int64_t row = in.read_index[k];
        const Real weight = in.read_weights[k];
        for (int64_t q = row * L; row >= 0 && q < row * L + L; ++q) {
            if (m.after_columns[q] >= 0) back[find_or_add(m.after_columns[q])] += m.after_values[q] * weight;
            if (m.before_columns[q] >= 0) forth[find_or_add(m.before_columns[q])] += m.before_values[q] * weight;
        }
    }
    for (Count i = 0; i < count; ++i) total[i] += in.modes[0] * back[i] + in.modes[2] * forth[i];
    keep_largest(columns, total, count, index, weights, K);
    for (Count k = 0; parts && k < K; ++k) {
        const Count i = find(index[k]);
        parts[2 * k] = index[k] < 0 ? 0 : back[i], parts[2 * k + 1] = index[k] < 0 ? 0 : forth[i];
    }
}

// The same by a warp. Entries: those of the content, then alternately those of `after` and `before`.
MB_FN void mix_by_warp(const Warp& warp, const Arguments& a, LinkRows m, MixInputs in, int32_t* index, Real* weights,
                       Real* parts, Real* scratch) {
    const Count K = a.reads, L = a.links, n = max_mixed_columns(a);
    int32_t* const columns = reinterpret_cast<int32_t*>(scratch);
    Real *const values = scratch + n, *const totals = values + n;
    warp.for_each(K,
                  [&](Count k) { columns[k] = in.content_index[k], values[k] = in.modes[1] * in.content_weights[k]; });
    warp.for_each(K * L, [&](Count i) {
        const int64_t row = in.read_index[i / L], q = row * L + i % L;
        const Count to = K + 2 * i;
        const Real weight = in.read_weights[i / L];
        columns[to] = row < 0 ? -1 : m.after_columns[q];
        values[to] = row < 0 ? 0 : m.after_values[q] * weight;
        columns[to + 1] = row < 0 ? -1 : m.before_columns[q];
        values[to + 1] = row < 0 ? 0 : m.before_values[q] * weight;
    });
    struct Sums {
        Real content, back, forth;
        Count first;  // entry
    };
    const auto sums_of = [&](int32_t column) {
        Sums sums{0, 0, 0, n};
        for (Count i = n; i-- > 0;)
            if (columns[i] == column) sums.first = i;
        for (Count i = sums.first; i < n; ++i)
            if (columns[i] == column) (i < K ? sums.content : (i - K) % 2 ? sums.forth : sums.back) += values[i];
        return sums;
    };
    warp.for_each(n, [&](Count i) {
        const Sums sums = sums_of(columns[i]);
        const bool is_first = columns[i] >= 0 && sums.first >= i;
        totals[i] = is_first ? sums.content + (in.modes[0] * sums.back + in.modes[2] * sums.forth) : 0;
    });
    keep_largest(warp, columns, totals, n, index, weights, K);
    if (!parts) return;
    warp.for_each(K, [&](Count k) {
        const Sums sums = sums_of(index[k]);
        parts[2 * k] = index[k] < 0 ? 0 : sums.back, parts[2 * k + 1] = index[k] < 0 ? 0 : sums.forth;
    });
}

}  // namespace mb
