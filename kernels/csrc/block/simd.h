// SIMD for the cpu build: vectors of 64 bytes, whatever the processor's own width. Sums are written out, because
// without -ffast-math the compiler may not reorder additions and would add one lane after the other.
#pragma once

#include <type_traits>

#include "block/bf16.h"
#include "block/block.h"
#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace mb {

constexpr int64_t simd = 64 / sizeof(Real);
typedef Real SimdVector __attribute__((vector_size(64)));
typedef int32_t ShuffleIndex __attribute__((vector_size(16)));

#if defined(__clang__)
#define MB_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define MB_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, ShuffleIndex{__VA_ARGS__})
#endif

inline SimdVector load(const Real* from) {
    SimdVector row;
    __builtin_memcpy(&row, from, sizeof row);
    return row;
}
inline void store(Real* to, SimdVector row) { __builtin_memcpy(to, &row, sizeof row); }

typedef Real Half __attribute__((vector_size(32)));
typedef Real Quarter __attribute__((vector_size(16)));

// Columns of a row are worked on a vector at a time, of a size of which a dozen fit into the registers.
#if defined(__AVX512F__)
typedef SimdVector ColumnVector;
#else
typedef Half ColumnVector;
#endif
template <class Vector>
inline __attribute__((always_inline)) Vector load_columns(const Real* from) {
    Vector row;
    __builtin_memcpy(&row, from, sizeof row);
    return row;
}
template <class Vector>
inline __attribute__((always_inline)) void store_columns(Real* to, Vector row) {
    __builtin_memcpy(to, &row, sizeof row);
}
template <class Vector>
constexpr int64_t lanes_of = static_cast<int64_t>(sizeof(Vector) / sizeof(Real));

inline ColumnVector broadcast(Real x) { return x - ColumnVector{}; }  // x - 0 folds to x; x + 0 does not, because of -0
// GCC would load the vector again at every use.
inline ColumnVector keep_in_register(ColumnVector row) {
#if defined(__AVX512F__)
    __asm__("" : "+v"(row));
#elif defined(__AVX__)
    __asm__("" : "+x"(row));
#endif
    return row;
}

// Adds the quarters of a vector: lane i + lane i + n + ..., n = 4 floats or 2 doubles.
inline Quarter fold(Half half) {
    Quarter quarters[2];
    __builtin_memcpy(quarters, &half, sizeof half);
    return quarters[0] + quarters[1];
}
inline Quarter fold(SimdVector row) {
    Half halves[2];
    __builtin_memcpy(halves, &row, sizeof row);
    return fold(halves[0] + halves[1]);
}

inline Real sum_of(Quarter part) {
    Real sum = 0;
    for (int64_t i = 0; i < simd / 4; i += 2) sum += part[i] + part[i + 1];
    return sum;
}
template <class Vector>
inline Real total(Vector row) {
    return sum_of(fold(row));
}

// sums[i] = sum over part[i], for four.
template <class Part>
inline void four_totals(const Part* part, Real* sums) {
    if constexpr (sizeof(Real) == 4) {
        const Part ab = MB_SHUFFLE(part[0], part[1], 0, 4, 1, 5) + MB_SHUFFLE(part[0], part[1], 2, 6, 3, 7);
        const Part cd = MB_SHUFFLE(part[2], part[3], 0, 4, 1, 5) + MB_SHUFFLE(part[2], part[3], 2, 6, 3, 7);
        const Part four = MB_SHUFFLE(ab, cd, 0, 1, 4, 5) + MB_SHUFFLE(ab, cd, 2, 3, 6, 7);
        __builtin_memcpy(sums, &four, sizeof four);
    } else {
        for (int i = 0; i < 4; ++i) sums[i] = part[i][0] + part[i][1];
    }
}

