// The hash index by itself, outside a sequence: filling it, `lsh_update` and its undo, `lsh_query`, each for one batch element.
#pragma once

#include "lsh.h"

namespace mb::entries {

constexpr int64_t hashed_rows = 64;  // rows projected at once: their projections stay in the first cache

// Numbers of scratch that `lsh_hash` needs for a part, and `lsh_update` and `lsh_query` for an element, to `index`.
template <int known> MB_FN void lsh_scratch(const Block& block, const Arguments& a, int64_t) {
    block.one([&] { a.index[0] = hashed_rows * lsh_planes(a), a.index[1] = lsh_update_scratch(a, a.updated), a.index[2] = a.heads * a.reads + lsh_query_scratch(a, a.heads, a.reads); });
}

// Filling, first part: codes and sketches of a share of the rows 0..live-1.
template <int known> MB_FN void lsh_hash(const Block& block, const Arguments& a, int64_t item) {
    const int64_t planes = lsh_planes(a), b = item / a.parts, share = (a.live + a.parts - 1) / a.parts, start = item % a.parts * share;
    const int64_t end = start + share < a.live ? start + share : a.live;
    const Lsh lsh(a, b);
    Real* const projections = a.part_scratch + item * hashed_rows * planes;
    for (int64_t first = start; first < end; first += hashed_rows) {
        const int64_t n = end - first < hashed_rows ? end - first : hashed_rows;
        lsh.project(block, n, [&](int64_t e) { return a.memory + (b * a.slots + first + e) * a.width; }, projections);
        block.sync();
        if constexpr (Group::lanes == 1) {
            block.each(n * (a.tables + 1), [&](int64_t i) {
                const int64_t e = i / (a.tables + 1), l = i % (a.tables + 1);
                const Real* own = projections + e * planes + l * a.bits;
                if (l < a.tables) lsh.codes[(first + e) * a.tables + l] = lsh.code_of(own);
                else a.sketches[b * a.slots + first + e] = static_cast<int32_t>(signs(own));
            });
        } else {
            block.rows(n, [&](int64_t e, Group group) {
                const Real* own = projections + e * planes;
                for (int64_t l = 0; l < a.tables; ++l) {
                    const int32_t code = lsh.code_of(group, own + l * a.bits);
                    if (group.leads()) lsh.codes[(first + e) * a.tables + l] = code;
                }
                const uint32_t sketch = signs(group, own + a.tables * a.bits);
                if (group.leads()) a.sketches[b * a.slots + first + e] = static_cast<int32_t>(sketch);
            });
        }
        block.sync();
    }
}

// Second part: the rows into the empty buckets of one table, a part, in the order of their numbers, as `update` would put them.
template <int known> MB_FN void lsh_fill(const Block& block, const Arguments& a, int64_t item) {
    const int64_t b = item / a.parts, l = item % a.parts;
    const Lsh lsh(a, b);
    if constexpr (Group::lanes == 1) {
        constexpr int64_t ahead = 16;
        block.one([&] {
            for (int64_t row = -ahead; row < a.live; ++row) {
                if (row + ahead < a.live) lsh.prefetch_bucket(l, lsh.codes[(row + ahead) * a.tables + l]);
                if (row < 0) continue;
                const int64_t place = lsh.place_for(l, lsh.codes[row * a.tables + l], static_cast<int32_t>(row));
                lsh.bucket(l, 0)[place] = make_entry(row, static_cast<uint32_t>(a.sketches[b * a.slots + row]));
            }
        });
    } else {
        constexpr int64_t ahead = 256;
        block.rows(1, [&](int64_t, Group group) {
            in_turn(
                group, a.live,
                [&](int64_t row) {
                    if (row + ahead < a.live) lsh.prefetch_bucket(l, lsh.codes[(row + ahead) * a.tables + l]);
                    if (row + 2 * ahead < a.live) prefetch(lsh.codes + (row + 2 * ahead) * a.tables + l), prefetch(a.sketches + b * a.slots + row + 2 * ahead);
                    return lsh.codes[row * a.tables + l];
                },
                [&](int64_t row, int32_t code) {
                    const int64_t place = lsh.place_in(l, code, static_cast<int32_t>(row), true);
                    lsh.bucket(l, 0)[place] = make_entry(row, static_cast<uint32_t>(a.sketches[b * a.slots + row]));
                });
        });
    }
}

template <int known> MB_FN void lsh_update(const Block& block, const Arguments& a, int64_t b) {
    const int64_t log = b * a.updated * a.tables;
    Lsh(a, b).update(block, a.rows + b * a.updated, a.updated, a.memory + b * a.slots * a.width, a.scratch + b * a.scratch_stride, a.log_places + 2 * log,
                     a.log_entries + 2 * log, a.log_codes + log);
}

template <int known> MB_FN void lsh_undo(const Block& block, const Arguments& a, int64_t b) {
    const int64_t log = b * a.updated * a.tables;
    Lsh(a, b).swap(block, a.rows + b * a.updated, a.updated, a.log_places + 2 * log, a.log_entries + 2 * log, a.log_codes + log, false);
}
template <int known> MB_FN void lsh_redo(const Block& block, const Arguments& a, int64_t b) {
    const int64_t log = b * a.updated * a.tables;
    Lsh(a, b).swap(block, a.rows + b * a.updated, a.updated, a.log_places + 2 * log, a.log_entries + 2 * log, a.log_codes + log, true);
}

template <int known> MB_FN void lsh_query(const Block& block, const Arguments& a, int64_t b) {
    const int64_t W = known ? known : a.width, found = a.heads * a.reads;
    Real* const scratch = a.scratch + b * a.scratch_stride;
    int32_t* const rows = reinterpret_cast<int32_t*>(scratch);
    Lsh(a, b).template query<known>(block, a.memory + b * a.slots * W, a.queries + b * a.heads * W, a.heads, a.reads, rows, scratch + found);
    block.sync();
    block.each(found, [&](int64_t i) { a.index[b * found + i] = rows[i]; });
}

}  // namespace mb::entries
