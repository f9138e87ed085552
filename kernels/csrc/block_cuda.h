// The block of the `cuda` build: a CUDA thread block of MB_THREADS; a row is worked on by one warp, rows are scored by teams of 8 threads.
// Inside `rows` and `teams` all 32 lanes of a warp run the same text: what decides its branches must be the same for all of them.
#pragma once

#ifndef MB_THREADS
#define MB_THREADS 512  // a multiple of 32
#endif

namespace mb {

constexpr unsigned int whole_warp = 0xffffffffu;

MB_FN int64_t lowest_bit(unsigned int bits) { return __ffs(static_cast<int>(bits)) - 1; }
MB_FN int64_t highest_bit(unsigned int bits) { return 31 - __clz(static_cast<int>(bits)); }

struct Group {
    static constexpr int64_t lanes = 32;
    MB_FN int64_t lane() const { return threadIdx.x % 32; }
    MB_FN void sync() const { __syncwarp(); }
    template <class F> MB_FN void each(int64_t n, F f) const {
        for (int64_t i = lane(); i < n; i += 32) f(i);
        __syncwarp();
    }
    template <class F> MB_FN Real sum(int64_t n, F f) const {
        Real total = 0;
        for (int64_t i = lane(); i < n; i += 32) total += f(i);
        for (int offset = 16; offset > 0; offset /= 2) total += __shfl_xor_sync(whole_warp, total, offset);
        return total;
    }
    static constexpr int64_t unit_rows = 4;
    MB_FN void sum_rows(const Vectors& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows, int64_t columns) const {
        Real* const out = x.out[0] + first;
        const Real *const start = x.start[0] + first, *const v = x.v[0];
        Real sums[4] = {};
        for (int64_t k = lane(); k < columns; k += 32)
            for (int q = 0; q < 4; ++q)
                if (q < rows) sums[q] += matrix[q * stride + k] * v[k];
        for (int offset = 16; offset > 0; offset /= 2)
            for (int q = 0; q < 4; ++q) sums[q] += __shfl_xor_sync(whole_warp, sums[q], offset);
        if (leads())
            for (int64_t q = 0; q < rows; ++q) out[q] = start[q] + sums[q];
    }
    static constexpr int64_t unit_columns = 32;  // one a lane, so that a warp's loads are one
    MB_FN void sum_columns(const Vectors& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows, int64_t columns) const {
        sum_columns(x.out[0] + first, x.start[0] ? x.start[0] + first : nullptr, matrix, stride, x.vector(0), rows, columns, first);
    }
    template <class V>
    MB_FN void sum_columns(Real* out, const Real* start, const Real* matrix, int64_t stride, V v, int64_t rows, int64_t columns, int64_t) const {
        each(columns, [&](int64_t j) {
            Real total = start ? start[j] : Real(0);
            for (int64_t k = 0; k < rows; ++k) total += static_cast<Real>(v[k]) * matrix[k * stride + j];
            out[j] = total;
        });
    }
    // Every lane takes the best choice of all.
    MB_FN void agree(Choice& best) const {
        for (int offset = 16; offset > 0; offset /= 2) {
            const Choice other{__shfl_xor_sync(whole_warp, best.score, offset), __shfl_xor_sync(whole_warp, best.row, offset),
                               static_cast<int64_t>(__shfl_xor_sync(whole_warp, static_cast<long long>(best.place), offset))};
            best.consider(other);
        }
    }
    template <class F> MB_FN int64_t first(int64_t n, F holds) const {
        for (int64_t start = 0; start < n; start += 32) {
            const unsigned int holding = __ballot_sync(whole_warp, start + lane() < n && holds(start + lane()));
            if (holding) return start + lowest_bit(holding);
        }
        return n;
    }
    template <class F, class G> MB_FN void each_where(int64_t n, F holds, G f) const {
        for (int64_t start = 0; start < n; start += 32)
            for (unsigned int holding = __ballot_sync(whole_warp, start + lane() < n && holds(start + lane())); holding; holding &= holding - 1) f(start + lowest_bit(holding));
    }
    MB_FN int64_t number(bool chosen, int64_t& count) const {
        const unsigned int all = __ballot_sync(whole_warp, chosen), before = all & ((1u << lane()) - 1);
        const int64_t own = count + __popc(before);
        count += __popc(all);
        return own;
    }
    // The lanes, as bits, that have the same value.
    MB_FN unsigned int same(int32_t value) const { return __match_any_sync(whole_warp, value); }
    MB_FN bool leads() const { return lane() == 0; }
};

// Neighbouring lanes read neighbouring addresses, and each has loads of four rows under way.
struct Team {
    static constexpr int64_t lanes = 8, tile = 4, in_warp = 32 / lanes;
    MB_FN int64_t rank() const { return threadIdx.x / lanes; }
    MB_FN int64_t lane() const { return threadIdx.x % lanes; }
    // The teams of a warp go on together: at the end of the rows some have tiles of fewer rows than `tile`, or of none.
    template <class F> MB_FN void tiles(int64_t first, int64_t end, F f) const {
        constexpr int64_t of_warp = in_warp * tile, of_block = MB_THREADS / lanes * tile;
        for (int64_t start = first + threadIdx.x / 32 * of_warp; start < end; start += of_block) {
            const int64_t row = start + threadIdx.x % 32 / lanes * tile;
            f(row, end - row < tile ? end - row : tile);
        }
    }
    MB_FN Real sum(Real part) const {
        for (int offset = lanes / 2; offset > 0; offset /= 2) part += __shfl_xor_sync(whole_warp, part, offset);
        return part;
    }
};

// A tile of rows: held in registers if the word size is known to be a multiple of 32, each lane having four neighbouring numbers of every 32.
template <int known> struct Tile {
    static_assert(known % 32 == 0, "");
    struct alignas(sizeof(Store) < 4 ? 8 : 16) Four {
        Store at[4];
    };
    Four held[Team::tile][known / 32 ? known / 32 : 1];
    const Store* rows[Team::tile];

    MB_FN Tile(const Team& team, const Store* memory, int64_t first, int64_t count, int64_t width) {
        for (int j = 0; j < Team::tile; ++j) {
            const int64_t last = first + count - 1;  // where there is no row, the last one of all is read again
            rows[j] = memory + (first + j < last ? first + j : last) * (known ? known : width);
            for (int c = 0; c < known / 32; ++c) held[j][c] = reinterpret_cast<const Four*>(rows[j])[c * Team::lanes + team.lane()];
        }
    }
    // The dots of the rows with a query, in every lane.
    MB_FN void dot(const Team& team, const Real* query, int64_t width, Real* dots) const {
        for (int j = 0; j < Team::tile; ++j) dots[j] = 0;
        if (known) {
            for (int c = 0; c < known / 32; ++c)
                for (int i = 0; i < 4; ++i) {
                    const Real factor = query[(c * Team::lanes + team.lane()) * 4 + i];
                    for (int j = 0; j < Team::tile; ++j) dots[j] += static_cast<Real>(held[j][c].at[i]) * factor;
                }
        } else {
            for (int64_t w = team.lane(); w < width; w += Team::lanes)
                for (int j = 0; j < Team::tile; ++j) dots[j] += static_cast<Real>(rows[j][w]) * query[w];
        }
        for (int j = 0; j < Team::tile; ++j) dots[j] = team.sum(dots[j]);
    }
};

struct Block {
    static constexpr int64_t together = 1;  // elements of a crew
    static constexpr int64_t lists = MB_THREADS / Team::lanes;
    MB_FN int64_t rank() const { return threadIdx.x; }
    MB_FN int64_t size() const { return MB_THREADS; }
    MB_FN void sync() const { __syncthreads(); }
    template <class F> MB_FN void each(int64_t n, F f) const {
        for (int64_t i = threadIdx.x; i < n; i += MB_THREADS) f(i);
    }
    template <class F> MB_FN void rows(int64_t n, F f) const {
        for (int64_t i = threadIdx.x / 32; i < n; i += MB_THREADS / 32) f(i, Group{});
    }
    template <class F> MB_FN void teams(F f) const { f(Team{}); }
    template <class F> MB_FN void one(F f) const {
        if (threadIdx.x == 0) f();
    }
};

MB_FN bool claim(int32_t* place, int32_t expected, int32_t desired) {
    const int32_t found = atomicCAS(place, expected, desired);
    return found == expected || found == desired;
}
MB_FN int32_t take_number(int32_t* counter) { return atomicAdd(counter, 1); }
MB_FN void prefetch(const void* address) {
#ifdef __CUDA_ARCH__
    asm volatile("prefetch.global.L1 [%0];" ::"l"(address));
#endif
}

}  // namespace mb
