// The hash index by itself, outside a sequence: filling it, `lsh_update` and its undo, `lsh_query`, each for one batch element.
#pragma once

#include "memory/lsh.h"

namespace mb::entries {

constexpr int64_t rows_per_batch = 64;  // rows projected at once: their projections stay in the first cache

// Numbers of scratch that `lsh_hash` needs for a part, and `lsh_update` and `lsh_query` for an element, to `index`.
template <int fixed_width> MB_FN void lsh_scratch(const Block& block, const Arguments& a, int64_t) {
    block.on_leader([&] { a.index[0] = rows_per_batch * lsh_planes(a), a.index[1] = lsh_update_scratch(a, a.updated), a.index[2] = a.heads * a.reads + lsh_query_scratch(a, a.heads, a.reads); });
}

// Filling, first part: codes and sketches of a share of the rows 0..live-1.
template <int fixed_width> MB_FN void lsh_hash(const Block& block, const Arguments& a, int64_t item) {
    const int64_t planes = lsh_planes(a), b = item / a.parts, share = (a.num_candidates + a.parts - 1) / a.parts, start = item % a.parts * share;
    const int64_t end = start + share < a.num_candidates ? start + share : a.num_candidates;
    const Lsh lsh(a, b);
    Real* const projections = a.part_scratch + item * rows_per_batch * planes;
    for (int64_t first = start; first < end; first += rows_per_batch) {
        const int64_t n = end - first < rows_per_batch ? end - first : rows_per_batch;
        lsh.project(block, n, [&](int64_t e) { return a.memory + (b * a.slots + first + e) * a.width; }, projections);
        block.sync();
        if constexpr (Warp::lanes == 1) {
            block.for_each(n * (a.tables + 1), [&](int64_t i) {
                const int64_t e = i / (a.tables + 1), l = i % (a.tables + 1);
                const Real* own = projections + e * planes + l * a.bits;
                if (l < a.tables) lsh.codes[(first + e) * a.tables + l] = lsh.code_of(own);
                else a.sketches[b * a.slots + first + e] = static_cast<int32_t>(signs(own));
            });
        } else {
            block.for_each_by_warp(n, [&](int64_t e, Warp warp) {
                const Real* own = projections + e * planes;
                for (int64_t l = 0; l < a.tables; ++l) {
                    const int32_t code = lsh.code_of(warp, own + l * a.bits);
                    if (warp.is_leader()) lsh.codes[(first + e) * a.tables + l] = code;
                }
                const uint32_t sketch = signs(warp, own + a.tables * a.bits);
                if (warp.is_leader()) a.sketches[b * a.slots + first + e] = static_cast<int32_t>(sketch);
            });
        }
        block.sync();
    }
}

// Second part: the rows into the empty buckets of one table, a part, in the order of their numbers, as `update` would put them.
template <int fixed_width> MB_FN void lsh_fill(const Block& block, const Arguments& a, int64_t item) {
    const int64_t b = item / a.parts, l = item % a.parts;
    const Lsh lsh(a, b);
    if constexpr (Warp::lanes == 1) {
        constexpr int64_t ahead = 16;
        block.on_leader([&] {
            for (int64_t row = -ahead; row < a.num_candidates; ++row) {
                if (row + ahead < a.num_candidates) lsh.prefetch_bucket(l, lsh.codes[(row + ahead) * a.tables + l]);
                if (row < 0) continue;
                const int64_t place = lsh.insert_position(l, lsh.codes[row * a.tables + l], static_cast<int32_t>(row));
                lsh.bucket(l, 0)[place] = make_entry(row, static_cast<uint32_t>(a.sketches[b * a.slots + row]));
            }
        });
    } else {
        constexpr int64_t ahead = 256;
        block.for_each_by_warp(1, [&](int64_t, Warp warp) {
            ordered_by_key(
                warp, a.num_candidates,
                [&](int64_t row) {
                    if (row + ahead < a.num_candidates) lsh.prefetch_bucket(l, lsh.codes[(row + ahead) * a.tables + l]);
                    if (row + 2 * ahead < a.num_candidates) prefetch(lsh.codes + (row + 2 * ahead) * a.tables + l), prefetch(a.sketches + b * a.slots + row + 2 * ahead);
                    return lsh.codes[row * a.tables + l];
                },
                [&](int64_t row, int32_t code) {
                    const int64_t place = lsh.find_or_insert(l, code, static_cast<int32_t>(row), true);
                    lsh.bucket(l, 0)[place] = make_entry(row, static_cast<uint32_t>(a.sketches[b * a.slots + row]));
                });
        });
    }
}

template <int fixed_width> MB_FN void lsh_update(const Block& block, const Arguments& a, int64_t b) {
    const int64_t log = b * a.updated * a.tables;
    Lsh(a, b).update(block, a.rows + b * a.updated, a.updated, a.memory + b * a.slots * a.width, a.scratch + b * a.scratch_stride, a.log_offsets + 2 * log,
                     a.log_entries + 2 * log, a.log_codes + log);
}

template <int fixed_width> MB_FN void lsh_undo(const Block& block, const Arguments& a, int64_t b) {
    const int64_t log = b * a.updated * a.tables;
    Lsh(a, b).swap(block, a.rows + b * a.updated, a.updated, a.log_offsets + 2 * log, a.log_entries + 2 * log, a.log_codes + log, false);
}
template <int fixed_width> MB_FN void lsh_redo(const Block& block, const Arguments& a, int64_t b) {
    const int64_t log = b * a.updated * a.tables;
    Lsh(a, b).swap(block, a.rows + b * a.updated, a.updated, a.log_offsets + 2 * log, a.log_entries + 2 * log, a.log_codes + log, true);
}

template <int fixed_width> MB_FN void lsh_query(const Block& block, const Arguments& a, int64_t b) {
    const int64_t W = fixed_width ? fixed_width : a.width, found = a.heads * a.reads;
    Real* const scratch = a.scratch + b * a.scratch_stride;
    int32_t* const rows = reinterpret_cast<int32_t*>(scratch);
    Lsh(a, b).template query<fixed_width>(block, a.memory + b * a.slots * W, a.queries + b * a.heads * W, a.heads, a.reads, rows, scratch + found);
    block.sync();
    block.for_each(found, [&](int64_t i) { a.index[b * found + i] = rows[i]; });
}

}  // namespace mb::entries
