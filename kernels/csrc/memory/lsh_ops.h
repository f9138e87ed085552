// Single ops of the hash index, outside a sequence. They read Sizes, Memory, LshTables, SingleOp and Scratch.
#pragma once

#include "memory/lsh_query.h"
#include "memory/lsh_update.h"

namespace mb::entries {

constexpr int64_t rows_per_batch = 64;  // rows projected at once: their projections stay in L1

// To `index`: Reals of scratch that `lsh_hash` needs a part, and `lsh_update` and `lsh_query` an element.
template <int fixed_width>
MB_FN void lsh_scratch(const Block& block, const Arguments& a, int64_t) {
    block.on_leader([&] {
        a.index[0] = rows_per_batch * lsh_planes(a), a.index[1] = lsh_update_scratch(a, a.updated),
        a.index[2] = a.heads * a.reads + lsh_query_scratch(a, a.heads, a.reads);
    });
}

// Codes and sketches of n rows from `first`, from their projections [n, planes].
MB_FN void hash_rows_by_thread(const Block& block, const Arguments& a, const Lsh& lsh, int64_t b, int64_t first,
                               int64_t n, const Real* projections) {
    block.for_each(n * (a.tables + 1), [&](int64_t i) {
        const int64_t e = i / (a.tables + 1), l = i % (a.tables + 1);
        const Real* projection = projections + e * lsh_planes(a) + l * a.bits;
        if (l < a.tables)
            lsh.codes[(first + e) * a.tables + l] = lsh.code_of(projection);
        else
            a.sketches[b * a.slots + first + e] = static_cast<int32_t>(signs(projection));
    });
}
MB_FN void hash_rows_by_warp(const Block& block, const Arguments& a, const Lsh& lsh, int64_t b, int64_t first,
                             int64_t n, const Real* projections) {
    block.for_each_by_warp(n, [&](int64_t e, Warp warp) {
        const Real* projection = projections + e * lsh_planes(a);
        for (int64_t l = 0; l < a.tables; ++l) {
            const int32_t code = lsh.code_of(warp, projection + l * a.bits);
            if (warp.is_leader()) lsh.codes[(first + e) * a.tables + l] = code;
        }
        const uint32_t sketch = signs(warp, projection + a.tables * a.bits);
        if (warp.is_leader()) a.sketches[b * a.slots + first + e] = static_cast<int32_t>(sketch);
    });
}

// First half of filling: codes and sketches of a share of the candidate rows.
template <int fixed_width>
MB_FN void lsh_hash(const Block& block, const Arguments& a, int64_t item) {
    const int64_t planes = lsh_planes(a), b = item / a.parts, share = (a.num_candidates + a.parts - 1) / a.parts,
                  start = item % a.parts * share;
    const int64_t end = start + share < a.num_candidates ? start + share : a.num_candidates;
    const Lsh lsh(a, b);
    Real* const projections = a.part_scratch + item * rows_per_batch * planes;
    for (int64_t first = start; first < end; first += rows_per_batch) {
        const int64_t n = end - first < rows_per_batch ? end - first : rows_per_batch;
        lsh.project(block, n, [&](int64_t e) { return a.memory + (b * a.slots + first + e) * a.width; }, projections);
        block.sync();
        if constexpr (Warp::lanes == 1)
            hash_rows_by_thread(block, a, lsh, b, first, n, projections);
        else
            hash_rows_by_warp(block, a, lsh, b, first, n, projections);
        block.sync();
    }
}

MB_FN void fill_table_by_thread(const Block& block, const Arguments& a, const Lsh& lsh, int64_t b, int64_t l) {
    constexpr int64_t ahead = 16;  // rows between prefetch and use
    block.on_leader([&] {
        for (int64_t row = -ahead; row < a.num_candidates; ++row) {
            if (row + ahead < a.num_candidates) lsh.prefetch_bucket(l, lsh.codes[(row + ahead) * a.tables + l]);
            if (row < 0) continue;
            const int64_t offset = lsh.insert_offset(l, lsh.codes[row * a.tables + l], static_cast<int32_t>(row));
            lsh.bucket(l, 0)[offset] = make_entry(row, static_cast<uint32_t>(a.sketches[b * a.slots + row]));
        }
    });
}
MB_FN void fill_table_by_warp(const Block& block, const Arguments& a, const Lsh& lsh, int64_t b, int64_t l) {
    constexpr int64_t ahead = 256;
    const int32_t* const sketches = a.sketches + b * a.slots;
    block.for_each_by_warp(1, [&](int64_t, Warp warp) {
        ordered_by_key(
            warp, a.num_candidates,
            [&](int64_t row) {
                const int64_t next = row + ahead, later = next + ahead;
                if (next < a.num_candidates) lsh.prefetch_bucket(l, lsh.codes[next * a.tables + l]);
                if (later < a.num_candidates) prefetch(lsh.codes + later * a.tables + l), prefetch(sketches + later);
                return lsh.codes[row * a.tables + l];
            },
            [&](int64_t row, int32_t code) {
                const int64_t offset = lsh.find_or_insert_offset(l, code, static_cast<int32_t>(row), true);
                lsh.bucket(l, 0)[offset] = make_entry(row, static_cast<uint32_t>(sketches[row]));
            });
    });
}

// Second half: insert the rows into the empty buckets of one table, in row order, as an update would. A part is a
// table.
template <int fixed_width>
MB_FN void lsh_fill(const Block& block, const Arguments& a, int64_t item) {
    const int64_t b = item / a.parts, l = item % a.parts;
    const Lsh lsh(a, b);
    if constexpr (Warp::lanes == 1)
        fill_table_by_thread(block, a, lsh, b, l);
    else
        fill_table_by_warp(block, a, lsh, b, l);
}

MB_FN LshLog lsh_log(const Arguments& a, int64_t b) {
    const int64_t offset = b * a.updated * a.tables;
    return LshLog{a.log_offsets + 2 * offset, a.log_entries + offset, a.log_sketches + offset};
}

template <int fixed_width>
MB_FN void lsh_update(const Block& block, const Arguments& a, int64_t b) {
    const Lsh lsh(a, b);
    LshUpdate<int64_t>(block, lsh, a.rows + b * a.updated, a.updated, lsh_log(a, b))
        .run(a.memory + b * a.slots * a.width, a.scratch + b * a.scratch_stride);
}
template <int fixed_width>
MB_FN void lsh_undo(const Block& block, const Arguments& a, int64_t b) {
    const Lsh lsh(a, b);
    LshUpdate<int64_t>(block, lsh, a.rows + b * a.updated, a.updated, lsh_log(a, b)).undo_or_redo(false);
}
template <int fixed_width>
MB_FN void lsh_redo(const Block& block, const Arguments& a, int64_t b) {
    const Lsh lsh(a, b);
    LshUpdate<int64_t>(block, lsh, a.rows + b * a.updated, a.updated, lsh_log(a, b)).undo_or_redo(true);
}

// index [B, R, K] out.
template <int fixed_width>
MB_FN void lsh_query(const Block& block, const Arguments& a, int64_t b) {
    const int64_t W = fixed_width ? fixed_width : a.width, F = a.heads * a.reads;
    Real* const scratch = a.scratch + b * a.scratch_stride;
    int32_t* const rows = reinterpret_cast<int32_t*>(scratch);
    const Lsh lsh(a, b);
    LshQuery<fixed_width>(block, lsh, a.memory + b * a.slots * W, a.queries + b * a.heads * W, a.heads, a.reads,
                          scratch + F)
        .run(rows);
    block.sync();
    block.for_each(F, [&](int64_t i) { a.index[b * F + i] = rows[i]; });
}

}  // namespace mb::entries
