// Updating the hash tables in place, and undoing it from a log. A move of a row has two halves in each table: half 0
// empties the bucket entry the row left, half 1 fills the one it entered.
#pragma once

#include "memory/lsh.h"
#include "memory/rows.h"

namespace mb {

// The log of one element; all null: none is kept.
struct LshLog {
    int32_t* offsets;   // [n, tables, 2] entries emptied and filled; where none was emptied, -2 - the row's code before
    int64_t* entries;   // [n, tables] content before of those filled, while the update is undone after it
    int32_t* sketches;  // [n, tables] sketches in those emptied
};

template <class Index>
struct LshUpdate {
    const Block& block;
    const Lsh& lsh;
    const Arguments& a;
    const Index* rows;  // [n] rows to update, -1: none
    Count n;
    LshLog log;

    MB_FN LshUpdate(const Block& block, const Lsh& lsh, const Index* rows, Count n, LshLog log)
        : block(block), lsh(lsh), a(lsh.a), rows(rows), n(n), log(log) {}

    // Bring the tables up to date with the rows, which may repeat.
    MB_FN void run(const Store* memory, Real* scratch) const {
        const int64_t planes = lsh_planes(a);
        Real* const projections = scratch;
        int32_t* const new_codes = reinterpret_cast<int32_t*>(projections + n * planes);
        uint32_t* const sketches = reinterpret_cast<uint32_t*>(new_codes + n * tables());
        block.for_each(n, [&](Count e) {
            if (rows[e] >= 0) prefetch(lsh.codes + rows[e] * a.tables);
        });
        lsh.project(block, n, [&](Count e) { return rows[e] < 0 ? nullptr : memory + rows[e] * a.width; }, projections);
        block.sync();
        if constexpr (Warp::lanes == 1) {
            hash_by_thread(projections, new_codes, sketches);
            block.sync();
            move_by_thread(new_codes, sketches);
        } else {
            hash_by_warp(projections, new_codes, sketches);
            block.sync();
            move_by_warp(new_codes, sketches);
        }
    }

    // Undo an update, or make it again.
    MB_FN void undo_or_redo(bool forward) const {
        block.for_each(n * tables(), [&](Count i) {
            const Count e = i / tables(), l = i % tables();
            if (rows[e] < 0) return;
            if (l == 0) prefetch(lsh.codes + rows[e] * a.tables);
            for (Count half = 0; half < 2; ++half)
                if (log.offsets[2 * i + half] >= 0) prefetch(lsh.bucket(l, 0) + log.offsets[2 * i + half]);
        });
        if constexpr (Warp::lanes == 1)
            undo_or_redo_by_thread(forward);
        else
            undo_or_redo_by_warp(forward);
    }

  private:
    MB_FN Count tables() const { return a.tables; }
    // The halves of the move of row e in table l. `offset` -1: there is nothing to empty, or no row.
    MB_FN void empty_entry(Count e, Count l, Count offset) const {
        const Count i = e * tables() + l;
        if (log.offsets) log.offsets[2 * i] = static_cast<int32_t>(offset);
        if (offset < 0) return;
        int64_t* const entry = lsh.bucket(l, 0) + offset;
        if (log.offsets) log.sketches[i] = static_cast<int32_t>(sketch_of(*entry));
        *entry = -1;
    }
    MB_FN void fill_entry(Count e, Count l, Count offset, uint32_t sketch) const {
        const Count i = e * tables() + l;
        if (log.offsets) log.offsets[2 * i + 1] = static_cast<int32_t>(offset);
        if (offset < 0) return;
        int64_t* const entry = lsh.bucket(l, 0) + offset;
        if (log.offsets) log.entries[i] = *entry;
        *entry = make_entry(rows[e], sketch);
    }
    // Set the code of row e, and log the one before where no offset says it.
    MB_FN void set_code(Count e, Count l, int32_t code) const {
        int32_t* const place = lsh.codes + rows[e] * a.tables + l;
        if (log.offsets) {
            int32_t& offset = log.offsets[2 * (e * tables() + l)];
            if (offset < 0) offset = -2 - *place;
        }
        *place = code;
    }
    // The same halves undone or redone.
    MB_FN void undo_or_redo_half(Count e, Count l, Count half, bool forward) const {
        const Count i = e * tables() + l, offset = log.offsets[2 * i + half];
        if (offset < 0) return;
        int64_t* const entry = lsh.bucket(l, 0) + offset;
        if (half)
            swap_values(*entry, log.entries[i]);
        else
            *entry = forward ? -1 : make_entry(rows[e], static_cast<uint32_t>(log.sketches[i]));
    }
    MB_FN void undo_or_redo_code(Count e, Count l, bool forward) const {
        const int32_t* const offsets = log.offsets + 2 * (e * tables() + l);
        const int32_t capacity = static_cast<int32_t>(a.capacity), before = offsets[0];
        lsh.codes[rows[e] * a.tables + l] = forward       ? offsets[1] / capacity
                                            : before >= 0 ? before / capacity
                                                          : -2 - before;
    }

