// Locality-sensitive hashing that lives with the memory: tables of random hyperplane buckets of fixed capacity, updated in place, undone on
// rollback, queried with several probes a table (Charikar 2002; multi-probe: Lv et al. 2007). A bucket entry holds a sketch of its row, so that
// most candidates are dismissed by a popcount and never cost a cache miss of their row. Twin: kernels/reference/lsh.py.
#pragma once

#include "memory/topk.h"
#include "block/matvec.h"
#include "memory/rows.h"
#include "memory/sketch.h"

namespace mb {

MB_FN int64_t lsh_planes(const Arguments& a) { return a.tables * a.bits + sketch_bits; }
// Numbers of scratch for `update` of n rows, for `query` of R heads, and for both, which do not run at once.
MB_FN int64_t lsh_update_scratch(const Arguments& a, int64_t rows) { return rows * (lsh_planes(a) + a.tables + 1); }
MB_FN int64_t lsh_query_scratch(const Arguments& a, int64_t heads, int64_t reads) {
    const int64_t probes = a.tables * a.probes;
    return heads * (lsh_planes(a) + 4 + probes + 2 * probes * a.capacity / entries_per_line + 2 * a.rerank + reads) + 2;
}
MB_FN int64_t lsh_scratch(const Arguments& a, int64_t rows, int64_t heads, int64_t reads) {
    const int64_t update = lsh_update_scratch(a, rows), query = lsh_query_scratch(a, heads, reads);
    return update > query ? update : query;
}

// f(i, key(i)) for i < n by a warp, a lane each: those of one key >= 0 in their order, the others at once. A key must not depend on what f does.
template <class G, class Key, class F> MB_FN void ordered_by_key(G warp, int64_t n, Key key, F f) {
    for (int64_t start = 0; start < n; start += G::lanes) {
        const int64_t i = start + warp.lane();
        const int32_t own = i < n ? key(i) : -1;
        const int64_t before = warp.match_any(own).rank(), turn = i >= n ? -1 : own < 0 ? 0 : before;
        for (int64_t now = 0; warp.find_first(G::lanes, [&](int64_t) { return turn >= now; }) < G::lanes; ++now) {
            if (turn == now) f(i, own);
            warp.sync();
        }
    }
}

struct alignas(16) BucketLine {  // a thread reads it in four loads
    int64_t entries[entries_per_line];
};

struct Lsh {
    const Arguments& a;
    int64_t* buckets;  // [tables, 2^bits, capacity]
    int32_t* codes;    // [N, tables]

    MB_FN Lsh(const Arguments& a, int64_t element)
        : a(a), buckets(a.buckets + element * a.tables * (a.capacity << a.bits)), codes(a.codes + element * a.slots * a.tables) {}

    MB_FN int64_t* bucket(int64_t l, int64_t code) const { return buckets + ((l << a.bits) + code) * a.capacity; }
    MB_FN int32_t code_of(const Real* projections) const { return static_cast<int32_t>(signs(projections) & ((1u << a.bits) - 1)); }
    MB_FN int32_t code_of(Warp warp, const Real* projections) const { return static_cast<int32_t>(signs(warp, projections) & ((1u << a.bits) - 1)); }

    // projections [n, planes] of the vectors row(e), null: none.
    template <class Row> MB_FN void project(const Block& block, int64_t n, Row row, Real* projections) const {
        const int64_t planes = lsh_planes(a), units = column_blocks(planes);
        block.for_each_by_warp(n * units, [&](int64_t i, Warp warp) {
            const int64_t e = i / units;
            if (const auto* vector = row(e)) matvec_transposed_block(warp, i % units, projections + e * planes, nullptr, a.planes, planes, vector, a.width, planes);
        });
    }

    // ---- update ----

