// A block works on one batch element. Kernels are written block-synchronously: every thread of the block runs the same text, loops are
// shared out by `each` and `rows`, and what one phase writes the next may read only after `sync`. Three builds of that text:
//   cpu   one thread is the whole block; loops become SIMD; the batch is spread over threads          (default)
//   emu   a block is 7 host threads with a real barrier, so that a missing `sync` is a race to be caught (MB_EMULATE)
//   cuda  a block is a CUDA thread block, a row is worked on by a warp                                   (nvcc, NVRTC)
#pragma once

#include "real.h"

namespace mb {

// A row, how it scored and where that stands. Of two the better scored is chosen, of equals the lower row, never an empty place (row -1).
struct Choice {
    Real score;
    int32_t row;
    int64_t place;

    MB_FN void consider(const Choice& other) {
        if (other.row >= 0 && (row < 0 || other.score > score || (other.score == score && other.row < row))) *this = other;
    }
};

}  // namespace mb

#if defined(__CUDACC__)
#include "block_cuda.h"
#elif defined(MB_EMULATE)
#include "block_emulated.h"
#else

namespace mb {

// The threads that work on one row together: here the one thread there is.
struct Group {
    static constexpr int64_t lanes = 1;
    int64_t lane() const { return 0; }
    void sync() const {}
    void agree(Choice&) const {}
    template <class F> void each(int64_t n, F f) const {
        MB_INDEPENDENT for (int64_t i = 0; i < n; ++i) f(i);
    }
    template <class F> Real sum(int64_t n, F f) const {
        Real total = 0;
        MB_SUM(total) for (int64_t i = 0; i < n; ++i) total += f(i);
        return total;
    }
    template <class A, class B, class C, class D> void sum4(int64_t n, Real* sums, A a, B b, C c, D d) const {
        Real s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        MB_SUM4 for (int64_t i = 0; i < n; ++i) s0 += a(i), s1 += b(i), s2 += c(i), s3 += d(i);
        sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
    }
    bool leads() const { return true; }
};

// The threads that score rows together in a scan, a tile of rows at a time.
struct Team {
    static constexpr int64_t lanes = 1, tile = 1;
    int64_t rank() const { return 0; }
    int64_t lane() const { return 0; }
    template <class F> void tiles(int64_t first, int64_t end, F f) const {
        for (int64_t i = first; i < end; ++i) f(i, 1);
    }
};

struct Block {
    static constexpr int tile = 64;  // outputs of a matrix product a thread holds in registers
    static constexpr int64_t lists = 1;  // teams
    template <class F> void teams(F f) const { f(Team{}); }
    int64_t rank() const { return 0; }
    int64_t size() const { return 1; }
    void sync() const {}
    template <class F> void each(int64_t n, F f) const {
        MB_INDEPENDENT for (int64_t i = 0; i < n; ++i) f(i);
    }
    template <class F> void rows(int64_t n, F f) const {
        for (int64_t i = 0; i < n; ++i) f(i, Group{});
    }
    template <class F> void one(F f) const { f(); }
};

template <class T> inline bool claim(T* place, T expected, T desired) {
    if (*place != expected) return *place == desired;
    *place = desired;
    return true;
}
inline int32_t take_number(int32_t* counter) { return (*counter)++; }
inline void prefetch(const void* address) { __builtin_prefetch(address); }

}  // namespace mb
#endif

#if !defined(__CUDACC__)
namespace mb {

// The rows that a team scores at a time: on the processor one, read where it lies.
template <int known> struct Tile {
    const Store* row;
    Tile(const Team&, const Store* memory, int64_t first, int64_t, int64_t width) : row(memory + first * (known ? known : width)) {}
    void dot(const Team&, const Real* query, int64_t width, Real* dots) const {
        const int64_t n = known ? known : width;
        Real total = 0;
        MB_SUM(total) for (int64_t w = 0; w < n; ++w) total += static_cast<Real>(row[w]) * query[w];
        dots[0] = total;
    }
};

}  // namespace mb
#endif
