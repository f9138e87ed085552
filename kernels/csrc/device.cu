// Entry points of the cuda build: kernels of one block an item, arguments passed by value. MB_FIXED_WIDTH: the word
// size known to the compiler, 0: any.
#include "entries.h"

using namespace mb;

static_assert(sizeof(Arguments) == MB_ARGUMENTS_BYTES, "Python and the kernels disagree on the arguments of a call");

#define MB_ENTRY(name, items)                                                                                 \
    extern "C" __global__ void __launch_bounds__(MB_THREADS) mb_##name(const __grid_constant__ Arguments a) { \
        entries::name<MB_FIXED_WIDTH>(Block{}, a, blockIdx.x);                                                \
    }
MB_ENTRIES
#undef MB_ENTRY