    // Bring the tables up to the rows named (-1: none, repeats allowed) as they stand now. The logs [n, tables, ...] may be null.
    template <class Index>
    MB_FN void update(const Block& block, const Index* rows, int64_t n, const Store* memory, Real* scratch, int32_t* places, int64_t* entries, int32_t* old_codes) const {
        const int64_t planes = lsh_planes(a);
        Real* const projections = scratch;
        int32_t* const next = reinterpret_cast<int32_t*>(projections + n * planes);
        uint32_t* const sketches = reinterpret_cast<uint32_t*>(next + n * a.tables);
        block.for_each(n, [&](int64_t e) {
            if (rows[e] >= 0) prefetch(codes + rows[e] * a.tables);
        });
        project(block, n, [&](int64_t e) { return rows[e] < 0 ? nullptr : memory + rows[e] * a.width; }, projections);
        block.sync();
        if constexpr (Warp::lanes == 1) {
            block.for_each(n * a.tables, [&](int64_t i) {
                const int64_t e = i / a.tables, l = i % a.tables;
                if (rows[e] < 0) return;
                const Real* own = projections + e * planes;
                const int32_t code = next[i] = code_of(own + l * a.bits), before = codes[rows[e] * a.tables + l];
                if (l == 0) sketches[e] = signs(own + a.tables * a.bits);
                prefetch_bucket(l, code);
                if (before >= 0 && before != code) prefetch_bucket(l, before);
            });
            block.sync();
            block.for_each(a.tables, [&](int64_t l) {
                for (int64_t e = 0; e < n; ++e) {
                    const int64_t i = e * a.tables + l;
                    if (rows[e] < 0) {
                        if (places) places[2 * i] = places[2 * i + 1] = -1;
                        continue;
                    }
                    const int32_t row = static_cast<int32_t>(rows[e]);
                    int32_t* const code = codes + row * a.tables + l;
                    const int64_t from = *code < 0 ? -1 : place_of(l, *code, row);  // -1 too where it was pushed out of a full bucket
                    if (old_codes) old_codes[i] = *code;
                    const bool stays = *code == next[i] && from >= 0;
                    write_entry(l, stays ? -1 : from, -1, places, entries, 2 * i);
                    write_entry(l, stays ? from : insert_position(l, next[i], row), make_entry(row, sketches[e]), places, entries, 2 * i + 1);
                    *code = next[i];
                }
            });
        } else {
            block.for_each_by_warp(n, [&](int64_t e, Warp warp) {
                if (rows[e] < 0) return;
                const Real* own = projections + e * planes;
                warp.for_each(a.tables, [&](int64_t l) {
                    const int32_t before = codes[rows[e] * a.tables + l];
                    if (before >= 0) prefetch_bucket(l, before);
                });
                for (int64_t l = 0; l < a.tables; ++l) {
                    const int32_t code = code_of(warp, own + l * a.bits);
                    if (warp.is_leader()) next[e * a.tables + l] = code, prefetch_bucket(l, code);
                }
                const uint32_t sketch = signs(warp, own + a.tables * a.bits);
                if (warp.is_leader()) sketches[e] = sketch;
            });
            block.sync();
            block.for_each_by_warp(a.tables, [&](int64_t l, Warp warp) {
                // Half 0 of a row's two leaves a bucket, half 1 enters one: each changes one bucket, so that order counts only within a bucket. A row
                // stands nowhere but in the bucket of its code: one found where it enters stays, and one that comes again is gone where it leaves.
                ordered_by_key(
                    warp, 2 * n,
                    [&](int64_t i) -> int32_t {
                        const int64_t row = rows[i / 2];
                        if (row < 0) return -1;
                        const int32_t before = codes[row * a.tables + l], after = next[i / 2 * a.tables + l];
                        return i % 2 ? after : before != after ? before : -1;
                    },
                    [&](int64_t i, int32_t code) {
                        const int32_t row = static_cast<int32_t>(rows[i / 2]);
                        const int64_t place = code < 0 ? -1 : find_or_insert(l, code, row, i % 2);
                        write_entry(l, place, i % 2 ? make_entry(row, sketches[i / 2]) : -1, places, entries, 2 * (i / 2 * a.tables + l) + i % 2);
                    });
                ordered_by_key(
                    warp, n, [&](int64_t e) { return static_cast<int32_t>(rows[e]); },
                    [&](int64_t e, int32_t row) {
                        if (row < 0) return;
                        int32_t* const code = codes + row * a.tables + l;
                        if (old_codes) old_codes[e * a.tables + l] = *code;
                        *code = next[e * a.tables + l];
                    });
            });
        }
    }

