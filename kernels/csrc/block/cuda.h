// The cuda build: a block is a CUDA thread block of MB_THREADS; a scan scores rows by tiles of 8 lanes.
#pragma once

#include "block/bytes.h"
#include "block/cuda_warp.h"

#ifndef MB_THREADS
#define MB_THREADS 512  // a multiple of 32
#endif

namespace mb {

// The lanes that score a tile of rows together in a scan: coalesced loads, of four rows in flight. They score four
// heads at a time; lane 2 h keeps the lists of head h of the four.
struct LaneTile {
    static constexpr Count lanes = 8, rows = 4, heads = 4, per_warp = 32 / lanes;
    MB_FN Count rank() const { return thread_of_block() / lanes; }
    MB_FN Count lane() const { return thread_of_block() % lanes; }
    MB_FN Count head() const { return lane() / 2; }
    MB_FN bool keeps() const { return lane() % 2 == 0; }
    // 1 / norm of the first n rows, 0 of the others of a row tile: each lane divides once, and gets the rest of others.
    template <Count>
    MB_FN void reciprocals(const Real* norms, Count n, Real* scale) const {
        const Count j = lane() % rows;
        const Real own = j < n ? Real(1) / norms[j] : Real(0);
        for (int i = 0; i < rows; ++i) scale[i] = __shfl_sync(full_mask, own, lane_of_warp() / lanes * lanes + i);
    }
    // Lane tiles of a warp stay together: the last row tiles may have fewer rows, or none.
    template <Count count = rows, class F>
    MB_FN void for_each_row_tile(int64_t first, int64_t end, F f) const {
        constexpr Count warp_rows = per_warp * count, block_rows = MB_THREADS / lanes * count;
        MB_ROLLED
        for (int64_t start = first + warp_of_block() * warp_rows; start < end; start += block_rows) {
            const int64_t row = start + lane_of_warp() / lanes * count;
            f(row, static_cast<Count>(end - row < count ? end - row : count));
        }
    }
    // Of 8 rows, as bits, those whose bound is not less than `least` for any of up to four queries, `stride` Reals
    // apart: a lane a row. `least`: of the head whose lists a lane keeps.
    template <int fixed_words, class Query>
    MB_FN uint32_t rows_reaching(const int32_t* block, Count words, const Query* queries, Count stride,
                                 Count heads_left, float least) const {
        static_assert(lanes == byte_block_rows, "");
        const Count n = fixed_words ? fixed_words : words, first_lane = lane_of_warp() / lanes * lanes;
        const Count last = (heads_left < heads ? heads_left : heads) - 1;
        const auto query = [&](Count h) -> const Query& {
            return *reinterpret_cast<const Query*>(reinterpret_cast<const Real*>(queries) +
                                                   (h < last ? h : last) * stride);
        };
        int32_t sums[heads];
        for (int h = 0; h < heads; ++h) sums[h] = query(h).start;
        MB_ROLLED
        for (Count w = 0; w < n; ++w) {
            const int32_t row = block[w * lanes + lane()];
            for (int h = 0; h < heads; ++h) sums[h] = add_byte_products(sums[h], row, query(h).words()[w]);
        }
        const uint32_t pair = static_cast<uint32_t>(block[n * lanes + lane()]);
        const float scale = float_of_bits(pair & 0xffff0000u), error = float_of_bits(pair << 16);
        bool reaches = false;
        for (int h = 0; h < heads; ++h) {
            const float own = __shfl_sync(full_mask, least, first_lane + 2 * h);
            const float bound =
                static_cast<float>(sums[h]) * (scale * query(h).step) + error * query(h).per_error + query(h).constant;
            reaches = reaches || (h <= last && !(bound < own));
        }
        return __ballot_sync(full_mask, reaches) >> first_lane & 255u;
    }
    MB_FN bool any(uint32_t rows) const { return __ballot_sync(full_mask, rows != 0) != 0; }  // of the tiles of a warp
    // The sums of parts[h][row] over the lanes, to the two lanes of head h.
    MB_FN void sum(Real (&parts)[heads][rows], Real* sums) const {
        const bool upper_half = lane() & 4, upper_pair = lane() & 2;
        for (int h = 0; h < 2; ++h)
            for (int j = 0; j < rows; ++j) {
                const Real given = upper_half ? parts[h][j] : parts[h + 2][j];
                parts[h][j] = (upper_half ? parts[h + 2][j] : parts[h][j]) + __shfl_xor_sync(full_mask, given, 4);
            }
        for (int j = 0; j < rows; ++j) {
            const Real given = upper_pair ? parts[0][j] : parts[1][j];
            const Real half = (upper_pair ? parts[1][j] : parts[0][j]) + __shfl_xor_sync(full_mask, given, 2);
            sums[j] = half + __shfl_xor_sync(full_mask, half, 1);
        }
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

    MB_FN RowTile(const LaneTile& lane_tile, const Store* memory, int64_t first, Count count, int64_t width) {
        const Store* const tile = memory + first * (fixed_width ? fixed_width : width);
        for (int j = 0; j < LaneTile::rows; ++j) {  // past the end, the last row is read again
            rows[j] = tile + (j < count - 1 ? j : count - 1) * (fixed_width ? fixed_width : width);
            for (int c = 0; c < fixed_width / 32; ++c)
                keep_in_register[j][c] = reinterpret_cast<const Four*>(rows[j])[c * LaneTile::lanes + lane_tile.lane()];
        }
    }
    MB_FN RowTile(const LaneTile& lane_tile, const Store* memory, const int64_t (&numbers)[LaneTile::rows],
                  int64_t width) {
        for (int j = 0; j < LaneTile::rows; ++j) {
            rows[j] = memory + numbers[j] * (fixed_width ? fixed_width : width);
            for (int c = 0; c < fixed_width / 32; ++c)
                keep_in_register[j][c] = reinterpret_cast<const Four*>(rows[j])[c * LaneTile::lanes + lane_tile.lane()];
        }
    }
    // The dot products of the rows with the queries of up to four heads: those with its own head to each lane.
    MB_FN void dot(const LaneTile& lane_tile, const Real* queries, Count heads, int64_t width, Real* dots) const {
        Real parts[LaneTile::heads][LaneTile::rows] = {};
        const Count last = (heads < LaneTile::heads ? heads : LaneTile::heads) - 1;
        if (fixed_width) {
            for (int c = 0; c < fixed_width / 32; ++c)
                for (int h = 0; h < LaneTile::heads; ++h) {
                    const Real* query = queries + (h < last ? h : last) * fixed_width;
                    query += (c * LaneTile::lanes + lane_tile.lane()) * 4;
                    for (int i = 0; i < 4; ++i) {
                        const Real factor = query[i];
                        for (int j = 0; j < LaneTile::rows; ++j)
                            parts[h][j] += static_cast<Real>(keep_in_register[j][c].at[i]) * factor;
                    }
                }
        } else {
            MB_ROLLED
            for (int64_t first = 0; first < width; first += LaneTile::lanes) {
                const int64_t w = first + lane_tile.lane();
                if (w >= width) continue;
                Real numbers[LaneTile::rows];
                for (int j = 0; j < LaneTile::rows; ++j) numbers[j] = static_cast<Real>(rows[j][w]);
                for (int h = 0; h < LaneTile::heads; ++h) {
                    const Real factor = queries[(h < last ? h : last) * width + w];
                    for (int j = 0; j < LaneTile::rows; ++j) parts[h][j] += numbers[j] * factor;
                }
            }
        }
        lane_tile.sum(parts, dots);
    }
};

// Nothing scores more rows at once than a row tile has.
template <int>
struct ManyRows {
    static constexpr Count rows = 0;
};

#if defined(MB_CLUSTER) && !defined(MB_SHARED_MEMORY)
#define MB_SHARED_MEMORY(name) extern __shared__ float4 name[]
#endif

struct Block {
    static constexpr Count tile_size = 1;             // elements of a batch tile; the blocks of a GPU share a cache
    static constexpr bool multiplies_panels = false;  // whether a step may be given matrices in panels
    static constexpr Count num_lane_tiles = MB_THREADS / LaneTile::lanes;
    MB_FN Count rank() const { return thread_of_block(); }
    MB_FN Count size() const { return MB_THREADS; }
    MB_FN void sync() const { __syncthreads(); }
    template <class N, class F>
    MB_FN void for_each(N n, F f) const {
        MB_ROLLED
        for (N i = thread_of_block(); i < n; i += MB_THREADS) f(i);
    }
#ifdef MB_CLUSTER
    static constexpr Count cluster_size = MB_CLUSTER;
    MB_FN Count cluster_rank() const { return static_cast<Count>(blockIdx.x % MB_CLUSTER); }
    // Also makes what was written to global memory visible to the other blocks.
    MB_FN void cluster_sync() const { __cluster_barrier_arrive(), __cluster_barrier_wait(); }
    // As much as the launch gives each block.
    MB_FN Real* shared_memory() const {
        MB_SHARED_MEMORY(all);
        return reinterpret_cast<Real*>(all);
    }
#else
    static constexpr Count cluster_size = 1;
    MB_FN Count cluster_rank() const { return 0; }
#endif
    MB_FN Share share(Count n) const { return share_of(n, cluster_rank(), cluster_size); }
    template <class F>
    MB_FN void for_each_in_share(Count n, F f) const {
        const Share own = share(n);
        for_each(own.count, [&](Count i) { f(own.first + i); });
    }
    template <class N, class F>
    MB_FN void for_each_by_warp(N n, F f) const {
        MB_ROLLED
        for (N i = warp_of_block(); i < n; i += MB_THREADS / 32) f(i, Warp{});
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

// `matvec_transposed` for matrices of which each thread takes `adjacent` columns and a share of the rows. The shares
// are added up in shared memory. A thread has the weights of 16 rows in flight; a pointer moves along with the rows.
template <int adjacent>
MB_FN void add_up_rows(const Block& block, const RhsBatch& x, const Real* matrix, int64_t stride, Count rows,
                       Count columns) {
    constexpr Count ahead = 16;
    const Count row = stride;
    __shared__ Adjacent<adjacent> parts[MB_THREADS];
    const Count units = columns / adjacent, side_by_side = units < MB_THREADS ? units : MB_THREADS;
    const Count shares = MB_THREADS / side_by_side, share = thread_of_block() / side_by_side;
    MB_ROLLED
    for (Count first = 0; first < units; first += side_by_side) {
        const Count unit = first + thread_of_block() % side_by_side;
        const bool own = share < shares && unit < units;
        const Count begin = own ? share * rows / shares : 0;
        const Real* from = matrix + begin * stride + unit * adjacent;
        const Real* v = x.v[0] + begin * x.step;
        Adjacent<adjacent> total = {};
        Count left = own ? (share + 1) * rows / shares - begin : 0;
        MB_ROLLED
        for (; left > 0; left -= ahead) {
            Adjacent<adjacent> numbers[ahead] = {};
            Real factors[ahead] = {};
            for (Count i = 0; i < ahead; ++i)
                if (i < left) numbers[i] = load_streaming<adjacent>(advanced(from, row, i)), factors[i] = v[i * x.step];
            for (int i = 0; i < ahead; ++i)
                for (int c = 0; c < adjacent; ++c) total.at[c] += factors[i] * numbers[i].at[c];
            from = advanced(from, row, ahead), v += ahead * x.step;
        }
        block.sync();  // others may still read the previous parts
        parts[thread_of_block()] = total;
        block.sync();
        const Count rest = units - first < side_by_side ? units - first : side_by_side;
        MB_ROLLED
        for (Count i = thread_of_block(); i < rest * adjacent; i += MB_THREADS) {
            const Count j = first * adjacent + i;
            Real sum = x.start[0] ? x.start[0][j] : Real(0);
            MB_FOUR_AT_ONCE
            for (Count other = 0; other < shares; ++other)
                sum += parts[other * side_by_side + i / adjacent].at[i % adjacent];
            x.out[0][j] = sum;
        }
    }
}
// out[j] = start[j] + sum_k v[k] matrix[k, j]; visible after the next sync; `start` may be null.
MB_FN void matvec_transposed(const Block& block, const RhsBatch& x, const Real* matrix, int64_t stride, Count rows,
                             Count columns) {
    if (is_aligned(matrix, stride, columns))
        add_up_rows<most_adjacent>(block, x, matrix, stride, rows, columns);
    else
        add_up_rows<1>(block, x, matrix, stride, rows, columns);
}
// out[e, j] = sum_k vector_at(e)[k] matrix[k, j] for n vectors; null is skipped. Visible after the next sync. A warp
// takes 32 columns and four vectors, so that a number of the matrix is loaded once for the four.
template <class F>
MB_FN void matvecs_transposed(const Block& block, Real* out, const Real* matrix, Count n, F vector_at, Count rows,
                              Count columns) {
    constexpr Count at_once = 4, ahead = 8;
    const Count blocks = (columns + 31) / 32, units = (n + at_once - 1) / at_once * blocks;
    block.for_each_by_warp(units, [&](Count unit, Warp warp) {
        const Count first = unit / blocks * at_once, j = unit % blocks * 32 + warp.lane();
        decltype(vector_at(first)) vectors[at_once] = {}, any = nullptr;
        unsigned int given = 0;
        for (int q = 0; q < at_once; ++q)
            if (first + q < n && (vectors[q] = vector_at(first + q))) any = vectors[q], given |= 1u << q;
        if (!given || j >= columns) return;
        for (int q = 0; q < at_once; ++q)
            if (!vectors[q]) vectors[q] = any;  // its products are not stored
        const Real* from = matrix + j;
        Real totals[at_once] = {};
        const auto add_rows = [&](Count k, auto count) {
            Real numbers[count()];
            for (int i = 0; i < count(); ++i) numbers[i] = *advanced(from, columns, i);
            for (int q = 0; q < at_once; ++q)
                for (int i = 0; i < count(); ++i) totals[q] += static_cast<Real>(vectors[q][k + i]) * numbers[i];
            from = advanced(from, columns, count());
        };
        Count k = 0;
        MB_ROLLED
        for (; k + ahead <= rows; k += ahead) add_rows(k, Constant<ahead>{});
        MB_ROLLED
        for (; k < rows; ++k) add_rows(k, Constant<1>{});
        for (int q = 0; q < at_once; ++q)
            if (given >> q & 1) out[static_cast<int64_t>(first + q) * columns + j] = totals[q];
    });
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
