// CUDA's language on fibers, so that the code for the GPU runs here under a sanitizer: one fiber a lane, a barrier for
// each warp, for the block and for a cluster of blocks. A shuffle that not all lanes reach ends the program; a missing
// __syncwarp is a race.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "block/fibers.h"

#define __CUDACC__
#define __device__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __shared__ static  // blocks run one after the other; those of a cluster have shared memory of the launch's size
#define __cluster_dims__(...)
#define MB_SHARED_MEMORY(name) float4* const name = own_block().memory.data()
#define __launch_bounds__(threads)
#ifndef MB_THREADS
#define MB_THREADS 64
#endif

// Places of the running lane: blocks_at_once blocks of MB_THREADS lanes run at once, from block `first_block` on.
inline int64_t first_block;
struct ThreadIndex {
    operator int64_t() const { return mb::fibers::this_one() % MB_THREADS; }
};
struct BlockIndex {
    operator int64_t() const { return first_block + mb::fibers::this_one() / MB_THREADS; }
};
struct {
    ThreadIndex x;
} const threadIdx;
struct {
    BlockIndex x;
} const blockIdx;

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};

struct HostWarp {
    mb::fibers::Barrier barrier;
    char shuffled[32][8];
};
struct HostBlock {
    HostWarp warps[MB_THREADS / 32];
    mb::fibers::Barrier barrier;
    std::vector<float4> memory;
};
#ifdef MB_CLUSTER
constexpr int blocks_at_once = MB_CLUSTER;
#else
constexpr int blocks_at_once = 1;
#endif
inline HostBlock blocks[blocks_at_once];
inline mb::fibers::Barrier whole_cluster;

inline bool without_syncwarp = false;  // so that a test can show that a missing one is caught

inline HostBlock& own_block() { return blocks[mb::fibers::this_one() / MB_THREADS]; }
inline HostWarp& own_warp() { return own_block().warps[threadIdx.x / 32]; }
inline void wait_for_warp() { own_warp().barrier.wait(); }
inline void __syncthreads() { own_block().barrier.wait(); }
inline void __cluster_barrier_arrive() {}
inline void __cluster_barrier_wait() { whole_cluster.wait(); }
inline void __syncwarp() {
    if (!without_syncwarp) wait_for_warp();
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int offset) {
    HostWarp& warp = own_warp();
    std::memcpy(warp.shuffled[threadIdx.x % 32], &value, sizeof value);
    wait_for_warp();
    std::memcpy(&value, warp.shuffled[(threadIdx.x % 32) ^ offset], sizeof value);
    wait_for_warp();
    return value;
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
    return __shfl_xor_sync(mask, value, static_cast<int>(threadIdx.x % 32) ^ lane);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int offset) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    return __shfl_xor_sync(mask, value, lane < offset ? 0 : lane ^ (lane - offset));
}
template <class T>
T __ldcg(const T* place) {
    return *place;
}
inline unsigned __ballot_sync(unsigned, bool holds) {
    HostWarp& warp = own_warp();
    warp.shuffled[threadIdx.x % 32][0] = holds;
    wait_for_warp();
    unsigned holding = 0;
    for (int lane = 0; lane < 32; ++lane) holding |= static_cast<unsigned>(warp.shuffled[lane][0]) << lane;
    wait_for_warp();
    return holding;
}
inline int __reduce_add_sync(unsigned mask, int value) {
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(mask, value, offset);
    return value;
}
inline unsigned __match_any_sync(unsigned, int32_t value) {
    HostWarp& warp = own_warp();
    std::memcpy(warp.shuffled[threadIdx.x % 32], &value, sizeof value);
    wait_for_warp();
    unsigned same = 0;
    for (int lane = 0; lane < 32; ++lane)
        same |= static_cast<unsigned>(std::memcmp(warp.shuffled[lane], &value, sizeof value) == 0) << lane;
    wait_for_warp();
    return same;
}
inline int32_t atomicCAS(int32_t* place, int32_t expected, int32_t desired) {
    __atomic_compare_exchange_n(place, &expected, desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}
inline int32_t atomicAdd(int32_t* place, int32_t more) { return __atomic_fetch_add(place, more, __ATOMIC_RELAXED); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __ffsll(long long bits) { return __builtin_ffsll(bits); }

// Blocks, or clusters of them, run one after the other. Their memory holds NaN at first.
template <class Arguments>
void launch(void (*kernel)(Arguments), const Arguments& arguments, int64_t items) {
    whole_cluster.size = blocks_at_once * MB_THREADS;
    for (HostBlock& block : blocks) {
        block.barrier.size = MB_THREADS;
        for (HostWarp& warp : block.warps) warp.barrier.size = 32;
    }
    for (int64_t item = 0; item < items; ++item) {
        first_block = item * blocks_at_once;
        for (HostBlock& block : blocks)
            block.memory.assign(arguments.shared_bytes / sizeof(float4), float4{NAN, NAN, NAN, NAN});
        mb::fibers::run(blocks_at_once * MB_THREADS, [&](int64_t) { kernel(arguments); });
    }
}
