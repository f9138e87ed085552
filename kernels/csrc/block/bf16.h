// Vectors of numbers in bfloat16, made numbers of the model in registers. A loop over them would go by the stack.
#pragma once

#include "block/block.h"

namespace mb {

// The vectors of so many numbers on the way: bfloat16, bits of float, float.
template <int64_t lanes>
struct Bf16Vectors;
#define MB_BF16_VECTORS(lanes)                                          \
    template <>                                                         \
    struct Bf16Vectors<lanes> {                                         \
        typedef uint16_t Upper __attribute__((vector_size(2 * lanes))); \
        typedef uint32_t Bits __attribute__((vector_size(4 * lanes)));  \
        typedef float Floats __attribute__((vector_size(4 * lanes)));   \
    }
MB_BF16_VECTORS(2);
MB_BF16_VECTORS(4);
MB_BF16_VECTORS(8);
MB_BF16_VECTORS(16);
#undef MB_BF16_VECTORS

// A bfloat16 is the upper half of a float.
template <class Vector>
inline __attribute__((always_inline)) Vector load_columns(const Bf16* from) {
    typedef Bf16Vectors<sizeof(Vector) / sizeof(Real)> Of;
    typename Of::Upper upper;
    __builtin_memcpy(&upper, from, sizeof upper);
    const auto bits = __builtin_convertvector(upper, typename Of::Bits) << 16;
    return __builtin_convertvector(reinterpret_cast<typename Of::Floats>(bits), Vector);
}

}  // namespace mb