    // Swap what an update changed with its log: undoes it; with `forward`, makes it again.
    template <class Index> MB_FN void swap(const Block& block, const Index* rows, int64_t n, int32_t* places, int64_t* entries, int32_t* old_codes, bool forward) const {
        block.for_each(n * a.tables, [&](int64_t i) {
            const int64_t e = i / a.tables, l = i % a.tables;
            if (rows[e] < 0) return;
            if (l == 0) prefetch(codes + rows[e] * a.tables);
            for (int64_t half = 0; half < 2; ++half)
                if (places[2 * i + half] >= 0) prefetch(bucket(l, 0) + places[2 * i + half]);
        });
        if constexpr (Warp::lanes == 1) {
            block.for_each(a.tables, [&](int64_t l) {
                for (int64_t step = 0; step < n; ++step) {
                    const int64_t e = forward ? step : n - 1 - step, i = e * a.tables + l;
                    if (rows[e] < 0) continue;
                    for (int64_t half = 0; half < 2; ++half) {
                        const int64_t log = 2 * i + (forward ? half : 1 - half);
                        if (places[log] >= 0) swap_values(bucket(l, 0)[places[log]], entries[log]);
                    }
                    swap_values(codes[rows[e] * a.tables + l], old_codes[i]);
                }
            });
        } else {
            block.for_each_by_warp(a.tables, [&](int64_t l, Warp warp) {
                const auto half = [&](int64_t i) { return forward ? i : 2 * n - 1 - i; };  // entry and half of its two
                const auto entry = [&](int64_t i) { return forward ? i : n - 1 - i; };
                const auto log = [&](int64_t i) { return 2 * (half(i) / 2 * a.tables + l) + half(i) % 2; };
                ordered_by_key(
                    warp, 2 * n, [&](int64_t i) { return rows[half(i) / 2] < 0 ? -1 : places[log(i)]; },
                    [&](int64_t i, int32_t place) {
                        if (place >= 0) swap_values(bucket(l, 0)[place], entries[log(i)]);
                    });
                ordered_by_key(
                    warp, n, [&](int64_t i) { return static_cast<int32_t>(rows[entry(i)]); },
                    [&](int64_t i, int32_t row) {
                        if (row >= 0) swap_values(codes[row * a.tables + l], old_codes[entry(i) * a.tables + l]);
                    });
            });
        }
    }

    // ---- query ----

