// Content search that scores only the rows whose bound can still reach the K best (byte_rows.h): the rows, in the order
// and to the bit, that scan_topk finds, for a quarter of the bytes read.
#pragma once

#include "memory/byte_rows.h"
#include "memory/sketch.h"
#include "memory/topk.h"

namespace mb {

// Reals of scratch of one part of a search, with or without byte rows.
MB_FN int64_t search_scratch(int64_t heads, int64_t reads, int64_t width) {
    return topk_scratch(heads, reads) + heads * ByteQuery::size(width);
}

// As scan_topk, whose first row `first` is a multiple of 8. Scratch: search_scratch. Copies may be renewed in front of
// it without a barrier between.
template <int fixed_width>
MB_FN void bounded_topk(const Block& block, const Store* memory, const Real* norms, const ByteRows& copies,
                        int64_t first, int64_t end, int64_t num_candidates, const Real* queries, Count heads,
                        Count reads, int64_t width, int32_t* index, Real* best_scores, Real* scratch) {
    constexpr int fixed_words = (fixed_width + 3) / 4;
    const int64_t n = fixed_width ? fixed_width : width;
    Real* const scores = scratch;
    int32_t* const rows = reinterpret_cast<int32_t*>(scratch + Block::num_lane_tiles * heads * reads);
    Real* const rounded = scratch + topk_scratch(heads, reads);
    const auto query = [&](Count r) -> ByteQuery& {
        return *reinterpret_cast<ByteQuery*>(rounded + r * ByteQuery::size(n));
    };
    block.for_each_by_warp(heads, [&](Count r, Warp warp) { query(r).round(warp, queries + r * n, n); });
    block.sync();
    block.for_each_lane_tile([&](LaneTile lane_tile) {
        const Count own = lane_tile.rank() * heads * reads;
        for (Count r = lane_tile.head(); r < heads && lane_tile.keeps(); r += LaneTile::heads)
            TopK{scores + own + r * reads, rows + own + r * reads, reads}.clear();
        lane_tile.template for_each_row_tile<byte_block_rows>(first, end, [&](int64_t row, Count count) {
            const int64_t left = num_candidates - row;
            const Count candidates = left > count ? count : left > 0 ? static_cast<Count>(left) : 0;
            const int32_t* const copy = copies.block_at(count > 0 ? row : first);
            for (Count group = 0; group < heads; group += LaneTile::heads) {
                const Count r = group + lane_tile.head();
                const bool keeps = r < heads && lane_tile.keeps();
                TopK best{scores + own + r * reads, rows + own + r * reads, reads};
                uint32_t reaching = lane_tile.template rows_reaching<fixed_words>(
                    copy, copies.words, &query(group), ByteQuery::size(n), heads - group,
                    keeps ? static_cast<float>(best.scores[reads - 1]) : 0);
                reaching &= (1u << candidates) - 1;
                while (lane_tile.any(reaching)) {  // mostly none
                    int64_t numbers[LaneTile::rows];
                    Count taken = 0;
                    for (int j = 0; j < LaneTile::rows; ++j) {
                        taken += reaching != 0;
                        numbers[j] = reaching ? row + lowest_bit(static_cast<uint64_t>(reaching))
                                     : j      ? numbers[0]
                                              : first;
                        reaching &= reaching - 1;
                    }
                    const RowTile<fixed_width> tile(lane_tile, memory, numbers, n);
                    Real dots[LaneTile::rows];
                    tile.dot(lane_tile, queries + group * n, heads - group, n, dots);
                    for (int j = 0; j < LaneTile::rows; ++j)
                        if (keeps && j < taken)
                            best.push(dots[j] * (Real(1) / norms[numbers[j]]), static_cast<int32_t>(numbers[j]));
                }
            }
        });
    });
    block.sync();
    merge_topk(block, scores, rows, Block::num_lane_tiles, heads, reads, index, best_scores);
}

// The K best of rows [first, end) by the scan that there is room for.
template <int fixed_width>
MB_FN void search_rows(const Block& block, const Store* memory, const Real* norms, const ByteRows& copies,
                       int64_t first, int64_t end, int64_t num_candidates, const Real* queries, Count heads,
                       Count reads, int64_t width, int32_t* index, Real* best_scores, Real* scratch) {
    if constexpr (ByteRows::may_be_kept)
        if (copies.blocks)
            return bounded_topk<fixed_width>(block, memory, norms, copies, first, end, num_candidates, queries, heads,
                                             reads, width, index, best_scores, scratch);
    scan_topk<fixed_width>(block, memory, norms, first, end, num_candidates, queries, heads, reads, width, index,
                           best_scores, scratch);
}

// A part of the rows, from a multiple of 8 on.
struct RowsOfPart {
    int64_t first, end;
    MB_FN RowsOfPart(int64_t rows, int64_t parts, int64_t part) {
        const int64_t share = ((rows + parts - 1) / parts + byte_block_rows - 1) / byte_block_rows * byte_block_rows;
        first = part * share, end = first + share < rows ? first + share : rows;
    }
};

// Copies of the rows that were written in a step: those of the first entry of each row.
template <class Row>
MB_FN void renew_byte_rows(const Block& block, const ByteRows& copies, Count n, Row row, const Store* memory,
                           const Real* norms, int64_t width) {
    block.for_each_by_warp(n, [&](Count i, Warp warp) {
        const int64_t own = row(i);
        if (own < 0 || warp.find_first(n, [&](Count j) { return row(j) == own; }) < i) return;
        copies.renew(warp, own, memory + own * width, norms[own]);
    });
}

}  // namespace mb
