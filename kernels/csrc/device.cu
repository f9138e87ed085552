// Entry points of the cuda build: kernels of one block or cluster an item, arguments passed by value. MB_FIXED_WIDTH:
// the word size known to the compiler, 0: any.
#include "entries.h"

using namespace mb;

static_assert(sizeof(Arguments) == MB_ARGUMENTS_BYTES, "Python and the kernels disagree on the arguments of a call");

// An item has one block, or a whole cluster.
#ifdef MB_CLUSTER
#define MB_KERNEL __global__ void __cluster_dims__(MB_CLUSTER, 1, 1) __launch_bounds__(MB_THREADS)
#else
#define MB_KERNEL __global__ void __launch_bounds__(MB_THREADS)
#endif

#define MB_ENTRY(name, items)                                                        \
    extern "C" MB_KERNEL mb_##name(const __grid_constant__ Arguments a) {            \
        entries::name<MB_FIXED_WIDTH>(Block{}, a, blockIdx.x / Block::cluster_size); \
    }
MB_ENTRIES
#undef MB_ENTRY
