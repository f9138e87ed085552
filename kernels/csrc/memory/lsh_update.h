// Updating the hash tables in place, and undoing it from a log. The log has two entries for each row and table: half 0
// is the bucket entry the row left, half 1 the one it entered.
#pragma once

#include "memory/lsh.h"
#include "memory/rows.h"

namespace mb {

// The log of one element; all null: none is kept.
struct LshLog {
    int32_t* offsets;  // [n, tables, 2] entries overwritten, -1: none
    int64_t* entries;  // [n, tables, 2] their content before
    int32_t* codes;    // [n, tables] codes before
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

    // Exchange the tables with the log: undoes an update; with `forward`, makes it again.
    MB_FN void undo_or_redo(bool forward) const {
        block.for_each(n * tables(), [&](Count i) {
            const Count e = i / tables(), l = i % tables();
            if (rows[e] < 0) return;
            if (l == 0) prefetch(lsh.codes + rows[e] * a.tables);
            for (Count half = 0; half < 2; ++half)
                if (log.offsets[2 * i + half] >= 0) prefetch(lsh.bucket(l, 0) + log.offsets[2 * i + half]);
        });
        if constexpr (Warp::lanes == 1)
            exchange_by_thread(forward);
        else
            exchange_by_warp(forward);
    }

  private:
    MB_FN Count tables() const { return a.tables; }
    MB_FN void write_entry(Count table, Count offset, int64_t entry, Count log_index) const {
        int64_t* const entries = lsh.bucket(table, 0);
        if (log.offsets) {
            log.offsets[log_index] = static_cast<int32_t>(offset);
            if (offset >= 0) log.entries[log_index] = entries[offset];
        }
        if (offset >= 0) entries[offset] = entry;
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
                const Count i = e * tables() + l;
                if (rows[e] < 0) {
                    if (log.offsets) log.offsets[2 * i] = log.offsets[2 * i + 1] = -1;
                    continue;
                }
                const int32_t row = static_cast<int32_t>(rows[e]);
                int32_t* const code = lsh.codes + row * a.tables + l;
                // -1 also where a full bucket evicted the row
                const Count from = *code < 0 ? -1 : lsh.find_entry(l, *code, row);
                if (log.codes) log.codes[i] = *code;
                const bool stays = *code == new_codes[i] && from >= 0;
                write_entry(l, stays ? -1 : from, -1, 2 * i);
                const Count to = stays ? from : lsh.insert_offset(l, new_codes[i], row);
                write_entry(l, to, make_entry(row, sketches[e]), 2 * i + 1);
                *code = new_codes[i];
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
                    const int32_t row = static_cast<int32_t>(rows[i / 2]);
                    const Count offset = code < 0 ? -1 : lsh.find_or_insert_offset(l, code, row, i % 2);
                    write_entry(l, offset, i % 2 ? make_entry(row, sketches[i / 2]) : -1,
                                2 * (i / 2 * tables() + l) + i % 2);
                });
            ordered_by_key(
                warp, n, [&](Count e) { return static_cast<int32_t>(rows[e]); },
                [&](Count e, int32_t row) {
                    if (row < 0) return;
                    int32_t* const code = lsh.codes + row * a.tables + l;
                    if (log.codes) log.codes[e * tables() + l] = *code;
                    *code = new_codes[e * tables() + l];
                });
        });
    }

    MB_FN void exchange_by_thread(bool forward) const {
        block.for_each(tables(), [&](Count l) {
            for (Count step = 0; step < n; ++step) {
                const Count e = forward ? step : n - 1 - step, i = e * tables() + l;
                if (rows[e] < 0) continue;
                for (Count half = 0; half < 2; ++half) {
                    const Count k = 2 * i + (forward ? half : 1 - half);
                    if (log.offsets[k] >= 0) swap_values(lsh.bucket(l, 0)[log.offsets[k]], log.entries[k]);
                }
                swap_values(lsh.codes[rows[e] * a.tables + l], log.codes[i]);
            }
        });
    }
    MB_FN void exchange_by_warp(bool forward) const {
        block.for_each_by_warp(tables(), [&](Count l, Warp warp) {
            const auto half = [&](Count i) { return forward ? i : 2 * n - 1 - i; };  // row and half, in order
            const auto entry = [&](Count i) { return forward ? i : n - 1 - i; };
            const auto log_index = [&](Count i) { return 2 * (half(i) / 2 * tables() + l) + half(i) % 2; };
            ordered_by_key(
                warp, 2 * n, [&](Count i) { return rows[half(i) / 2] < 0 ? -1 : log.offsets[log_index(i)]; },
                [&](Count i, int32_t offset) {
                    if (offset >= 0) swap_values(lsh.bucket(l, 0)[offset], log.entries[log_index(i)]);
                });
            ordered_by_key(
                warp, n, [&](Count i) { return static_cast<int32_t>(rows[entry(i)]); },
                [&](Count i, int32_t row) {
                    if (row >= 0) swap_values(lsh.codes[row * a.tables + l], log.codes[entry(i) * tables() + l]);
                });
        });
    }
};

}  // namespace mb