// dots[i] = rows[i] . query, for four rows of any width.
template <class T>
inline __attribute__((always_inline)) void dot_rows(const T* const* rows, const Real* query, int64_t width,
                                                    Real* dots) {
    constexpr int64_t lanes = lanes_of<ColumnVector>, parts = simd / lanes;
    ColumnVector sums[4][parts] = {};
    int64_t w = 0;
    for (; w + simd <= width; w += simd)
        for (int p = 0; p < parts; ++p) {
            const ColumnVector factor = load_columns<ColumnVector>(query + w + p * lanes);
            for (int i = 0; i < 4; ++i) sums[i][p] += load_columns<ColumnVector>(rows[i] + w + p * lanes) * factor;
        }
    Quarter part[4];
    for (int i = 0; i < 4; ++i) part[i] = fold(parts == 1 ? sums[i][0] : sums[i][0] + sums[i][parts - 1]);
    if (w + lanes_of<Half> <= width) {
        const Half factor = load_columns<Half>(query + w);
        for (int i = 0; i < 4; ++i) part[i] += fold(load_columns<Half>(rows[i] + w) * factor);
        w += lanes_of<Half>;
    }
    for (; w + lanes_of<Quarter> <= width; w += lanes_of<Quarter>) {
        const Quarter factor = load_columns<Quarter>(query + w);
        for (int i = 0; i < 4; ++i) part[i] += load_columns<Quarter>(rows[i] + w) * factor;
    }
    four_totals(part, dots);
    for (; w < width; ++w)
        for (int i = 0; i < 4; ++i) dots[i] += static_cast<Real>(rows[i][w]) * query[w];
}

// The last elements of v, as many as a vector has, all but the last `fresh` of them replaced by 0.
inline ColumnVector tail(const Real* v, int64_t columns, int64_t fresh) {
    static const Real lane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    constexpr int64_t lanes = lanes_of<ColumnVector>;
    const ColumnVector first = broadcast(static_cast<Real>(lanes - fresh));
    return load_columns<ColumnVector>(lane) >= first ? load_columns<ColumnVector>(v + columns - lanes) : ColumnVector{};
}

// out[j] = start[j] + sum_k matrix[j, k] v[k] for `at_once` rows at a time, from row j on; at least `simd` columns.
// `ends`: the tails of the right-hand sides. Returns the first row not done.
template <int num_rhs, int at_once>
inline int64_t simd_matvec(const RhsBatch& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows,
                           int64_t columns, const ColumnVector* ends, int64_t j) {
    constexpr int64_t lanes = lanes_of<ColumnVector>;
    for (; j + at_once <= rows; j += at_once) {
        const Real* row = matrix + j * stride;
        ColumnVector sums[num_rhs][at_once];
        for (int r = 0; r < at_once; ++r) {
            const ColumnVector end = load_columns<ColumnVector>(row + r * stride + columns - lanes);
            // rounded: of two products the compiler might fuse either with the sum, not the same one for each num_rhs
            for (int i = 0; i < num_rhs; ++i) sums[i][r] = keep_in_register(end * ends[i]);
        }
        for (int64_t k = 0; k + lanes < columns; k += lanes) {
            ColumnVector factors[num_rhs];
            for (int i = 0; i < num_rhs; ++i) factors[i] = keep_in_register(load_columns<ColumnVector>(x.v[i] + k));
            for (int r = 0; r < at_once; ++r) {
                const ColumnVector part = keep_in_register(load_columns<ColumnVector>(row + r * stride + k));
                for (int i = 0; i < num_rhs; ++i) sums[i][r] += part * factors[i];
            }
        }
        for (int i = 0; i < num_rhs; ++i) {
            Real* const out = x.out[i] + first + j;
            const Real* const start = x.start[i] + first + j;
            if constexpr (at_once == 1) *out = *start + total(sums[i][0]);
            for (int r = 0; r + 4 <= at_once; r += 4) {
                const ColumnVector* const four = sums[i] + r;
                const Quarter part[4] = {fold(four[0]), fold(four[1]), fold(four[2]), fold(four[3])};
                Real sum[4];
                four_totals(part, sum);
                for (int q = 0; q < 4; ++q) out[r + q] = start[r + q] + sum[q];
            }
        }
    }
    return j;
}
template <int num_rhs>
inline void simd_matvec(const RhsBatch& x, int64_t first, const Real* matrix, int64_t stride, int64_t rows,
                        int64_t columns) {
    ColumnVector ends[num_rhs];
    for (int i = 0; i < num_rhs; ++i) ends[i] = tail(x.v[i], columns, (columns - 1) % lanes_of<ColumnVector> + 1);
    int64_t done = 0;  // as many sums at a time as hide the latency of additions
    if constexpr (num_rhs == 1) done = simd_matvec<1, 8>(x, first, matrix, stride, rows, columns, ends, 0);
    done = simd_matvec<num_rhs, 4>(x, first, matrix, stride, rows, columns, ends, done);
    simd_matvec<num_rhs, 1>(x, first, matrix, stride, rows, columns, ends, done);
}

