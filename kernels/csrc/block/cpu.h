// The cpu build: a block is one thread, the inner loops are SIMD.
#pragma once

#include "block/many_rows.h"
#include "block/one_lane.h"
#include "block/panels.h"
#include "block/rank.h"
#include "block/simd.h"
#include "block/threads.h"

namespace mb {

struct Warp : OneLane<Warp> {
    // f(0) + ... + f(n - 1). No condition in f: GCC 12 miscompiles sums of c ? a : b[i] with AVX2.
    template <class F>
    Real sum(int64_t n, F f) const {
        Real part[simd] = {}, rest = 0;
        int64_t i = 0;
        for (; i + simd <= n; i += simd)
            for (int64_t l = 0; l < simd; ++l) part[l] += f(i + l);
        for (; i < n; ++i) rest += f(i);
        return total(load(part)) + rest;
    }
    // As `OneLane::rank`. Without AVX, whose comparisons give bits, vectors are slower than insertion.
    void rank(const Real* scores, int64_t n, int64_t count, Real* values, int32_t* numbers) const {
#if defined(__AVX__)
        if (n >= Sixteen::size && rank_in_vectors(scores, n, count, values, numbers)) return;
#endif
        OneLane::rank(scores, n, count, values, numbers);
    }
    // out[j] = start[j] + sum_k matrix[j, k] v[k] for `rows` <= rows_per_warp outputs from `first`, the first row of
    // matrix.
    static constexpr int64_t rows_per_warp = int64_t(1) << 40;
    void matvec(const RhsBatch& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows,
                int64_t columns) const {
        if (columns >= simd) {
            for (int i = 0; i < x.count; i += 2) {
                const RhsBatch two = x.part(i, 2);
                if (two.count == 2)
                    simd_matvec<2>(two, first, matrix, stride, rows, columns);
                else
                    simd_matvec<1>(two, first, matrix, stride, rows, columns);
            }
            return;
        }
        for (int i = 0; i < x.count; ++i)
            for (int64_t j = 0; j < rows; ++j) {
                Real sum = x.start[i][first + j];
                for (int64_t k = 0; k < columns; ++k) sum += matrix[j * stride + k] * x.v[i][k];
                x.out[i][first + j] = sum;
            }
    }
    // out[j] = start[j] + sum_k v[k] matrix[k, j] for `columns` <= columns_per_warp outputs. `before` outputs lie to
    // their left: the last SIMD vector may reach back into them.
    static constexpr int64_t columns_per_warp = most_vectors * simd;
    template <class V>
    void matvec_transposed(Real* out, const Real* start, const Real* matrix, int64_t stride, V v, int64_t rows,
                           int64_t columns, int64_t before) const {
        const int64_t vectors = (columns + simd - 1) / simd, fresh = columns - (vectors - 1) * simd;
        if (before + columns < simd) {
            Real sums[simd] = {};
            for (int64_t k = 0; k < rows; ++k)
                for (int64_t j = 0; j < columns; ++j) sums[j] += static_cast<Real>(v[k]) * matrix[k * stride + j];
            for (int64_t j = 0; j < columns; ++j) out[j] = sums[j] + (start ? start[j] : Real(0));
            return;
        }
        switch (vectors) {
            case 1:
                return simd_matvec_transposed<1, num_chains(1)>(out, start, matrix, stride, v, rows, fresh);
            case 2:
                return simd_matvec_transposed<2, num_chains(2)>(out, start, matrix, stride, v, rows, fresh);
            case 3:
                return simd_matvec_transposed<3, num_chains(3)>(out, start, matrix, stride, v, rows, fresh);
            case 4:
                return simd_matvec_transposed<4, num_chains(4)>(out, start, matrix, stride, v, rows, fresh);
            case 5:
                return simd_matvec_transposed<5, num_chains(5)>(out, start, matrix, stride, v, rows, fresh);
            case 6:
                return simd_matvec_transposed<6, num_chains(6)>(out, start, matrix, stride, v, rows, fresh);
        }
        if constexpr (most_vectors > 6) {
            if (vectors == 7)
                return simd_matvec_transposed<7, num_chains(7)>(out, start, matrix, stride, v, rows, fresh);
            simd_matvec_transposed<8, num_chains(8)>(out, start, matrix, stride, v, rows, fresh);
        }
    }
    // The same, to the bit, for several right-hand sides; outputs from `first`.
    void matvec_transposed(const RhsBatch& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows,
                           int64_t columns) const {
        const int64_t vectors = (columns + simd - 1) / simd;
        if (x.count == 1 || first + columns < simd) {
            for (int i = 0; i < x.count; ++i)
                matvec_transposed(x.out[i] + first, x.start[i] ? x.start[i] + first : nullptr, matrix, stride,
                                  x.vector(i), rows, columns, first);
            return;
        }
        // More than 4 are two batches, of which the second finds the columns in the nearest cache.
        const int in_first = x.count <= 4 ? x.count : (x.count + 1) / 2;
        const RhsBatch batches[] = {x.part(0, in_first), x.part(in_first, 4)};
        for (int64_t done = 0; done < vectors; done += batch_vectors) {
            const int64_t now = vectors - done < batch_vectors ? vectors - done : batch_vectors;
            const int64_t fresh = done + now < vectors ? simd : columns - (vectors - 1) * simd;
            for (const RhsBatch& batch : batches)
                if (batch.count > 0)
                    simd_matvec_transposed_batch(batch, first + done * simd, matrix + done * simd, stride, rows, now,
                                                 fresh, num_chains(vectors));
        }
    }
};

// The threads that score a tile of rows together in a scan.
struct LaneTile : OneLaneTile<LaneTile> {
    static constexpr int64_t lanes = 1, rows = 4;
    int64_t rank() const { return 0; }
    int64_t lane() const { return 0; }
    template <int64_t count = rows, class F>
    void for_each_row_tile(int64_t first, int64_t end, F f) const {
        for (int64_t i = first; i < end; i += count) f(i, end - i < count ? end - i : count);
    }
};
template <int fixed_width>
using RowTile = OneLaneRowTile<fixed_width, LaneTile>;

struct Block {
    static constexpr bool multiplies_panels = true;  // whether a step may be given matrices in panels
    static constexpr int64_t num_lane_tiles = 1;
    static constexpr int64_t tile_size = RhsBatch::max_count;    // elements of a batch tile
    static constexpr int64_t chunk_rows = 1024, link_rows = 64;  // rows of a chunk, of a link matrix at least
    // Heads whose products with a tile of a link matrix are summed at once: as the registers hold.
    static constexpr int link_heads = sizeof(ColumnVector) == 64 ? 4 : 2;
    // Rows that lie column by column; divides chunk_rows. A column fills two vectors, so a loop over the columns passes
    // over the block from its first byte to its last, as processors fetch ahead.
    static constexpr int64_t block_rows = 2 * lanes_of<ColumnVector>;
    static constexpr int64_t streamed_bytes = int64_t(1) << 24;  // of a memory whose rows are stored past the caches
    int64_t chunk_threads;                                       // that share the loops over chunks
    int64_t size() const { return 1; }
    void sync() const {}
    template <class F>
    void for_each_lane_tile(F f) const {
        f(LaneTile{});
    }
    template <class F>
    void for_each(int64_t n, F f) const {
        MB_INDEPENDENT
        for (int64_t i = 0; i < n; ++i) f(i);
    }
    template <class F>
    void for_each_in_share(int64_t n, F f) const {
        MB_INDEPENDENT
        for (int64_t i = 0; i < n; ++i) f(i);
    }
    template <class F>
    void for_each_by_warp(int64_t n, F f) const {
        for (int64_t i = 0; i < n; ++i) f(i, Warp{});
    }
    // f(i) for each i < n, chunks of a large memory.
    template <class F>
    void for_each_chunk(int64_t n, F f) const {
        if (chunk_threads > 1) return divide(n, chunk_threads, f);
        for (int64_t i = 0; i < n; ++i) f(i);
    }
    template <class F>
    void on_leader(F f) const {
        f();
    }
};

// Sets *place from `empty` to `value`; false if another value is there.
inline bool try_insert(int32_t* place, int32_t empty, int32_t value) {
    if (*place != empty) return *place == value;
    *place = value;
    return true;
}
inline int32_t fetch_add(int32_t* counter) { return (*counter)++; }
inline void prefetch(const void* address) { __builtin_prefetch(address); }

}  // namespace mb