    // index [R, K] of the most similar rows among those that the probes find, -1 where there are fewer.
    template <int fixed_width>
    MB_FN void query(const Block& block, const Store* memory, const Real* queries, int64_t heads, int64_t reads, int32_t* index, Real* scratch) const {
        const int64_t width = fixed_width ? fixed_width : a.width, planes = lsh_planes(a), probes = a.tables * a.probes, lines = a.capacity / entries_per_line;
        uint64_t* const distances = reinterpret_cast<uint64_t*>(scratch + (reinterpret_cast<uint64_t>(scratch) & 4 ? 1 : 0));  // [R, probes, lines] of eight entries
        Real* const projections = reinterpret_cast<Real*>(distances + heads * probes * lines);
        QuerySketch* const sketches = reinterpret_cast<QuerySketch*>(projections + heads * planes);
        int32_t* const probed = reinterpret_cast<int32_t*>(sketches + heads);
        int32_t* const picked = probed + heads * probes;                          // [R, rerank] row, -1: none
        Real* const scores = reinterpret_cast<Real*>(picked + heads * a.rerank);  // [R, rerank]
        Real* const best = scores + heads * a.rerank;                             // [R, K]
        project(block, heads, [&](int64_t r) { return queries + r * width; }, projections);
        block.sync();
        if constexpr (Warp::lanes == 1) {
            block.for_each(heads * a.tables, [&](int64_t i) {
                const Real* own = projections + i / a.tables * planes;
                probe_codes(own + i % a.tables * a.bits, probed + i * a.probes);
                for (int64_t p = 0; p < a.probes; ++p) prefetch_bucket(i % a.tables, probed[i * a.probes + p]);
                if (i % a.tables == 0) sketches[i / a.tables] = sketch_query(own + a.tables * a.bits);
            });
            block.sync();
            block.for_each(heads * a.tables, [&](int64_t i) {
                const QuerySketch& sketch = sketches[i / a.tables];
                for (int64_t p = i * a.probes; p < (i + 1) * a.probes; ++p) {
                    const int64_t* line = bucket(i % a.tables, probed[p]);
                    for (int64_t c = 0; c < lines; ++c) distances[p * lines + c] = line_distances(line + c * entries_per_line, sketch);
                }
            });
            block.sync();
            block.for_each(heads, [&](int64_t r) {
                int32_t* const own = picked + r * a.rerank;
                select_nearest(distances + r * probes * lines, probed + r * probes, own);
                for (int64_t i = 0; i < a.rerank && own[i] >= 0; ++i)
                    for (int64_t w = 0; w < width; w += 64 / static_cast<int64_t>(sizeof(Store))) prefetch(memory + own[i] * width + w);
            });
            block.sync();
            block.for_each_by_warp(heads * a.rerank, [&](int64_t i, Warp warp) {
                if (picked[i] < 0) return;
                const Store* row = memory + picked[i] * width;
                const Real* query = queries + i / a.rerank * width;
                const Real dot = warp.sum(width, [&](int64_t w) { return static_cast<Real>(row[w]) * query[w]; });
                const Real square = warp.sum(width, [&](int64_t w) { return static_cast<Real>(row[w]) * static_cast<Real>(row[w]); });
                if (warp.is_leader()) scores[i] = dot / square_root(square + epsilon);
            });
            block.sync();
            block.for_each(heads, [&](int64_t r) {
                TopK of_head{best + r * reads, index + r * reads, reads};
                of_head.clear();
                for (int64_t i = r * a.rerank; i < (r + 1) * a.rerank && picked[i] >= 0; ++i) {
                    bool fresh = true;
                    for (int64_t k = 0; k < reads; ++k) fresh = fresh && of_head.rows[k] != picked[i];
                    if (fresh) of_head.push(scores[i], picked[i]);
                }
            });
        } else {
            block.for_each_by_warp(heads * a.tables, [&](int64_t i, Warp warp) {
                const Real* own = projections + i / a.tables * planes;
                probe_codes(warp, own + i % a.tables * a.bits, probed + i * a.probes);
                warp.sync();
                warp.for_each(a.probes, [&](int64_t p) { prefetch_bucket(i % a.tables, probed[i * a.probes + p]); });
                if (i % a.tables > 0) return;
                const QuerySketch sketch = sketch_query(warp, own + a.tables * a.bits);
                if (warp.is_leader()) sketches[i / a.tables] = sketch;
            });
            block.sync();
            block.for_each(heads * probes * lines, [&](int64_t i) {
                const int64_t p = i / lines;
                const BucketLine line = bucket_line(p / a.probes % a.tables, probed[p], i % lines);
                distances[i] = line_distances(line.entries, sketches[p / probes]);
            });
            block.sync();
            block.for_each_by_warp(heads, [&](int64_t r, Warp warp) {
                int32_t* const own = picked + r * a.rerank;
                select_nearest(warp, distances + r * probes * lines, probed + r * probes, own);
                warp.sync();
                warp.for_each(a.rerank, [&](int64_t i) {
                    if (own[i] < 0) return;
                    for (int64_t w = 0; w < width; w += 64 / static_cast<int64_t>(sizeof(Store))) prefetch(memory + own[i] * width + w);
                });
            });
            block.sync();
            constexpr int64_t together = 4;  // rows that a warp scores at once, so that it waits for all of them together
            const int64_t units = (a.rerank + together - 1) / together;
            block.for_each(heads * reads, [&](int64_t i) { index[i] = -1; });
            block.for_each_by_warp(heads * units, [&](int64_t unit, Warp warp) {
                const int64_t r = unit / units, first = unit % units * together;
                const int32_t* const own = picked + r * a.rerank;
                Score score{};  // of the lane's row
                for (int64_t q = 0; q < together; ++q) {
                    const int32_t row = first + q < a.rerank ? own[first + q] : -1;
                    const Score found = score_of(warp, memory + (row < 0 ? 0 : row) * width, queries + r * width, width);
                    if (warp.lane() == q) score = found;
                }
                bool fresh = false;
                for (int64_t i = first; i < a.rerank && i < first + together; ++i) {
                    const bool found = own[i] >= 0 && warp.find_first(i, [&](int64_t before) { return own[before] == own[i]; }) == i;
                    if (warp.lane() == i - first) fresh = found;
                }
                const int64_t i = first + warp.lane();
                if (warp.lane() < together && i < a.rerank) scores[r * a.rerank + i] = fresh ? score.value() : lowest;
            });
            block.sync();
            block.for_each(heads * a.rerank, [&](int64_t i) {  // each row to the place that the better ones leave it, of equal ones the first found
                const int64_t r = i / a.rerank;
                int64_t better = 0;
                for (int64_t other = r * a.rerank; other < (r + 1) * a.rerank; ++other)
                    better += scores[other] > scores[i] || (scores[other] == scores[i] && other < i);
                if (scores[i] > lowest && better < reads) index[r * reads + better] = picked[i];
            });
        }
    }

