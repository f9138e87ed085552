// Locality-sensitive hashing that lives with the memory: tables of random hyperplane buckets of fixed capacity, updated in place, undone on
// rollback, queried with several probes a table (Charikar 2002; multi-probe: Lv et al. 2007). A bucket entry is a row and a sketch of it,
// 32 more signs, so that most candidates are dismissed by a popcount and never cost a cache miss of their row.
#pragma once

#include "content.h"
#include "linear.h"

namespace mb {

constexpr int64_t sketch_bits = 32;

MB_FN int64_t row_of(int64_t entry) { return entry >> 32; }
MB_FN int64_t make_entry(int64_t row, uint32_t sketch) { return (row << 32) | sketch; }
MB_FN int64_t count_bits(uint32_t bits) {
#if defined(__CUDACC__)
    return __popc(bits);
#else
    return __builtin_popcount(bits);
#endif
}
MB_FN uint32_t signs(const Real* projections, int64_t bits) {
    uint32_t code = 0;
    for (int64_t i = 0; i < bits; ++i) code |= static_cast<uint32_t>(projections[i] > 0) << i;
    return code;
}

// Numbers of scratch for `update` of n rows and `query` of R heads, which do not run at once.
MB_FN int64_t lsh_scratch(const Arguments& a, int64_t rows, int64_t heads, int64_t reads) {
    const int64_t planes = a.tables * a.bits + sketch_bits;
    const int64_t update = rows * (planes + a.tables + 1), places = a.tables * a.probes * a.capacity;
    const int64_t query = heads * (planes + 1 + a.tables * a.probes + 2 * places + 2 * a.rerank + 2 * reads) + 2;
    return update > query ? update : query;
}

struct Lsh {
    const Arguments& a;
    int64_t* buckets;  // [tables, 2^bits, capacity]
    int32_t* codes;    // [N, tables]

    MB_FN Lsh(const Arguments& a, int64_t element)
        : a(a), buckets(a.buckets + element * a.tables * (a.capacity << a.bits)), codes(a.codes + element * a.slots * a.tables) {}

    MB_FN int64_t* table(int64_t l) const { return buckets + l * (a.capacity << a.bits); }

    // Bring the tables up to the rows named (-1: none, repeats allowed) as they stand now. The logs [n, tables, ...] may be null.
    MB_FN void update(const Block& block, const int32_t* rows, int64_t n, const Store* memory, Real* scratch, int32_t* places, int64_t* entries, int32_t* old_codes) const {
        const int64_t planes = a.tables * a.bits + sketch_bits;
        Real* const projections = scratch;
        int32_t* const next = reinterpret_cast<int32_t*>(projections + n * planes);
        uint32_t* const sketches = reinterpret_cast<uint32_t*>(next + n * a.tables);
        block.rows(n, [&](int64_t e, Group group) {
            if (rows[e] < 0) return;
            for (int64_t unit = 0; unit < product_units(planes); ++unit)
                product_unit(group, unit, projections + e * planes, nullptr, a.planes, planes, memory + rows[e] * a.width, a.width, planes);
        });
        block.sync();
        block.each(n * a.tables, [&](int64_t i) {
            const int64_t e = i / a.tables, l = i % a.tables;
            if (rows[e] < 0) return;
            const Real* own = projections + e * planes;
            next[i] = static_cast<int32_t>(signs(own + l * a.bits, a.bits));
            if (l == 0) sketches[e] = signs(own + a.tables * a.bits, sketch_bits);
            prefetch(table(l) + next[i] * a.capacity);
            const int32_t code = codes[rows[e] * a.tables + l];
            if (code >= 0) prefetch(table(l) + code * a.capacity);
        });
        block.sync();
        block.each(a.tables, [&](int64_t l) {
            for (int64_t e = 0; e < n; ++e) {
                const int64_t i = e * a.tables + l;
                if (rows[e] < 0) {
                    if (places) places[2 * i] = places[2 * i + 1] = -1;
                    continue;
                }
                int32_t* const code = codes + rows[e] * a.tables + l;
                const int64_t from = *code < 0 ? -1 : find(l, *code, rows[e]);
                if (old_codes) old_codes[i] = *code;
                const bool stays = *code == next[i] && from >= 0;
                put(l, stays ? -1 : from, -1, places, entries, 2 * i);
                put(l, stays ? from : free_place(l, next[i], rows[e]), make_entry(rows[e], sketches[e]), places, entries, 2 * i + 1);
                *code = next[i];
            }
        });
    }