// The lanes in which a comparison of two vectors holds, as bits.
template <class Comparison>
inline uint32_t lanes_where(Comparison holds) {
    static_assert(sizeof holds == sizeof(ColumnVector));
#if defined(__AVX512F__)
    const __m512i bits = reinterpret_cast<__m512i>(holds);
    return sizeof(Real) == 4 ? _mm512_test_epi32_mask(bits, bits) : _mm512_test_epi64_mask(bits, bits);
#elif defined(__AVX__)
    return static_cast<uint32_t>(sizeof(Real) == 4 ? _mm256_movemask_ps(reinterpret_cast<__m256>(holds))
                                                   : _mm256_movemask_pd(reinterpret_cast<__m256d>(holds)));
#else
    uint32_t which = 0;
    for (int64_t i = 0; i < lanes_of<ColumnVector>; ++i) which |= static_cast<uint32_t>(holds[i] != 0) << i;
    return which;
#endif
}
inline uint32_t numbers_above(const Real* numbers, Real limit) {
    uint32_t which = 0;
    for (int64_t i = 0; i < 16; i += lanes_of<ColumnVector>)
        which |= lanes_where(load_columns<ColumnVector>(numbers + i) > limit) << i;
    return which;
}

// Columns that a product with M^T sums at once, in vectors, and independent partial sums (chains) of each, which hide
// the latency of additions where columns are few. All sums stay in registers: AVX-512 has 32 of 64 bytes, AVX2 16
// of 32.
#if defined(__AVX512F__)
constexpr int64_t most_vectors = 8;
constexpr int num_chains(int64_t vectors) {
    return vectors == 1 ? 8 : vectors == 2 ? 4 : vectors == 3 ? 3 : vectors < 6 ? 2 : 1;
}
#else
constexpr int64_t most_vectors = 6;
constexpr int num_chains(int64_t vectors) { return vectors == 1 ? 4 : vectors == 2 ? 3 : vectors == 3 ? 2 : 1; }
#endif

// Where part j of the columns begins, if the last vector reaches `back` columns back.
template <int vectors>
constexpr int64_t place_of_part(int64_t j, int64_t back) {
    const int64_t place = j * lanes_of<ColumnVector>;
    return place < (vectors - 1) * simd ? place : place - back;
}

// out[j] = start[j] + sums[j]. The last vector overlaps the previous; its `fresh` rightmost lanes are new.
// start null: 0.
template <int vectors>
inline void store_columns(Real* out, const Real* start, const ColumnVector* parts, int64_t fresh) {
    const int64_t end = (vectors - 1) * simd + fresh;
    SimdVector sums[vectors];
    __builtin_memcpy(sums, parts, sizeof sums);
    if constexpr (vectors > 1) {  // the overlapping lanes hold the same sums: storing them twice is harmless
        const SimdVector last = start ? sums[vectors - 1] + load(start + end - simd) : sums[vectors - 1];
        for (int j = 0; j < vectors - 1; ++j) store(out + j * simd, start ? sums[j] + load(start + j * simd) : sums[j]);
        store(out + end - simd, last);
    } else if (fresh == simd) {
        store(out, start ? sums[0] + load(start) : sums[0]);
    } else {  // lanes before may be done already, and `start` may be `out`
        Real last[simd];
        store(last, sums[0]);
        for (int64_t j = 0; j < fresh; ++j) out[j] = last[simd - fresh + j] + (start ? start[j] : Real(0));
    }
}

