// Content search: the K rows of largest cosine to each of R queries (Rae et al. 2016, section 3.1).
#pragma once

#include "arguments.h"
#include "block.h"

namespace mb {

// K best (score, row), best first, in `scores` and `rows`; an empty place has row -1.
struct Best {
    Real* scores;
    int32_t* rows;
    int64_t places;

    MB_FN void clear() {
        for (int64_t i = 0; i < places; ++i) scores[i] = lowest, rows[i] = -1;
    }
    MB_FN void offer(Real score, int32_t row) {
        if (!(score > scores[places - 1])) return;
        int64_t i = places - 1;
        for (; i > 0 && score > scores[i - 1]; --i) scores[i] = scores[i - 1], rows[i] = rows[i - 1];
        scores[i] = score, rows[i] = row;
    }
};

MB_FN int64_t best_scratch(int64_t threads, int64_t heads, int64_t reads) { return 2 * threads * heads * reads; }

template <int known> MB_FN Real dot_row(const Store* row, const Real* query, int64_t width) {
    const int64_t n = known ? known : width;
    Real total = 0;
    MB_SUM(total) for (int64_t w = 0; w < n; ++w) total += static_cast<Real>(row[w]) * query[w];
    return total;
}

// index [R, K] of the first `rows` rows, -1 where there are fewer candidates; only rows below `live` count. Scratch: best_scratch.
template <int known>
MB_FN void scan(const Block& block, const Store* memory, const Real* norms, int64_t rows, int64_t live, const Real* queries, int64_t heads, int64_t reads, int64_t width,
                int32_t* index, Real* scratch) {
    const int64_t n = known ? known : width, own = block.rank() * heads * reads;
    Real* const scores = scratch;
    int32_t* const found = reinterpret_cast<int32_t*>(scratch + block.size() * heads * reads);
    for (int64_t r = 0; r < heads; ++r) Best{scores + own + r * reads, found + own + r * reads, reads}.clear();
    block.each(block.size(), [&](int64_t rank) {
        const int64_t share = (rows + block.size() - 1) / block.size(), first = rank * share;
        const int64_t end = first + share < rows ? first + share : rows;
        for (int64_t i = first; i < end; ++i) {
            const Store* row = memory + i * n;
            const Real scale = i < live ? Real(1) / norms[i] : Real(0);
            for (int64_t r = 0; r < heads; ++r) {
                const Real score = dot_row<known>(row, queries + r * n, n) * scale;
                if (i < live) Best{scores + own + r * reads, found + own + r * reads, reads}.offer(score, static_cast<int32_t>(i));
            }
        }
    });
    block.sync();
    block.each(heads, [&](int64_t r) {
        for (int64_t k = 0; k < reads; ++k) {
            int64_t winner = -1;
            for (int64_t i = 0; i < block.size(); ++i)
                for (int64_t j = 0; j < reads; ++j) {
                    const int64_t at = (i * heads + r) * reads + j;
                    if (found[at] >= 0 && (winner < 0 || scores[at] > scores[winner])) winner = at;
                }
            index[r * reads + k] = winner < 0 ? -1 : found[winner];
            if (winner >= 0) found[winner] = -1;
        }
    });
}

}  // namespace mb
