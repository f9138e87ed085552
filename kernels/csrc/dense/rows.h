// Passes over the rows of a memory. During a pass a memory lies in blocks of adjacent rows, and each block column by
// column: number w of row `first` + i is columns[w * size + i]. So all work runs over vectors of rows, and no vector
// has a rest where a row ends. A block takes the same place in a memory [N, W], which states and gradients are
// outside.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "dense/vectors.h"

namespace mb {

// f(first, size) for the blocks of the rows of a chunk.
template <class F>
MB_LEAF void for_each_row_block(const Chunk& chunk, F f) {
    constexpr int64_t most = Block::block_rows;
    for (int64_t i = chunk.first; i < chunk.end; i += most) f(i, chunk.end - i < most ? chunk.end - i : most);
}

// A block of rows from [size, width] to columns, and back.
MB_FN void rows_to_columns(const Real* rows, Real* columns, int64_t size, int64_t width) {
    for (int64_t w = 0; w < width; ++w)
        for_vector(size, [=](int64_t i) MB_INLINE { columns[w * size + i] = rows[i * width + w]; });
}
MB_FN void columns_to_rows(const Real* columns, Real* rows, int64_t size, int64_t width) {
    for (int64_t i = 0; i < size; ++i)
        for_vector(width, [=](int64_t w) MB_INLINE { rows[i * width + w] = columns[w * size + i]; });
}
// The blocks of a chunk of a memory, changed in place: convert(from, to, size) is one of the above.
template <class F>
MB_FN void convert_in_place(const Chunk& chunk, Real* memory, int64_t width, F convert) {
    std::vector<Real> copy(Block::block_rows * width);
    for_each_row_block(chunk, [&](int64_t first, int64_t size) {
        Real* const own = memory + first * width;
        std::copy_n(own, size * width, copy.data());
        convert(copy.data(), own, size, width);
    });
}

// f(group, first) for groups of up to 4 heads: group() is their number, a constant, so that a loop over them keeps a
// vector of each in a register.
template <class F>
MB_LEAF void for_each_group(Count heads, F f) {
    Count h = 0;
    for (; h + 4 <= heads; h += 4) f(std::integral_constant<int, 4>{}, h);
    if (heads - h == 3) f(std::integral_constant<int, 3>{}, h);
    if (heads - h == 2) f(std::integral_constant<int, 2>{}, h);
    if (heads - h == 1) f(std::integral_constant<int, 1>{}, h);
}

// f(count) with a count up to 4 as a constant.
template <class F>
MB_LEAF void for_count(Count count, F f) {
    if (count == 0) f(std::integral_constant<int, 0>{});
    if (count == 1) f(std::integral_constant<int, 1>{});
    if (count == 2) f(std::integral_constant<int, 2>{});
    if (count == 3) f(std::integral_constant<int, 3>{});
    if (count == 4) f(std::integral_constant<int, 4>{});
}

// A vector of each head: of head h at first + h * stride.
template <class T>
struct HeadVectors {
    T* first;
    int64_t stride;
    MB_FN T* operator[](Count h) const { return first + h * stride; }
};
typedef HeadVectors<const Real> Inputs;
typedef HeadVectors<Real> Outputs;

// out[h][i] = row i . vectors[h], or added to that, for a block of `size` rows.
template <bool is_added = false>
MB_FN void score_rows(const Real* columns, int64_t size, int64_t width, Inputs vectors, Count heads, Outputs out) {
    for_each_group(heads, [&](auto group, Count first) MB_INLINE {
        constexpr int count = group();
        for_each_vectors(size, [&](auto zero, auto vectors_at_once, int64_t i) MB_INLINE {
            typedef decltype(zero) Vector;
            constexpr int at_once = vectors_at_once();
            Vector sums[count][at_once] = {};
            for (int64_t w = 0; w < width; ++w)
                for (int j = 0; j < at_once; ++j) {
                    const Vector column = load_columns<Vector>(columns + w * size + i + j * lanes_of<Vector>);
                    for (int h = 0; h < count; ++h) sums[h][j] += vectors[first + h][w] * column;
                }
            for (int h = 0; h < count; ++h)
                for (int j = 0; j < at_once; ++j) {
                    Real* const to = out[first + h] + i + j * lanes_of<Vector>;
                    store_columns(to, is_added ? load_columns<Vector>(to) + sums[h][j] : sums[h][j]);
                }
        });
    });
}

// out[i] = sqrt(|row i|^2 + epsilon)
MB_FN void norm_rows(const Real* columns, int64_t size, int64_t width, Real* out) {
    for_each_vectors(size, [&](auto zero, auto vectors_at_once, int64_t i) MB_INLINE {
        typedef decltype(zero) Vector;
        constexpr int at_once = vectors_at_once();
        Vector sums[at_once] = {};
        for (int64_t w = 0; w < width; ++w)
            for (int j = 0; j < at_once; ++j) {
                const Vector column = load_columns<Vector>(columns + w * size + i + j * lanes_of<Vector>);
                sums[j] += column * column;
            }
        for (int j = 0; j < at_once; ++j) store_columns(out + i + j * lanes_of<Vector>, sums[j]);
    });
    for_vector(size, [=](int64_t i) MB_INLINE { out[i] = square_root(out[i] + epsilon); });
}

// Sums over the rows of a chunk, in lanes until they are added up.
class LaneSums {
    std::vector<Real> room;
    Real* first;

