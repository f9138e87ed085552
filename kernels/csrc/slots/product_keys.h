// The best slots of product keys (Lample et al. 2019). Slot (i_0, .., i_{F-1}) has the score sum_f scores_f[i_f]. After
// each factor is ranked by its scores, the K best are among the slots whose ranks r_f have prod_f (r_f + 1) <= K: all
// slots of ranks no greater come before.
//
// Higher scores come first, equal ones of a factor by their number, slots of equal sums by their ranks, those of the
// first factor first. NaN counts as -infinity, in a factor and in a sum.
#pragma once

#include "arguments.h"
#include "block/block.h"

namespace mb {

MB_FN Real not_nan(Real score) { return score != score ? -infinity() : score; }

// A partial sum over the first factors; `left`: K / the product of its ranks + 1, rounded down.
struct SlotSum {
    Real sum;
    Count left;
    int64_t slot;
};

// Of one query's scores [S] of the factors, one after the other, the K best slots. `values`: scratch of 2 F K Reals and
// 2 `candidates` sums.
MB_FN void find_slots(const Block& block, const Arguments& a, const Real* scores, Count K, Real* values,
                      int64_t* best) {
    const Count F = a.factors;
    int32_t* const numbers = reinterpret_cast<int32_t*>(values + F * K);
    block.for_each_by_warp(F, [&](Count f, Warp warp) {
        const Count side = a.sides[f];
        const Real* own = scores;
        for (Count e = 0; e < f; ++e) own += a.sides[e];
        warp.rank(own, side, side < K ? side : K, values + f * K, numbers + f * K);
    });
    block.sync();
    block.on_leader([&] {
        SlotSum* before = reinterpret_cast<SlotSum*>(values + 2 * F * K);
        SlotSum* after = before + a.candidates;
        Count count = 1;
        before[0] = SlotSum{0, K, 0};
        for (Count f = 0; f < F; ++f) {
            const Count side = a.sides[f];
            Count made = 0;
            for (Count i = 0; i < count; ++i)
                for (Count rank = 0; rank < before[i].left && rank < side; ++rank) {
                    const Real own = values[f * K + rank];
                    after[made++] = SlotSum{f ? before[i].sum + own : own, before[i].left / (rank + 1),
                                            before[i].slot * side + numbers[f * K + rank]};
                }
            count = made;
            SlotSum* const old = before;
            before = after, after = old;
        }
        // The K best, by insertion: a later one comes after those that are equal.
        Count found = 0;
        for (Count i = 0; i < count; ++i) {
            const Real own = not_nan(before[i].sum);
            if (found == K && !(own > values[K - 1])) continue;
            Count place = found < K ? found++ : K - 1;
            for (; place > 0 && own > values[place - 1]; --place)
                values[place] = values[place - 1], best[place] = best[place - 1];
            values[place] = own, best[place] = before[i].slot;
        }
    });
}

namespace entries {

// queries [M, S] the scores; index [M, K] out. M: batch. S: width.
template <int>
MB_FN void product_keys(const Block& block, const Arguments& a, int64_t item) {
    find_slots(block, a, a.queries + item * a.width, a.reads, a.scratch + item * a.scratch_stride,
               a.index + item * a.reads);
}

}  // namespace entries

}  // namespace mb
