// Content search: the K rows of largest cosine to each of R queries (Rae et al. 2016, section 3.1), best first.
// Each lane tile keeps lists of its own, which are then merged. Several blocks may search one memory, each a share of
// its rows.
#pragma once

#include "arguments.h"
#include "block/block.h"

namespace mb {

// The k best (ranked score, row), best first. An empty entry has row -1 and score NaN: no score is `<=` that.
struct TopK {
    Real* scores;
    int32_t* rows;
    Count k;

    MB_FN void clear() {
        MB_ROLLED
        for (Count i = 0; i < k; ++i) scores[i] = not_a_number(), rows[i] = -1;
    }
    MB_FN void push(Real score, int32_t row) {
        const Real own = ranked(score);
        const auto belongs_before = [&](Count i) { return rows[i] < 0 || comes_before(own, row, scores[i], rows[i]); };
        Count i = k - 1;
        if (!belongs_before(i)) return;
        MB_ROLLED
        for (; i > 0 && belongs_before(i - 1); --i) scores[i] = scores[i - 1], rows[i] = rows[i - 1];
        scores[i] = own, rows[i] = row;
    }
};

MB_FN int64_t topk_scratch(int64_t heads, int64_t reads) { return 2 * Block::num_lane_tiles * heads * reads; }

// Merge lists [lists, R, K] of scores and rows into the K best of each head [R, K], best first.
// Overwrites the rows of the lists. Visible after the next sync.
MB_FN void merge_topk(const Block& block, const Real* scores, int32_t* rows, Count lists, Count heads, Count reads,
                      int32_t* index, Real* best_scores) {
    block.for_each_by_warp(heads, [&](Count r, Warp warp) {
        for (Count k = 0; k < reads; ++k) {
            ScoredRow best{0, -1, -1};
            for (Count i = warp.lane(); i < lists * reads; i += Warp::lanes) {
                const Count at = (i / reads * heads + r) * reads + i % reads;
                best.take_better(ScoredRow{scores[at], rows[at], at});
            }
            warp.argmax(best);
            if (warp.is_leader()) {
                index[r * reads + k] = best.row;
                if (best_scores) best_scores[r * reads + k] = best.score;
                if (best.row >= 0) rows[best.position] = -1;
            }
            warp.sync();
        }
    });
}

// Push the scores of the rows of a tile, from `row` on, of which the first `candidates` count.
template <Count tile_rows, class Tile>
MB_FN void push_scores(const LaneTile& lane_tile, const Tile& tile, const Real* norms, int64_t row, Count candidates,
                       const Real* queries, Count heads, Count reads, int64_t width, Real* scores, int32_t* rows) {
    Real scale[tile_rows], dots[tile_rows];
    lane_tile.template reciprocals<tile_rows>(norms + row, candidates, scale);
    for (Count group = 0; group < heads; group += LaneTile::heads) {
        tile.dot(lane_tile, queries + group * width, heads - group, width, dots);
        const Count r = group + lane_tile.head();
        if (r >= heads || !lane_tile.keeps()) continue;
        TopK best{scores + r * reads, rows + r * reads, reads};
        const Real worst = best.scores[reads - 1];
        if constexpr (tile_rows > LaneTile::rows) {
            const uint32_t better = Tile::scale(dots, scale, worst);  // as bits; mostly none is, and nothing is pushed
            for (int j = 0; better >> j; ++j)
                if (better >> j & 1 && j < candidates) best.push(dots[j], static_cast<int32_t>(row + j));
        } else {
            int32_t better = 0;
            for (int j = 0; j < tile_rows; ++j) dots[j] *= scale[j], better |= !(dots[j] <= worst);
            for (int j = 0; j < tile_rows && better; ++j)
                if (j < candidates) best.push(dots[j], static_cast<int32_t>(row + j));
        }
    }
}

// The K best of rows [first, end) for each of R queries, -1 where there are fewer; rows from num_candidates on do not
// count. Scratch: topk_scratch. Visible after the next sync.
template <int fixed_width>
MB_FN void scan_topk(const Block& block, const Store* memory, const Real* norms, int64_t first, int64_t end,
                     int64_t num_candidates, const Real* queries, Count heads, Count reads, int64_t width,
                     int32_t* index, Real* best_scores, Real* scratch) {
    const int64_t n = fixed_width ? fixed_width : width;
    Real* const scores = scratch;
    int32_t* const rows = reinterpret_cast<int32_t*>(scratch + Block::num_lane_tiles * heads * reads);
    block.for_each_lane_tile([&](LaneTile lane_tile) {
        const Count own = lane_tile.rank() * heads * reads;
        for (Count r = lane_tile.head(); r < heads && lane_tile.keeps(); r += LaneTile::heads)
            TopK{scores + own + r * reads, rows + own + r * reads, reads}.clear();
        const auto candidates = [&](int64_t row, Count count) -> Count {
            const int64_t left = num_candidates - row;
            return left > count ? count : left > 0 ? static_cast<Count>(left) : 0;
        };
        int64_t rest = first;
        if constexpr (ManyRows<fixed_width>::rows > 0) {
            constexpr Count many = ManyRows<fixed_width>::rows;
            for (; rest + many <= end; rest += many)
                push_scores<many>(lane_tile, ManyRows<fixed_width>{memory + rest * n}, norms, rest,
                                  candidates(rest, many), queries, heads, reads, n, scores + own, rows + own);
        }
        lane_tile.for_each_row_tile(rest, end, [&](int64_t row, Count count) {
            const RowTile<fixed_width> tile(lane_tile, memory, row, count, n);
            push_scores<LaneTile::rows>(lane_tile, tile, norms, row, candidates(row, count), queries, heads, reads, n,
                                        scores + own, rows + own);
        });
    });
    block.sync();
    const int64_t tiles = (end - first + LaneTile::rows - 1) / LaneTile::rows;
    // Row tiles are dealt round-robin: with fewer than lane tiles, the remaining lists are empty.
    merge_topk(block, scores, rows, static_cast<Count>(tiles < Block::num_lane_tiles ? tiles : Block::num_lane_tiles),
               heads, reads, index, best_scores);
}

}  // namespace mb
