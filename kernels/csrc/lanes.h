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
// A row that is to stay in a register: GCC would load it again at every use.
inline Lanes held(Lanes row) {
#if defined(__AVX512F__)
    __asm__("" : "+v"(row));
#endif
    return row;
}
inline void store(Real* to, Lanes row) { __builtin_memcpy(to, &row, sizeof row); }
inline Lanes all(Real x) { return x - Lanes{}; }  // not +, which would have to see to -0

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

// out[j] = start[j] + sum_k matrix[j, k] v[k] for rows first.. of the outputs and at least `simd` columns, four rows at a time.
template <int members, int at_once>
inline int64_t sum_rows(const Vectors& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows, int64_t columns, const Lanes* ends, int64_t j) {
    for (; j + at_once <= rows; j += at_once) {
        const Real* row = matrix + j * stride;
        Lanes sums[members][at_once];
        for (int r = 0; r < at_once; ++r) {
            const Lanes end = load(row + r * stride + columns - simd);
            for (int i = 0; i < members; ++i) sums[i][r] = end * ends[i];
        }
        for (int64_t k = 0; k + simd < columns; k += simd) {
            Lanes factors[members];
            for (int i = 0; i < members; ++i) factors[i] = held(load(x.v[i] + k));
            for (int r = 0; r < at_once; ++r) {
                const Lanes part = held(load(row + r * stride + k));
                for (int i = 0; i < members; ++i) sums[i][r] += part * factors[i];
            }
        }
        for (int i = 0; i < members; ++i) {
            Real* const out = x.out[i] + first + j;
            const Real* const start = x.start[i] + first + j;
            if constexpr (at_once == 4) {
                const Quarter part[4] = {fold(sums[i][0]), fold(sums[i][1]), fold(sums[i][2]), fold(sums[i][3])};
                Real sum[4];
                totals(part, sum);
                for (int r = 0; r < 4; ++r) out[r] = start[r] + sum[r];
            } else {
                *out = *start + total(sums[i][0]);
            }
        }
    }
    return j;
}
template <int members> inline void sum_rows(const Vectors& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows, int64_t columns) {
    Lanes ends[members];
    for (int i = 0; i < members; ++i) ends[i] = tail(x.v[i], columns, (columns - 1) % simd + 1);
    const int64_t done = sum_rows<members, 4>(x, first, matrix, stride, rows, columns, ends, 0);
    sum_rows<members, 1>(x, first, matrix, stride, rows, columns, ends, done);
}

// Few columns are summed in parts, so that an addition need not wait for the one before it.
constexpr int chains(int64_t vectors) { return vectors == 1 ? 8 : vectors == 2 ? 4 : vectors == 3 ? 3 : vectors < 6 ? 2 : 1; }

// out[j] = start[j] + sums[j] for `vectors` * simd columns, of the last of which only the `own` to the right are new; start null: 0.
template <int vectors> inline void store_columns(Real* out, const Real* start, const Lanes* sums, int64_t own) {
    const int64_t end = (vectors - 1) * simd + own;
    if constexpr (vectors > 1) {  // the columns before are of the same sums: stored twice, they are the same
        const Lanes last = start ? sums[vectors - 1] + load(start + end - simd) : sums[vectors - 1];
        for (int j = 0; j < vectors - 1; ++j) store(out + j * simd, start ? sums[j] + load(start + j * simd) : sums[j]);
        store(out + end - simd, last);
    } else {  // those before may be done already, and `start` may be `out`
        Real last[simd];
        store(last, sums[0]);
        for (int64_t j = 0; j < own; ++j) out[j] = last[simd - own + j] + (start ? start[j] : Real(0));
    }
}

// out[j] = start[j] + sum_k v[k] matrix[k, j] for `vectors` * simd columns; the last of them may reach back, `own` columns of it are new.
template <int vectors, int chains, class V>
inline void sum_columns(Real* out, const Real* start, const Real* matrix, int64_t stride, V v, int64_t rows, int64_t own) {
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
    store_columns<vectors>(out, start, sums[0], own);
}

// The same for several vectors: chains one after the other, for the members do not wait for each other.
template <int vectors, int members>
inline void sum_columns_of(const Vectors& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows, int64_t own, int chains) {
    Lanes sums[members][vectors];
    const int64_t back = simd - own, whole = rows / chains * chains, step = x.step;
    for (int c = 0; c < chains; ++c) {
        Lanes chain[members][vectors] = {};
        const auto add = [&](int64_t k) {
            const Real* row = matrix + k * stride;
            Lanes part[vectors];
            for (int j = 0; j < vectors; ++j) part[j] = held(load(row + j * simd - (j == vectors - 1 ? back : 0)));
            for (int i = 0; i < members; ++i)
                for (int j = 0; j < vectors; ++j) chain[i][j] += all(x.v[i][k * step]) * part[j];
        };
        for (int64_t k = c; k < whole; k += chains) add(k);
        for (int64_t k = whole; c == 0 && k < rows; ++k) add(k);
        for (int i = 0; i < members; ++i)
            for (int j = 0; j < vectors; ++j) sums[i][j] = c ? sums[i][j] + chain[i][j] : chain[i][j];
    }
    for (int i = 0; i < members; ++i) store_columns<vectors>(x.out[i] + first, x.start[i] ? x.start[i] + first : nullptr, sums[i], own);
}
template <int members>
inline void sum_columns_of(const Vectors& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows, int64_t vectors, int64_t own, int chains) {
    switch (vectors) {
        case 1: return sum_columns_of<1, members>(x, first, matrix, stride, rows, own, chains);
        case 2: return sum_columns_of<2, members>(x, first, matrix, stride, rows, own, chains);
        case 3: return sum_columns_of<3, members>(x, first, matrix, stride, rows, own, chains);
        default: return sum_columns_of<4, members>(x, first, matrix, stride, rows, own, chains);
    }
}
inline void sum_columns_together(const Vectors& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows, int64_t vectors, int64_t own, int chains) {
    switch (x.count) {
        case 2: return sum_columns_of<2>(x, first, matrix, stride, rows, vectors, own, chains);
        case 3: return sum_columns_of<3>(x, first, matrix, stride, rows, vectors, own, chains);
        default: return sum_columns_of<4>(x, first, matrix, stride, rows, vectors, own, chains);
    }
}

}  // namespace mb
