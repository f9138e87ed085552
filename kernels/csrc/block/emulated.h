// The emu build: a block is 7 fibers. A prime, because with 4 strided loops coincide and a missing barrier can hide.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "block/fibers.h"
#include "block/one_lane.h"

namespace mb {

constexpr int64_t emulated_threads = 7;

struct Warp : OneLane<Warp> {
    template <class F>
    Real sum(int64_t n, F f) const {
        Real total = 0;
        for (int64_t i = 0; i < n; ++i) total += f(i);
        return total;
    }
    static constexpr int64_t rows_per_warp = 2;
    void matvec(const RhsBatch& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows,
                int64_t columns) const {
        Real* const out = x.out[0] + first;
        const Real *const start = x.start[0] + first, *const v = x.v[0];
        for (int64_t j = 0; j < rows; ++j)
            out[j] = start[j] + sum(columns, [&](int64_t k) { return matrix[j * stride + k] * v[k]; });
    }
    template <class Start, class Save>
    void multiply_aligned(const Real* matrix, int64_t stride, const Real* v, int64_t rows, Start start,
                          Save save) const {
        for (int64_t q = 0; q < rows; ++q)
            save(q, start(q) + sum(stride, [&](int64_t k) { return matrix[q * stride + k] * v[k]; }));
    }
    static constexpr int64_t columns_per_warp = 2;
    void matvec_transposed(const RhsBatch& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows,
                           int64_t columns) const {
        matvec_transposed(x.out[0] + first, x.start[0] ? x.start[0] + first : nullptr, matrix, stride, x.vector(0),
                          rows, columns, first);
    }
    template <class V>
    void matvec_transposed(Real* out, const Real* start, const Real* matrix, int64_t stride, V v, int64_t rows,
                           int64_t columns, int64_t) const {
        for (int64_t j = 0; j < columns; ++j) {
            const Real product = sum(rows, [&](int64_t k) { return static_cast<Real>(v[k]) * matrix[k * stride + j]; });
            out[j] = product + (start ? start[j] : Real(0));
        }
    }
};

struct LaneTile : OneLaneTile<LaneTile> {
    static constexpr int64_t lanes = 1, rows = 1;
    int64_t thread;
    int64_t rank() const { return thread; }
    int64_t lane() const { return 0; }
    template <int64_t count = rows, class F>
    void for_each_row_tile(int64_t first, int64_t end, F f) const {
        for (int64_t i = first + thread * count; i < end; i += emulated_threads * count)
            f(i, end - i < count ? end - i : count);
    }
};
template <int fixed_width>
using RowTile = OneLaneRowTile<fixed_width, LaneTile>;

// A barrier by its place in the source, so that a test can leave it out and show that a missing one is caught.
struct BarrierSite {
    const char* file;
    int line;
    bool operator==(const BarrierSite& other) const { return line == other.line && std::strcmp(file, other.file) == 0; }
};
inline BarrierSite skipped_barrier{"", 0};
inline std::vector<BarrierSite> barriers_met;

// Nothing scores more rows at once than a row tile has.
template <int>
struct ManyRows {
    static constexpr Count rows = 0;
};

struct Block {
    static constexpr bool multiplies_panels = true;
    static constexpr int64_t num_lane_tiles = emulated_threads;
    static constexpr int64_t tile_size = 1;  // elements of a batch tile
    static constexpr int64_t chunk_rows = 4, block_rows = 2, link_rows = 2;
    static constexpr int link_heads = 2;
    static constexpr int64_t streamed_bytes = 0;
    fibers::Barrier* barrier;
    int64_t thread;
    fibers::Barrier* whole_cluster;
    int64_t rank;      // in the cluster
    Real* own_memory;  // of this block alone

