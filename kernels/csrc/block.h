// A block works on one batch element. Kernels are written block-synchronously: every thread of the block runs the same text, loops are
// shared out by `each` and `rows`, and what one phase writes the next may read only after `sync`. Three builds of that text:
//   cpu   one thread is the whole block; loops become SIMD; the batch is spread over threads          (default)
//   emu   a block is 7 host threads with a real barrier, so that a missing `sync` is a race to be caught (MB_EMULATE)
//   cuda  a block is a CUDA thread block, a row is worked on by a warp                                   (nvcc, NVRTC)
#pragma once

#include "real.h"

#if defined(__CUDACC__)
#include "block_cuda.h"
#elif defined(MB_EMULATE)
#include "block_emulated.h"
#else

namespace mb {

// The threads that work on one row together: here the one thread there is.
struct Group {
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

struct Block {
    static constexpr int tile = 64;  // outputs of a matrix product a thread holds in registers
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