// out[j] = start[j] + sum_k v[k] matrix[k, j]. The last vector overlaps the previous: its `fresh` rightmost columns are
// new.
template <int vectors, int chains, class V>
inline void simd_matvec_transposed(Real* out, const Real* start, const Real* matrix, int64_t stride, V v, int64_t rows,
                                   int64_t fresh) {
    constexpr int64_t lanes = lanes_of<ColumnVector>, parts = vectors * simd / lanes;
    ColumnVector sums[chains][parts] = {};
    const int64_t back = simd - fresh;
    const auto add = [&](int64_t k, ColumnVector* into) {
        const ColumnVector factor = broadcast(static_cast<Real>(v[k]));
        const Real* row = matrix + k * stride;
        for (int j = 0; j < parts; ++j)
            into[j] += factor * load_columns<ColumnVector>(row + place_of_part<vectors>(j, back));
    };
    int64_t k = 0;
    for (; k + chains <= rows; k += chains)
        for (int c = 0; c < chains; ++c) add(k + c, sums[c]);
    for (; k < rows; ++k) add(k, sums[0]);
    for (int c = 1; c < chains; ++c)
        for (int j = 0; j < parts; ++j) sums[0][j] += sums[c][j];
    store_columns<vectors>(out, start, sums[0], fresh);
}

// The same for several right-hand sides. Chains run one after the other: the right-hand sides are independent anyway.
// The sums of one right-hand side take up to `batch_vectors` vectors, so that those of four stay in registers: AVX-512
// has 32 of 64 bytes, AVX2 16 of 32.
#if defined(__AVX512F__)
constexpr int64_t batch_vectors = 4;
#else
constexpr int64_t batch_vectors = 1;
#endif
template <int vectors, int num_rhs>
inline void simd_matvec_transposed_batch(const RhsBatch& x, int64_t first, const Real* matrix, int64_t stride,
                                         int64_t rows, int64_t fresh, int chains) {
    constexpr int64_t lanes = lanes_of<ColumnVector>, parts = vectors * simd / lanes;
    ColumnVector sums[num_rhs][parts];
    const int64_t back = simd - fresh, whole = rows / chains * chains, step = x.step;
    for (int c = 0; c < chains; ++c) {
        ColumnVector chain[num_rhs][parts] = {};
        const auto add = [&](int64_t k) {
            const Real* row = matrix + k * stride;
            ColumnVector part[parts];
            for (int j = 0; j < parts; ++j)
                part[j] = keep_in_register(load_columns<ColumnVector>(row + place_of_part<vectors>(j, back)));
            for (int i = 0; i < num_rhs; ++i) {
                const ColumnVector factor = broadcast(x.v[i][k * step]);
                for (int j = 0; j < parts; ++j) chain[i][j] += factor * part[j];
            }
        };
        for (int64_t k = c; k < whole; k += chains) add(k);
        for (int64_t k = whole; c == 0 && k < rows; ++k) add(k);
        for (int i = 0; i < num_rhs; ++i)
            for (int j = 0; j < parts; ++j) sums[i][j] = c ? sums[i][j] + chain[i][j] : chain[i][j];
    }
    for (int i = 0; i < num_rhs; ++i)
        store_columns<vectors>(x.out[i] + first, x.start[i] ? x.start[i] + first : nullptr, sums[i], fresh);
}
template <int num_rhs>
inline void simd_matvec_transposed_batch(const RhsBatch& x, int64_t first, const Real* matrix, int64_t stride,
                                         int64_t rows, int64_t vectors, int64_t fresh, int chains) {
    if constexpr (batch_vectors > 1) {
        if (vectors == 4)
            return simd_matvec_transposed_batch<4, num_rhs>(x, first, matrix, stride, rows, fresh, chains);
        if (vectors == 3)
            return simd_matvec_transposed_batch<3, num_rhs>(x, first, matrix, stride, rows, fresh, chains);
        if (vectors == 2)
            return simd_matvec_transposed_batch<2, num_rhs>(x, first, matrix, stride, rows, fresh, chains);
    }
    simd_matvec_transposed_batch<1, num_rhs>(x, first, matrix, stride, rows, fresh, chains);
}
inline void simd_matvec_transposed_batch(const RhsBatch& x, int64_t first, const Real* matrix, int64_t stride,
                                         int64_t rows, int64_t vectors, int64_t fresh, int chains) {
    switch (x.count) {
        case 2:
            return simd_matvec_transposed_batch<2>(x, first, matrix, stride, rows, vectors, fresh, chains);
        case 3:
            return simd_matvec_transposed_batch<3>(x, first, matrix, stride, rows, vectors, fresh, chains);
        default:
            return simd_matvec_transposed_batch<4>(x, first, matrix, stride, rows, vectors, fresh, chains);
    }
}