    MB_FN void prefetch_bucket(int64_t l, int64_t code) const {
        for (int64_t c = 0; c < a.capacity; c += entries_per_line) prefetch(bucket(l, code) + c);
    }

    // Where in its table a row of a bucket stands, -1: nowhere; row -1 finds an empty place. No branch in the loop, so that it becomes SIMD.
    MB_FN int64_t place_of(int64_t l, int64_t code, int32_t row) const {
        const int64_t* own = bucket(l, code);
        for (int64_t line = 0; line < a.capacity; line += entries_per_line) {
            int64_t least = entries_per_line;
            for (int64_t c = 0; c < entries_per_line; ++c) least = row_of(own[line + c]) == row && c < least ? c : least;
            if (least < entries_per_line) return code * a.capacity + line + least;
        }
        return -1;
    }

    // An empty place, or in a full bucket the one whose turn it is by the row's number.
    MB_FN int64_t insert_position(int64_t l, int64_t code, int32_t row) const {
        const int64_t empty = place_of(l, code, -1);
        return empty >= 0 ? empty : code * a.capacity + row % a.capacity;
    }

    // Where in its table a row stands, -1: nowhere; if it is to enter a bucket where it does not stand, then as `place_for`. One reading for both.
    MB_FN int64_t find_or_insert(int64_t l, int64_t code, int32_t row, bool enters) const {
        int64_t stands = -1, empty = -1;
        for (int64_t i = a.capacity / entries_per_line; i-- > 0;) {
            const BucketLine line = bucket_line(l, code, i);
            for (int64_t c = entries_per_line; c-- > 0;) {
                const int64_t place = code * a.capacity + i * entries_per_line + c;
                if (row_of(line.entries[c]) == row) stands = place;
                if (row_of(line.entries[c]) < 0) empty = place;
            }
        }
        if (stands >= 0 || !enters) return stands;
        return empty >= 0 ? empty : code * a.capacity + row % a.capacity;
    }

  private:
    MB_FN BucketLine bucket_line(int64_t l, int64_t code, int64_t line) const { return reinterpret_cast<const BucketLine*>(bucket(l, code))[line]; }

    MB_FN void write_entry(int64_t l, int64_t place, int64_t entry, int32_t* places, int64_t* entries, int64_t log) const {
        int64_t* const own = bucket(l, 0);
        if (places) {
            places[log] = static_cast<int32_t>(place);
            if (place >= 0) entries[log] = own[place];
        }
        if (place >= 0) own[place] = entry;
    }

    // The cosine of a row with a query, but for the query's norm.
    struct Score {
        Real dot, square;
        MB_FN Real value() const { return dot / square_root(square + epsilon); }
    };
    MB_FN static Score score_of(Warp warp, const Store* row, const Real* query, int64_t width) {
        const Real dot = warp.sum(width, [&](int64_t w) { return static_cast<Real>(row[w]) * query[w]; });
        const Real square = warp.sum(width, [&](int64_t w) { return static_cast<Real>(row[w]) * static_cast<Real>(row[w]); });
        return Score{dot, square};
    }

    // The buckets to look into: the query's own, then those across the hyperplanes it is nearest to, in the order of `probe_masks`.
    MB_FN void probe_codes(const Real* margins, int32_t* codes_) const {
        int32_t keys[32], rank[32], order[32];  // how certain a bit is, made distinct by its number in the lowest five bits; where it stands by that
        for (int32_t j = 0; j < 32; ++j) {
            union { float number; int32_t bits; } margin;
            margin.number = static_cast<float>(margins[j] < 0 ? -margins[j] : margins[j]);
            keys[j] = (margin.bits & ~31) | j;
            rank[j] = 0;
        }
        for (int64_t i = 0; i < a.bits; ++i)
            for (int64_t j = 0; j < 32; ++j) rank[j] += keys[i] < keys[j];
        for (int32_t j = 0; j < a.bits; ++j) order[rank[j]] = j;
        const int32_t code = code_of(margins);
        for (int64_t p = 0; p < a.probes; ++p) {
            int32_t flipped = 0;
            for (uint32_t mask = static_cast<uint32_t>(a.probe_masks[p]); mask; mask &= mask - 1) flipped |= 1 << order[lowest_bit(mask)];
            codes_[p] = code ^ flipped;
        }
    }

