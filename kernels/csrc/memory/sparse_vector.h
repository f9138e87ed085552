// Sparse vectors as lists of (column, value): adding up equal columns, keeping the largest values. Column -1: no entry.
#pragma once

#include "block/block.h"

namespace mb {

// Add `value` at `column` to a vector of `count` entries with distinct columns.
MB_FN void add_at_column(int32_t* columns, Real* values, Count& count, int32_t column, Real value) {
    for (Count i = 0; i < count; ++i)
        if (columns[i] == column) {
            values[i] += value;
            return;
        }
    columns[count] = column, values[count] = value, ++count;
}

// Keep the k largest of `count` values that are not zero or less, of equal ones that of the lower column, NaN first
// (`comes_before`); column -1 and value 0 where there are fewer.
MB_FN void keep_largest(const int32_t* columns, const Real* values, Count count, int32_t* kept_columns,
                        Real* kept_values, Count k) {
    for (Count i = 0; i < k; ++i) kept_columns[i] = -1, kept_values[i] = 0;
    for (Count i = 0; i < count; ++i) {
        const Real own = ranked(values[i]);
        const auto belongs_before = [&](Count j) {
            return comes_before(own, columns[i], ranked(kept_values[j]), kept_columns[j]);
        };
        Count at = k - 1;
        if (!(own > 0) || !belongs_before(at)) continue;
        for (; at > 0 && belongs_before(at - 1); --at)
            kept_values[at] = kept_values[at - 1], kept_columns[at] = kept_columns[at - 1];
        kept_values[at] = values[i], kept_columns[at] = columns[i];
    }
}
// The same by a warp, a lane an entry. The rank of a value is the number of those that come before it.
MB_FN void keep_largest(const Warp& warp, const int32_t* columns, const Real* values, Count count,
                        int32_t* kept_columns, Real* kept_values, Count k) {
    warp.for_each(k, [&](Count i) { kept_columns[i] = -1, kept_values[i] = 0; });
    warp.for_each(count, [&](Count i) {
        const Real own = ranked(values[i]);
        if (!(own > 0)) return;
        Count rank = 0;
        for (Count j = 0; j < count; ++j) rank += comes_before(ranked(values[j]), columns[j], own, columns[i]);
        if (rank < k) kept_columns[rank] = columns[i], kept_values[rank] = values[i];
    });
}

// In place; the first `distinct` entries have distinct columns. Returns the number of entries left.
MB_FN Count add_duplicates_by_thread(int32_t* columns, Real* values, Count count, Count distinct) {
    Count n = 0;
    for (Count i = 0; i < count; ++i) {
        if (columns[i] < 0) continue;
        if (i < distinct)
            columns[n] = columns[i], values[n] = values[i], ++n;
        else
            add_at_column(columns, values, n, columns[i], values[i]);
    }
    return n;
}
// sums [count]: of the first entry of each column, its sum; else 0.
MB_FN void add_duplicates_by_warp(const Warp& warp, const int32_t* columns, const Real* values, Count count,
                                  Real* sums) {
    warp.for_each(count, [&](Count i) {
        Real sum = 0;
        bool is_first = columns[i] >= 0;
        for (Count j = 0; j < count; ++j)
            if (columns[j] == columns[i]) sum += values[j], is_first = is_first && j >= i;
        sums[i] = is_first ? sum : 0;
    });
}

// Add up entries of equal columns, of which the first `distinct` are distinct, and keep the k largest sums
// (`keep_largest`). Overwrites the entries; scratch [count].
MB_FN void add_duplicates_keep_largest(const Warp& warp, int32_t* columns, Real* values, Count count, Count distinct,
                                       Real* scratch, int32_t* kept_columns, Real* kept_values, Count k) {
    if constexpr (Warp::lanes == 1) {
        const Count n = add_duplicates_by_thread(columns, values, count, distinct);
        keep_largest(columns, values, n, kept_columns, kept_values, k);
    } else {
        add_duplicates_by_warp(warp, columns, values, count, scratch);
        keep_largest(warp, columns, scratch, count, kept_columns, kept_values, k);
    }
}

}  // namespace mb
