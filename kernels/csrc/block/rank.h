// The K best of n numbers, for a small K: as vectors of 16 lanes, with few branches that a processor cannot foresee.
//
// The K-th best of the lanes' maxima is at most the K-th best of all numbers. So the K best are among the numbers that
// are not less than it, which are few: in random order hardly more than K. They are put into one vector and ranked
// there.
#pragma once

#include "block/simd.h"

namespace mb {

// 16 numbers in registers.
struct Sixteen {
    static constexpr int64_t size = 16, lanes = lanes_of<ColumnVector>, parts = size / lanes;
    ColumnVector part[parts];

    static Sixteen load(const Real* from) {
        Sixteen all;
        for (int64_t p = 0; p < parts; ++p) all.part[p] = load_columns<ColumnVector>(from + p * lanes);
        return all;
    }
    // Of both in each lane the greater; a NaN of `others` counts as -infinity.
    void raise(const Sixteen& others) {
        for (int64_t p = 0; p < parts; ++p) part[p] = others.part[p] > part[p] ? others.part[p] : part[p];
    }
    // The lanes that are at least `limit`, as bits.
    uint32_t reaching(Real limit) const {
        uint32_t which = 0;
        for (int64_t p = 0; p < parts; ++p) which |= lanes_where(part[p] >= limit) << (p * lanes);
        return which;
    }
    Real largest() const {
        ColumnVector most = part[0];
        for (int64_t p = 1; p < parts; ++p) most = part[p] > most ? part[p] : most;
        Half half[sizeof(ColumnVector) / sizeof(Half)];
        __builtin_memcpy(half, &most, sizeof most);
        const Half upper = half[sizeof(ColumnVector) / sizeof(Half) - 1];
        half[0] = half[0] > upper ? half[0] : upper;
        Quarter quarter[2];
        __builtin_memcpy(quarter, half, sizeof quarter);
        quarter[0] = quarter[0] > quarter[1] ? quarter[0] : quarter[1];
        Real found = quarter[0][0];
        for (int64_t i = 1; i < lanes_of<Quarter>; ++i) found = quarter[0][i] > found ? quarter[0][i] : found;
        return found;
    }
    void drop(int64_t lane) {
        static const Real numbers[size] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        const ColumnVector dropped = broadcast(static_cast<Real>(lane)), least = broadcast(-infinity());
        for (int64_t p = 0; p < parts; ++p)
            part[p] = load_columns<ColumnVector>(numbers + p * lanes) == dropped ? least : part[p];
    }
};

// The `count` best, values and lanes in order; of equal ones the lower lane. False where fewer are more than -infinity.
inline bool rank_sixteen(Sixteen all, int64_t count, Real* values, int32_t* lanes) {
    for (int64_t c = 0; c < count; ++c) {
        values[c] = all.largest();
        if (values[c] == -infinity()) return false;
        lanes[c] = __builtin_ctz(all.reaching(values[c]));
        all.drop(lanes[c]);
    }
    return true;
}

// As `OneLane::rank`, of at least 16 numbers. False, and nothing is found, where the count is large, too many numbers
// are equal, or too few are more than -infinity.
inline bool rank_in_vectors(const Real* scores, int64_t n, int64_t count, Real* values, int32_t* numbers) {
    constexpr int64_t most = Sixteen::size / 2, at_once = Sixteen::size;
    if (count > most) return false;
    Real padded[at_once];
    for (Real& number : padded) number = -infinity();
    const Sixteen nothing = Sixteen::load(padded);
    Sixteen maxima[4] = {nothing, nothing, nothing, nothing};  // none waits for another
    int64_t whole = 0;
    for (; whole + 4 * at_once <= n; whole += 4 * at_once)
        for (int64_t m = 0; m < 4; ++m) maxima[m].raise(Sixteen::load(scores + whole + m * at_once));
    for (; whole + at_once <= n; whole += at_once) maxima[0].raise(Sixteen::load(scores + whole));
    maxima[2].raise(maxima[3]), maxima[1].raise(maxima[2]), maxima[0].raise(maxima[1]);
    if (!rank_sixteen(maxima[0], count, values, numbers)) return false;
    if (n == at_once) return true;
    const Real limit = values[count - 1];
    int32_t of_candidate[at_once];
    int64_t candidates = 0;
    for (int64_t i = 0; i < n; i += at_once) {
        uint32_t which;
        if (i < whole) {
            which = Sixteen::load(scores + i).reaching(limit);
        } else {
            which = 0;
            for (int64_t j = i; j < n; ++j) which |= static_cast<uint32_t>(scores[j] >= limit) << (j - i);
        }
        for (; which; which &= which - 1) {
            if (candidates == at_once) return false;
            of_candidate[candidates] = static_cast<int32_t>(i) + __builtin_ctz(which);
            padded[candidates] = scores[of_candidate[candidates]], ++candidates;
        }
    }
    rank_sixteen(Sixteen::load(padded), count, values, numbers);
    for (int64_t c = 0; c < count; ++c) numbers[c] = of_candidate[numbers[c]];
    return true;
}

}  // namespace mb
