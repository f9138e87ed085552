// Querying the hash tables: probe buckets, select the `rerank` candidates whose sketches are nearest, score those
// exactly and keep the K best.
#pragma once

#include "memory/lsh.h"
#include "memory/topk.h"

namespace mb {

template <int fixed_width>
struct LshQuery {
    const Block& block;
    const Lsh& lsh;
    const Arguments& a;
    const Store* memory;
    const Real* queries;  // [R, W]
    const Count heads, reads;
    const int64_t width;
    const Count probes, lines;  // probes of a head, lines of a bucket
    // scratch, the widest numbers first, so that all are aligned
    uint64_t* distances;    // [R, probes, lines], of the 8 entries of a line
    Real* projections;      // [R, planes]
    Real* scores;           // [R, rerank]
    Real* best;             // [R, K]
    QuerySketch* sketches;  // [R]
    int32_t* probed;        // [R, probes] codes
    int32_t* selected;      // [R, rerank] rows, -1: none

    MB_FN LshQuery(const Block& block, const Lsh& lsh, const Store* memory, const Real* queries, Count heads,
                   Count reads, Real* scratch)
        : block(block),
          lsh(lsh),
          a(lsh.a),
          memory(memory),
          queries(queries),
          heads(heads),
          reads(reads),
          width(fixed_width ? fixed_width : a.width),
          probes(a.tables * a.probes),
          lines(a.capacity / entries_per_line) {
        const bool misaligned = reinterpret_cast<uint64_t>(scratch) & 4;
        distances = reinterpret_cast<uint64_t*>(scratch + (misaligned ? 1 : 0));
        projections = reinterpret_cast<Real*>(distances + heads * probes * lines);
        scores = projections + heads * lsh_planes(a);
        best = scores + heads * a.rerank;
        sketches = reinterpret_cast<QuerySketch*>(best + heads * reads);
        probed = reinterpret_cast<int32_t*>(sketches + heads);
        selected = probed + heads * probes;
    }

    // index [R, K] of the best rows found, -1 where there are fewer. A query that is not finite and finds none reads
    // row 0, so that what is read is not finite either.
    MB_FN void run(int32_t* index) const {
        lsh.project(block, heads, [&](Count r) { return queries + r * width; }, projections);
        block.sync();
        if constexpr (Warp::lanes == 1)
            run_by_thread(index);
        else
            run_by_warp(index);
    }

  private:
    MB_FN Count tables() const { return a.tables; }
    MB_FN Count rerank() const { return a.rerank; }
    MB_FN void prefetch_memory_row(int32_t row) const {
        for (int64_t w = 0; w < width; w += 64 / static_cast<int64_t>(sizeof(Store)))
            prefetch(memory + row * width + w);
    }

    MB_FN void run_by_thread(int32_t* index) const {
        block.for_each(heads * tables(), [&](Count i) {
            const Real* projection = projections + i / tables() * lsh_planes(a);
            probe_codes(projection + i % tables() * a.bits, probed + i * a.probes);
            for (Count p = 0; p < a.probes; ++p) lsh.prefetch_bucket(i % tables(), probed[i * a.probes + p]);
            if (i % tables() == 0) sketches[i / tables()] = sketch_query(projection + tables() * a.bits);
        });
        block.sync();
        block.for_each(heads * tables(), [&](Count i) {
            const QuerySketch& sketch = sketches[i / tables()];
            for (Count p = i * a.probes; p < (i + 1) * a.probes; ++p) {
                const int64_t* entries = lsh.bucket(i % tables(), probed[p]);
                for (Count c = 0; c < lines; ++c)
                    distances[p * lines + c] = line_distances(entries + c * entries_per_line, sketch);
            }
        });
        block.sync();
        block.for_each(heads, [&](Count r) {
            int32_t* const rows = selected + r * rerank();
            select_nearest(distances + r * probes * lines, probed + r * probes, rows);
            for (Count i = 0; i < rerank() && rows[i] >= 0; ++i) prefetch_memory_row(rows[i]);
        });
        block.sync();
        block.for_each_by_warp(heads * rerank(), [&](Count i, Warp warp) {
            if (selected[i] < 0) return;
            const Score score = score_of(warp, memory + selected[i] * width, queries + i / rerank() * width);
            if (warp.is_leader()) scores[i] = score.value();
        });
        block.sync();
        block.for_each(heads, [&](Count r) {
            TopK top{best + r * reads, index + r * reads, reads};
            top.clear();
            for (Count i = r * rerank(); i < (r + 1) * rerank() && selected[i] >= 0; ++i) {
                bool is_new = true;
                for (Count k = 0; k < reads; ++k) is_new = is_new && top.rows[k] != selected[i];
                if (is_new) top.push(scores[i], selected[i]);
            }
            if (top.rows[0] < 0 && !is_finite(queries + r * width)) top.rows[0] = 0;
        });
    }