    // Swap what an update changed with its log: undoes it; with `forward`, makes it again.
    MB_FN void swap(const Block& block, const int32_t* rows, int64_t n, int32_t* places, int64_t* entries, int32_t* old_codes, bool forward) const {
        block.each(a.tables, [&](int64_t l) {
            for (int64_t step = 0; step < n; ++step) {
                const int64_t e = forward ? step : n - 1 - step, i = e * a.tables + l;
                if (rows[e] < 0) continue;
                for (int64_t half = 0; half < 2; ++half) {
                    const int64_t log = 2 * i + (forward ? half : 1 - half);
                    if (places[log] >= 0) exchange_entries(table(l)[places[log]], entries[log]);
                }
                int32_t* const code = codes + rows[e] * a.tables + l;
                const int32_t kept = *code;
                *code = old_codes[i];
                old_codes[i] = kept;
            }
        });
    }

    // index [R, K] of the most similar rows among those that the probes find, -1 where there are fewer.
    template <int known>
    MB_FN void query(const Block& block, const Store* memory, const Real* queries, int64_t heads, int64_t reads, int32_t* index, Real* scratch) const {
        const int64_t width = known ? known : a.width, planes = a.tables * a.bits + sketch_bits, probes = a.tables * a.probes, candidates = probes * a.capacity;
        Real* const projections = scratch;
        uint32_t* const sketches = reinterpret_cast<uint32_t*>(projections + heads * planes);
        int32_t* const probed = reinterpret_cast<int32_t*>(sketches + heads);
        Real* const scores = reinterpret_cast<Real*>(probed + heads * probes);
        int32_t* const picked = reinterpret_cast<int32_t*>(scores + heads * (a.rerank + reads));
        int32_t* const found = picked + heads * a.rerank;            // [R, candidates] row
        int32_t* const distance = found + heads * candidates;        // [R, candidates] bits that differ, -1: no row
        block.rows(heads, [&](int64_t r, Group group) {
            for (int64_t unit = 0; unit < product_units(planes); ++unit)
                product_unit(group, unit, projections + r * planes, nullptr, a.planes, planes, queries + r * width, width, planes);
        });
        block.sync();
        block.each(heads * a.tables, [&](int64_t i) {
            const Real* own = projections + i / a.tables * planes;
            probe_codes(own + i % a.tables * a.bits, probed + i * a.probes);
            for (int64_t p = 0; p < a.probes; ++p) prefetch(table(i % a.tables) + probed[i * a.probes + p] * a.capacity);
            if (i % a.tables == 0) sketches[i / a.tables] = signs(own + a.tables * a.bits, sketch_bits);
        });
        block.sync();
        block.each(heads * probes, [&](int64_t i) {
            const int64_t r = i / probes, l = i % probes / a.probes;
            const int64_t* bucket = table(l) + probed[i] * a.capacity;
            for (int64_t c = 0; c < a.capacity; ++c) {
                const int64_t entry = bucket[c];
                found[i * a.capacity + c] = static_cast<int32_t>(row_of(entry));
                distance[i * a.capacity + c] = entry < 0 ? -1 : static_cast<int32_t>(count_bits(static_cast<uint32_t>(entry) ^ sketches[r]));
            }
        });
        block.sync();
        block.each(heads, [&](int64_t r) { pick(found + r * candidates, distance + r * candidates, candidates, picked + r * a.rerank, memory); });
        block.sync();
        block.rows(heads * a.rerank, [&](int64_t i, Group group) {
            if (picked[i] < 0) return;
            const Store* row = memory + static_cast<int64_t>(picked[i]) * width;
            const Real* query = queries + i / a.rerank * width;
            const Real dot = group.sum(width, [&](int64_t w) { return static_cast<Real>(row[w]) * query[w]; });
            const Real square = group.sum(width, [&](int64_t w) { return static_cast<Real>(row[w]) * static_cast<Real>(row[w]); });
            if (group.leads()) scores[i] = dot / square_root(square + epsilon);
        });
        block.sync();
        block.each(heads, [&](int64_t r) {
            Best best{scores + heads * a.rerank + r * reads, index + r * reads, reads};
            best.clear();
            for (int64_t i = 0; i < a.rerank; ++i) {
                const int32_t row = picked[r * a.rerank + i];
                bool fresh = row >= 0;
                for (int64_t k = 0; k < reads; ++k) fresh = fresh && best.rows[k] != row;
                if (fresh) best.offer(scores[r * a.rerank + i], row);
            }
        });
    }

