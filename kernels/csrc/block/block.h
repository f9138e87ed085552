// A block works on one batch element. Kernels are written block-synchronously: every thread of the block runs the same text, loops are
// shared out by `each` and `rows`, and what one phase writes the next may read only after `sync`. Three builds of that text:
//   cpu   one thread is the whole block; loops become SIMD; the batch is spread over threads          (default)
//   emu   a block is 7 host threads with a real barrier, so that a missing `sync` is a race to be caught (MB_EMULATE)
//   cuda  a block is a CUDA thread block, a row is worked on by a warp                                   (nvcc, NVRTC)
#pragma once

#include "block/real.h"

#if !defined(__CUDACC__)
#include <chrono>
#endif

namespace mb {

// A row, how it scored and where that stands. Of two the better scored is chosen, of equals the lower row, never an empty place (row -1).
struct ScoredRow {
    Real score;
    int32_t row;
    int64_t place;

    MB_FN void take_better(const ScoredRow& other) {
        if (other.row >= 0 && (row < 0 || other.score > score || (other.score == score && other.row < row))) *this = other;
    }
};

// Numbers that stand `step` apart.
struct StridedVector {
    const Real* first;
    int64_t step;
    MB_FN Real operator[](int64_t k) const { return first[k * step]; }
};

// Vectors of up to `most` elements that one matrix is multiplied with, so that it is read once for all: out = start + M v, start null: 0. The
// numbers of a v that is multiplied with a transposed matrix stand `step` apart.
struct RhsBatch {
    static constexpr int max_count = 4;
    Real* out[max_count];
    const Real* start[max_count];
    const Real* v[max_count];
    int count = 0;
    int64_t step = 1;