  public:
    explicit LaneSums(int64_t count) : room(count * sum_lanes + 64 / sizeof(Real)) {
        const auto past = reinterpret_cast<uintptr_t>(room.data()) % 64;  // a vector is to lie in one line of the cache
        first = room.data() + (past ? (64 - past) / sizeof(Real) : 0);
    }
    // Of vectors [W] of some heads, those from number `from` on.
    Outputs of_heads(int64_t from, int64_t width) { return {first + from * sum_lanes, width * sum_lanes}; }
    // sums[i] = sum number from + i
    void store(int64_t from, int64_t count, Real* sums) const {
        for (int64_t i = 0; i < count; ++i) sums[i] = total_of_lanes(first + (from + i) * sum_lanes);
    }
};

// sums[h] [W], in lanes, += sum_i factors[h][i] row i
MB_FN void accumulate_rows(const Real* columns, int64_t size, int64_t width, Inputs factors, Count heads,
                           Outputs sums) {
    for_each_group(heads, [&](auto group, Count first) MB_INLINE {
        constexpr int count = group();
        for_each_vectors(size, [&](auto zero, auto vectors_at_once, int64_t i) MB_INLINE {
            typedef decltype(zero) Vector;
            constexpr int at_once = vectors_at_once();
            constexpr int64_t lanes = lanes_of<Vector>;
            Vector factor[count][at_once];
            for (int h = 0; h < count; ++h)
                for (int j = 0; j < at_once; ++j)
                    factor[h][j] = load_columns<Vector>(factors[first + h] + i + j * lanes);
            for (int64_t w = 0; w < width; ++w) {
                Vector parts[count] = {};
                for (int j = 0; j < at_once; ++j) {
                    const Vector column = load_columns<Vector>(columns + w * size + i + j * lanes);
                    for (int h = 0; h < count; ++h) parts[h] += factor[h][j] * column;
                }
                for (int h = 0; h < count; ++h) add_to_lanes(sums[first + h] + w * sum_lanes, parts[h]);
            }
        });
    });
}

// row i += sum_h factors[h][i] vectors[h]
MB_FN void add_outer(Real* columns, int64_t size, int64_t width, Inputs factors, Inputs vectors, Count heads) {
    for_each_group(heads, [&](auto group, Count first) MB_INLINE {
        constexpr int count = group();
        for (int64_t w = 0; w < width; ++w)
            for_each_columns(size, [&, own = columns + w * size](auto zero, int64_t i) MB_INLINE {
                typedef decltype(zero) Vector;
                Vector sum = load_columns<Vector>(own + i);
                for (int h = 0; h < count; ++h)
                    sum += vectors[first + h][w] * load_columns<Vector>(factors[first + h] + i);
                store_columns(own + i, sum);
            });
    });
}

}  // namespace mb