    int64_t size() const { return emulated_threads; }
    void sync(const char* file = __builtin_FILE(), int line = __builtin_LINE()) const { wait_for(barrier, file, line); }
#ifdef MB_CLUSTER
    static constexpr int64_t cluster_size = MB_CLUSTER;
#else
    static constexpr int64_t cluster_size = 1;
#endif
    int64_t cluster_rank() const { return rank; }
    void cluster_sync(const char* file = __builtin_FILE(), int line = __builtin_LINE()) const {
        wait_for(whole_cluster, file, line);
    }
    Real* shared_memory() const { return own_memory; }
    Share share(int64_t n) const { return share_of(n, rank, cluster_size); }
    template <class F>
    void for_each_in_share(int64_t n, F f) const {
        const Share own = share(n);
        for_each(own.count, [&](int64_t i) { f(own.first + i); });
    }
    template <class F>
    void for_each_lane_tile(F f) const {
        f(LaneTile{{}, thread});
    }
    template <class F>
    void for_each(int64_t n, F f) const {
        for (int64_t i = thread; i < n; i += emulated_threads) f(i);
    }
    template <class F>
    void for_each_by_warp(int64_t n, F f) const {
        for (int64_t i = thread; i < n; i += emulated_threads) f(i, Warp{});
    }
    template <class F>
    void for_each_chunk(int64_t n, F f) const {
        for_each(n, f);
    }
    template <class F>
    void on_leader(F f) const {
        if (thread == 0) f();
    }

  private:
    void wait_for(fibers::Barrier* all, const char* file, int line) const {
        const BarrierSite site{file, line};
        const auto is_new = [&] {
            return std::find(barriers_met.begin(), barriers_met.end(), site) == barriers_met.end();
        };
        if (thread == 0 && rank == 0 && is_new()) barriers_met.push_back(site);
        if (!(site == skipped_barrier)) all->wait();
    }
};

inline int64_t shared_bytes = 0;  // of a block

// work(block) in one block, or in all blocks of a cluster, whose shared memory holds NaN at first.
template <class F>
void in_emulated_blocks(F work) {
    constexpr int64_t blocks = Block::cluster_size;
    fibers::Barrier whole_cluster{blocks * emulated_threads}, barriers[blocks];
    for (fibers::Barrier& barrier : barriers) barrier.size = emulated_threads;
    const std::vector<Real> poison(shared_bytes / sizeof(Real), not_a_number());
    std::vector<std::vector<Real>> memory(blocks, poison);
    fibers::run(blocks * emulated_threads, [&](int64_t thread) {
        const int64_t rank = thread / emulated_threads;
        work(Block{barriers + rank, thread % emulated_threads, &whole_cluster, rank, memory[rank].data()});
    });
}

inline bool try_insert(int32_t* place, int32_t empty, int32_t value) {
    int32_t found = empty;
    __atomic_compare_exchange_n(place, &found, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return found == empty || found == value;
}
inline int32_t fetch_add(int32_t* counter) { return __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); }
inline void prefetch(const void*) {}

template <class T>
inline void dot_rows(const T* const* rows, const Real* query, int64_t width, Real* dots) {
    dots[0] = 0;
    for (int64_t w = 0; w < width; ++w) dots[0] += static_cast<Real>(rows[0][w]) * query[w];
}

inline uint32_t numbers_above(const Real* numbers, Real limit) {
    uint32_t which = 0;
    for (int i = 0; i < 16; ++i) which |= static_cast<uint32_t>(numbers[i] > limit) << i;
    return which;
}

template <class Vector>
inline Vector load_columns(const Real* from) {
    return *from;
}
inline void store_columns(Real* to, Real value) { *to = value; }
template <class F>
inline void for_each_columns(int64_t width, F f) {
    for (int64_t w = 0; w < width; ++w) f(Real(0), w);
}
template <class F>
inline void for_each_vectors(int64_t n, F f) {
    for (int64_t i = 0; i < n; ++i) f(Real(0), std::integral_constant<int, 1>{}, i);
}
template <class Vector>
constexpr int64_t lanes_of = 1;

template <int count>
struct VectorSums {
    Real sums[count] = {};
    void add(int number, Real part) { sums[number] += part; }
    void store(Real* to) const {
        for (int i = 0; i < count; ++i) to[i] = sums[i];
    }
};
typedef Real ColumnVector;
constexpr int64_t sum_lanes = 1;
inline void add_to_lanes(Real* lanes, Real part) { *lanes += part; }
inline Real total_of_lanes(const Real* lanes) { return *lanes; }
inline void stream_columns(Real* to, Real value) { *to = value; }
inline void end_of_streams() {}

}  // namespace mb
