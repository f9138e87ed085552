// The products of a scan over 8-bit copies of rows (memory/byte_rows.h): a row's bytes are unsigned, a query's signed,
// and of those 63 is the largest magnitude, so that the sum of two products fits into 16 bits.
#pragma once

#include "block/real.h"
#if defined(__AVX2__) && !defined(__CUDACC__)
#include <immintrin.h>
#endif

namespace mb {

constexpr int byte_block_rows = 8;  // rows whose copies lie together

#if defined(__CUDACC__)
// sum + the products of four bytes.
MB_FN int32_t add_byte_products(int32_t sum, int32_t row, int32_t query) {
#if defined(__CUDA_ARCH__)
    asm("dp4a.u32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(row), "r"(query));
#else
    for (int i = 0; i < 4; ++i)
        sum += static_cast<int32_t>(static_cast<uint32_t>(row) >> (8 * i) & 255u) *
               (static_cast<int32_t>(static_cast<uint32_t>(query) << (24 - 8 * i)) >> 24);
#endif
    return sum;
}
#else

// A number of each of the 8 rows of a block.
typedef int32_t BlockInts __attribute__((vector_size(4 * byte_block_rows)));
typedef uint32_t BlockBits __attribute__((vector_size(4 * byte_block_rows)));
typedef float BlockFloats __attribute__((vector_size(4 * byte_block_rows)));

template <class Vector>
MB_LEAF Vector load_of_block(const int32_t* from) {
    Vector numbers;
    __builtin_memcpy(&numbers, from, sizeof numbers);
    return numbers;
}

// sums + of each row the products of four bytes.
MB_LEAF BlockInts add_byte_products(BlockInts sums, BlockInts rows, int32_t query) {
#if defined(__AVX2__)
    const __m256i pairs = _mm256_maddubs_epi16(reinterpret_cast<__m256i>(rows), _mm256_set1_epi32(query));
    return sums + reinterpret_cast<BlockInts>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#else
    const BlockBits bits = reinterpret_cast<BlockBits>(rows);
    for (int i = 0; i < 4; ++i) {
        const int32_t factor = static_cast<int32_t>(static_cast<uint32_t>(query) << (24 - 8 * i)) >> 24;
        sums += reinterpret_cast<BlockInts>((bits >> (8 * i)) & 255u) * factor;
    }
    return sums;
#endif
}

// The rows of a block for which `holds` is not 0, as bits.
MB_LEAF uint32_t rows_where(BlockInts holds) {
#if defined(__AVX2__)
    return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(holds)));
#else
    uint32_t rows = 0;
    for (int j = 0; j < byte_block_rows; ++j) rows |= static_cast<uint32_t>(holds[j] != 0) << j;
    return rows;
#endif
}

// Of the 8 rows of a block, those whose bound is not less than `least`. Query: ByteQuery of memory/byte_rows.h.
template <int fixed_words, class Query>
MB_LEAF uint32_t rows_reaching(const int32_t* block, int64_t words, const Query& query, float least) {
    const int64_t n = fixed_words ? fixed_words : words;
    const int32_t* const query_words = query.words();
    BlockInts sums = BlockInts{} + query.start;
    for (int64_t w = 0; w < n; ++w)
        sums = add_byte_products(sums, load_of_block<BlockInts>(block + w * byte_block_rows), query_words[w]);
    const BlockBits pair = load_of_block<BlockBits>(block + n * byte_block_rows);
    const BlockFloats scales = reinterpret_cast<BlockFloats>(pair & 0xffff0000u),
                      errors = reinterpret_cast<BlockFloats>(pair << 16);
    const BlockFloats bounds =
        __builtin_convertvector(sums, BlockFloats) * (scales * query.step) + errors * query.per_error + query.constant;
    return ~rows_where(reinterpret_cast<BlockInts>(bounds < least)) & 255u;
}
#endif

}  // namespace mb
