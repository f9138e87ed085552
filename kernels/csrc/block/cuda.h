// The cuda build: a block is a CUDA thread block of MB_THREADS; a scan scores rows by tiles of 8 lanes.
// Inside `for_each_by_warp` and `for_each_lane_tile` all 32 lanes of a warp run the same code: its branches must be
// uniform.
#pragma once

#include "block/block.h"

#ifndef MB_THREADS
#define MB_THREADS 512  // a multiple of 32
#endif

namespace mb {

constexpr unsigned int full_mask = 0xffffffffu;

MB_FN int64_t lowest_bit(unsigned int bits) { return __ffs(static_cast<int>(bits)) - 1; }
MB_FN int64_t highest_bit(unsigned int bits) { return 31 - __clz(static_cast<int>(bits)); }

// The lanes of a warp that hold the same value, as bits.
struct MatchMask {
    unsigned int lanes;
    MB_FN unsigned int lower() const { return lanes & ((1u << threadIdx.x % 32) - 1); }
    MB_FN int64_t previous() const { return highest_bit(lower()); }  // the lane before this one, -1: none
    MB_FN int64_t rank() const { return __popc(lower()); }           // lanes before this one
    MB_FN int64_t last() const { return highest_bit(lanes); }
};

// Bypasses L1: a weight is read once a step, and L1 is kept for the rows.
MB_FN Real load_streaming(const Real* address) { return __ldcg(address); }

struct Warp {
    static constexpr int64_t lanes = 32;
    MB_FN int64_t lane() const { return threadIdx.x % 32; }
    MB_FN void sync() const { __syncwarp(); }
    template <class F>
    MB_FN void for_each(int64_t n, F f) const {
        for (int64_t i = lane(); i < n; i += 32) f(i);
        __syncwarp();
    }
    template <class F>
    MB_FN Real sum(int64_t n, F f) const {
        Real total = 0;
        for (int64_t i = lane(); i < n; i += 32) total += f(i);
        for (int offset = 16; offset > 0; offset /= 2) total += __shfl_xor_sync(full_mask, total, offset);
        return total;
    }
    template <class F, class G>
    MB_FN Real each_then_sum(int64_t n, F f, G g) const {
        return sum(n, [&](int64_t i) { return f(i), g(i); });
    }
    // Sums stay in registers, so that the loads of all rows are in flight at once.
    template <class Weight, class Row>
    MB_FN void weighted_sum(Real* out, int64_t width, int64_t n, Weight weight, Row row) const {
        for_each(width, [&](int64_t w) {
            Real total = 0;
            for (int64_t k = 0; k < n; ++k) {
                const auto* const values = row(k);
                if (values) total += weight(k) * static_cast<Real>(values[w]);
            }
            out[w] = total;
        });
    }
    static constexpr int64_t rows_per_warp = 4;
    // Each lane has 16 weights in flight.
    MB_FN void matvec(const RhsBatch& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows,
                      int64_t columns) const {
        const Real* const v = x.v[0];
        Real sums[4] = {};
        for (int64_t begin = lane(); begin < columns; begin += 128) {
            Real numbers[4][4], factors[4];
            for (int c = 0; c < 4; ++c) {
                const int64_t k = begin + 32 * c;
                factors[c] = k < columns ? v[k] : Real(0);
                for (int q = 0; q < 4; ++q)
                    numbers[q][c] = k < columns && q < rows ? load_streaming(matrix + q * stride + k) : Real(0);
            }
            for (int c = 0; c < 4; ++c)
                for (int q = 0; q < 4; ++q) sums[q] += numbers[q][c] * factors[c];
        }
        // Each half of the lanes continues with two sums, each quarter with one: six shuffles for four sums.
        const bool upper = lane() & 16, odd = lane() & 8;
        for (int q = 0; q < 2; ++q)
            sums[q] = (upper ? sums[q + 2] : sums[q]) + __shfl_xor_sync(full_mask, upper ? sums[q] : sums[q + 2], 16);
        Real sum = (odd ? sums[1] : sums[0]) + __shfl_xor_sync(full_mask, odd ? sums[0] : sums[1], 8);
        for (int offset = 4; offset > 0; offset /= 2) sum += __shfl_xor_sync(full_mask, sum, offset);
        const int64_t own = lane() / 8;
        if (lane() % 8 == 0 && own < rows) x.out[0][first + own] = x.start[0][first + own] + sum;
    }
    static constexpr int64_t columns_per_warp = 32;  // one a lane: coalesced loads
    template <class V>
    MB_FN void matvec_transposed(Real* out, const Real* start, const Real* matrix, int64_t stride, V v, int64_t rows,
                                 int64_t columns, int64_t) const {
        for_each(columns, [&](int64_t j) {
            Real total = start ? start[j] : Real(0);
            for (int64_t k = 0; k < rows; ++k) total += static_cast<Real>(v[k]) * matrix[k * stride + j];
            out[j] = total;
        });
    }
    MB_FN void matvec_transposed(const RhsBatch& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows,
                                 int64_t columns) const {
        matvec_transposed(x.out[0] + first, x.start[0] ? x.start[0] + first : nullptr, matrix, stride, x.vector(0),
                          rows, columns, first);
    }
    // The best of all lanes, to every lane.
    MB_FN void argmax(ScoredRow& best) const {
        for (int offset = 16; offset > 0; offset /= 2) {
            const ScoredRow other{
                __shfl_xor_sync(full_mask, best.score, offset), __shfl_xor_sync(full_mask, best.row, offset),
                static_cast<int64_t>(__shfl_xor_sync(full_mask, static_cast<long long>(best.position), offset))};
            best.take_better(other);
        }
    }
    template <class F>
    MB_FN int64_t find_first(int64_t n, F holds) const {
        for (int64_t start = 0; start < n; start += 32) {
            const unsigned int holding = __ballot_sync(full_mask, start + lane() < n && holds(start + lane()));
            if (holding) return start + lowest_bit(holding);
        }
        return n;
    }
    template <class F, class G>
    MB_FN void for_each_where(int64_t n, F holds, G f) const {
        for (int64_t start = 0; start < n; start += 32)
            for (unsigned int holding = __ballot_sync(full_mask, start + lane() < n && holds(start + lane())); holding;
                 holding &= holding - 1)
                f(start + lowest_bit(holding));
    }
    MB_FN int64_t exclusive_count(bool chosen, int64_t& count) const {
        const MatchMask all{__ballot_sync(full_mask, chosen)};
        const int64_t own = count + all.rank();
        count += __popc(all.lanes);
        return own;
    }
    template <class F>
    MB_FN uint32_t ballot(F holds) const {
        return __ballot_sync(full_mask, holds(lane()));
    }
    MB_FN MatchMask match_any(int32_t value) const { return {__match_any_sync(full_mask, value)}; }
    MB_FN bool is_leader() const { return lane() == 0; }
};

// The lanes that score a tile of rows together in a scan: coalesced loads, of four rows in flight.
struct LaneTile {
    static constexpr int64_t lanes = 8, rows = 4, per_warp = 32 / lanes;
    MB_FN int64_t rank() const { return threadIdx.x / lanes; }
    MB_FN int64_t lane() const { return threadIdx.x % lanes; }
    // Lane tiles of a warp stay together: the last row tiles may have fewer rows, or none.
    template <class F>
    MB_FN void for_each_row_tile(int64_t first, int64_t end, F f) const {
        constexpr int64_t warp_rows = per_warp * rows, block_rows = MB_THREADS / lanes * rows;
        for (int64_t start = first + threadIdx.x / 32 * warp_rows; start < end; start += block_rows) {
            const int64_t row = start + threadIdx.x % 32 / lanes * rows;
            f(row, end - row < rows ? end - row : rows);
        }
    }
    MB_FN Real sum(Real part) const {
        for (int offset = lanes / 2; offset > 0; offset /= 2) part += __shfl_xor_sync(full_mask, part, offset);
        return part;
    }
};

// A tile of rows. With a fixed width, a multiple of 32, it is kept in registers: each lane has 4 adjacent values of
// every 32.
template <int fixed_width>
struct RowTile {
    static_assert(fixed_width % 32 == 0, "");
    struct alignas(sizeof(Store) < 4 ? 8 : 16) Four {
        Store at[4];
    };
    Four keep_in_register[LaneTile::rows][fixed_width / 32 ? fixed_width / 32 : 1];
    const Store* rows[LaneTile::rows];