// f(zero, w) for the columns w.. of a row, as many as the type of `zero` holds.
template <class F>
inline __attribute__((always_inline)) void for_each_columns(int64_t width, F f) {
    int64_t w = 0;
    for (; w + lanes_of<ColumnVector> <= width; w += lanes_of<ColumnVector>) f(ColumnVector{}, w);
    for (; w + lanes_of<Quarter> <= width; w += lanes_of<Quarter>) f(Quarter{}, w);
    for (; w < width; ++w) f(Real(0), w);
}

// The same; f(zero, at_once, i) with as many vectors at once as at_once() says, a constant: two as long as there are
// two, which hides a part of the latency of sums.
template <class F>
inline __attribute__((always_inline)) void for_each_vectors(int64_t n, F f) {
    constexpr int64_t lanes = lanes_of<ColumnVector>;
    constexpr std::integral_constant<int, 1> one;
    int64_t i = 0;
    for (; i + 2 * lanes <= n; i += 2 * lanes) f(ColumnVector{}, std::integral_constant<int, 2>{}, i);
    for (; i + lanes <= n; i += lanes) f(ColumnVector{}, one, i);
    for (; i + lanes_of<Quarter> <= n; i += lanes_of<Quarter>) f(Quarter{}, one, i);
    for (; i < n; ++i) f(Real(0), one, i);
}

// Sums over the vectors that `for_each_columns` gives.
template <int count>
struct VectorSums {
    static_assert(count % 4 == 0, "`store` takes four at a time");
    ColumnVector wide[count] = {};
    Quarter narrow[count] = {};
    Real rest[count] = {};
    void add(int number, ColumnVector part) { wide[number] += part; }
    void add(int number, Quarter part) { narrow[number] += part; }
    void add(int number, Real part) { rest[number] += part; }
    void store(Real* sums) const {  // [count]
        for (int i = 0; i < count; i += 4) {
            Quarter part[4];
            for (int j = 0; j < 4; ++j) part[j] = fold(wide[i + j]) + narrow[i + j];
            four_totals(part, sums + i);
            for (int j = 0; j < 4; ++j) sums[i + j] += rest[i + j];
        }
    }
};

// Of a sum over rows each lane of a vector is a sum by itself, until the sums of all rows of a chunk are added up.
constexpr int64_t sum_lanes = lanes_of<ColumnVector>;
template <class Vector>
inline __attribute__((always_inline)) void add_to_lanes(Real* lanes, Vector part) {
    store_columns(lanes, load_columns<Vector>(lanes) + part);
}
inline Real total_of_lanes(const Real* lanes) { return total(load_columns<ColumnVector>(lanes)); }

// Stores of rows that are not read again soon: past the caches, so that what the memory held is not fetched first. `to`
// is aligned to the vector. Other threads see them after `end_of_streams`.
template <class Vector>
inline __attribute__((always_inline)) void stream_columns(Real* to, Vector row) {
    store_columns(to, row);
}
#if defined(__AVX512F__)
inline void stream_columns(Real* to, ColumnVector row) {
    _mm512_stream_ps(reinterpret_cast<float*>(to), reinterpret_cast<__m512>(row));
}
inline void end_of_streams() { _mm_sfence(); }
#elif defined(__AVX__)
inline void stream_columns(Real* to, ColumnVector row) {
    _mm256_stream_ps(reinterpret_cast<float*>(to), reinterpret_cast<__m256>(row));
}
inline void end_of_streams() { _mm_sfence(); }
#else
inline void end_of_streams() {}
#endif

}  // namespace mb
