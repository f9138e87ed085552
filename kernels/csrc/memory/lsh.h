// Locality-sensitive hashing that lives with the memory: tables of random hyperplane buckets of fixed capacity, updated
// in place, undone on rollback, queried with several probes a table (Charikar 2002; multi-probe: Lv et al. 2007). A
// bucket entry holds a sketch of its row, so that most candidates are rejected by a popcount and never cost a cache
// miss of their row. Twin: kernels/reference/lsh.py. Update: lsh_update.h, query: lsh_query.h.
#pragma once

#include "arguments.h"
#include "block/matvec.h"
#include "memory/sketch.h"

namespace mb {

MB_FN int64_t lsh_planes(const Arguments& a) { return a.tables * a.bits + sketch_bits; }
// Reals of scratch: to update n rows, to query for R heads, and for either (they do not run at once).
MB_FN int64_t lsh_update_scratch(const Arguments& a, int64_t rows) { return rows * (lsh_planes(a) + a.tables + 1); }
MB_FN int64_t lsh_query_scratch(const Arguments& a, int64_t heads, int64_t reads) {
    const int64_t probes = a.tables * a.probes, distances = 2 * probes * a.capacity / entries_per_line;
    return heads * (lsh_planes(a) + 4 + probes + distances + 2 * a.rerank + reads) + 2;
}
MB_FN int64_t lsh_scratch(const Arguments& a, int64_t rows, int64_t heads, int64_t reads) {
    const int64_t update = lsh_update_scratch(a, rows), query = lsh_query_scratch(a, heads, reads);
    return update > query ? update : query;
}

struct alignas(16) BucketLine {  // one cache line; a GPU thread reads it in four loads
    int64_t entries[entries_per_line];
};

struct Lsh {
    const Arguments& a;
    int64_t* buckets;  // [tables, 2^bits, capacity]
    int32_t* codes;    // [N, tables]

    MB_FN Lsh(const Arguments& a, int64_t element)
        : a(a),
          buckets(a.buckets + element * a.tables * (a.capacity << a.bits)),
          codes(a.codes + element * a.slots * a.tables) {}

    MB_FN int64_t* bucket(int64_t table, int64_t code) const {
        return buckets + ((table << a.bits) + code) * a.capacity;
    }
    MB_FN BucketLine bucket_line(int64_t table, int64_t code, int64_t line) const {
        return reinterpret_cast<const BucketLine*>(bucket(table, code))[line];
    }
    MB_FN void prefetch_bucket(int64_t table, int64_t code) const {
        MB_ROLLED
        for (int64_t c = 0; c < a.capacity; c += entries_per_line) prefetch(bucket(table, code) + c);
    }
    MB_FN int32_t code_of(const Real* projections) const {
        return static_cast<int32_t>(signs(projections) & ((1u << a.bits) - 1));
    }
    MB_FN int32_t code_of(Warp warp, const Real* projections) const {
        return static_cast<int32_t>(signs(warp, projections) & ((1u << a.bits) - 1));
    }

    // projections [n, planes] of the vectors vector_at(e); null is skipped.
    template <class F>
    MB_FN void project(const Block& block, Count n, F vector_at, Real* projections) const {
        if constexpr (Warp::lanes == 1) {
            const int64_t planes = lsh_planes(a), blocks = column_blocks(planes);
            block.for_each_by_warp(n * blocks, [&](Count i, Warp warp) {
                const Count e = i / blocks;
                if (const auto* vector = vector_at(e))
                    matvec_transposed_block(warp, i % blocks, projections + e * planes, nullptr, a.planes, planes,
                                            vector, a.width, planes);
            });
        } else {
            matvecs_transposed(block, projections, a.planes, n, vector_at, a.width, lsh_planes(a));
        }
    }

    // Offset in its table of the row's entry in a bucket, -1: none. Row -1 finds an empty entry. No branch in the inner
    // loop, so that it vectorizes.
    MB_FN int64_t find_entry(int64_t table, int64_t code, int32_t row) const {
        const int64_t* entries = bucket(table, code);
        for (int64_t line = 0; line < a.capacity; line += entries_per_line) {
            int64_t first = entries_per_line;
            for (int64_t c = 0; c < entries_per_line; ++c)
                first = row_of(entries[line + c]) == row && c < first ? c : first;
            if (first < entries_per_line) return code * a.capacity + line + first;
        }
        return -1;
    }

    // Where to insert a row: an empty entry, or in a full bucket the one that the row number selects.
    MB_FN int64_t insert_offset(int64_t table, int64_t code, int32_t row) const {
        const int64_t empty = find_entry(table, code, -1);
        return empty >= 0 ? empty : code * a.capacity + row % a.capacity;
    }

    // `find_entry`, and with `insert` else `insert_offset`, in one pass over the bucket.
    MB_FN Count find_or_insert_offset(int64_t table, Count code, int32_t row, bool insert) const {
        const Count capacity = a.capacity;
        Count found = -1, empty = -1;
        for (Count i = capacity / entries_per_line; i-- > 0;) {
            const BucketLine line = bucket_line(table, code, i);
            for (Count c = entries_per_line; c-- > 0;) {
                const Count offset = code * capacity + i * entries_per_line + c;
                if (row_of(line.entries[c]) == row) found = offset;
                if (row_of(line.entries[c]) < 0) empty = offset;
            }
        }
        if (found >= 0 || !insert) return found;
        return empty >= 0 ? empty : code * capacity + row % capacity;
    }
};

// Warp loop over i < n: f(i, key(i)), a lane an item. Items with equal key >= 0 run in index order, all others in
// parallel. A key must not depend on what f does.
template <class W, class N, class Key, class F>
MB_FN void ordered_by_key(W warp, N n, Key key, F f) {
    for (N start = 0; start < n; start += W::lanes) {
        const N i = start + warp.lane();
        const int32_t own = i < n ? key(i) : -1;
        const Count before = warp.match_any(own).rank(), turn = i >= n ? -1 : own < 0 ? 0 : before;
        for (Count now = 0; warp.find_first(W::lanes, [&](Count) { return turn >= now; }) < W::lanes; ++now) {
            if (turn == now) f(i, own);
            warp.sync();
        }
    }
}

}  // namespace mb
