// A row of numbers that the compiler keeps in vector registers, for the cpu build: 64 bytes, whatever the processor's own width is. Sums by
// hand, because a compiler that may not reorder them (no -ffast-math) adds lane after lane.
#pragma once

#include "real.h"

namespace mb {

constexpr int64_t simd = 64 / sizeof(Real);
typedef Real Lanes __attribute__((vector_size(64)));
typedef int32_t Places __attribute__((vector_size(16)));

#if defined(__clang__)
#define MB_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define MB_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Places{__VA_ARGS__})
#endif

inline Lanes load(const Real* from) {
    Lanes row;
    __builtin_memcpy(&row, from, sizeof row);
    return row;
}
inline Lanes load(const Bf16* from) {
    Lanes row;
    for (int64_t i = 0; i < simd; ++i) row[i] = static_cast<Real>(from[i]);
    return row;
}
inline void store(Real* to, Lanes row) { __builtin_memcpy(to, &row, sizeof row); }
inline Lanes all(Real x) { return Lanes{} + x; }

typedef Real Half __attribute__((vector_size(32)));
typedef Real Quarter __attribute__((vector_size(16)));

// Sums of four neighbouring numbers, for floats; of two, for doubles.
inline Quarter fold(Lanes row) {
    Half halves[2];
    __builtin_memcpy(halves, &row, sizeof row);
    const Half half = halves[0] + halves[1];
    Quarter quarters[2];
    __builtin_memcpy(quarters, &half, sizeof half);
    return quarters[0] + quarters[1];
}

inline Real sum_of(Quarter part) {
    Real sum = 0;
    for (int64_t i = 0; i < simd / 4; i += 2) sum += part[i] + part[i + 1];
    return sum;
}
inline Real total(Lanes row) { return sum_of(fold(row)); }

// sums[i] = the sum of part[i], for four.
template <class Part> inline void totals(const Part* part, Real* sums) {
    if constexpr (sizeof(Real) == 4) {
        const Part ab = MB_SHUFFLE(part[0], part[1], 0, 4, 1, 5) + MB_SHUFFLE(part[0], part[1], 2, 6, 3, 7);
        const Part cd = MB_SHUFFLE(part[2], part[3], 0, 4, 1, 5) + MB_SHUFFLE(part[2], part[3], 2, 6, 3, 7);
        const Part four = MB_SHUFFLE(ab, cd, 0, 1, 4, 5) + MB_SHUFFLE(ab, cd, 2, 3, 6, 7);
        __builtin_memcpy(sums, &four, sizeof four);
    } else {
        for (int i = 0; i < 4; ++i) sums[i] = part[i][0] + part[i][1];
    }
}

// dots[i] = row i . query, for four rows of memory.
inline void dots_of(const Store* const* rows, const Real* query, int64_t width, Real* dots) {
    Quarter part[4];
    int64_t w = 0;
    for (int i = 0; i < 4; ++i) {
        Lanes sum{};
        for (w = 0; w + simd <= width; w += simd) sum += load(rows[i] + w) * load(query + w);
        part[i] = fold(sum);
    }
    totals(part, dots);
    for (; w < width; ++w)
        for (int i = 0; i < 4; ++i) dots[i] += static_cast<Real>(rows[i][w]) * query[w];
}

// The last `simd` of v, those before the last `fresh` replaced by 0.
inline Lanes tail(const Real* v, int64_t columns, int64_t fresh) {
    static const Real place[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return load(place) >= all(static_cast<Real>(simd - fresh)) ? load(v + columns - simd) : Lanes{};
}

// out[j] = start[j] + sum_k matrix[j, k] v[k] for any number of rows of `columns` <= vectors * simd numbers, v staying in registers.
template <int vectors>
inline void sum_rows(Real* out, const Real* start, const Real* matrix, int64_t stride, const Real* v, int64_t rows, int64_t columns) {
    Lanes factors[vectors];
    for (int c = 0; c < vectors - 1; ++c) factors[c] = load(v + c * simd);
    factors[vectors - 1] = tail(v, columns, columns - (vectors - 1) * simd);
    const auto dot = [&](int64_t j) {
        const Real* row = matrix + j * stride;
        Lanes sum = load(row + columns - simd) * factors[vectors - 1];
        for (int c = 0; c < vectors - 1; ++c) sum += load(row + c * simd) * factors[c];
        return fold(sum);
    };
    int64_t j = 0;
    for (; j + 4 <= rows; j += 4) {
        const Quarter part[4] = {dot(j), dot(j + 1), dot(j + 2), dot(j + 3)};
        Real sums[4];
        totals(part, sums);
        for (int i = 0; i < 4; ++i) out[j + i] = start[j + i] + sums[i];
    }
    for (; j < rows; ++j) out[j] = start[j] + sum_of(dot(j));
}

// out[j] = start[j] + sum_k v[k] matrix[k, j] for `vectors` * simd columns; the last of them may reach back, `own` columns of it are new.
// Few columns are summed in `chains` parts, so that an addition need not wait for the one before it.
template <int vectors, int chains, class T>
inline void sum_columns(Real* out, const Real* start, const Real* matrix, int64_t stride, const T* v, int64_t rows, int64_t own) {
    Lanes sums[chains][vectors] = {};
    const int64_t back = simd - own;
    const auto add = [&](int64_t k, Lanes* into) {
        const Lanes factor = all(static_cast<Real>(v[k]));
        const Real* row = matrix + k * stride;
        for (int j = 0; j < vectors - 1; ++j) into[j] += factor * load(row + j * simd);
        into[vectors - 1] += factor * load(row + (vectors - 1) * simd - back);
    };
    int64_t k = 0;
    for (; k + chains <= rows; k += chains)
        for (int c = 0; c < chains; ++c) add(k + c, sums[c]);
    for (; k < rows; ++k) add(k, sums[0]);
    for (int c = 1; c < chains; ++c)
        for (int j = 0; j < vectors; ++j) sums[0][j] += sums[c][j];
    for (int j = 0; j < vectors - 1; ++j) store(out + j * simd, start ? sums[0][j] + load(start + j * simd) : sums[0][j]);
    Real last[simd];
    store(last, sums[0][vectors - 1]);
    for (int64_t i = back; i < simd; ++i) {
        const int64_t j = (vectors - 1) * simd + i - back;
        out[j] = last[i] + (start ? start[j] : Real(0));
    }
}

}  // namespace mb