    // The same by a warp, of which a lane has a bit.
    MB_FN void probe_codes(Warp warp, const Real* margins, int32_t* codes_) const {
        const auto key = [&](int32_t j) {
            union { float number; int32_t bits; } margin;
            margin.number = static_cast<float>(margins[j] < 0 ? -margins[j] : margins[j]);
            return (margin.bits & ~31) | j;
        };
        const int32_t own = key(static_cast<int32_t>(warp.lane())), code = code_of(warp, margins);
        int32_t rank = 0;
        for (int32_t i = 0; i < a.bits; ++i) rank += key(i) < own;
        for (int64_t p = 0; p < a.probes; ++p) {
            const uint32_t mask = static_cast<uint32_t>(a.probe_masks[p]);
            const uint32_t flipped = warp.ballot([&](int64_t j) { return j < a.bits && (mask >> rank & 1); });
            if (warp.lane() == p % Warp::lanes) codes_[p] = code ^ static_cast<int32_t>(flipped);
        }
    }

    // The `rerank` candidates nearest by their sketches: all of the least distances, of the last one the first found; the other places -1.
    MB_FN void select_nearest(const uint64_t* distances, const int32_t* probed, int32_t* picked) const {
        const int64_t lines = a.capacity / entries_per_line, all = a.tables * a.probes * lines;
        const auto count = [&](int64_t limit) {
            int64_t near = 0;
            for (int64_t i = 0; i < all; ++i) near += count_bits(within(distances[i], limit));
            return near;
        };
        int64_t limit = 0;  // the least distance within which there are as many
        for (int64_t step = (max_distance + 1) / 2; step > 0; step /= 2)
            if (count(limit + step - 1) < a.rerank) limit += step;
        int64_t n = 0, last = a.rerank - (limit > 0 ? count(limit - 1) : 0);  // last: how many of the last distance
        for (int64_t p = 0; p < a.tables * a.probes && n < a.rerank; ++p) {
            const int64_t* own = bucket(p / a.probes, probed[p]);
            for (int64_t c = 0; c < lines; ++c)
                for (uint64_t near = within(distances[p * lines + c], limit); near; near &= near - 1) {
                    const int64_t at = lowest_bit(near) / 8;
                    const bool nearer = static_cast<int64_t>(distances[p * lines + c] >> (8 * at) & 255) < limit;
                    if (!nearer && last-- <= 0) continue;
                    picked[n++] = row_of(own[c * entries_per_line + at]);
                }
        }
        for (; n < a.rerank; ++n) picked[n] = -1;
    }

    // The same by a warp.
    MB_FN void select_nearest(Warp warp, const uint64_t* distances, const int32_t* probed, int32_t* picked) const {
        const int64_t lines = a.tables * a.probes * a.capacity / entries_per_line;
        int64_t limit = 0, below = 0;  // the least distance within which there are as many, and how many are nearer than that
        for (int64_t step = (max_distance + 1) / 2; step > 0; step /= 2) {
            const int64_t tried = limit + step - 1;
            const Real near = warp.sum(lines, [&](int64_t i) { return static_cast<Real>(count_bits(within(distances[i], tried))); });
            if (near < static_cast<Real>(a.rerank)) limit += step, below = static_cast<int64_t>(near);
        }
        int64_t n = 0, equal = 0;  // picked; met at the last distance
        for (int64_t first = 0; first < lines * entries_per_line && n < a.rerank; first += Warp::lanes) {
            const int64_t i = first + warp.lane(), p = i / a.capacity;
            const int64_t distance = i < lines * entries_per_line ? reinterpret_cast<const unsigned char*>(distances)[i] : empty_distance;
            const int64_t before = warp.exclusive_count(distance == limit, equal);
            const bool chosen = distance < limit || (distance == limit && before < a.rerank - below);
            const int64_t place = warp.exclusive_count(chosen, n);
            if (chosen) picked[place] = row_of(bucket(p / a.probes, probed[p])[i % a.capacity]);
        }
        warp.for_each(a.rerank - n, [&](int64_t i) { picked[n + i] = -1; });
    }
};

}  // namespace mb