    MB_FN void run_by_warp(int32_t* index) const {
        block.for_each_by_warp(heads * tables(), [&](Count i, Warp warp) {
            const Real* projection = projections + i / tables() * lsh_planes(a);
            probe_codes(warp, projection + i % tables() * a.bits, probed + i * a.probes);
            warp.sync();
            warp.for_each(static_cast<Count>(a.probes),
                          [&](Count p) { lsh.prefetch_bucket(i % tables(), probed[i * a.probes + p]); });
            if (i % tables() > 0) return;
            const QuerySketch sketch = sketch_query(warp, projection + tables() * a.bits);
            if (warp.is_leader()) sketches[i / tables()] = sketch;
        });
        block.sync();
        const Count probes_of_table = a.probes;
        block.for_each(heads * probes * lines, [&](Count i) {
            const Count p = i / lines;
            const BucketLine line = lsh.bucket_line(p / probes_of_table % tables(), probed[p], i % lines);
            distances[i] = line_distances(line.entries, sketches[p / probes]);
        });
        block.sync();
        block.for_each_by_warp(heads, [&](Count r, Warp warp) {
            int32_t* const rows = selected + r * rerank();
            select_nearest(warp, distances + r * probes * lines, probed + r * probes, rows);
            warp.for_each(rerank(), [&](Count i) {
                if (rows[i] >= 0) prefetch_memory_row(rows[i]);
            });
        });
        block.sync();
        block.for_each(heads * reads, [&](Count i) { index[i] = -1; });
        score_by_warp();
        block.sync();
        block.for_each(heads * rerank(),
                       [&](Count i) {  // the rank of a row is the number of those that come before it
                           const Count r = i / rerank();
                           Count rank = 0;
                           for (Count other = r * rerank(); other < (r + 1) * rerank(); ++other)
                               rank += comes_before(scores[other], selected[other], scores[i], selected[i]);
                           if (scores[i] == scores[i] && rank < reads) index[r * reads + rank] = selected[i];
                           if (i % rerank() == 0 && selected[i] < 0 && !is_finite(queries + r * width))
                               index[r * reads] = 0;
                       });
    }

    // Ranked scores of the selected rows; NaN of a repeated row but the first time, and where there is none.
    MB_FN void score_by_warp() const {
        constexpr Count at_once = 4;  // rows that a warp scores together, so that their loads overlap
        const Count units = (rerank() + at_once - 1) / at_once;
        block.for_each_by_warp(heads * units, [&](Count unit, auto warp) {
            const Count r = unit / units, first = unit % units * at_once;
            const int32_t* const rows = selected + r * rerank();
            const Real* const query = queries + r * width;
            const Store* row[at_once];
            for (Count q = 0; q < at_once; ++q) {
                const int32_t number = first + q < rerank() ? rows[first + q] : -1;
                row[q] = memory + (number < 0 ? 0 : number) * width;
            }
            Real dots[at_once] = {}, squares[at_once] = {};
            for (int64_t w = warp.lane(); w < width; w += Warp::lanes)
                for (Count q = 0; q < at_once; ++q) {
                    const Real number = static_cast<Real>(row[q][w]);
                    dots[q] += number * query[w], squares[q] += number * number;
                }
            warp.sync();
            const Score score{warp.sum_of_four(dots), warp.sum_of_four(squares)};
            constexpr Count lanes_of_row = Warp::lanes / at_once;
            const Count i = first + warp.lane() / lanes_of_row;
            if (warp.lane() % lanes_of_row > 0 || i >= rerank()) return;
            bool is_new = rows[i] >= 0;
            for (Count before = 0; before < i; ++before) is_new = is_new && rows[before] != rows[i];
            scores[r * rerank() + i] = is_new ? ranked(score.value()) : not_a_number();
        });
    }