    // New codes [n, tables] and sketches [n] of the rows.
    MB_FN void hash_by_thread(const Real* projections, int32_t* new_codes, uint32_t* sketches) const {
        block.for_each(n * tables(), [&](Count i) {
            const Count e = i / tables(), l = i % tables();
            if (rows[e] < 0) return;
            const Real* projection = projections + e * lsh_planes(a);
            const int32_t code = new_codes[i] = lsh.code_of(projection + l * a.bits);
            const int32_t before = lsh.codes[rows[e] * a.tables + l];
            if (l == 0) sketches[e] = signs(projection + tables() * a.bits);
            lsh.prefetch_bucket(l, code);
            if (before >= 0 && before != code) lsh.prefetch_bucket(l, before);
        });
    }
    MB_FN void hash_by_warp(const Real* projections, int32_t* new_codes, uint32_t* sketches) const {
        block.for_each_by_warp(n, [&](Count e, Warp warp) {
            if (rows[e] < 0) return;
            const Real* projection = projections + e * lsh_planes(a);
            warp.for_each(tables(), [&](Count l) {
                const int32_t before = lsh.codes[rows[e] * a.tables + l];
                if (before >= 0) lsh.prefetch_bucket(l, before);
            });
            for (Count l = 0; l < tables(); ++l) {
                const int32_t code = lsh.code_of(warp, projection + l * a.bits);
                if (warp.is_leader()) new_codes[e * tables() + l] = code, lsh.prefetch_bucket(l, code);
            }
            const uint32_t sketch = signs(warp, projection + tables() * a.bits);
            if (warp.is_leader()) sketches[e] = sketch;
        });
    }

    // Move each row from the bucket of its old code to that of its new one: a thread a table.
    MB_FN void move_by_thread(const int32_t* new_codes, const uint32_t* sketches) const {
        block.for_each(tables(), [&](Count l) {
            for (Count e = 0; e < n; ++e) {
                if (rows[e] < 0) {
                    empty_entry(e, l, -1), fill_entry(e, l, -1, 0);
                    continue;
                }
                const int32_t row = static_cast<int32_t>(rows[e]), code = lsh.codes[row * a.tables + l];
                const int32_t new_code = new_codes[e * tables() + l];
                // -1 also where a full bucket evicted the row
                const Count from = code < 0 ? -1 : lsh.find_entry(l, code, row);
                const bool stays = code == new_code && from >= 0;
                empty_entry(e, l, stays ? -1 : from);
                fill_entry(e, l, stays ? from : lsh.insert_offset(l, new_code, row), sketches[e]);
                set_code(e, l, new_code);
            }
        });
    }

    // The same, a warp a table. The two halves of a move each change one bucket, so order matters only within a bucket.
    // A row is only ever in the bucket of its code: if found where it enters, it stays; a repeated row has left
    // already.
    MB_FN void move_by_warp(const int32_t* new_codes, const uint32_t* sketches) const {
        block.for_each_by_warp(tables(), [&](Count l, Warp warp) {
            ordered_by_key(
                warp, 2 * n,
                [&](Count i) -> int32_t {
                    const int64_t row = rows[i / 2];
                    if (row < 0) return -1;
                    const int32_t before = lsh.codes[row * a.tables + l], after = new_codes[i / 2 * tables() + l];
                    return i % 2 ? after : before != after ? before : -1;
                },
                [&](Count i, int32_t code) {
                    const Count e = i / 2;
                    const int32_t row = static_cast<int32_t>(rows[e]);
                    const Count offset = code < 0 ? -1 : lsh.find_or_insert_offset(l, code, row, i % 2);
                    i % 2 ? fill_entry(e, l, offset, sketches[e]) : empty_entry(e, l, offset);
                });
            ordered_by_key(
                warp, n, [&](Count e) { return static_cast<int32_t>(rows[e]); },
                [&](Count e, int32_t row) {
                    if (row >= 0) set_code(e, l, new_codes[e * tables() + l]);
                });
        });
    }

    MB_FN void undo_or_redo_by_thread(bool forward) const {
        block.for_each(tables(), [&](Count l) {
            for (Count step = 0; step < n; ++step) {
                const Count e = forward ? step : n - 1 - step;
                if (rows[e] < 0) continue;
                for (Count half = 0; half < 2; ++half) undo_or_redo_half(e, l, forward ? half : 1 - half, forward);
                undo_or_redo_code(e, l, forward);
            }
        });
    }
    MB_FN void undo_or_redo_by_warp(bool forward) const {
        block.for_each_by_warp(tables(), [&](Count l, Warp warp) {
            const auto half = [&](Count i) { return forward ? i : 2 * n - 1 - i; };  // row and half, in order
            const auto entry = [&](Count i) { return forward ? i : n - 1 - i; };
            ordered_by_key(
                warp, 2 * n,
                [&](Count i) -> int32_t {
                    const Count e = half(i) / 2;
                    return rows[e] < 0 ? -1 : log.offsets[2 * (e * tables() + l) + half(i) % 2];
                },
                [&](Count i, int32_t offset) {
                    if (offset >= 0) undo_or_redo_half(half(i) / 2, l, half(i) % 2, forward);
                });
            ordered_by_key(
                warp, n, [&](Count i) { return static_cast<int32_t>(rows[entry(i)]); },
                [&](Count i, int32_t row) {
                    if (row >= 0) undo_or_redo_code(entry(i), l, forward);
                });
        });
    }
};

}  // namespace mb
