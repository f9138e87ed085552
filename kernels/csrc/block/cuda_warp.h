// The 32 lanes of a warp of the cuda build: sums, searches and products that they do together.
// Inside `for_each_by_warp` and `for_each_lane_tile` all of them run the same code: its branches must be uniform.
#pragma once

#include "block/block.h"

namespace mb {

constexpr unsigned int full_mask = 0xffffffffu;

MB_FN Count lowest_bit(unsigned int bits) { return __ffs(static_cast<int>(bits)) - 1; }
MB_FN Count highest_bit(unsigned int bits) { return 31 - __clz(static_cast<int>(bits)); }
MB_FN Count thread_of_block() { return static_cast<Count>(threadIdx.x); }
MB_FN Count warp_of_block() { return thread_of_block() / 32; }
MB_FN Count lane_of_warp() { return thread_of_block() % 32; }

// The lanes of a warp that hold the same value, as bits.
struct MatchMask {
    unsigned int lanes;
    MB_FN unsigned int lower() const { return lanes & ((1u << lane_of_warp()) - 1); }
    MB_FN Count previous() const { return highest_bit(lower()); }  // the lane before this one, -1: none
    MB_FN Count rank() const { return __popc(lower()); }           // lanes before this one
    MB_FN Count last() const { return highest_bit(lanes); }
};

// Numbers that lie side by side and are read by one load.
template <int count>
struct alignas(count * sizeof(Real)) Adjacent {
    Real at[count];
};
constexpr int most_adjacent = 16 / sizeof(Real);  // a load has up to 16 bytes

// Bypasses L1: a weight is read once a step, and L1 is kept for the rows.
template <int count>
MB_FN Adjacent<count> load_streaming(const Real* address) {
    if constexpr (count == 1) {
        return Adjacent<count>{{__ldcg(address)}};
    } else if constexpr (sizeof(Real) == 4) {
        const float4 all = __ldcg(reinterpret_cast<const float4*>(address));
        return Adjacent<count>{{all.x, all.y, all.z, all.w}};
    } else {
        const double2 all = __ldcg(reinterpret_cast<const double2*>(address));
        return Adjacent<count>{{all.x, all.y}};
    }
}
// A number known to the compiler.
template <int number>
struct Constant {
    MB_FN constexpr int operator()() const { return number; }
};

// from + i * step, by one instruction: written so, the compiler takes three.
MB_FN const Real* advanced(const Real* from, Count step, Count i) {
#if defined(__CUDA_ARCH__)
    const Real* to;
    asm("mad.wide.s32 %0, %1, %2, %3;" : "=l"(to) : "r"(step), "r"(i * static_cast<Count>(sizeof(Real))), "l"(from));
    return to;
#else
    return from + static_cast<int64_t>(i) * step;
#endif
}

// Whether all rows of a matrix can be read `most_adjacent` numbers at a time. Weights of the inputs and the reads are
// one matrix, so that the latter's rows may begin anywhere.
MB_FN bool is_aligned(const Real* matrix, int64_t stride, Count columns) {
    return reinterpret_cast<uint64_t>(matrix) % 16 == 0 && stride % most_adjacent == 0 && columns % most_adjacent == 0;
}

struct Warp {
    static constexpr Count lanes = 32;
    MB_FN Count lane() const { return lane_of_warp(); }
    MB_FN void sync() const { __syncwarp(); }
    // The `count` best of n scores in order, values and numbers: the higher, of equal ones the lower number. NaN counts
    // as -infinity.
    MB_FN void rank(const Real* scores, Count n, Count count, Real* values, int32_t* numbers) const {
        ScoredRow last{infinity(), -1, 0};
        for (Count k = 0; k < count; ++k) {
            ScoredRow best{0, -1, 0};
            for (Count i = lane(); i < n; i += 32) {
                const Real own = scores[i] != scores[i] ? -infinity() : scores[i];
                if (k == 0 || comes_before(last.score, last.row, own, i)) best.take_better(ScoredRow{own, i, 0});
            }
            argmax(best);
            if (is_leader()) values[k] = best.score, numbers[k] = best.row;
            last = best;
        }
    }
    template <class N, class F>
    MB_FN void for_each(N n, F f) const {
        MB_ROLLED
        for (N i = lane(); i < n; i += 32) f(i);
        __syncwarp();
    }
    template <class N, class F>
    MB_FN Real sum(N n, F f) const {
        Real total = 0;
        MB_ROLLED
        for (N i = lane(); i < n; i += 32) total += f(i);
        for (int offset = 16; offset > 0; offset /= 2) total += __shfl_xor_sync(full_mask, total, offset);
        return total;
    }
    template <class F>
    MB_FN Count count(Count n, F f) const {
        Count total = 0;
        MB_ROLLED
        for (Count i = lane(); i < n; i += 32) total += f(i);
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
        for (int offset = 16; offset > 0; offset /= 2) total += __shfl_xor_sync(full_mask, total, offset);
        return total;
#else
        return __reduce_add_sync(full_mask, total);
#endif
    }
    template <class N, class F, class G>
    MB_FN Real each_then_sum(N n, F f, G g) const {
        return sum(n, [&](N i) { return f(i), g(i); });
    }
    // Sums stay in registers, so that the loads of all rows are in flight at once.
    template <class N, class Weight, class Row>
    MB_FN void weighted_sum(Real* out, N width, Count n, Weight weight, Row row) const {
        for_each(width, [&](N w) {
            Real total = 0;
            for (Count k = 0; k < n; ++k) {
                const auto* const values = row(k);
                if (values) total += weight(k) * static_cast<Real>(values[w]);
            }
            out[w] = total;
        });
    }
    static constexpr Count rows_per_warp = 4;
    MB_FN void matvec(const RhsBatch& x, Count first, const Real* matrix, int64_t stride, Count rows,
                      Count columns) const {
        const Count own = lane() / 8;
        const bool saves = lane() % 8 == 0 && own < rows;
        const Real before = saves ? x.start[0][first + own] : Real(0);  // its load overlaps with those of the weights
        Real sums[4] = {};
        if (is_aligned(matrix, stride, columns) && reinterpret_cast<uint64_t>(x.v[0]) % 16 == 0)
            add_products<most_adjacent>(sums, matrix, stride, x.v[0], rows, columns);
        else
            add_products<1>(sums, matrix, stride, x.v[0], rows, columns);
        const Real sum = sum_of_four(sums);
        if (saves) x.out[0][first + own] = before + sum;
    }
    // save(q, start(q) + row q . v) for `rows` <= rows_per_warp rows of `stride` numbers; they and v begin and end at
    // multiples of 16 bytes.
    template <class Start, class Save>
    MB_FN void multiply_aligned(const Real* matrix, Count stride, const Real* v, Count rows, Start start,
                                Save save) const {
        typedef Adjacent<most_adjacent> Numbers;
        const Count own = lane() / 8;
        const bool saves = lane() % 8 == 0 && own < rows;
        const Real before = saves ? start(own) : Real(0);
        const Real* from[4];
        for (Count q = 0; q < 4; ++q) from[q] = matrix + (q < rows ? q : rows - 1) * stride;
        Real sums[4] = {};
        MB_ROLLED
        for (Count first = 0; first < stride; first += 32 * most_adjacent) {  // as many turns for all lanes, as below
            const Count k = first + lane() * most_adjacent;
            Numbers factors = {}, numbers[4] = {};
            if (k < stride) {
                factors = *reinterpret_cast<const Numbers*>(v + k);
                for (int q = 0; q < 4; ++q) numbers[q] = *reinterpret_cast<const Numbers*>(from[q] + k);
            }
            for (int q = 0; q < 4; ++q)
                for (int i = 0; i < most_adjacent; ++i) sums[q] += numbers[q].at[i] * factors.at[i];
        }
        const Real sum = sum_of_four(sums);
        if (saves) save(own, before + sum);
    }
    static constexpr Count columns_per_warp = 32;  // one a lane: coalesced loads
    template <class V>
    MB_FN void matvec_transposed(Real* out, const Real* start, const Real* matrix, int64_t stride, V v, Count rows,
                                 Count columns, Count) const {
        for_each(columns, [&](Count j) {
            Real total = start ? start[j] : Real(0);
            const Real* from = matrix + j;
            for (Count k = 0; k < rows; ++k, from += stride) total += static_cast<Real>(v[k]) * *from;
            out[j] = total;
        });
    }
    MB_FN void matvec_transposed(const RhsBatch& x, Count first, const Real* matrix, int64_t stride, Count rows,
                                 Count columns) const {
        matvec_transposed(x.out[0] + first, x.start[0] ? x.start[0] + first : nullptr, matrix, stride, x.vector(0),
                          rows, columns, first);
    }
    // The best of all lanes, to every lane.
    MB_FN void argmax(ScoredRow& best) const {
        for (int offset = 16; offset > 0; offset /= 2) {
            const ScoredRow other{__shfl_xor_sync(full_mask, best.score, offset),
                                  __shfl_xor_sync(full_mask, best.row, offset),
                                  __shfl_xor_sync(full_mask, best.position, offset)};
            best.take_better(other);
        }
    }
    template <class N, class F>
    MB_FN N find_first(N n, F holds) const {
        MB_ROLLED
        for (N start = 0; start < n; start += 32) {
            const unsigned int holding = __ballot_sync(full_mask, start + lane() < n && holds(start + lane()));
            if (holding) return start + lowest_bit(holding);
        }
        return n;
    }
    template <class N, class F, class G>
    MB_FN void for_each_where(N n, F holds, G f) const {
        MB_ROLLED
        for (N start = 0; start < n; start += 32) {
            unsigned int holding = __ballot_sync(full_mask, start + lane() < n && holds(start + lane()));
            MB_ROLLED
            for (; holding; holding &= holding - 1) f(start + lowest_bit(holding));
        }
    }
    template <class F>
    MB_FN uint32_t ballot(F holds) const {
        return __ballot_sync(full_mask, holds(lane()));
    }
    MB_FN int32_t from_lane(int32_t value, Count lane) const { return __shfl_sync(full_mask, value, lane); }
    MB_FN Count exclusive_sum(Count own, Count& total) const {
        Count sum = own;
        for (int offset = 1; offset < 32; offset *= 2) {
            const Count before = __shfl_up_sync(full_mask, sum, offset);
            if (lane() >= offset) sum += before;
        }
        total = __shfl_sync(full_mask, sum, 31);
        return sum - own;
    }
    MB_FN MatchMask match_any(int32_t value) const { return {__match_any_sync(full_mask, value)}; }
    MB_FN bool is_leader() const { return lane() == 0; }

