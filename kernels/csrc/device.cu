// Entry points of the cuda build: kernels of one block an item, their arguments passed by value. MB_KNOWN: the word size known to the compiler,
// 0 for any; a build is made for the one that is used.
#include "entries.h"

using namespace mb;

static_assert(sizeof(Arguments) == MB_ARGUMENTS_BYTES, "Python and the kernels differ in what a call's arguments are");

#define MB_ENTRY(name, items) \
    extern "C" __global__ void __launch_bounds__(MB_THREADS) mb_##name(const __grid_constant__ Arguments a) { entries::name<MB_FIXED_WIDTH>(Block{}, a, blockIdx.x); }
MB_ENTRIES
#undef MB_ENTRY
