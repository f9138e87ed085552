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
#include "lanes.h"

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
        Real part[simd] = {}, rest = 0;
        int64_t i = 0;
        for (; i + simd <= n; i += simd)
            for (int64_t l = 0; l < simd; ++l) part[l] += f(i + l);
        for (; i < n; ++i) rest += f(i);
        return total(load(part)) + rest;
    }
    // out[j] = start[j] + sum_k matrix[j, k] v[k] for rows <= unit_rows; more columns than registers hold go panel by panel.
    static constexpr int64_t unit_rows = int64_t(1) << 40;
    void sum_rows(Real* out, const Real* start, const Real* matrix, int64_t stride, const Real* v, int64_t rows, int64_t columns) const {
        if (columns < simd) {
            for (int64_t j = 0; j < rows; ++j) {
                Real sum = start[j];
                for (int64_t k = 0; k < columns; ++k) sum += matrix[j * stride + k] * v[k];
                out[j] = sum;
            }
            return;
        }
        for (; columns >= 9 * simd; columns -= 8 * simd, matrix += 8 * simd, v += 8 * simd, start = out)
            mb::sum_rows<8>(out, start, matrix, stride, v, rows, 8 * simd);
        switch ((columns + simd - 1) / simd) {
            case 1: return mb::sum_rows<1>(out, start, matrix, stride, v, rows, columns);
            case 2: return mb::sum_rows<2>(out, start, matrix, stride, v, rows, columns);
            case 3: return mb::sum_rows<3>(out, start, matrix, stride, v, rows, columns);
            case 4: return mb::sum_rows<4>(out, start, matrix, stride, v, rows, columns);
            case 5: return mb::sum_rows<5>(out, start, matrix, stride, v, rows, columns);
            case 6: return mb::sum_rows<6>(out, start, matrix, stride, v, rows, columns);
            case 7: return mb::sum_rows<7>(out, start, matrix, stride, v, rows, columns);
            case 8: return mb::sum_rows<8>(out, start, matrix, stride, v, rows, columns);
            default: return mb::sum_rows<9>(out, start, matrix, stride, v, rows, columns);
        }
    }
    // out[j] = start[j] + sum_k v[k] matrix[k, j] for `columns` <= unit_columns columns, of which `before` more stand to the left.
    static constexpr int64_t unit_columns = 8 * simd;
    template <class T>
    void sum_columns(Real* out, const Real* start, const Real* matrix, int64_t stride, const T* v, int64_t rows, int64_t columns, int64_t before) const {
        const int64_t vectors = (columns + simd - 1) / simd, own = columns - (vectors - 1) * simd;
        if (before + columns < simd) {
            Real sums[simd] = {};
            for (int64_t k = 0; k < rows; ++k)
                for (int64_t j = 0; j < columns; ++j) sums[j] += static_cast<Real>(v[k]) * matrix[k * stride + j];
            for (int64_t j = 0; j < columns; ++j) out[j] = sums[j] + (start ? start[j] : Real(0));
            return;
        }
        switch (vectors) {
            case 1: return mb::sum_columns<1, 8>(out, start, matrix, stride, v, rows, own);
            case 2: return mb::sum_columns<2, 4>(out, start, matrix, stride, v, rows, own);
            case 3: return mb::sum_columns<3, 3>(out, start, matrix, stride, v, rows, own);
            case 4: return mb::sum_columns<4, 2>(out, start, matrix, stride, v, rows, own);
            case 5: return mb::sum_columns<5, 2>(out, start, matrix, stride, v, rows, own);
            case 6: return mb::sum_columns<6, 1>(out, start, matrix, stride, v, rows, own);
            case 7: return mb::sum_columns<7, 1>(out, start, matrix, stride, v, rows, own);
            default: return mb::sum_columns<8, 1>(out, start, matrix, stride, v, rows, own);
        }
    }
    bool leads() const { return true; }
};

// The threads that score rows together in a scan, a tile of rows at a time.
struct Team {
    static constexpr int64_t lanes = 1, tile = 4;
    int64_t rank() const { return 0; }
    int64_t lane() const { return 0; }
    template <class F> void tiles(int64_t first, int64_t end, F f) const {
        for (int64_t i = first; i < end; i += tile) f(i, end - i < tile ? end - i : tile);
    }
};

struct Block {
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

// A tile of rows, read where they lie; where there is no row, the last one of all is read again.
template <int known> struct Tile {
    const Store* rows[Team::tile];
    Tile(const Team&, const Store* memory, int64_t first, int64_t count, int64_t width) {
        for (int64_t j = 0; j < Team::tile; ++j) rows[j] = memory + (first + (j < count ? j : count - 1)) * (known ? known : width);
    }
    void dot(const Team&, const Real* query, int64_t width, Real* dots) const { dots_of(rows, query, known ? known : width, dots); }
};

}  // namespace mb
#endif