    MB_FN RowTile(const LaneTile& lane_tile, const Store* memory, int64_t first, int64_t count, int64_t width) {
        for (int j = 0; j < LaneTile::rows; ++j) {
            const int64_t last = first + count - 1;  // past the end, the last row is read again
            rows[j] = memory + (first + j < last ? first + j : last) * (fixed_width ? fixed_width : width);
            for (int c = 0; c < fixed_width / 32; ++c)
                keep_in_register[j][c] = reinterpret_cast<const Four*>(rows[j])[c * LaneTile::lanes + lane_tile.lane()];
        }
    }
    // The dot products of the rows with a query, in every lane.
    MB_FN void dot(const LaneTile& lane_tile, const Real* query, int64_t width, Real* dots) const {
        for (int j = 0; j < LaneTile::rows; ++j) dots[j] = 0;
        if (fixed_width) {
            for (int c = 0; c < fixed_width / 32; ++c)
                for (int i = 0; i < 4; ++i) {
                    const Real factor = query[(c * LaneTile::lanes + lane_tile.lane()) * 4 + i];
                    for (int j = 0; j < LaneTile::rows; ++j)
                        dots[j] += static_cast<Real>(keep_in_register[j][c].at[i]) * factor;
                }
        } else {
            for (int64_t w = lane_tile.lane(); w < width; w += LaneTile::lanes)
                for (int j = 0; j < LaneTile::rows; ++j) dots[j] += static_cast<Real>(rows[j][w]) * query[w];
        }
        for (int j = 0; j < LaneTile::rows; ++j) dots[j] = lane_tile.sum(dots[j]);
    }
};

struct Block {
    static constexpr int64_t tile_size = 1;  // elements of a batch tile; the blocks of a GPU share a cache
    static constexpr int64_t num_lane_tiles = MB_THREADS / LaneTile::lanes;
    MB_FN int64_t rank() const { return threadIdx.x; }
    MB_FN int64_t size() const { return MB_THREADS; }
    MB_FN void sync() const { __syncthreads(); }
    template <class F>
    MB_FN void for_each(int64_t n, F f) const {
        for (int64_t i = threadIdx.x; i < n; i += MB_THREADS) f(i);
    }
    template <class F>
    MB_FN void for_each_by_warp(int64_t n, F f) const {
        for (int64_t i = threadIdx.x / 32; i < n; i += MB_THREADS / 32) f(i, Warp{});
    }
    template <class F>
    MB_FN void for_each_lane_tile(F f) const {
        f(LaneTile{});
    }
    template <class F>
    MB_FN void on_leader(F f) const {
        if (threadIdx.x == 0) f();
    }
};

// out[j] = start[j] + sum_k v[k] matrix[k, j]; visible after the next sync; `start` may be null. A warp takes 32
// columns and a share of the rows, and adds the shares up in shared memory; each lane has `ahead` weights in flight.
MB_FN void matvec_transposed(const Block& block, const RhsBatch& x, const Real* matrix, int64_t stride, int64_t rows,
                             int64_t columns) {
    constexpr int64_t warps = MB_THREADS / 32, ahead = 16;
    __shared__ Real parts[MB_THREADS];
    const int64_t units = (columns + 31) / 32, side_by_side = units < warps ? units : warps,
                  shares = warps / side_by_side;
    const int64_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, share = warp / side_by_side;
    for (int64_t first = 0; first < units; first += side_by_side) {
        const int64_t unit = first + warp % side_by_side, j = unit * 32 + lane;
        const bool own = share < shares && j < columns;
        const int64_t end = own ? (share + 1) * rows / shares : 0;
        Real total = 0;
        for (int64_t begin = share * rows / shares; begin < end; begin += ahead) {
            Real numbers[ahead];
            for (int i = 0; i < ahead; ++i)
                numbers[i] = begin + i < end ? load_streaming(matrix + (begin + i) * stride + j) : Real(0);
            for (int i = 0; i < ahead; ++i)
                total += begin + i < end ? x.v[0][(begin + i) * x.step] * numbers[i] : Real(0);
        }
        block.sync();  // others may still read the previous parts
        parts[threadIdx.x] = total;
        block.sync();
        if (!own || share > 0) continue;
        for (int64_t other = 1; other < shares; ++other) total += parts[(other * side_by_side + warp) * 32 + lane];
        x.out[0][j] = total + (x.start[0] ? x.start[0][j] : Real(0));
    }
}

MB_FN bool try_insert(int32_t* place, int32_t empty, int32_t value) {
    const int32_t found = atomicCAS(place, empty, value);
    return found == empty || found == value;
}
MB_FN int64_t now_ns() {
    int64_t ns = 0;
#ifdef __CUDA_ARCH__
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
#endif
    return ns;
}
MB_FN int32_t fetch_add(int32_t* counter) { return atomicAdd(counter, 1); }
MB_FN void prefetch([[maybe_unused]] const void* address) {
#ifdef __CUDA_ARCH__
    asm volatile("prefetch.global.L1 [%0];" ::"l"(address));
#endif
}

}  // namespace mb