    // The sum of sums[q] over all lanes, in lanes 8 q and up. Each half of the lanes continues with two sums, each
    // quarter with one: six shuffles for four sums.
    MB_FN Real sum_of_four(Real* sums) const {
        const bool upper = lane() & 16, odd = lane() & 8;
        for (int q = 0; q < 2; ++q)
            sums[q] = (upper ? sums[q + 2] : sums[q]) + __shfl_xor_sync(full_mask, upper ? sums[q] : sums[q + 2], 16);
        Real sum = (odd ? sums[1] : sums[0]) + __shfl_xor_sync(full_mask, odd ? sums[0] : sums[1], 8);
        for (int offset = 4; offset > 0; offset /= 2) sum += __shfl_xor_sync(full_mask, sum, offset);
        return sum;
    }

  private:
    // This lane's share of the products of 4 rows with v, of which it has 16 weights in flight. Rows past the end are
    // the last one again. A pointer moves along each row: to compute an address for each weight takes longer than to
    // multiply it. All lanes take as many turns, also those past the last column: a warp whose lanes leave a loop at
    // different times stays divided, and then each of the shuffles that follow takes many times as long.
    template <int adjacent>
    MB_FN void add_products(Real* sums, const Real* matrix, int64_t stride, const Real* v, Count rows,
                            Count columns) const {
        constexpr Count step = 32 * adjacent, steps = 4 / adjacent;
        const Real* from[4];
        for (Count q = 0; q < 4; ++q)
            from[q] = advanced(matrix + lane() * adjacent, static_cast<Count>(stride), q < rows ? q : rows - 1);
        v += lane() * adjacent;
        MB_ROLLED
        for (Count first = 0; first < columns; first += step * steps) {
            const Count left = columns - first - lane() * adjacent;
            Adjacent<adjacent> numbers[4][steps] = {}, factors[steps] = {};
            for (int c = 0; c < steps; ++c)
                if (c * step < left) {
                    factors[c] = *reinterpret_cast<const Adjacent<adjacent>*>(v + c * step);
                    for (int q = 0; q < 4; ++q) numbers[q][c] = load_streaming<adjacent>(from[q] + c * step);
                }
            for (int c = 0; c < steps; ++c)
                for (int i = 0; i < adjacent; ++i)
                    for (int q = 0; q < 4; ++q) sums[q] += numbers[q][c].at[i] * factors[c].at[i];
            for (int q = 0; q < 4; ++q) from[q] += step * steps;
            v += step * steps;
        }
    }
};

}  // namespace mb