    MB_FN bool is_finite(const Real* query) const {
        Real zero = 0;
        for (int64_t w = 0; w < width; ++w) zero += Real(0) * query[w];
        return zero == 0;
    }

    // Cosine of a row with a query, without the query's norm.
    struct Score {
        Real dot, square;
        MB_FN Real value() const { return dot / square_root(square + epsilon); }
    };
    MB_FN Score score_of(Warp warp, const Store* row, const Real* query) const {
        const Real dot = warp.sum(width, [&](int64_t w) { return static_cast<Real>(row[w]) * query[w]; });
        const Real square =
            warp.sum(width, [&](int64_t w) { return static_cast<Real>(row[w]) * static_cast<Real>(row[w]); });
        return Score{dot, square};
    }

    // Sort key of a bit by how certain its sign is: |margin|, made unique by the bit's number in the lowest five bits.
    MB_FN static int32_t certainty_key(const Real* margins, int32_t bit) {
        union {
            float number;
            int32_t bits;
        } margin;
        margin.number = static_cast<float>(margins[bit] < 0 ? -margins[bit] : margins[bit]);
        return (margin.bits & ~31) | bit;
    }

    // The buckets to probe: the query's own, then those across the hyperplanes it is nearest to, in order of
    // `probe_masks`.
    MB_FN void probe_codes(const Real* margins, int32_t* probe) const {
        int32_t keys[32], rank[32], order[32];
        for (int32_t j = 0; j < 32; ++j) keys[j] = certainty_key(margins, j), rank[j] = 0;
        for (Count i = 0; i < a.bits; ++i)
            for (Count j = 0; j < 32; ++j) rank[j] += keys[i] < keys[j];
        for (int32_t j = 0; j < a.bits; ++j) order[rank[j]] = j;
        const int32_t code = lsh.code_of(margins);
        for (Count p = 0; p < a.probes; ++p) {
            int32_t flipped = 0;
            for (uint32_t mask = static_cast<uint32_t>(a.probe_masks[p]); mask; mask &= mask - 1)
                flipped |= 1 << order[lowest_bit(mask)];
            probe[p] = code ^ flipped;
        }
    }
    // The same by a warp, a lane a bit.
    MB_FN void probe_codes(Warp warp, const Real* margins, int32_t* probe) const {
        const int32_t own = certainty_key(margins, static_cast<int32_t>(warp.lane()));
        const int32_t code = lsh.code_of(warp, margins), bits = static_cast<int32_t>(a.bits);
        const Count probes_of_table = a.probes, lane = warp.lane();
        int32_t masks = lane < probes_of_table ? a.probe_masks[lane] : 0;  // of the next `lanes` probes, one a lane
        int32_t rank = 0;
        for (int32_t i = 0; i < bits; ++i) rank += warp.from_lane(own, i) < own;
        for (Count p = 0; p < probes_of_table; ++p) {
            if (p > 0 && p % Warp::lanes == 0) masks = p + lane < probes_of_table ? a.probe_masks[p + lane] : 0;
            const uint32_t mask = static_cast<uint32_t>(warp.from_lane(masks, p % Warp::lanes));
            const uint32_t flipped = warp.ballot([&](Count j) { return j < bits && (mask >> rank & 1); });
            if (lane == p % Warp::lanes) probe[p] = code ^ static_cast<int32_t>(flipped);
        }
    }

