// Vectors over the rows of a memory: they are worked on in chunks of rows, each by one thread.
#pragma once

#include "arguments.h"
#include "block/block.h"

namespace mb {

// Some rows of a memory, and the number of the chunk they are.
struct Chunk {
    int64_t number, first, end;
    MB_FN Chunk(int64_t number, int64_t slots) : number(number), first(number * Block::chunk_rows), end(slots) {
        if (first + Block::chunk_rows < slots) end = first + Block::chunk_rows;
    }
    MB_FN int64_t size() const { return end - first; }
};
MB_FN int64_t num_chunks(int64_t slots) { return (slots + Block::chunk_rows - 1) / Block::chunk_rows; }

// f(i) for each i < n, of which no two touch the same number.
template <class F>
MB_LEAF void for_vector(int64_t n, F f) {
    MB_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) f(i);
}

// The largest f(i) of i < n, but at least the lowest finite number, and NaN is passed over: so exponential(f(i) - it)
// is NaN only where f(i) is infinite or NaN.
template <class F>
MB_LEAF Real largest(int64_t n, F f) {
    constexpr int64_t lanes = 64 / sizeof(Real);
    const Real lowest = sizeof(Real) == 4 ? Real(-3.4028234e38) : Real(-1.7976931348623157e308);
    Real part[lanes];
    for (int64_t l = 0; l < lanes; ++l) part[l] = lowest;
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
        for (int64_t l = 0; l < lanes; ++l) part[l] = f(i + l) > part[l] ? f(i + l) : part[l];
    for (; i < n; ++i) part[0] = f(i) > part[0] ? f(i) : part[0];
    for (int64_t l = 1; l < lanes; ++l) part[0] = part[l] > part[0] ? part[l] : part[0];
    return part[0];
}

// A softmax over all rows, begun in each chunk by itself: e(i) = exp(x(i) - the chunk's largest). `combine` makes of
// the chunks' largest numbers and sums the factors that e is to be multiplied with.
struct Softmax {
    Real *largest_of, *sums, *factors;  // [chunks]

    // x [N] becomes e in the chunk. Rows from `end` on are none.
    MB_FN void begin(const Chunk& chunk, Real* x, int64_t end) const {
        const int64_t n = (end < chunk.end ? end : chunk.end) - chunk.first;
        Real* const own = x + chunk.first;
        const Real top = largest(n, [=](int64_t i) MB_INLINE { return own[i]; });
        for_vector(n, [=](int64_t i) MB_INLINE { own[i] = exponential(own[i] - top); });
        for (int64_t i = n < 0 ? 0 : n; i < chunk.size(); ++i) own[i] = 0;
        largest_of[chunk.number] = top;
        sums[chunk.number] = Warp{}.sum(n, [=](int64_t i) MB_INLINE { return own[i]; });
    }
    MB_FN void combine(int64_t chunks) const {
        const Real top = largest(chunks, [&](int64_t c) { return largest_of[c]; });
        Real total = 0;
        for (int64_t c = 0; c < chunks; ++c) total += sums[c] * (factors[c] = exponential(largest_of[c] - top));
        for (int64_t c = 0; c < chunks; ++c) factors[c] /= total;
    }
};

// The sum over chunks of what each left in its partial sums.
MB_FN Real sum_of_parts(const Real* part, int64_t stride, int64_t chunks) {
    Real sum = 0;
    for (int64_t c = 0; c < chunks; ++c) sum += part[c * stride];
    return sum;
}
// The same of n adjacent sums.
MB_FN void add_parts(Real* out, int64_t n, const Real* parts, int64_t stride, int64_t chunks) {
    for_vector(n, [=](int64_t i) { out[i] = parts[i]; });
    for (int64_t c = 1; c < chunks; ++c) {
        const Real* const part = parts + c * stride;
        for_vector(n, [=](int64_t i) { out[i] += part[i]; });
    }
}
// The same of parts that are multiplied with a factor each.
MB_FN void add_parts(Real* out, int64_t n, const Real* parts, int64_t stride, int64_t chunks, const Real* factors) {
    for_vector(n, [=](int64_t i) { out[i] = 0; });
    for (int64_t c = 0; c < chunks; ++c) {
        const Real *const part = parts + c * stride, factor = factors[c];
        for_vector(n, [=](int64_t i) { out[i] += factor * part[i]; });
    }
}

}  // namespace mb