  private:
    MB_FN static void exchange_entries(int64_t& one, int64_t& other) {
        const int64_t kept = one;
        one = other;
        other = kept;
    }

    MB_FN int64_t find(int64_t l, int64_t code, int64_t row) const {
        for (int64_t place = code * a.capacity; place < (code + 1) * a.capacity; ++place)
            if (row_of(table(l)[place]) == row) return place;
        return -1;  // it was pushed out of a full bucket
    }

    // An empty place, or in a full bucket the one whose turn it is by the row's number.
    MB_FN int64_t free_place(int64_t l, int64_t code, int64_t row) const {
        for (int64_t place = code * a.capacity; place < (code + 1) * a.capacity; ++place)
            if (table(l)[place] < 0) return place;
        return code * a.capacity + row % a.capacity;
    }

    MB_FN void put(int64_t l, int64_t place, int64_t entry, int32_t* places, int64_t* entries, int64_t log) const {
        if (places) {
            places[log] = static_cast<int32_t>(place);
            if (place >= 0) entries[log] = table(l)[place];
        }
        if (place >= 0) table(l)[place] = entry;
    }

    // The buckets to look into: the query's own, then those across the hyperplanes it is nearest to, in the order of `probe_masks`.
    MB_FN void probe_codes(const Real* margins, int32_t* codes_) const {
        int32_t order[32];  // bits from least to most certain, as far as the probe masks reach
        const int64_t reach = a.bits < 8 ? a.bits : 8;
        uint32_t taken = 0;
        for (int64_t i = 0; i < reach; ++i) {
            Real least = 0;
            int32_t chosen = -1;
            for (int32_t j = 0; j < a.bits; ++j) {
                const Real margin = margins[j] < 0 ? -margins[j] : margins[j];
                if (!(taken >> j & 1) && (chosen < 0 || margin < least)) least = margin, chosen = j;
            }
            order[i] = chosen;
            taken |= 1u << chosen;
        }
        const uint32_t code = signs(margins, a.bits);
        for (int64_t p = 0; p < a.probes; ++p) {
            uint32_t flipped = 0;
            for (int64_t i = 0; i < reach; ++i)
                if (a.probe_masks[p] >> i & 1) flipped |= 1u << order[i];
            codes_[p] = static_cast<int32_t>(code ^ flipped);
        }
    }

    // The `rerank` candidates whose sketches differ least, in the order found; the rest of the places -1.
    MB_FN void pick(const int32_t* found, const int32_t* distance, int64_t candidates, int32_t* picked, const Store* memory) const {
        int32_t counts[sketch_bits + 1];
        for (int64_t d = 0; d <= sketch_bits; ++d) counts[d] = 0;
        for (int64_t i = 0; i < candidates; ++i)
            if (distance[i] >= 0) ++counts[distance[i]];
        int64_t limit = 0, within = counts[0];
        while (limit < sketch_bits && within + counts[limit + 1] <= a.rerank) within += counts[++limit];
        int64_t extra = a.rerank - within, n = 0;  // of those one bit further, as many as there is room for
        for (int64_t i = 0; i < candidates && n < a.rerank; ++i) {
            if (distance[i] < 0 || distance[i] > limit + 1 || (distance[i] == limit + 1 && extra-- <= 0)) continue;
            picked[n++] = found[i];
            prefetch(memory + static_cast<int64_t>(found[i]) * a.width);
        }
        for (; n < a.rerank; ++n) picked[n] = -1;
    }
};

}  // namespace mb
