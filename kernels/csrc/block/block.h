// A block works on one batch element. Kernels are block-synchronous: all threads of a block run the same code, loops
// are divided among them by `for_each` (a thread an item) and `for_each_by_warp` (a warp an item), and what one phase
// writes the next may read only after `sync`. Three builds of the same code:
//   cpu   a block is one thread; loops become SIMD; the batch is divided among threads        (default)
//   emu   a block is 7 fibers that take turns: a missing `sync` is a detectable race (MB_EMULATE)
//   cuda  a block is a CUDA thread block, a warp is 32 lanes                                   (nvcc, NVRTC)
// With MB_CLUSTER, emu and cuda have that many blocks, a cluster, for each batch element (sequence/cluster.h). They
// share a loop by `for_each_in_share`; what one block writes the others may read only after `cluster_sync`.
#pragma once

#include "block/real.h"

namespace mb {

// A candidate row and its ranked score; row -1 loses. `position`: where it stands in the lists merged.
struct ScoredRow {
    Real score;
    int32_t row;
    Count position;

    MB_FN void take_better(const ScoredRow& other) {
        if (other.row >= 0 && (row < 0 || comes_before(other.score, other.row, score, row))) *this = other;
    }
};

constexpr Count most_cluster_blocks = 8;

// What a block of a cluster does of n things.
struct Share {
    Count first, count;
};
MB_FN Share share_of(Count n, Count rank, Count size) {
    const Count first = rank * n / size;
    return Share{first, (rank + 1) * n / size - first};
}

struct StridedVector {
    const Real* first;
    int64_t step;
    MB_FN Real operator[](int64_t k) const { return first[k * step]; }
};

// Right-hand sides of up to 8 batch elements: out[i] = start[i] + M v[i] (start null: 0), each weight loaded once for
// all. For products with M^T, the elements of each v are `step` apart.
struct RhsBatch {
    static constexpr int max_count = 8;
    Real* out[max_count];
    const Real* start[max_count];
    const Real* v[max_count];
    int count = 0;
    int64_t step = 1;

    MB_FN StridedVector vector(int i) const { return StridedVector{v[i], step}; }
    MB_FN void add(Real* to, const Real* from, const Real* vector) {
        out[count] = to, start[count] = from, v[count] = vector, ++count;
    }
    // Up to n right-hand sides from i on.
    MB_FN RhsBatch part(int i, int n) const {
        RhsBatch some;
        some.step = step;
        for (; i < count && some.count < n; ++i) some.add(out[i], start[i], v[i]);
        return some;
    }
};

constexpr int64_t panel_columns = 64 / sizeof(Real);  // of a panel of a matrix (block/panels.h)

}  // namespace mb

#if defined(__CUDACC__)
#include "block/cuda.h"
#elif defined(MB_EMULATE)
#include "block/emulated.h"
#else
#include "block/cpu.h"
#endif