    // The `rerank` candidates with the smallest sketch distances, of the largest such distance the first ones; -1 after
    // them.
    MB_FN void select_nearest(const uint64_t* distances, const int32_t* probed, int32_t* rows) const {
        const Count all = probes * lines;
        const auto count = [&](Count limit) {
            Count near = 0;
            for (Count i = 0; i < all; ++i) near += count_bits(within(distances[i], limit));
            return near;
        };
        Count limit = 0;  // the smallest distance within which there are `rerank` candidates
        for (Count step = (max_distance + 1) / 2; step > 0; step /= 2)
            if (count(limit + step - 1) < rerank()) limit += step;
        Count n = 0, at_limit = rerank() - (limit > 0 ? count(limit - 1) : 0);  // candidates to take at that distance
        for (Count p = 0; p < probes && n < rerank(); ++p) {
            const int64_t* entries = lsh.bucket(p / a.probes, probed[p]);
            for (Count c = 0; c < lines; ++c)
                for (uint64_t near = within(distances[p * lines + c], limit); near; near &= near - 1) {
                    const Count at = lowest_bit(near) / 8;
                    const bool nearer = static_cast<Count>(distances[p * lines + c] >> (8 * at) & 255) < limit;
                    if (!nearer && at_limit-- <= 0) continue;
                    rows[n++] = row_of(entries[c * entries_per_line + at]);
                }
        }
        for (; n < rerank(); ++n) rows[n] = -1;
    }
    // The same by a warp.
    MB_FN void select_nearest(Warp warp, const uint64_t* distances, const int32_t* probed, int32_t* rows) const {
        const Count all = probes * lines;
        Count limit = 0, below = 0;  // as above, and how many candidates are nearer
        for (Count step = (max_distance + 1) / 2; step > 0; step /= 2) {
            const Count tried = limit + step - 1;
            const Count near = warp.count(all, [&](Count i) { return count_bits(within(distances[i], tried)); });
            if (near < rerank()) limit += step, below = near;
        }
        const Count probes_of_table = a.probes, at_limit = rerank() - below;  // candidates to take at that distance
        Count nearer = 0, equal = 0;  // candidates seen that are nearer than `limit`, and at it
        for (Count first = 0; first < all; first += Warp::lanes) {  // a lane a line
            const Count i = first + warp.lane();
            uint64_t near = i < all ? within(distances[i], limit) : 0;
            const uint64_t below_limit = limit > 0 ? near & within(distances[i < all ? i : 0], limit - 1) : 0;
            Count all_nearer = 0, all_near = 0;
            Count nearer_before = nearer + warp.exclusive_sum(count_bits(below_limit), all_nearer);
            const Count near_before = nearer + equal + warp.exclusive_sum(count_bits(near), all_near);
            Count equal_before = near_before - nearer_before;
            MB_ROLLED
            for (; near; near &= near - 1) {
                const Count bit = lowest_bit(near);
                const bool is_nearer = below_limit >> bit & 1;
                const Count position = nearer_before + (equal_before < at_limit ? equal_before : at_limit);
                if (is_nearer || equal_before < at_limit) rows[position] = i * entries_per_line + bit / 8;
                is_nearer ? ++nearer_before : ++equal_before;
            }
            warp.sync();
            nearer += all_nearer, equal += all_near - all_nearer;
        }
        const Count n = nearer + (equal < at_limit ? equal : at_limit), capacity = lines * entries_per_line;
        warp.for_each(rerank(), [&](Count i) {  // from the places of entries to their rows, whose loads overlap
            const Count place = i < n ? rows[i] : 0, p = place / capacity;
            rows[i] = i < n ? row_of(lsh.bucket(p / probes_of_table, probed[p])[place % capacity]) : -1;
        });
    }
};

}  // namespace mb