    MB_FN StridedVector vector(int i) const { return StridedVector{v[i], step}; }
    MB_FN void add(Real* to, const Real* from, const Real* vector) { out[count] = to, start[count] = from, v[count] = vector, ++count; }
};

#if !defined(__CUDACC__)
MB_FN int64_t now_ns() { return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The lanes of a group that have the same value, as a lane sees them: there is but one.
struct MatchMask {
    int64_t previous() const { return -1; }  // the one before it, -1: it is the first
    int64_t rank() const { return 0; }  // how many there are before it
    int64_t last() const { return 0; }
};

// What a group of one lane has in common, in the two builds for the processor.
struct OneLane {
    // The first i < n of which something holds, n if there is none.
    template <class F> int64_t find_first(int64_t n, F holds) const {
        int64_t i = 0;
        while (i < n && !holds(i)) ++i;
        return i;
    }
    // f(i) of each i < n of which something holds, in their order, the whole group together.
    template <class F, class G> void for_each_where(int64_t n, F holds, G f) const {
        for (int64_t i = 0; i < n; ++i)
            if (holds(i)) f(i);
    }
    // How many were chosen before this one, by a lane before or in a call before; `count` goes on. The lanes call it together.
    int64_t exclusive_count(bool chosen, int64_t& count) const { return chosen ? count++ : count; }
    // The lanes of which something holds, as bits.
    template <class F> uint32_t ballot(F holds) const { return holds(0); }
    MatchMask match_any(int32_t) const { return {}; }
};
#endif

}  // namespace mb

#if defined(__CUDACC__)
#include "block/cuda.h"
#elif defined(MB_EMULATE)
#include "block/emulated.h"
#else
#include "block/simd.h"

namespace mb {

// The threads that work on one row together: here the one thread there is.
struct Warp : OneLane {
    static constexpr int64_t lanes = 1;
    int64_t lane() const { return 0; }
    void sync() const {}
    void argmax(ScoredRow&) const {}
    template <class F> void for_each(int64_t n, F f) const {
        MB_INDEPENDENT for (int64_t i = 0; i < n; ++i) f(i);
    }
    // f(0) + ... + f(n - 1). No condition in f: GCC 12 adds wrongly with AVX2 what a choice, c ? a : b[i], gives.
    template <class F> Real sum(int64_t n, F f) const {
        Real part[simd] = {}, rest = 0;
        int64_t i = 0;
        for (; i + simd <= n; i += simd)
            for (int64_t l = 0; l < simd; ++l) part[l] += f(i + l);
        for (; i < n; ++i) rest += f(i);
        return total(load(part)) + rest;
    }
    // f(i) of each i < n, then the sum of g(i).
    template <class F, class G> Real each_then_sum(int64_t n, F f, G g) const {
        for_each(n, f);
        return sum(n, g);
    }
    // out[w] = sum_k weight(k) row(k)[w] for n rows, those that are there (not null).
    template <class Weight, class Row> void weighted_sum(Real* out, int64_t width, int64_t n, Weight weight, Row row) const {
        for_each(width, [&](int64_t w) { out[w] = 0; });
        for (int64_t k = 0; k < n; ++k) {
            const auto* const values = row(k);
            if (values == nullptr) continue;
            const Real factor = weight(k);
            for_each(width, [&](int64_t w) { out[w] += factor * static_cast<Real>(values[w]); });
        }
    }
    // out[j] = start[j] + sum_k matrix[j, k] v[k] for rows first.. of the outputs, `rows` <= unit_rows; `matrix` begins at the first.
    static constexpr int64_t rows_per_warp = int64_t(1) << 40;
    void matvec(const RhsBatch& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows, int64_t columns) const {
        switch (columns < simd ? 0 : x.count) {
            case 1: return mb::simd_matvec<1>(x, first, matrix, stride, rows, columns);
            case 2: return mb::simd_matvec<2>(x, first, matrix, stride, rows, columns);
            case 3: return mb::simd_matvec<3>(x, first, matrix, stride, rows, columns);
            case 4: return mb::simd_matvec<4>(x, first, matrix, stride, rows, columns);
        }
        for (int i = 0; i < x.count; ++i)
            for (int64_t j = 0; j < rows; ++j) {
                Real sum = x.start[i][first + j];
                for (int64_t k = 0; k < columns; ++k) sum += matrix[j * stride + k] * x.v[i][k];
                x.out[i][first + j] = sum;
            }
    }
    // out[j] = start[j] + sum_k v[k] matrix[k, j] for `columns` <= unit_columns columns, of which `before` more stand to the left.
    static constexpr int64_t columns_per_warp = 8 * simd;
    template <class V>
    void matvec_transposed(Real* out, const Real* start, const Real* matrix, int64_t stride, V v, int64_t rows, int64_t columns, int64_t before) const {
        const int64_t vectors = (columns + simd - 1) / simd, own = columns - (vectors - 1) * simd;
        if (before + columns < simd) {
            Real sums[simd] = {};
            for (int64_t k = 0; k < rows; ++k)
                for (int64_t j = 0; j < columns; ++j) sums[j] += static_cast<Real>(v[k]) * matrix[k * stride + j];
            for (int64_t j = 0; j < columns; ++j) out[j] = sums[j] + (start ? start[j] : Real(0));
            return;
        }
        switch (vectors) {
            case 1: return mb::simd_matvec_transposed<1, chains(1)>(out, start, matrix, stride, v, rows, own);
            case 2: return mb::simd_matvec_transposed<2, chains(2)>(out, start, matrix, stride, v, rows, own);
            case 3: return mb::simd_matvec_transposed<3, chains(3)>(out, start, matrix, stride, v, rows, own);
            case 4: return mb::simd_matvec_transposed<4, chains(4)>(out, start, matrix, stride, v, rows, own);
            case 5: return mb::simd_matvec_transposed<5, chains(5)>(out, start, matrix, stride, v, rows, own);
            case 6: return mb::simd_matvec_transposed<6, chains(6)>(out, start, matrix, stride, v, rows, own);
            case 7: return mb::simd_matvec_transposed<7, chains(7)>(out, start, matrix, stride, v, rows, own);
            default: return mb::simd_matvec_transposed<8, chains(8)>(out, start, matrix, stride, v, rows, own);
        }
    }
    // The same, to the bit, for several vectors; `columns` are those first.. of the outputs.
    void matvec_transposed(const RhsBatch& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows, int64_t columns) const {
        const int64_t vectors = (columns + simd - 1) / simd;
        if (x.count == 1 || first + columns < simd) {
            for (int i = 0; i < x.count; ++i)
                matvec_transposed(x.out[i] + first, x.start[i] ? x.start[i] + first : nullptr, matrix, stride, x.vector(i), rows, columns, first);
            return;
        }
        for (int64_t done = 0; done < vectors; done += 4) {  // four vectors of registers a member
            const int64_t now = vectors - done < 4 ? vectors - done : 4, own = done + now < vectors ? simd : columns - (vectors - 1) * simd;
            mb::simd_matvec_transposed_batch(x, first + done * simd, matrix + done * simd, stride, rows, now, own, chains(vectors));
        }
    }
    bool is_leader() const { return true; }
};

// The threads that score rows together in a scan, a tile of rows at a time.
struct LaneTile {
    static constexpr int64_t lanes = 1, rows = 4;
    int64_t rank() const { return 0; }
    int64_t lane() const { return 0; }
    template <class F> void for_each_row_tile(int64_t first, int64_t end, F f) const {
        for (int64_t i = first; i < end; i += rows) f(i, end - i < rows ? end - i : rows);
    }
};

struct Block {
    static constexpr int64_t num_lane_tiles = 1;  // teams
    static constexpr int64_t tile_size = RhsBatch::max_count;  // elements of a crew
    template <class F> void for_each_lane_tile(F f) const { f(LaneTile{}); }
    int64_t rank() const { return 0; }
    int64_t size() const { return 1; }
    void sync() const {}
    template <class F> void for_each(int64_t n, F f) const {
        MB_INDEPENDENT for (int64_t i = 0; i < n; ++i) f(i);
    }
    template <class F> void for_each_by_warp(int64_t n, F f) const {
        for (int64_t i = 0; i < n; ++i) f(i, Warp{});
    }
    template <class F> void on_leader(F f) const { f(); }
};

template <class T> inline bool try_insert(T* place, T expected, T desired) {
    if (*place != expected) return *place == desired;
    *place = desired;
    return true;
}
inline int32_t fetch_add(int32_t* counter) { return (*counter)++; }
inline void prefetch(const void* address) { __builtin_prefetch(address); }

}  // namespace mb
#endif

#if !defined(__CUDACC__)
namespace mb {

// A tile of rows, read where they lie; where there is no row, the last one of all is read again.
template <int fixed_width> struct RowTile {
    const Store* rows[LaneTile::rows];
    RowTile(const LaneTile&, const Store* memory, int64_t first, int64_t count, int64_t width) {
        for (int64_t j = 0; j < LaneTile::rows; ++j) rows[j] = memory + (first + (j < count ? j : count - 1)) * (fixed_width ? fixed_width : width);
    }
    void dot(const LaneTile&, const Real* query, int64_t width, Real* dots) const { dot_rows(rows, query, fixed_width ? fixed_width : width, dots); }
};

}  // namespace mb
#endif
